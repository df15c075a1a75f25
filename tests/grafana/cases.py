"""What makes each alert fire, and what is near it and must not.

Series are written as promtool's: `0+1x20` begins at 0 and grows by 1 for 20 intervals of a minute,
`_` is no sample. Time begins at 0, and so do the pools.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MIB = 1 << 20

# What a scrape adds: rules must not mind it.
SCRAPE = {"job": "batch", "instance": "host:9400", "pool": "p", "zone": "z1"}

# A pool of four workers that runs.
POOL = {
    "pool_start_time_seconds": "0x300",
    "workers_configured": "4x300",
    'pool_state{state="running"}': "1x300",
    'pool_state{state="closing"}': "0x300",
    'pool_state{state="paused"}': "0x300",
}


@dataclass(frozen=True)
class Case:
    """One situation.

    Attributes:
        alert: without the prefix.
        what: the situation, in words.
        series: by name without the prefix, with labels beside the scrape's; added to `POOL`.
        said: the alert's description as people read it; None: it doesn't fire.
        at: when it is looked at.
        labels: of the alert, beside job, instance and pool.
        without: labels that the alert doesn't have.
        interval: between two samples.
    """

    alert: str
    what: str
    series: Mapping[str, str]
    said: str | None = None
    at: str = "20m"
    labels: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    interval: str = "1m"


LOST, OK = 'items_completed_total{outcome="lost"}', 'items_completed_total{outcome="ok"}'
DONE, FAILED = 'tasks_completed_total{outcome="ok"}', 'tasks_completed_total{outcome="error"}'
QUEUED, RUNNING = 'tasks{state="queued"}', 'tasks{state="running"}'
LOST_WORKERS = 'worker_exits_total{reason="lost"}'
RECYCLED = 'worker_exits_total{reason="tasks"}'
DIED = 'pools_ended_total{outcome="died"}'
STARVED = 'worker_idle_seconds_total{reason="starved"}'
TAIL = 'worker_idle_seconds_total{reason="tail"}'
NO_WORK = 'worker_idle_seconds_total{reason="no_work"}'
BUSY = 'worker_busy_seconds_total{worker="0"}'
RUN_SUM, RUN_COUNT = "task_run_duration_seconds_sum", "task_run_duration_seconds_count"
SHORT_TASKS = {RUN_SUM: "0+60x40", RUN_COUNT: "0+60000x40"}


def _last_run(hour: int, *, schedule: str) -> dict[str, str]:
    """A pool of a minute that succeeded at some hour; samples are five minutes apart."""
    before = f"_x{hour * 12} " if hour else ""
    return {
        "pool_start_time_seconds": f"{before}{hour * 3600}",
        f'pool_info{{schedule="{schedule}"}}': f"{before}1",
        "pool_last_success_timestamp_seconds": f"{before}{hour * 3600 + 60}",
    }


CASES = (
    Case(
        "ItemsLost",
        "an item was lost",
        {LOST: "0x10 1x20", OK: "0+5x30"},
        "About 1 items were lost in the last ten minutes: their worker died while it ran them, and "
        "they were not run again.",
        at="15m",
    ),
    Case(
        "ItemsLost",
        "the pool was first seen when all was over",
        {LOST: "_x9 2x20"},
        "About 2 items were lost in the last ten minutes: their worker died while it ran them, and "
        "they were not run again.",
        at="12m",
    ),
    Case("ItemsLost", "it was an hour ago", {LOST: "0x10 1x80"}, at="75m"),
    Case("ItemsLost", "items failed, none was lost", {LOST: "0x30", FAILED: "0+3x30"}),
    Case(
        "NoProgress",
        "work is queued and running, and nothing ends",
        {OK: "0+5x5 25x60", QUEUED: "8x60", RUNNING: "4x60"},
        "There is work, and no item has ended for fifteen minutes.",
        at="40m",
    ),
    Case(
        "NoProgress",
        "nothing ever ended",
        {OK: "0x60", QUEUED: "8x60"},
        "There is work, and no item has ended for fifteen minutes.",
        at="17m",
    ),
    Case("NoProgress", "there is no work", {OK: "25x60", QUEUED: "0x60"}, at="40m"),
    Case("NoProgress", "items end", {OK: "0+1x60", QUEUED: "8x60"}, at="40m"),
    Case(
        "NoProgress",
        "tasks of this pool take half an hour each",
        {OK: "25x60", RUNNING: "4x60", RUN_SUM: "18000x60", RUN_COUNT: "10x60"},
        at="40m",
    ),
    Case(
        "NoProgress",
        "somebody paused it",
        {
            OK: "25x60",
            QUEUED: "8x60",
            'pool_state{state="running"}': "0x60",
            'pool_state{state="paused"}': "1x60",
        },
        at="40m",
    ),
    Case(
        "WorkersCrashLooping",
        "a worker dies each minute",
        {LOST_WORKERS: "0x5 1+1x30"},
        "About 10 workers died unexpectedly in the last ten minutes.",
    ),
    Case("WorkersCrashLooping", "one died", {LOST_WORKERS: "0x5 1x30"}, at="10m"),
    Case("WorkersCrashLooping", "they are recycled", {RECYCLED: "0+3x30", LOST_WORKERS: "0x30"}),
    Case(
        "PoolDied",
        "its process is gone",
        {DIED: "0x10 1x30", 'pools_ended_total{outcome="finished"}': "3x40"},
        "The pool ended as died: its process was killed or crashed (died), or it could no longer "
        "run work (broken).",
        labels={"outcome": "died"},
    ),
    Case(
        "PoolDied",
        "the first run of this name broke before it was seen",
        {'pools_ended_total{outcome="broken"}': "_x9 1x30"},
        "The pool ended as broken: its process was killed or crashed (died), or it could no longer "
        "run work (broken).",
        at="12m",
        labels={"outcome": "broken"},
    ),
    Case("PoolDied", "it ended well", {'pools_ended_total{outcome="finished"}': "0x10 1x30"}),
    Case("PoolDied", "it died long ago", {DIED: "1x90"}, at="60m"),
    Case(
        "NotSucceededFor",
        "a daily pool's last success was 27 hours ago, and it is gone",
        _last_run(1, schedule="daily"),
        "No job of this daily pool has ended without an error for 1d 2h 59m 0s.",
        at="28h",
        labels={"schedule": "daily"},
        without=("instance",),
        interval="5m",
    ),
    Case(
        "NotSucceededFor",
        "an hourly pool's last success was three hours ago",
        _last_run(1, schedule="hourly"),
        "No job of this hourly pool has ended without an error for 2h 59m 0s.",
        at="4h",
        labels={"schedule": "hourly"},
        without=("instance",),
        interval="5m",
    ),
    Case(
        "NotSucceededFor",
        "a daily pool runs for 27 hours and no job ever succeeded",
        {"pool_start_time_seconds": "0x340", 'pool_info{schedule="daily"}': "1x340"},
        "No job of this daily pool has ended without an error for 1d 3h 0m 0s.",
        at="27h",
        labels={"schedule": "daily"},
        without=("instance",),
        interval="5m",
    ),
    Case(
        "NotSucceededFor",
        "yesterday's run was fine, and today's isn't due yet",
        _last_run(1, schedule="daily"),
        at="20h",
        interval="5m",
    ),
    Case(
        "NotSucceededFor",
        "nobody said that this pool runs daily",
        _last_run(1, schedule="never"),
        at="28h",
        interval="5m",
    ),
    Case(
        "WorkersMissing",
        "two of four can't be started",
        {'workers{state="idle"}': "4x5 2x20", 'workers{state="starting"}': "0x5 2x20"},
        "2 of the pool's workers have not been ready for five minutes.",
    ),
    Case(
        "WorkersMissing",
        "one is being replaced",
        {'workers{state="busy"}': "4x10 3 4x20", 'workers{state="starting"}': "0x10 1 0x20"},
        at="11m",
    ),
    Case(
        "WorkersMissing",
        "the pool is closing",
        {'workers{state="idle"}': "1x30", 'pool_state{state="running"}': "0x30"},
    ),
    Case(
        "TaskErrorRatioHigh",
        "a quarter of the tasks fail",
        {DONE: "0+30x30", FAILED: "0+10x30"},
        "25% of the tasks that ended in the last five minutes failed.",
    ),
    Case("TaskErrorRatioHigh", "one in fifty fails", {DONE: "0+49x30", FAILED: "0+1x30"}),
    Case("TaskErrorRatioHigh", "one of two failed", {DONE: "0x10 1x20", FAILED: "0x10 1x20"}),
    Case(
        "TaskStuck",
        "tasks take a second, and one is there for 40 minutes",
        {
            'worker_task_start_time_seconds{worker="2"}': "0x60",
            RUN_SUM: "0+60x60",
            RUN_COUNT: "0+60x60",
        },
        "The task has run for 40m 0s, twenty times the pool's mean or more.",
        at="40m",
        labels={"worker": "2"},
    ),
    Case(
        "TaskStuck",
        "tasks take five minutes, and one is there for 40",
        {
            'worker_task_start_time_seconds{worker="2"}': "0x60",
            RUN_SUM: "0+300x60",
            RUN_COUNT: "0+1x60",
        },
        at="40m",
    ),
    Case(
        "QueueWaitHigh",
        "calls wait ten minutes",
        {
            'task_queue_wait_seconds_bucket{le="300"}': "0x40",
            'task_queue_wait_seconds_bucket{le="600"}': "0+20x40",
            'task_queue_wait_seconds_bucket{le="+Inf"}': "0+20x40",
            'jobs_submitted_total{kind="apply"}': "0+20x40",
        },
        "One in twenty calls waits 9m 45s or longer for a worker.",
        at="30m",
    ),
    Case(
        "QueueWaitHigh",
        "it is one large map",
        {
            'task_queue_wait_seconds_bucket{le="300"}': "0x40",
            'task_queue_wait_seconds_bucket{le="600"}': "0+20x40",
            'task_queue_wait_seconds_bucket{le="+Inf"}': "0+20x40",
            'jobs_submitted_total{kind="apply"}': "0x40",
            'jobs_submitted_total{kind="map"}': "1x40",
        },
        at="30m",
    ),
    Case(
        "WorkerMemoryGrowing",
        "a worker grows by 10 MiB a minute",
        {
            'worker_resident_memory_bytes{worker="0"}': f"{200 * MIB}+{10 * MIB}x90",
            "max_tasks_per_child": "0x90",
        },
        "At this rate the workers have 3.125GiB in four hours, more than twice what they have now.",
        at="60m",
    ),
    Case(
        "WorkerMemoryGrowing",
        "it grows, and maxtasksperchild is set",
        {
            'worker_resident_memory_bytes{worker="0"}': f"{200 * MIB}+{10 * MIB}x90",
            "max_tasks_per_child": "700x90",
        },
        at="60m",
    ),
    Case(
        "WorkerMemoryGrowing",
        "it grows, and was replaced for it before",
        {
            'worker_resident_memory_bytes{worker="0"}': f"{200 * MIB}+{10 * MIB}x90",
            "max_tasks_per_child": "0x90",
            'worker_exits_total{reason="memory"}': "0x20 1x70",
        },
        at="60m",
    ),
    Case(
        "WorkerMemoryGrowing",
        "it stays as it is",
        {
            'worker_resident_memory_bytes{worker="0"}': f"{200 * MIB}x90",
            "max_tasks_per_child": "0x90",
        },
        at="60m",
    ),
    Case(
        "ExporterDown",
        "the host's exporter doesn't answer",
        {'up{job="obspool-exporter"}': "1x5 0x20"},
        "Nothing is known of the pools of this host since then.",
        without=("pool",),
    ),
    Case("ExporterDown", "a batch program has ended", {'up{job="batch"}': "1x5 0x20"}),
    Case(
        "BacklogGrowing",
        "twice as many tasks come as go",
        {
            'tasks_submitted_total{kind="apply"}': "0+20x90",
            DONE: "0+10x90",
            QUEUED: "0+10x90",
        },
        "For half an hour more tasks have been submitted than ended.",
        at="60m",
    ),
    Case(
        "BacklogGrowing",
        "a large map is being worked off",
        {'tasks_submitted_total{kind="map"}': "0 1000x90", DONE: "0+10x90", QUEUED: "1000-10x90"},
        at="60m",
    ),
    Case(
        "ChunksTooSmall",
        "workers starve between tasks of a millisecond",
        {STARVED: "0+120x40", RUN_SUM: "0+60x40", RUN_COUNT: "0+60000x40"},
        "Tasks are so short that handing them out takes much of the time. A larger chunksize makes "
        "this pool faster.",
    ),
    Case(
        "ChunksTooSmall",
        "the parent is busy all the time",
        {"scheduler_busy_seconds_total": "0+58x40", RUN_SUM: "0+60x40", RUN_COUNT: "0+60000x40"},
        "Tasks are so short that handing them out takes much of the time. A larger chunksize makes "
        "this pool faster.",
    ),
    Case(
        "ChunksTooSmall",
        "half of the time goes by beside the items",
        {BUSY: "0+60x40", STARVED: "0x40", NO_WORK: "0+60x40", **SHORT_TASKS},
        "Tasks are so short that handing them out takes much of the time. A larger chunksize makes "
        "this pool faster.",
    ),
    Case(
        "ChunksTooSmall",
        "tasks are short, and workers wait for work",
        {BUSY: "0+60x40", STARVED: "0x40", NO_WORK: "0+170x40", **SHORT_TASKS},
    ),
    Case(
        "ChunksTooSmall",
        "workers starve, though tasks take a second",
        {STARVED: "0+120x40", RUN_SUM: "0+60x40", RUN_COUNT: "0+60x40"},
    ),
    Case(
        "ChunksTooLarge",
        "half of the time goes by at the ends of jobs",
        {
            TAIL: "0+120x90",
            RUN_SUM: "0+100x90",
            RUN_COUNT: "0+10x90",
            "task_items_sum": "0+40000x90",
            "task_items_count": "0+10x90",
        },
        "50% of the workers' time in the last hour went by at the ends of jobs, with nothing left "
        "to begin. A smaller chunksize makes this pool faster.",
        at="60m",
    ),
    Case(
        "ChunksTooLarge",
        "the items are long, each a task of its own",
        {
            TAIL: "0+120x90",
            RUN_SUM: "0+100x90",
            RUN_COUNT: "0+10x90",
            "task_items_sum": "0+10x90",
            "task_items_count": "0+10x90",
        },
        at="60m",
    ),
    Case(
        "ChunksTooLarge",
        "it was the end of a job of seconds",
        {
            "pool_start_time_seconds": "3480x90",
            TAIL: "_x58 0 120x30",
            RUN_SUM: "100x90",
            RUN_COUNT: "10x90",
            "task_items_sum": "40000x90",
            "task_items_count": "10x90",
        },
        at="60m",
    ),
    Case(
        "RecyclingTooOften",
        "a tenth of the time is start-up",
        {RECYCLED: "0+12x60", "worker_startup_seconds_sum": "0+24x60"},
        "10% of the workers' time goes into starting them.",
        at="30m",
    ),
    Case(
        "RecyclingTooOften",
        "it costs one percent",
        {RECYCLED: "0+1x60", "worker_startup_seconds_sum": "0+2.4x60"},
        at="30m",
    ),
)
