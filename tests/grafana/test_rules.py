"""Recording and alerting rules: what promtool says of them, and each alert in its situations."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.grafana.boards import FOLDER, RULES, alerts, rules
from tests.grafana.cases import CASES, POOL, SCRAPE
from tests.grafana.servers import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.grafana.cases import Case

RUNBOOKS = FOLDER.parent / "docs" / "runbooks.md"
SEVERITIES = {"critical", "warning", "info"}

# metrics.md's list.
ALERTS = {
    "critical": {
        "ItemsLost",
        "NoProgress",
        "WorkersCrashLooping",
        "PoolDied",
        "NotSucceededFor",
    },
    "warning": {
        "WorkersMissing",
        "TaskErrorRatioHigh",
        "TaskStuck",
        "QueueWaitHigh",
        "WorkerMemoryGrowing",
        "ExporterDown",
    },
    "info": {"BacklogGrowing", "ChunksTooSmall", "ChunksTooLarge", "RecyclingTooOften"},
}


def test_promtool_finds_nothing_to_say() -> None:
    """`promtool check rules` with all of its lint, and lint as errors."""
    done = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", *map(str, RULES))
    assert done.returncode == 0, done.stdout


def test_promtool_would_find_something(tmp_path: Path) -> None:
    """The control: a rule that is there twice is an error the same way."""
    rule = {"record": "a:b", "expr": "vector(1)"}
    doubled = tmp_path / "rules.yml"
    doubled.write_text(json.dumps({"groups": [{"name": "g", "rules": [rule, rule]}]}))
    done = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", str(doubled))
    assert done.returncode == 3, done.stdout


def test_all_alerts_are_there() -> None:
    """Those of the design, under their severities."""
    found: dict[str, set[str]] = {severity: set() for severity in SEVERITIES}
    for rule in alerts():
        found[rule["labels"]["severity"]].add(rule["alert"].removeprefix("Obspool"))
    assert found == ALERTS


def test_each_alert_says_what_it_is_and_what_to_do() -> None:
    """Summary, description, and a section of the runbooks that has the three questions' answers."""
    text = RUNBOOKS.read_text(encoding="utf-8")
    _, *bodies = re.split(r"^## ", text, flags=re.MULTILINE)
    sections = {body.partition("\n")[0].lower(): body for body in bodies}
    for rule in alerts():
        annotations = rule["annotations"]
        assert set(annotations) == {"summary", "description", "runbook_url"}
        page, _, anchor = annotations["runbook_url"].partition("#")
        assert page == "docs/runbooks.md"
        assert anchor == rule["alert"].lower()
        section = sections[anchor]
        for part in ("**What it means.**", "**How to look.**", "**What to do.**"):
            assert part in section, rule["alert"]


def test_no_runbook_without_an_alert() -> None:
    """Each section is of an alert that there is."""
    headings = re.findall(r"^## (\w+)$", RUNBOOKS.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(headings) == {rule["alert"] for rule in alerts()}


def test_each_alert_has_situations_where_it_fires_and_where_it_does_not() -> None:
    """The tests below leave none out."""
    names = {rule["alert"].removeprefix("Obspool") for rule in alerts()}
    assert {case.alert for case in CASES if case.said is not None} == names
    assert {case.alert for case in CASES if case.said is None} == names


@pytest.mark.slow
@pytest.mark.parametrize("alert", sorted({case.alert for case in CASES}))
def test_alert(alert: str, tmp_path: Path) -> None:
    """Promtool evaluates the rules on each situation's series, and compares with what is said."""
    cases = [case for case in CASES if case.alert == alert]
    # A rule is looked at as often as there are samples: a day at each minute takes seconds.
    (interval,) = {case.interval for case in cases}
    _promtool_agrees([_plan(case) for case in cases], interval, tmp_path)


def test_promtool_would_not_agree(tmp_path: Path) -> None:
    """The control: an alert that fires where none is expected, and the other way round."""
    fires, quiet = (
        next(case for case in CASES if case.alert == "ItemsLost" and (case.said is None) == quiet)
        for quiet in (False, True)
    )
    for case in (replace(fires, said=None), replace(quiet, said="It fires.")):
        with pytest.raises(AssertionError, match="ItemsLost"):
            _promtool_agrees([_plan(case)], case.interval, tmp_path)


def _promtool_agrees(tests: list[dict[str, Any]], interval: str, directory: Path) -> None:
    plan = {
        "rule_files": [str(path) for path in RULES],
        "evaluation_interval": interval,
        "tests": tests,
    }
    file = directory / "plan.yml"
    file.write_text(json.dumps(plan), encoding="utf-8")
    done = run("promtool", "test", "rules", str(file))
    assert done.returncode == 0, done.stdout


def _plan(case: Case) -> dict[str, Any]:
    name = f"Obspool{case.alert}"
    expected = [] if case.said is None else [_expected(case, name)]
    series = {**POOL, **case.series}
    return {
        "name": case.what,
        "interval": case.interval,
        "input_series": [
            {"series": _with_scrape(one), "values": values} for one, values in series.items()
        ],
        "alert_rule_test": [{"eval_time": case.at, "alertname": name, "exp_alerts": expected}],
    }


def _with_scrape(series: str) -> str:
    """Return `name{own}` with its prefix and the scrape's labels; `up` is the scrape's own."""
    name, _, own = series.removesuffix("}").partition("{")
    labels = dict(re.findall(r'(\w+)="([^"]*)"', own))
    scrape = {key: value for key, value in SCRAPE.items() if key not in labels}
    if name == "up":
        scrape = {"instance": SCRAPE["instance"]}
    both = ", ".join(f'{key}="{value}"' for key, value in {**scrape, **labels}.items())
    return f"{name if name == 'up' else f'obspool_{name}'}{{{both}}}"


def _expected(case: Case, name: str) -> dict[str, Any]:
    rule = next(
        rule
        for rule in alerts()
        if rule["alert"] == name and rule["labels"].items() <= _labels(case, rule).items()
    )
    labels = _labels(case, rule)
    summary = re.sub(
        r"\{\{ \$labels\.(\w+) \}\}", lambda m: labels[m[1]], rule["annotations"]["summary"]
    )
    assert "{{" not in summary
    return {
        "exp_labels": labels,
        "exp_annotations": {
            "summary": summary,
            "description": case.said,
            "runbook_url": rule["annotations"]["runbook_url"],
        },
    }


def _labels(case: Case, rule: dict[str, Any]) -> dict[str, str]:
    identity = {key: value for key, value in SCRAPE.items() if key not in {"zone", *case.without}}
    if case.alert == "ExporterDown":
        identity["job"] = "obspool-exporter"
    return {**identity, "severity": rule["labels"]["severity"], **case.labels}


def test_a_young_pools_busy_ratio_is_the_truth(tmp_path: Path) -> None:
    """A pool of 30 s whose workers were busy for 91 % of it reads 0.91, not 0.09."""
    series = {
        "pool_start_time_seconds": "_x60 300x6",
        "workers_configured": "_x60 4x6",
        'worker_busy_seconds_total{worker="0"}': "_x60 0+18.2x6",
        'items_completed_total{outcome="ok"}': "_x60 0+500x6",
    }
    expected = {
        "job_instance_pool:obspool_worker_busy:ratio_rate5m": 0.91,
        "job_instance_pool:obspool_items:rate5m": 100,
    }
    labels = '{job="batch", instance="host:9400", pool="p"}'
    test = {
        "interval": "5s",
        "input_series": [
            {"series": _with_scrape(one), "values": values} for one, values in series.items()
        ],
        "promql_expr_test": [
            {
                "expr": f"round(sum without (__name__) ({record}), 0.01)",
                "eval_time": "5m30s",
                "exp_samples": [{"labels": labels, "value": value}],
            }
            for record, value in expected.items()
        ],
    }
    _promtool_agrees([test], "5s", tmp_path)


def test_recorded_names_say_by_which_labels() -> None:
    """`job_instance_pool…:what:how`, and the expression keeps just those labels."""
    for rule in rules():
        if "record" not in rule:
            continue
        level, metric, _ = rule["record"].split(":")
        assert level.startswith("job_instance_pool")
        assert metric.startswith("obspool_")
        by = ", ".join(["job", "instance", "pool", *level.split("_")[3:]])
        assert f"by ({by})" in rule["expr"], rule["record"]
