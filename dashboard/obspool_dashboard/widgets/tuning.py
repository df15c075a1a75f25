"""The tuning page: the numbers that decide chunksize and maxtasksperchild, and what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from obspool import units
from obspool_dashboard import tuning
from obspool_dashboard.lines import EMPTY, Line, Part, Role, gap
from obspool_dashboard.widgets.page import Page, heading, paragraph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from obspool_dashboard.frame import Frame
    from obspool_dashboard.tuning import Chunking, FunctionAdvice, Recycling

# Cells of the names and of the values; what a number means stands behind them, or below.
NAMES = 19
VALUES = 10
INDENT = 3
# From this width on the meaning stands in the same line.
ROOMY = 90
# From this width on the table of functions has all its columns.
NARROW_LEAST = 64
FUNCTIONS_MOST = 16


class TuningPage(Page):
    """The advice, with the sums it is made of."""

    frame: Frame | None = None

    def show_frame(self, frame: Frame) -> None:
        """Show the numbers of a frame."""
        self.frame = frame
        self.redraw()

    def content(self, width: int) -> Sequence[Line]:
        """Return the page."""
        if self.frame is None:
            return ()
        chunks = tuning.chunking(self.frame.snapshot)
        lives = tuning.recycling(self.frame)
        return [*self._chunksize(chunks, width), EMPTY, *self._lives(lives, width)]

    def _chunksize(self, chunks: Chunking, width: int) -> list[Line]:
        micro = self.glyphs.micro
        lines = [heading("chunksize", "how many items a task has")]
        lines += self._advice(_chunk_text(chunks), width)
        if chunks.functions:
            lines += [EMPTY, *self._functions(chunks.functions, width), EMPTY]
        for name, value, meaning in (
            (
                "items per task", units.count(chunks.items_per_task),
                "the chunksize as asked for, mean of all maps",
            ),
            (
                "task run, mean", units.duration(chunks.task_seconds, micro),
                "low: sending costs more than it gives; high: the last ones are waited for",
            ),
            (
                "task run, p95", units.duration(chunks.run_p95, micro),
                "far above the mean: tasks differ, smaller ones spread better",
            ),
            (
                "task wait, p50", units.duration(chunks.wait_p50, micro),
                "from submitted to begun; high is usual in a map: its last task waits for all",
            ),
            (
                "task wait, p95", units.duration(chunks.wait_p95, micro),
                "high with small calls of apply: more workers would help",
            ),
            (
                "stolen tasks", units.percent(chunks.stolen),
                "taken over from busy workers; high: chunks too large, or items that differ much",
            ),
        ):  # fmt: skip
            lines += self._number(name, value, meaning, width)
        return lines

    def _lives(self, lives: Recycling, width: int) -> list[Line]:
        micro = self.glyphs.micro
        limit = "none" if lives.limit is None else f"{lives.limit:,}"
        lines = [heading("maxtasksperchild", "how many tasks a worker lives for")]
        lines += self._advice(_limit_text(lives), width)
        lines.append(EMPTY)
        for name, value, meaning in (
            ("limit", limit, "tasks after which a worker is replaced"),
            (
                "tasks so far", units.count(lives.tasks_median),
                f"of the present processes, median; at most {units.count(lives.tasks_most)}",
            ),
            (
                "start-up, mean", units.duration(lives.startup, micro),
                "what a recycle costs: start, imports, initializer",
            ),
            (
                "start-up, p95", units.duration(lives.startup_p95, micro),
                "far above the mean: many start at once",
            ),
            (
                "cost of starting", _fine_percent(lives.cost),
                "of all workers' time; above 5 %: workers live too short",
            ),
            (
                "growth per task", units.size(lives.growth),
                "of memory; what a limit is for, if it goes on",
            ),
        ):  # fmt: skip
            lines += self._number(name, value, meaning, width)
        lines += self._number("exits", "", self._exits(), width)
        return lines

    def _exits(self) -> str:
        exits = self.frame.snapshot.worker_exits if self.frame else {}
        told = [f"{number:,} {reason}" for reason, number in exits.items() if number]
        return ", ".join(told) or "none yet"

    def _advice(self, text: str, width: int) -> list[Line]:
        return paragraph(self.glyphs.printable(text), width, INDENT, Role.STRONG)

    def _functions(self, functions: Sequence[FunctionAdvice], width: int) -> list[Line]:
        roomy = width >= NARROW_LEAST
        names = max(12, min(32, width - (46 if roomy else 30)))
        more = f"{'ITEMS':>6}  {'P95':>7}  " if roomy else ""
        titles = f"{more}{'MEAN':>7}  {'CHUNKSIZE':>9}"
        head = (gap(INDENT), Part("FUNCTION".ljust(names), Role.HEADING), gap(2))
        lines: list[Line] = [(*head, Part(titles, Role.HEADING))]
        for one in functions[:FUNCTIONS_MOST]:
            name = self.glyphs.fit(self.glyphs.printable(one.name), names)
            mean = units.duration(one.mean, self.glyphs.micro)
            p95 = units.duration(one.p95, self.glyphs.micro)
            more = f"{units.count(one.items):>6}  {p95:>7}  " if roomy else ""
            numbers = f"{more}{mean:>7}  "
            size = Part(f"{one.chunksize:>9,}", Role.NAME)
            lines.append((gap(INDENT), Part(name), gap(2), Part(numbers), size))
        return lines

    def _number(self, name: str, value: str, meaning: str, width: int) -> list[Line]:
        cells = VALUES if value else 0
        start: Line = (
            gap(INDENT),
            Part(name.ljust(NAMES), Role.MUTED),
            Part(value.rjust(cells), Role.STRONG),
        )
        indent = INDENT + NAMES + cells + 2 * bool(value)
        if width >= ROOMY or not value:
            first, *more = paragraph(meaning, width, indent)
            return [(*start, gap(2 * bool(value)), *first[1:]), *more]
        return [start, *paragraph(meaning, width, INDENT + 2, Role.FAINT)]


def _chunk_text(chunks: Chunking) -> str:
    if not chunks.functions:
        return "No item has ended yet: there is nothing to say."
    most = chunks.functions[0]
    told = (
        f"chunksize = 0.2 s / time per item: {most.chunksize:,} for {most.name}, "
        f"whose items take {units.duration(most.mean)}."
    )
    if not chunks.verdict or chunks.items_per_task is None:
        return told
    return f"{told} Now {units.count(chunks.items_per_task)}: {chunks.verdict}."


def _limit_text(lives: Recycling) -> str:
    if lives.cost is not None and lives.cost > tuning.DEAR_RECYCLING:
        return (
            f"Starting workers takes {_fine_percent(lives.cost)} of their time: raise the limit, "
            f"or make the start cheaper (imports, initializer)."
        )
    if lives.suggested is not None:
        return (
            f"Workers grow by {units.size(lives.growth)} a task: "
            f"{tuning.rounded(lives.suggested):,} tasks are 1 GiB. If the growth goes on, a limit "
            f"below that keeps it."
        )
    if lives.limit is not None and lives.cost is not None and lives.cost < tuning.CHEAP_RECYCLING:
        return f"Recycling costs {_fine_percent(lives.cost)}: as good as nothing."
    return "Workers hardly grow: no limit is needed for their memory."


def _fine_percent(share: float | None) -> str:
    if share is None:
        return units.NOTHING
    return f"{100 * share:.1f} %" if share < tuning.DEAR_RECYCLING * 2 else units.percent(share)
