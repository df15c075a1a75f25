"""All queries on a real Prometheus that scrapes a real pool; a killed worker, up to the webhook."""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.exporters.samples import get
from tests.grafana.boards import (
    DASHBOARDS,
    alerts,
    filled,
    metrics_in,
    read,
    rules,
    targets,
)
from tests.grafana.load import mixed_pool
from tests.grafana.servers import alertmanager, webhook
from tests.helpers import poll

if TYPE_CHECKING:
    import queue
    from pathlib import Path

    from tests.grafana.boards import Target
    from tests.grafana.servers import Prometheus

pytestmark = [pytest.mark.xdist_group("grafana"), pytest.mark.slow, pytest.mark.timeout(150)]

# A new target is scraped 5 to 6 s after its file was written; a busy machine is slower.
SCRAPE_SECONDS = 40.0
DATA_SECONDS = 60.0
ALERT_SECONDS = 20.0

WINDOW, SHOWN = 10, 60
NAME = "mixed"


def _is_served(name: str, served: set[str]) -> bool:
    """Tell whether a metric, or for a prefix as `obspool_user_` one of its kind, was served."""
    return name in served or (
        name.endswith("_") and any(found.startswith(name) for found in served)
    )


def _filled(target: Target) -> str:
    pool = NAME if target.board == "obspool-pool" else ".+"
    return filled(target.expression, window=WINDOW, shown=SHOWN, pool=pool, job="obspool")


def _lines(prometheus: Prometheus, target: Target) -> list[dict[str, str]]:
    """Return the labels of what a query returns, without values that are no numbers."""
    found = prometheus.query(_filled(target))
    return [labels for labels, value in found if not math.isnan(value)]


def _check_legend(target: Target, lines: list[dict[str, str]]) -> None:
    """Lines have the labels that the legend, or the table, names, and no two have the same name."""
    if target.table:
        (by,) = {frozenset(labels) - {"__name__"} for labels in lines}
        organize = target.panel["transformations"][1]["options"]
        assert by == {name for name in organize["indexByName"] if " " not in name}, target
        return
    names = re.findall(r"\{\{(\w+)\}\}", target.legend)
    for labels in lines:
        assert set(names) <= set(labels), (str(target), labels)
    if target.panel["type"] != "heatmap":
        shown = [tuple(labels[name] for name in names) for labels in lines]
        assert len(set(shown)) == len(shown), (str(target), shown)


def test_panels_and_rules_on_a_real_pool(prometheus: Prometheus, tmp_path: Path) -> None:
    """Names, variables, panels, legends, rules and the way of an alert, with one pool's load."""
    with webhook() as hook, alertmanager(tmp_path, hook.url) as url:
        prometheus.alert(url)
        killed: list[float] = []

        def before_the_kill(pool: Any) -> None:
            prometheus.scrape(pool.metrics_url)
            lost = f'obspool_items_completed_total{{pool="{NAME}", outcome="lost"}}'
            poll(
                lambda: (
                    len(prometheus.query(f"count_over_time({lost}[1m]) > 1")) == 1
                    and prometheus.get("alertmanagers")["activeAlertmanagers"]
                ),
                deadline=SCRAPE_SECONDS,
            )
            killed.append(time.monotonic())

        with mixed_pool(NAME, until=before_the_kill) as pool:
            poll(lambda: killed, deadline=SCRAPE_SECONDS)
            _an_alert_arrives(hook.alerts)
            _names_are_served(pool.metrics_url)
            _variables_find_the_pool(prometheus)
            _panels_have_data(prometheus)
            _rules_have_data(prometheus)
    prometheus.alert()
    prometheus.scrape()


def _an_alert_arrives(arrived: queue.Queue[dict[str, Any]]) -> None:
    """The lost item is told to the webhook within seconds, with all that a person needs."""
    end = time.monotonic() + ALERT_SECONDS
    while True:
        alert = arrived.get(timeout=max(0.0, end - time.monotonic()))
        if alert["labels"]["alertname"] == "ObspoolItemsLost":
            break
    assert alert["status"] == "firing"
    assert alert["labels"]["pool"] == NAME
    assert alert["labels"]["severity"] == "critical"
    assert NAME in alert["annotations"]["summary"]
    assert "1 items were lost" in alert["annotations"]["description"]
    assert alert["annotations"]["runbook_url"].endswith("#obspoolitemslost")


def _names_are_served(url: str) -> None:
    """Each name in a rule or a panel is in the pool's answer (some are only at times)."""
    wanted = {name for target in targets() for name in metrics_in(target.expression)}
    wanted |= {name for rule in rules() for name in metrics_in(rule["expr"])}
    assert len(wanted) > 30
    served: set[str] = set()

    def missing() -> set[str]:
        served.update(name for name, _ in get(url).series)
        return {name for name in wanted if not _is_served(name, served)}

    poll(lambda: not missing(), deadline=DATA_SECONDS, message=lambda: f"not served: {missing()}")


def _variables_find_the_pool(prometheus: Prometheus) -> None:
    for path in DASHBOARDS:
        for variable in read(path)["templating"]["list"]:
            if variable["type"] != "query":
                continue
            query = filled(variable["query"]["query"], window=WINDOW, shown=SHOWN)
            match = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
            assert match is not None, query
            found = {labels[match[2]] for labels, _ in prometheus.query(match[1])}
            if variable["name"] == "pool":
                assert NAME in found
            assert found, query


def _panels_have_data(prometheus: Prometheus) -> None:
    left = list(targets())

    def none_left() -> bool:
        for target in tuple(left):
            if lines := _lines(prometheus, target):
                _check_legend(target, lines)
                left.remove(target)
        return not left

    poll(
        none_left,
        deadline=DATA_SECONDS,
        interval=0.5,
        message=lambda: "no data:\n" + "\n".join(f"{one} => {_filled(one)}" for one in left),
    )


def _rules_have_data(prometheus: Prometheus) -> None:
    """Recorded series are there, and Prometheus evaluates all rules without an error."""
    wanted = {rule["record"] for rule in rules() if "record" in rule}
    recorded = f'group by (__name__) ({{pool="{NAME}", __name__=~"job_instance_pool.*"}})'
    poll(
        lambda: {labels["__name__"] for labels, _ in prometheus.query(recorded)} >= wanted,
        deadline=DATA_SECONDS,
        message=lambda: f"{wanted}, not {prometheus.query(recorded)}",
    )
    evaluated = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    # Groups of their own interval may not have been evaluated yet.
    assert {rule["health"] for rule in evaluated} <= {"ok", "unknown"}
    assert len([rule for rule in evaluated if rule["type"] == "alerting"]) == len(alerts())
