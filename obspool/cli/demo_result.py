"""What the demo computed, and how its pool did, in words."""

from __future__ import annotations

from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING

from obspool import units
from obspool.words import ExitReason, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from obspool.cli.demo_work import FileReport
    from obspool.telemetry.snapshot import Histogram, Snapshot

_ERRORS_SHOWN = 3
_LONGEST_ERROR = 90


class Tally:
    """Adds up what the workers found; a file counts once, however many rounds there were.

    Attributes:
        done: items with a result or an error, of all rounds.
    """

    def __init__(self, root: Path) -> None:
        self.done = 0
        self._root = root
        self._files: dict[str, FileReport] = {}
        self._errors: dict[str, None] = {}  # an ordered set

    def add(self, report: FileReport) -> None:
        """Count a file's result."""
        self.done += 1
        self._files.setdefault(report.path, report)

    def add_error(self, error: Exception) -> None:
        """Count an item that failed."""
        self.done += 1
        self._errors.setdefault(self._text(error))

    def lines(self) -> Iterator[str]:
        """Yield the result, for people."""
        files = self._files.values()
        if not files:
            yield "  no file could be measured"
        else:
            yield from self._measured()
        errors = list(self._errors)
        for error in errors[:_ERRORS_SHOWN]:
            yield f"  error       {units.printable(error)}"
        if len(errors) > _ERRORS_SHOWN:
            yield f"              and {len(errors) - _ERRORS_SHOWN} more"

    def _measured(self) -> Iterator[str]:
        files = self._files.values()
        size = sum(each.size for each in files)
        zlib_size = sum(each.zlib_size for each in files)
        lzma_size = sum(each.lzma_size for each in files)
        biggest = max(files, key=lambda each: each.size)
        nested = max(files, key=lambda each: each.nesting)
        wordy = max(files, key=lambda each: each.names)
        functions = sum(each.functions for each in files)
        classes = sum(each.classes for each in files)
        yield f"  files       {len(files):,} of {units.size(size)}"
        yield f"  lines       {sum(each.lines for each in files):,}"
        yield f"  functions   {functions:,}, and {classes:,} classes"
        ratios = f"{_ratio(size, zlib_size)} by zlib, {_ratio(size, lzma_size)} by lzma"
        yield f"  compressed  {ratios}"
        yield f"  biggest     {self._name(biggest)}, {units.size(biggest.size)}"
        yield f"  most nested {self._name(nested)}, {nested.nesting} blocks within each other"
        yield f"  most names  {self._name(wordy)}, {wordy.names:,} different ones"

    def _text(self, error: Exception) -> str:
        text = str(error)
        if isinstance(error, SyntaxError) and error.filename is not None:
            text = f"{error.filename}, line {error.lineno}: {error.msg}"
        text = f"{type(error).__name__}: {text}".replace(f"{self._root}/", "")
        return text if len(text) <= _LONGEST_ERROR else text[: _LONGEST_ERROR - 1] + "…"

    def _name(self, report: FileReport) -> str:
        return units.printable(str(Path(report.path).relative_to(self._root)))


def _ratio(size: int, compressed: int) -> str:
    return f"{size / max(1, compressed):.2f} : 1"


def pool_lines(snapshot: Snapshot, elapsed: float) -> Iterator[str]:
    """Yield how the pool did.

    Args:
        snapshot: read when its work was over.
        elapsed: seconds it had.
    """
    done = sum(snapshot.items_completed.values())
    errors = done - snapshot.items_completed.get(Outcome.OK, 0)
    workers = snapshot.workers_configured
    busy = sum(worker.busy_seconds for worker in snapshot.workers)
    recycled = snapshot.worker_exits.get(ExitReason.TASKS, 0)
    limit = snapshot.max_tasks_per_child
    yield f"  items       {done:,} done, {errors:,} of them errors, {units.rate(done / elapsed)}/s"
    yield f"  workers     {workers}, busy {units.percent(busy / (workers * elapsed))} of the time"
    yield f"  recycled    {recycled:,} workers, each after {limit or 0:,} tasks"
    if lost := snapshot.worker_exits.get(ExitReason.LOST, 0):
        yield f"  lost        {lost:,} workers"
    yield f"  item run    {_latency(_sum(snapshot.item_run.values()))}"
    yield f"  task wait   {_latency(snapshot.task_wait)}"


def _sum(histograms: Iterable[Histogram]) -> Histogram | None:
    known = list(histograms)
    return reduce(add, known) if known else None


def _latency(histogram: Histogram | None) -> str:
    if histogram is None or not histogram.count:
        return units.NOTHING
    p50, p95 = histogram.quantile(0.5), histogram.quantile(0.95)
    return f"p50 {units.duration(p50)}, p95 {units.duration(p95)}"
