"""The numbers that decide chunksize and maxtasksperchild, and what they advise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from obspool.words import Direction, IdleReason, JobKind, WorkerState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from obspool.telemetry.snapshot import Histogram, Snapshot
    from obspool_dashboard.frame import Frame

# A task of a fifth of a second costs next to nothing to send, and nobody waits long for the last.
TASK_SECONDS = 0.2
# Within this factor of it there is nothing to gain.
NEAR = 4.0
# Below this share of the workers' time, recycling is cheap; above the other one it is dear.
CHEAP_RECYCLING = 0.01
DEAR_RECYCLING = 0.05
# Above this share of the workers' time, starving or waiting for the last ones is worth a word.
WORTH_A_WORD = 0.1
# Growth of a process from one task to the next that is worth a limit.
GROWTH_WORTH_A_LIMIT = 16 << 10
# What a worker may grow by before it is replaced, for the sum that is done with it.
GROWTH_ALLOWED = 1 << 30


@dataclass(frozen=True, slots=True)
class FunctionAdvice:
    """One function's items, and the chunksize that suits them.

    Attributes:
        name: of the function.
        items: timed so far.
        mean: seconds an item.
        p95: seconds that 95 of 100 items don't exceed.
        chunksize: with which a task takes about TASK_SECONDS.
    """

    name: str
    items: int
    mean: float
    p95: float
    chunksize: int


@dataclass(frozen=True, slots=True)
class Chunking:
    """How the work is cut into tasks; None where nothing is known yet.

    Attributes:
        items_per_task: of the calls that have a chunksize, as they were asked for.
        task_seconds: the mean run of a task, as it was run: what was stolen counts apart.
        stolen: tasks taken over from busy workers, of all.
    """

    items_per_task: float | None
    task_seconds: float | None
    wait_p50: float | None
    wait_p95: float | None
    run_p95: float | None
    stolen: float | None
    functions: tuple[FunctionAdvice, ...]

    @property
    def verdict(self) -> str:
        """Whether tasks are too small, too large, or neither; empty when nothing is known."""
        if not self.functions or self.items_per_task is None:
            return ""
        most = max(self.functions, key=lambda function: function.items)
        factor = self.items_per_task * most.mean / TASK_SECONDS
        if factor < 1 / NEAR and self.items_per_task < most.chunksize:
            return "too small"
        if factor > NEAR and self.items_per_task > 1:
            return "too large"
        return "about right"


@dataclass(frozen=True, slots=True)
class Spending:
    """Where the workers' time went since the pool's start, as shares of it.

    Attributes:
        busy: in items.
        idle: by reason; empty while nothing is known.
        overhead: neither: messages, pickles.
    """

    busy: float | None
    idle: Mapping[IdleReason, float]
    overhead: float | None


@dataclass(frozen=True, slots=True)
class Sending:
    """What it costs to send tasks and their results; None where nothing is known yet.

    Attributes:
        bytes_in: serialized bytes of a task's arguments, mean.
        bytes_out: the same of its results.
        pickling_parent: seconds a second that the pool's process pickles and unpickles.
        pickling_workers: the share of all workers' time that they do.
        scheduler: CPU seconds a second of the pool's own thread.
    """

    bytes_in: float | None
    bytes_out: float | None
    pickling_parent: float | None
    pickling_workers: float | None
    scheduler: float | None


@dataclass(frozen=True, slots=True)
class Recycling:
    """What replacing workers costs, and what it would gain; None where nothing is known yet.

    Attributes:
        limit: maxtasksperchild; None for none.
        tasks_median: tasks of the present processes since their start.
        startup: seconds that a worker takes to be ready.
        cost: of all workers' time, the share spent in starting.
        growth: bytes that a process grows by with each task.
        growth_ended: the same of processes that are gone.
        life: tasks that those had, mean.
        suggested: tasks in which it grows by GROWTH_ALLOWED; None when it hardly grows.
    """

    limit: int | None
    tasks_median: int | None
    tasks_most: int | None
    startup: float | None
    startup_p95: float | None
    cost: float | None
    growth: float | None
    growth_ended: float | None
    life: float | None
    suggested: int | None


def chunking(snapshot: Snapshot) -> Chunking:
    """Return how the work is cut, and what would suit it."""
    functions = sorted(
        (
            advice
            for name, histogram in snapshot.item_run.items()
            if (advice := _advice(name, histogram)) is not None
        ),
        key=lambda advice: -advice.items,
    )
    # An item of `apply` is a task by nature: it says nothing on chunks.
    alone = snapshot.tasks_submitted.get(JobKind.APPLY, 0)
    tasks = sum(snapshot.tasks_submitted.values()) - alone
    ended = sum(snapshot.tasks_completed.values())
    return Chunking(
        items_per_task=(snapshot.items_submitted - alone) / tasks if tasks > 0 else None,
        task_seconds=snapshot.task_run.mean,
        wait_p50=snapshot.task_wait.quantile(0.5),
        wait_p95=snapshot.task_wait.quantile(0.95),
        run_p95=snapshot.task_run.quantile(0.95),
        stolen=snapshot.tasks_stolen / ended if ended else None,
        functions=tuple(functions),
    )


def spending(frame: Frame) -> Spending:
    """Return where the workers' time went."""
    snapshot, seconds = frame.snapshot, _worker_seconds(frame)
    if not seconds:
        return Spending(None, {}, None)
    busy = sum(row.worker.busy_seconds + (row.running or 0.0) for row in frame.workers) / seconds
    idle = {reason: time / seconds for reason, time in snapshot.idle_seconds.items()}
    overhead = 1.0 - busy - sum(idle.values())
    return Spending(min(1.0, busy), idle, max(0.0, overhead))


def sending(frame: Frame) -> Sending:
    """Return what sending tasks and results costs."""
    snapshot, spent = frame.snapshot, frame.snapshot.serialize_seconds
    age, seconds = _age(frame), _worker_seconds(frame)
    ended = sum(snapshot.tasks_completed.values())
    sent = ended + snapshot.tasks.dispatched + snapshot.tasks.running
    parent, workers = spent.parent_dump + spent.parent_load, spent.worker_dump + spent.worker_load
    return Sending(
        bytes_in=snapshot.task_bytes.get(Direction.IN, 0) / sent if sent else None,
        bytes_out=snapshot.task_bytes.get(Direction.OUT, 0) / ended if ended else None,
        pickling_parent=parent / age if age else None,
        pickling_workers=workers / seconds if seconds else None,
        scheduler=snapshot.scheduler_busy_seconds / age if age else None,
    )


def _age(frame: Frame) -> float:
    return max(0.0, frame.values_time - frame.snapshot.facts.start_time)


def _worker_seconds(frame: Frame) -> float:
    """Return the time of all workers; as many as there are now since the start."""
    return _age(frame) * max(1, frame.snapshot.workers_configured)


def recycling(frame: Frame) -> Recycling:
    """Return what recycling costs, and whether it is needed."""
    snapshot = frame.snapshot
    live = [w for w in snapshot.present_workers if w.state is not WorkerState.GONE]
    tasks = sorted(worker.process_tasks for worker in live)
    seconds = _worker_seconds(frame)
    startup, gone = snapshot.worker_startup, snapshot.worker_lifetime_tasks
    grown = sum(max(0, worker.memory_growth) for worker in live)
    growth = grown / sum(tasks) if sum(tasks) else None
    grows = growth is not None and growth >= GROWTH_WORTH_A_LIMIT
    return Recycling(
        limit=snapshot.max_tasks_per_child,
        tasks_median=tasks[len(tasks) // 2] if tasks else None,
        tasks_most=tasks[-1] if tasks else None,
        startup=startup.mean,
        startup_p95=startup.quantile(0.95),
        cost=startup.sum / seconds if seconds and startup.count else None,
        growth=growth,
        growth_ended=snapshot.worker_memory_growth / gone.sum if gone.sum else None,
        life=gone.mean,
        suggested=max(1, round(GROWTH_ALLOWED / growth)) if grows and growth else None,
    )


def _advice(name: str, histogram: Histogram) -> FunctionAdvice | None:
    mean, p95 = histogram.mean, histogram.quantile(0.95)
    if mean is None or p95 is None:
        return None
    size = max(1, rounded(TASK_SECONDS / mean)) if mean > 0 else 1
    return FunctionAdvice(name, histogram.count, mean, p95, size)


def rounded(value: float) -> int:
    """Round to one or two digits: advice isn't exact, and 118 would look as if it were."""
    if value < 10:  # noqa: PLR2004 - one digit is all there is
        return round(value)
    scale: int = 10 ** (len(str(int(value))) - 2)
    return round(value / scale) * scale
