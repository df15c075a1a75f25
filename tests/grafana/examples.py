"""metrics.md's two worked examples as an exporter would have shown them, for an hour of the past.

defaults   64 workers, maps of 1.2 million items of 2 ms, with the default chunksize
hundred    the same with chunksize=100
leaky      8 workers that take 180 MiB and 0.8 MiB more with each task of 0.5 s, without a limit
recycled   the same with maxtasksperchild=700; a start takes 1.9 s
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

JOB = "example"
STEP = 5
MINUTES = 60

ITEMS, ITEM_SECONDS, MAP_WORKERS = 1_200_000, 0.002, 64
MIB = 1 << 20
BASE, GROWTH, TASK_SECONDS, START_SECONDS, LIMIT, WORKERS = 180 * MIB, 0.8 * MIB, 0.5, 1.9, 700, 8
LIFE = START_SECONDS + LIMIT * TASK_SECONDS

Sample = tuple[str, dict[str, str], float]


def default_chunksize() -> int:
    """Return what `map` takes without a chunksize: as the stdlib, four chunks a worker."""
    chunksize, extra = divmod(ITEMS, MAP_WORKERS * 4)
    return chunksize + 1 if extra else chunksize


@dataclass(frozen=True)
class Maps:
    """A pool that runs one map after the other; each has some seconds of tail and of starving."""

    pool: str
    chunksize: int
    tail: float
    starved: float

    def samples(self, age: float) -> Iterator[Sample]:
        """Yield what it shows at an age in seconds, as if all grew evenly."""
        work = ITEMS * ITEM_SECONDS / MAP_WORKERS
        maps = age / (work + self.tail + self.starved)
        items = maps * ITEMS
        tasks = maps * -(-ITEMS // self.chunksize)
        seconds = items * ITEM_SECONDS
        yield "workers_configured", {}, MAP_WORKERS
        yield "task_items_sum", {}, items
        yield "task_items_count", {}, tasks
        yield "tasks_completed_total", {"outcome": "ok"}, tasks
        yield "task_run_duration_seconds_sum", {}, seconds
        yield "task_run_duration_seconds_count", {}, tasks
        yield "item_run_duration_seconds_sum", {"function": "price"}, seconds
        yield "item_run_duration_seconds_count", {"function": "price"}, items
        idle = {"tail": self.tail, "starved": self.starved, "no_work": 0.0}
        for reason, each in idle.items():
            labels = {"reason": reason}
            yield "worker_idle_seconds_total", labels, maps * each * MAP_WORKERS
        yield "worker_busy_seconds_total", {"worker": "0"}, seconds


@dataclass(frozen=True)
class Growing:
    """A pool whose workers grow with each task; they began one after the other."""

    pool: str
    limit: int

    def samples(self, age: float) -> Iterator[Sample]:
        """Yield what it shows at an age in seconds."""
        yield "workers_configured", {}, WORKERS
        yield "max_tasks_per_child", {}, self.limit
        lives = 0
        for slot in range(WORKERS):
            # Without a limit they all are as old as the pool.
            lived = age + slot * LIFE / WORKERS if self.limit else age
            life, since = divmod(lived, LIFE) if self.limit else (0.0, lived)
            tasks = int(max(0.0, since - START_SECONDS) / TASK_SECONDS)
            lives += int(life)
            worker = {"worker": str(slot)}
            yield "worker_process_tasks", worker, tasks
            yield "worker_resident_memory_bytes", worker, BASE + GROWTH * tasks
            yield "worker_busy_seconds_total", worker, (life * LIMIT + tasks) * TASK_SECONDS
        yield "worker_exits_total", {"reason": "tasks"}, lives
        yield "worker_memory_growth_bytes_total", {}, lives * LIMIT * GROWTH
        yield "worker_lifetime_tasks_sum", {}, lives * LIMIT
        yield "worker_lifetime_tasks_count", {}, lives
        yield "worker_startup_seconds_sum", {}, (lives + WORKERS) * START_SECONDS
        yield "worker_startup_seconds_count", {}, lives + WORKERS


POOLS = (
    Maps("defaults", default_chunksize(), tail=12.5, starved=0.0),
    Maps("hundred", 100, tail=0.2, starved=0.5),
    Growing("leaky", 0),
    Growing("recycled", LIMIT),
)


def history(end: int) -> str:
    """Return an hour of all of them up to a time (seconds of the epoch), as OpenMetrics."""
    begin = end - MINUTES * 60
    lines: dict[str, list[str]] = {}
    for one in POOLS:
        for now in range(begin, end + 1, STEP):
            for name, own, value in (
                ("pool_start_time_seconds", {}, float(begin)),
                *one.samples(now - begin),
            ):
                labels = {"job": JOB, "instance": "host:9400", "pool": one.pool, **own}
                text = ",".join(f'{key}="{found}"' for key, found in labels.items())
                lines.setdefault(name, []).append(f"obspool_{name}{{{text}}} {value:.6f} {now}")
    # Types don't matter to a database; as gauges they need no particular names.
    return (
        "".join(
            f"# TYPE obspool_{name} gauge\n" + "\n".join(found) + "\n"
            for name, found in lines.items()
        )
        + "# EOF\n"
    )
