"""Which files are made, and what is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana.builder.dashboards import encode, host_dashboard, pool_dashboard

if TYPE_CHECKING:
    from pathlib import Path

RULES = ("recording.rules.yml", "alerts.rules.yml")

_KUBERNETES_HEAD = """\
# Made by `python -m grafana.builder` from grafana/prometheus/*.rules.yml: change those.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: obspool
  labels:
    app.kubernetes.io/name: obspool
    # The label by which your Prometheus object chooses rules (its `ruleSelector`); the chart
    # kube-prometheus-stack expects its release's name here.
    release: kube-prometheus-stack
spec:
  groups:
"""


def made(folder: Path) -> dict[Path, str]:
    """Return the text of each made file of the folder `grafana`."""
    return {
        folder / "dashboards" / "obspool-pool.json": encode(pool_dashboard()),
        folder / "dashboards" / "obspool-host.json": encode(host_dashboard()),
        folder / "kubernetes" / "prometheusrule.yaml": _prometheus_rule(folder / "prometheus"),
    }


def _prometheus_rule(prometheus: Path) -> str:
    """Return the groups of the rule files as Kubernetes' own kind of object, comments included."""
    lines = []
    for name in RULES:
        _, _, groups = (prometheus / name).read_text(encoding="utf-8").partition("\ngroups:\n")
        lines += [f"  {line}" if line else "" for line in groups.splitlines()]
    return _KUBERNETES_HEAD + "\n".join(lines) + "\n"
