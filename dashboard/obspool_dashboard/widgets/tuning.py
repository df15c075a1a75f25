"""The tuning page: the numbers that decide chunksize and maxtasksperchild, and what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from obspool import units
from obspool.words import IdleReason
from obspool_dashboard import tuning
from obspool_dashboard.lines import EMPTY, Line, Part, Role, gap
from obspool_dashboard.widgets.page import INDENT, Page, heading, paragraph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from obspool_dashboard.frame import Frame
    from obspool_dashboard.tuning import Chunking, FunctionAdvice, Recycling, Sending, Spending

# Cells of the names and of the values; what a number means stands behind them, or below.
NAMES = 17
VALUES = 9
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
        spent = tuning.spending(self.frame)
        parts = (
            self._chunksize(chunks, spent, width),
            self._spending(spent, width),
            self._sending(tuning.sending(self.frame), width),
            self._lives(tuning.recycling(self.frame), width),
        )
        lines: list[Line] = []
        for part in parts:
            lines += [EMPTY, *part] if lines else part
        return lines

    def _chunksize(self, chunks: Chunking, spent: Spending, width: int) -> list[Line]:
        micro = self.glyphs.micro
        lines = heading("chunksize", "how many items a task has", width)
        lines += self._advice(_chunk_text(chunks, spent), width)
        if chunks.functions:
            lines += [EMPTY, *self._functions(chunks.functions, width), EMPTY]
        for name, value, meaning in (
            (
                "items per task", units.count(chunks.items_per_task),
                "the chunksize as asked for, mean of all maps",
            ),
            (
                "task run, mean", units.duration(chunks.task_seconds, micro),
                "low: sending costs more than it gives; high: long waits at the end",
            ),
            (
                "task run, p95", units.duration(chunks.run_p95, micro),
                "far above the mean: tasks differ, smaller ones spread better",
            ),
            (
                "task wait, p50", units.duration(chunks.wait_p50, micro),
                "submitted to begun; high is usual in a map, as its last task waits",
            ),
            (
                "task wait, p95", units.duration(chunks.wait_p95, micro),
                "high with small calls of apply: more workers would help",
            ),
            (
                "stolen tasks", units.percent(chunks.stolen),
                "from busy workers; high: chunks too large, or items differ much",
            ),
        ):  # fmt: skip
            lines += self._number(name, value, meaning, width)
        return lines

    def _spending(self, spent: Spending, width: int) -> list[Line]:
        lines = heading("workers' time", "since the pool's start", width)
        idle = spent.idle.get
        for name, share, meaning in (
            ("busy", spent.busy, "in items"),
            (
                "starved", idle(IdleReason.STARVED),
                "work was queued; above 10 %: chunks too small, too many workers",
            ),
            (
                "tail", idle(IdleReason.TAIL),
                "idle at a job's end; above 10 %: chunks too large, or one long item",
            ),
            (
                "overhead", spent.overhead,
                "messages, pickles; above 20 %: tasks too short, or too much is sent",
            ),
            ("no work", idle(IdleReason.NO_WORK), "nothing to do: no matter of chunks"),
            ("paused", idle(IdleReason.PAUSED), "by a command, or the program"),
            (
                "recycling", idle(IdleReason.RECYCLING),
                "no worker was ready; above 2 %: a higher limit, or a quicker start",
            ),
        ):  # fmt: skip
            lines += self._number(name, _fine_percent(share), meaning, width)
        return lines

    def _sending(self, sent: Sending, width: int) -> list[Line]:
        lines = heading("sending", "what it costs", width)
        for name, value, meaning in (
            (
                "bytes in", units.size(sent.bytes_in),
                "arguments of a task; above 1 MiB: send paths, or use shared memory",
            ),
            (
                "bytes out", units.size(sent.bytes_out),
                "its results; the same",
            ),
            (
                "pickling here", _fine_percent(sent.pickling_parent),
                "of a core, in the pool's process; near 100 %: it limits the pool",
            ),
            (
                "pickling there", _fine_percent(sent.pickling_workers),
                "of all workers' time; high: fewer or smaller arguments and results",
            ),
            (
                "scheduler", _fine_percent(sent.scheduler),
                "of a core; near 100 % (50 % if the program computes): the limit",
            ),
        ):  # fmt: skip
            lines += self._number(name, value, meaning, width)
        return lines

    def _lives(self, lives: Recycling, width: int) -> list[Line]:
        micro = self.glyphs.micro
        limit = "none" if lives.limit is None else f"{lives.limit:,}"
        lines = heading("maxtasksperchild", "how many tasks a worker lives for", width)
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
            (
                "the same, ended", units.size(lives.growth_ended),
                f"of workers that are gone, which had {units.count(lives.life)} tasks, mean",
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
        return [start, *paragraph(meaning, width, INDENT + 2)]


def _chunk_text(chunks: Chunking, spent: Spending) -> str:
    if not chunks.functions:
        return "No item has ended yet: there is nothing to say."
    most = chunks.functions[0]
    told = (
        f"chunksize = 0.2 s / time per item: {most.chunksize:,} for {most.name}, "
        f"whose items take {units.duration(most.mean)}."
    )
    if chunks.verdict and chunks.items_per_task is not None:
        told += f" Now {units.count(chunks.items_per_task)}: {chunks.verdict}."
    starved = spent.idle.get(IdleReason.STARVED, 0.0)
    tail = spent.idle.get(IdleReason.TAIL, 0.0)
    if starved > tuning.WORTH_A_WORD:
        told += f" Workers starve for {units.percent(starved)} of their time: a larger one feeds "
        told += "them better."
    if tail > tuning.WORTH_A_WORD:
        told += f" {units.percent(tail)} of their time is waiting for the last ones: a smaller one "
        told += "shares them better."
    return told


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
    if not share:
        return units.percent(share)
    return f"{100 * share:.1f} %" if share < tuning.DEAR_RECYCLING * 2 else units.percent(share)
