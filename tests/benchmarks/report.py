"""What a run of the benchmarks says: a table for people, JSON for comparing runs."""

from __future__ import annotations

import json
import os
import platform
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.benchmarks.measure import Contender, Measured

COLUMNS = "{:<30} {:>10} {:>10} {:>7} {:>15} {:>7}  {}"


def header(contenders: tuple[Contender, Contender]) -> str:
    """Return the table's head; a ratio is the baseline's time by the other's."""
    base, other = (contender.name for contender in contenders)
    return COLUMNS.format("", base, other, "ratio", "min … max", "target", "")


def row(measured: Measured, *, judge: bool) -> str:
    """Return a figure's row: both medians, the ratio of the pairs, its range, and the target.

    Args:
        measured: the figure.
        judge: whether the target means anything: not in a self-check.
    """
    ratios = measured.ratios
    return COLUMNS.format(
        measured.figure.label,
        seconds(statistics.median(measured.baseline)),
        seconds(statistics.median(measured.contender)),
        f"{measured.ratio:.2f}",
        f"{min(ratios):.2f} … {max(ratios):.2f}",
        f">= {measured.figure.target:g}" if judge else "",
        ("ok" if measured.reached else "BELOW") if judge else "",
    ).rstrip()


def seconds(value: float) -> str:
    """Return a time with three digits and its unit."""
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


def machine() -> dict[str, object]:
    """Return what a reader needs to compare runs."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg(),
    }


def write_json(
    path: Path, results: Sequence[Measured], contenders: tuple[Contender, Contender]
) -> None:
    """Write all pairs' seconds and what follows from them."""
    document = {
        "machine": machine(),
        "baseline": contenders[0].name,
        "contender": contenders[1].name,
        "figures": [
            {
                "line": result.line,
                "label": result.figure.label,
                "start_method": result.start_method,
                "baseline_seconds": result.baseline,
                "contender_seconds": result.contender,
                "ratio": result.ratio,
                "ratio_min": min(result.ratios),
                "ratio_max": max(result.ratios),
                "target": result.figure.target,
                "reached": result.reached,
            }
            for result in results
        ],
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
