"""The numbers that decide chunksize and maxtasksperchild, and what they advise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from obspool.words import JobKind, WorkerState

if TYPE_CHECKING:
    from obspool.telemetry.snapshot import Histogram, Snapshot
    from obspool_dashboard.frame import Frame

# A task of a fifth of a second costs next to nothing to send, and nobody waits long for the last.
TASK_SECONDS = 0.2
# Within this factor of it there is nothing to gain.
NEAR = 4.0
# Below this share of the workers' time, recycling is cheap; above the other one it is dear.
CHEAP_RECYCLING = 0.01
DEAR_RECYCLING = 0.05
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
class Recycling:
    """What replacing workers costs, and what it would gain; None where nothing is known yet.

    Attributes:
        limit: maxtasksperchild; None for none.
        tasks_median: tasks of the present processes since their start.
        startup: seconds that a worker takes to be ready.
        cost: of all workers' time, the share spent in starting.
        growth: bytes that a process grows by with each task.
        suggested: tasks in which it grows by GROWTH_ALLOWED; None when it hardly grows.
    """

    limit: int | None
    tasks_median: int | None
    tasks_most: int | None
    startup: float | None
    startup_p95: float | None
    cost: float | None
    growth: float | None
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


def recycling(frame: Frame) -> Recycling:
    """Return what recycling costs, and whether it is needed."""
    snapshot = frame.snapshot
    live = [w for w in snapshot.present_workers if w.state is not WorkerState.GONE]
    tasks = sorted(worker.process_tasks for worker in live)
    age = frame.values_time - snapshot.facts.start_time
    worker_seconds = age * max(1, len(snapshot.present_workers))
    startup = snapshot.worker_startup
    grown = sum(max(0, worker.memory_growth) for worker in live)
    growth = grown / sum(tasks) if sum(tasks) else None
    grows = growth is not None and growth >= GROWTH_WORTH_A_LIMIT
    return Recycling(
        limit=snapshot.max_tasks_per_child,
        tasks_median=tasks[len(tasks) // 2] if tasks else None,
        tasks_most=tasks[-1] if tasks else None,
        startup=startup.mean,
        startup_p95=startup.quantile(0.95),
        cost=startup.sum / worker_seconds if age > 0 and startup.count else None,
        growth=growth,
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
