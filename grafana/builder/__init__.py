"""Makes the files of this folder that nobody writes by hand; run `python -m grafana.builder`."""
