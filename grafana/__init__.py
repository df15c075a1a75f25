"""What Prometheus and Grafana need to show obspool; README.md in this folder says how."""
