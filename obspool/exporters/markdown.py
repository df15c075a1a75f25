"""Writes the table of metrics into docs/metrics.md, between its two marks.

`python -m obspool.exporters.markdown docs/metrics.md` brings the page up to date; without an
argument the table is printed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from obspool.exporters.family import POOL
from obspool.exporters.host_metrics import HOST_METRICS
from obspool.exporters.table import EXPORTER_ERRORS, USER_COUNTERS, pool_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from obspool.exporters.family import Family

BEGIN = "<!-- The table is made by `python -m obspool.exporters.markdown docs/metrics.md`. -->"
END = "<!-- End of the table. -->"


def table() -> str:
    """Return the table of all metrics as Markdown."""
    lines = ["| name | type | labels | meaning |", "| --- | --- | --- | --- |"]
    lines += [_row(metric, (POOL, *metric.labels)) for metric in pool_metrics()]
    lines.append(_row(USER_COUNTERS, (POOL, *USER_COUNTERS.labels)))
    lines += [_row(family, family.labels) for family in (EXPORTER_ERRORS, *HOST_METRICS)]
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """Return the page with the table between its marks brought up to date.

    Raises:
        ValueError: the page doesn't have the two marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{table()}\n{END}{after}"


def main(arguments: Sequence[str]) -> int:
    """Update the page that is named, or print the table."""
    if not arguments:
        print(table(), end="")
        return 0
    path = Path(arguments[0])
    path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def _row(family: Family, labels: Sequence[str]) -> str:
    names = ", ".join(f"`{label}`" for label in labels)
    return f"| `{family.full_name}` | {family.type} | {names} | {family.help} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
