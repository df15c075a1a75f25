"""The committed dashboards and rules, as tests ask for them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FOLDER = Path(__file__).parents[2] / "grafana"
DASHBOARDS = sorted((FOLDER / "dashboards").glob("*.json"))
RULES = sorted((FOLDER / "prometheus").glob("*.rules.yml"))

# Not a recorded name, which has a colon before it.
_METRIC = re.compile(r"(?<![:\w])obspool_\w+")


def metrics_in(expression: str) -> set[str]:
    """Return the names of metrics that an expression asks an exporter for."""
    return set(_METRIC.findall(expression))


def read(path: Path) -> dict[str, Any]:
    """Return a committed dashboard."""
    board: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return board


@dataclass(frozen=True)
class Target:
    """One query of a panel."""

    board: str
    panel: Mapping[str, Any]
    expression: str
    legend: str
    table: bool

    def __str__(self) -> str:
        return f"{self.board}, {self.panel['title']!r}: {self.expression}"


def panels(board: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return all panels but the rows' headings."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def targets() -> Iterator[Target]:
    """Yield all queries of all dashboards."""
    for path in DASHBOARDS:
        for panel in panels(read(path)):
            for target in panel.get("targets", []):
                table = target["format"] == "table"
                yield Target(path.stem, panel, target["expr"], target["legendFormat"], table)


def expression(title: str, *, number: int = 0, board: str = "obspool-pool") -> str:
    """Return a query of the panel with a title."""
    found = [one for one in targets() if (one.board, one.panel["title"]) == (board, title)]
    return found[number].expression


def filled(
    text: str, *, window: int, shown: int, pool: str = ".+", job: str = ".+", memory: int = 1 << 30
) -> str:
    """Return an expression with Grafana's variables replaced, as Grafana does.

    Args:
        text: the expression.
        window: seconds of `$__rate_interval`.
        shown: seconds of the dashboard's range.
        pool: the chosen pool.
        job: the chosen job.
        memory: what a worker may have, in bytes.
    """
    values = {
        "__rate_interval_ms": str(window * 1000),
        "__rate_interval": f"{window}s",
        "__range_s": str(shown),
        "__range": f"{shown}s",
        "job": job,
        "instance": ".+",
        "pool": pool,
        "memory": str(memory),
    }
    for name in sorted(values, key=len, reverse=True):
        text = text.replace(f"${name}", values[name])
    assert "$" not in text, f"a variable that Grafana doesn't know: {text}"
    return text


def rule_groups(path: Path) -> list[dict[str, Any]]:
    """Return the groups of a rule file."""
    groups: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    return groups


def rules() -> list[dict[str, Any]]:
    """Return all rules."""
    return [rule for path in RULES for group in rule_groups(path) for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """Return all alerting rules."""
    return [rule for rule in rules() if "alert" in rule]
