"""The pool itself: who it is, how it is, and its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from obspool import units
from obspool.words import ExitReason, PoolOutcome, PoolState
from obspool_dashboard.lines import Line, LineWidget, Part, Role, gap, joined, spread, width_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from obspool_dashboard.frame import Frame
    from obspool_dashboard.glyphs import Glyphs

STATE_ROLES = {
    PoolState.RUNNING: Role.GOOD,
    PoolState.PAUSED: Role.WARN,
    PoolState.CLOSING: Role.WARN,
}
OUTCOME_ROLES = {
    PoolOutcome.FINISHED: Role.INFO,
    PoolOutcome.ABANDONED: Role.WARN,
    PoolOutcome.BROKEN: Role.BAD,
    PoolOutcome.DIED: Role.BAD,
}
# Planned ends of workers: each has a successor.
RECYCLED = (ExitReason.TASKS, ExitReason.MEMORY, ExitReason.AGE, ExitReason.COMMAND)
# The curve is worth more than the last few tiles; one narrower than its caption says nothing.
CURVE_LEAST = 24
CURVE_MOST = 60
USUAL_WIDTH = 80


@dataclass(frozen=True)
class Tile:
    """One number with its name above it; tiles of the highest rank go first on narrow screens."""

    label: str
    value: Part
    width: int
    rank: int = 0


class PoolHeader(LineWidget):
    """Three lines: facts and state, then the numbers by name, with the curve of the throughput."""

    frame: Frame | None = None
    interval = 1.0
    read_only = False

    def show_frame(self, frame: Frame) -> None:
        """Show the pool of a frame."""
        self.frame = frame
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        """Say what stands in the header."""
        if self.frame is None:
            return ()
        del height
        margin = gap(1)
        title = title_line(
            self.frame, self.glyphs, width - 2, interval=self.interval, read_only=self.read_only
        )
        return [(margin, *line) for line in (title, *_numbers(self.frame, self.glyphs, width - 2))]


def title_line(
    frame: Frame, glyphs: Glyphs, width: int, *, interval: float, read_only: bool
) -> Line:
    """Return the first line: as many facts as fit, and the state at the right."""
    facts = frame.snapshot.facts
    right = [*_state(frame)]
    if width >= USUAL_WIDTH and not frame.ended:
        right += [Part(f"   every {interval:g} s", Role.MUTED)]
    if read_only:
        right += [Part("   read-only", Role.WARN)]
    name = Part(glyphs.printable(facts.name), Role.NAME)
    if width_of((name, *right)) + 2 > width:
        right = right[:1]
    texts = [
        f"pid {facts.pid}",
        _workers(frame),
        facts.start_method if facts.engine == "processes" else facts.engine,
        glyphs.printable(facts.program),
        f"python {facts.python}",
    ]
    if frame.snapshot.max_tasks_per_child:
        texts.insert(3, f"{frame.snapshot.max_tasks_per_child:,} tasks a worker")
    line: Line = (name,)
    separator = Part(f" {glyphs.dot} ", Role.FAINT)
    for text in filter(None, texts):
        before = gap(2) if line == (name,) else separator
        longer = (*line, before, Part(text, Role.MUTED))
        if width_of(longer) + 2 + width_of(right) > width:
            break
        line = longer
    room = width - width_of(right) - 2
    if width_of(line) > room:
        line = (Part(glyphs.fit(name.text, max(1, room)), Role.NAME),)
    return spread(line, right, width)


def _workers(frame: Frame) -> str:
    live, wanted = frame.live_workers, frame.snapshot.workers_configured
    number = f"{wanted}" if live == wanted or frame.ended else f"{live} of {wanted}"
    return f"{number} worker{'' if wanted == 1 else 's'}"


def _state(frame: Frame) -> Line:
    snapshot = frame.snapshot
    age = units.uptime(frame.values_time - snapshot.facts.start_time)
    if frame.ended:
        word, role = str(frame.outcome), OUTCOME_ROLES[frame.outcome]
    else:
        word, role = str(snapshot.state), STATE_ROLES[snapshot.state]
    if frame.silent_for is not None:
        word, role = f"{word}, silent", Role.BAD
    return (Part(word, role), gap(1), Part(age, Role.STRONG))


def tiles(frame: Frame) -> list[Tile]:
    """Return the numbers of a pool, in the order shown."""
    snapshot, rates = frame.snapshot, frame.rates
    tasks = snapshot.tasks
    average = "avg /s" if frame.ended else "items/s"
    recycled = sum(snapshot.worker_exits.get(reason, 0) for reason in RECYCLED)
    lost = snapshot.worker_exits.get(ExitReason.LOST, 0)

    def number(label: str, value: int, rank: int, role: Role = Role.STRONG) -> Tile:
        return Tile(label, Part(units.count(value), role if value else Role.MUTED), 5, rank)

    return [
        Tile(average, Part(units.rate(rates.items), Role.STRONG), 7, 0),
        number("done", frame.done, 1),
        number("errors", frame.errors, 2, Role.BAD),
        Tile("busy", Part(units.percent(rates.busy), Role.STRONG), 5, 3),
        number("queued", tasks.queued, 4),
        number("dispatched", tasks.dispatched, 7),
        number("running", tasks.running, 6),
        number("results", tasks.result, 8),
        Tile("eta", Part(units.span(rates.eta), Role.STRONG), 7, 5),
        number("recycled", recycled, 10),
        number("lost", lost, 9, Role.BAD),
        number("retried", snapshot.items_retried, 11, Role.WARN),
    ]


def _numbers(frame: Frame, glyphs: Glyphs, width: int) -> list[Line]:
    """Return the line of labels and the line of values, with the curve at their right."""
    chosen: list[Tile] = []
    space = 2 if width < USUAL_WIDTH else 3
    reserved = CURVE_LEAST + space if width >= USUAL_WIDTH else 0
    left = width - reserved
    for tile in sorted(tiles(frame), key=lambda tile: tile.rank):
        cost = max(tile.width, len(tile.label)) + (space if chosen else 0)
        if cost <= left:
            chosen.append(tile)
            left -= cost
    chosen = [tile for tile in tiles(frame) if tile in chosen]
    labels, values = [], []
    for tile in chosen:
        cells = max(tile.width, len(tile.label))
        labels.append((Part(tile.label.rjust(cells), Role.MUTED),))
        values.append((Part(tile.value.text.rjust(cells), tile.value.role),))
    lines = [joined(labels, gap(space)), joined(values, gap(space))]
    if not reserved or not frame.rates.series:
        return lines
    series = frame.rates.series[-min(CURVE_MOST, reserved + left - 2 * space) :]
    caption = f"items/s, peak {units.rate(max(series))}"
    return [
        spread(lines[0], (Part(caption, Role.MUTED),), width),
        spread(lines[1], (Part(glyphs.sparkline(series), Role.INFO),), width),
    ]
