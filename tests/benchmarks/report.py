"""What a run of the benchmarks says: a table for people, JSON for comparing runs."""

from __future__ import annotations

import json
import os
import platform
import statistics
from typing import TYPE_CHECKING

from tests.benchmarks.figures import ratios

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tests.benchmarks.measure import Measured

COLUMNS = "{:<32} {:>10} {:>10} {:>9} {:>19} {:>10}  {}"

_LABEL = 32
_COLUMN = 10


def header(baseline: str, contender: str) -> str:
    """Return the head of the table with targets."""
    return COLUMNS.format("", baseline, contender, "", "min … max", "target", "")


def row(measured: Measured, baseline: str | None, contender: str, *, judge: bool) -> str:
    """Return a figure's row: medians, the score of the pairs, its range, and the target.

    Args:
        measured: the figure.
        baseline: whom the contender is held against, None where it is alone.
        contender: whose score it is.
        judge: whether the target means anything: not in a self-check.
    """
    figure = measured.figure
    scores = measured.scores(baseline or contender, contender)
    return COLUMNS.format(
        figure.label,
        "" if baseline is None else median(measured, baseline),
        median(measured, contender),
        figure.show(statistics.median(scores)),
        f"{figure.show(min(scores))} … {figure.show(max(scores))}",
        figure.asked if judge else "",
        ("ok" if measured.reached(baseline or contender, contender) else "MISSED") if judge else "",
    ).rstrip()


def against_header(names: Iterable[str]) -> str:
    """Return the head of the table of peers: first obspool's own values, then ratios to those."""
    return " ".join([" " * _LABEL, *(f"{_short(name):>{_COLUMN}}" for name in names)])


def against_row(measured: Measured, own: str, peers: Sequence[str]) -> str:
    """Return how many times as good as each peer obspool is, and whether it is the first."""
    found = {peer: ratio(measured, peer, own) for peer in peers}
    cells = ["-" if one is None else f"{one:.2f}" for one in found.values()]
    columns = [median(measured, own), *cells]
    label = f"{measured.figure.label:<{_LABEL}}"
    verdict = "first" if is_first(measured, own, peers) else "NOT FIRST"
    return " ".join([label, *(f"{one:>{_COLUMN}}" for one in columns), f" {verdict}"])


def ratio(measured: Measured, peer: str, own: str) -> float | None:
    """Return the median of a peer's ratios to obspool; None where it can't do it."""
    values, its_own = measured.values[peer], measured.values[own]
    return statistics.median(ratios(values, its_own)) if len(values) == len(its_own) else None


def is_first(measured: Measured, own: str, peers: Sequence[str]) -> bool:
    """Tell whether no peer is better."""
    found = (ratio(measured, peer, own) for peer in peers)
    return all(one is None or one >= 1 for one in found)


def median(measured: Measured, name: str) -> str:
    """Return the median of a contender's values, with its unit."""
    return measured.figure.unit.show(statistics.median(measured.values[name]))


def _short(name: str) -> str:
    return "executor" if name == "ProcessPoolExecutor" else name[:_COLUMN]


def machine() -> dict[str, object]:
    """Return what a reader needs to compare runs."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg(),
    }


def as_json(measured: Measured, baseline: str | None, contender: str) -> dict[str, object]:
    """Return all that is known of a figure that has a target."""
    scores = measured.scores(baseline or contender, contender)
    figure = measured.figure
    return {
        **against_as_json(measured),
        "baseline": baseline,
        "contender": contender,
        "asked": type(figure).__name__,
        "target": figure.target,
        "score": statistics.median(scores),
        "score_min": min(scores),
        "score_max": max(scores),
        "reached": measured.reached(baseline or contender, contender),
    }


def against_as_json(measured: Measured) -> dict[str, object]:
    """Return what everybody took."""
    return {
        "line": measured.line,
        "label": measured.figure.label,
        "start_method": measured.start_method,
        "unit": measured.figure.unit.value,
        "values": measured.values,
    }


def write_json(path: Path, figures: Sequence[dict[str, object]]) -> None:
    """Write all figures, and on what machine they were measured."""
    document = {"machine": machine(), "figures": figures}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
