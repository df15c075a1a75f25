"""Tests of the folder `grafana`: dashboards, rules, alerts, and the files around them."""
