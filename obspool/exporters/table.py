"""The one table of metrics: name, type, labels, HELP, and how each is read from a snapshot.

The collector, the docs page and the tests are made from it:

    Snapshot ──> PoolMetric.read ──> (label values, value) ──> collector ──> /metrics
                 PoolMetric.help … ──────────────────────────> docs/metrics.md

Counters are there as 0 from a pool's start, because `increase()` never sees one that is born at 1.
Labels are never called `job` or `instance`: those are the scrape's own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from obspool.counters import is_name
from obspool.exporters.family import (
    Family,
    MetricType,
    PoolMetric,
    by,
    one_hot,
    process,
    value,
    worker,
    worker_by,
    worker_one_hot,
)
from obspool.telemetry.snapshot import Histogram
from obspool.words import (
    Direction,
    ExitReason,
    IdleReason,
    JobKind,
    Outcome,
    PoolOutcome,
    PoolState,
    WorkerState,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from obspool.exporters.family import Reading
    from obspool.telemetry.snapshot import Snapshot

# Beyond it a pool's workers have `_sum` and `_count` only: 23 series each would be too many.
WORKER_HISTOGRAM_SLOTS = 64


def _live_workers(snapshot: Snapshot) -> Mapping[WorkerState, int]:
    return Counter(one.state for one in snapshot.workers)


_whole_item_run = worker(lambda w: w.item_run)
_short_item_run = worker(lambda w: Histogram((), (w.item_run.count,), w.item_run.sum))


def _item_run_of_workers(snapshot: Snapshot) -> Iterable[Reading]:
    """The histogram of each slot; in a larger pool its sum and count only, one +Inf bucket."""
    short = len(snapshot.workers) > WORKER_HISTOGRAM_SLOTS
    return (_short_item_run if short else _whole_item_run)(snapshot)


def _tasks_by_state(snapshot: Snapshot) -> Iterable[Reading]:
    tasks = snapshot.tasks
    yield ("queued",), tasks.queued
    yield ("dispatched",), tasks.dispatched
    yield ("running",), tasks.running
    yield ("result",), tasks.result


def _serialize_seconds(snapshot: Snapshot) -> Iterable[Reading]:
    seconds = snapshot.serialize_seconds
    yield ("parent", "dump"), seconds.parent_dump
    yield ("parent", "load"), seconds.parent_load
    yield ("worker", "dump"), seconds.worker_dump
    yield ("worker", "load"), seconds.worker_load


# Jobs and tasks are never skipped; a worker's items may be.
_WORK_OUTCOMES: tuple[Outcome, ...] = tuple(
    outcome for outcome in Outcome if outcome is not Outcome.SKIPPED
)
_LIVE_STATES: tuple[WorkerState, ...] = tuple(
    state for state in WorkerState if state is not WorkerState.GONE
)

_C, _G, _H, _S = MetricType.COUNTER, MetricType.GAUGE, MetricType.HISTOGRAM, MetricType.SUMMARY

_POOL_METRICS = (
    PoolMetric(
        "build_info", _G, ("version", "python"),
        "Always 1; the versions of obspool and Python that the pool runs on.",
        lambda s: [((s.facts.version, s.facts.python), 1)],
    ),
    PoolMetric(
        "pool_info", _G, ("engine", "start_method"),
        "Always 1; facts of the pool, with the labels that OBSPOOL_LABELS adds.",
        lambda s: [((s.facts.engine, s.facts.start_method), 1)],
        lambda s: s.facts.labels,
    ),
    PoolMetric(
        "pool_start_time_seconds", _G, (),
        "When the pool was made, in seconds of the UNIX epoch.",
        value(lambda s: s.facts.start_time),
    ),
    PoolMetric(
        "pool_state", _G, ("state",),
        "1 for the state that the pool is in, 0 for the others.",
        one_hot(lambda s: s.state, PoolState),
    ),
    PoolMetric(
        "pools_ended_total", _C, ("outcome",),
        "Pools of this name that ended: finished (nothing was pending), abandoned (terminated with "
        "work pending), broken, died (its process is gone without a word).",
        one_hot(lambda s: s.outcome, PoolOutcome),
    ),
    PoolMetric(
        "pool_last_success_timestamp_seconds", _G, (),
        "When a job last ended without an error, in seconds of the UNIX epoch; absent before.",
        value(lambda s: s.last_success_time),
    ),
    PoolMetric(
        "workers_configured", _G, (),
        "Workers that the pool is to have.",
        value(lambda s: s.workers_configured),
    ),
    PoolMetric(
        "max_tasks_per_child", _G, (),
        "Tasks after which a worker is replaced; 0: never.",
        value(lambda s: s.max_tasks_per_child or 0),
    ),
    PoolMetric(
        "workers", _G, ("state",),
        "Live workers by state.",
        by(_live_workers, _LIVE_STATES),
    ),
)  # fmt: skip

_WORK_METRICS = (
    PoolMetric(
        "jobs_submitted_total", _C, ("kind",),
        "Calls on the pool (apply, map, imap and so on).",
        by(lambda s: s.jobs_submitted, JobKind),
    ),
    PoolMetric(
        "jobs_completed_total", _C, ("outcome",),
        "Jobs that ended.",
        by(lambda s: s.jobs_completed, _WORK_OUTCOMES),
    ),
    PoolMetric(
        "jobs_in_progress", _G, (),
        "Jobs submitted and not ended.",
        value(lambda s: s.jobs_in_progress),
    ),
    PoolMetric(
        "tasks_submitted_total", _C, ("kind",),
        "Tasks (chunks of items) by the kind of their job.",
        by(lambda s: s.tasks_submitted, JobKind),
    ),
    PoolMetric(
        "tasks_completed_total", _C, ("outcome",),
        "Tasks that ended, by what came of them.",
        by(lambda s: s.tasks_completed, _WORK_OUTCOMES),
    ),
    PoolMetric(
        "items_submitted_total", _C, (),
        "Items: calls of the user's function that were asked for.",
        value(lambda s: s.items_submitted),
    ),
    PoolMetric(
        "items_completed_total", _C, ("outcome",),
        "Items that ended; skipped: not run, after an error in their task.",
        by(lambda s: s.items_completed, Outcome),
    ),
    PoolMetric(
        "tasks", _G, ("state",),
        "Tasks at each stage: queued, dispatched (sent to a worker, not begun), running, result "
        "(done, not yet handed over). No task is in two.",
        _tasks_by_state,
    ),
    PoolMetric(
        "queue_oldest_task_timestamp_seconds", _G, (),
        "When the oldest queued task was submitted, in seconds of the UNIX epoch; absent when the "
        "queue is empty.",
        value(lambda s: s.queue_oldest_time),
    ),
    PoolMetric(
        "task_queue_wait_seconds", _H, (),
        "From a task's submission to its begin in a worker.",
        value(lambda s: s.task_wait),
    ),
    PoolMetric(
        "task_run_duration_seconds", _H, (),
        "From a task's begin in a worker to its end there.",
        value(lambda s: s.task_run),
    ),
    PoolMetric(
        "task_result_wait_seconds", _H, (),
        "From a task's end in a worker to its result being handed over in the parent.",
        value(lambda s: s.task_result_wait),
    ),
    PoolMetric(
        "item_run_duration_seconds", _H, ("function",),
        "One call of the function; items far below 1 ms enter as their slice's mean. The first 16 "
        "functions have their name, further ones are `other`.",
        lambda s: [((function,), run) for function, run in s.item_run.items()],
    ),
    PoolMetric(
        "task_items", _H, (),
        "Items in a task as it was submitted: the chunksize. Pieces that balancing makes of it are "
        "not counted.",
        value(lambda s: s.task_items),
    ),
    PoolMetric(
        "task_bytes_total", _C, ("direction",),
        "Serialized bytes: in: arguments, once for each task, also if it is sent again; out: "
        "results that came back.",
        by(lambda s: s.task_bytes, Direction),
    ),
    PoolMetric(
        "serialize_seconds_total", _C, ("where", "step"),
        "Time in pickling (dump) and unpickling (load) of arguments and results. Exact for chunks "
        "and single calls; with chunksize 1 every sixteenth item is timed, in workers the first of "
        "each slice (about 1 ms of work), and counts for those around it.",
        _serialize_seconds,
    ),
    PoolMetric(
        "job_duration_seconds", _H, ("kind",),
        "From a call on the pool to the end of its last item.",
        lambda s: [((str(kind),), taken) for kind, taken in s.job_duration.items()],
    ),
    PoolMetric(
        "scheduler_busy_seconds_total", _C, (),
        "CPU time of the pool's own thread; near 1 a second, or 0.5 while another thread of the "
        "program is busy: the parent can't feed more workers.",
        value(lambda s: s.scheduler_busy_seconds),
    ),
    PoolMetric(
        "tasks_stolen_total", _C, (),
        "Pieces of work taken back from a busy worker for an idle one.",
        value(lambda s: s.tasks_stolen),
    ),
    PoolMetric(
        "items_retried_total", _C, (),
        "Items run again after their worker was lost.",
        value(lambda s: s.items_retried),
    ),
    PoolMetric(
        "callback_errors_total", _C, (),
        "Callbacks of the user that raised.",
        value(lambda s: s.callback_errors),
    ),
    PoolMetric(
        "telemetry_errors_total", _C, (),
        "Failures inside the pool's telemetry, which never stop its work.",
        value(lambda s: s.telemetry_errors),
    ),
    PoolMetric(
        "worker_exits_total", _C, ("reason",),
        "Workers that ended, by reason; all but lost and timeout are planned.",
        by(lambda s: s.worker_exits, ExitReason),
    ),
    PoolMetric(
        "worker_startup_seconds", _H, (),
        "From the start of a worker to its first readiness (process, imports, initializer): what a "
        "recycle costs.",
        value(lambda s: s.worker_startup),
    ),
    PoolMetric(
        "worker_idle_seconds_total", _C, ("reason",),
        "Worker-seconds without work, as the parent knows them: no_work (nothing to do), starved "
        "(there was work to begin, or more of it to be read or pickled), tail (the calls in "
        "progress had nothing left to begin), paused, recycling (no worker was ready in the slot).",
        by(lambda s: s.idle_seconds, IdleReason),
    ),
    PoolMetric(
        "worker_lifetime_tasks", _H, (),
        "Tasks that ended in a worker's life, of workers that are gone.",
        value(lambda s: s.worker_lifetime_tasks),
    ),
    PoolMetric(
        "worker_memory_growth_bytes_total", _C, (),
        "Resident memory at the end less that when ready, summed over the workers that are gone "
        "and grew; of one that was killed as last sampled. Divided by the tasks ended: what a task "
        "leaks.",
        value(lambda s: s.worker_memory_growth),
    ),
)  # fmt: skip

_ITEM_RUN_OF_WORKERS = PoolMetric(
    "worker_item_run_duration_seconds", _S, ("worker",),
    "One call of a function in this slot; a histogram with OBSPOOL_WORKER_HISTOGRAMS=1, in pools "
    "of up to 64 slots.",
    _item_run_of_workers,
)  # fmt: skip

# By slot. Counters go on through all generations of a slot; gauges are of its present process.
_WORKER_METRICS = (
    PoolMetric(
        "worker_tasks_total", _C, ("worker", "outcome"),
        "Tasks that ended in this slot.",
        worker_by(lambda w: w.tasks, _WORK_OUTCOMES),
    ),
    PoolMetric(
        "worker_items_total", _C, ("worker",),
        "Items that were run in this slot, whatever came of them.",
        worker(lambda w: sum(w.items.values()) - w.items.get(Outcome.SKIPPED, 0)),
    ),
    PoolMetric(
        "worker_busy_seconds_total", _C, ("worker",),
        "Time in which the slot ran items.",
        worker(lambda w: w.busy_seconds),
    ),
    PoolMetric(
        "worker_cpu_seconds_total", _C, ("worker",),
        "CPU time, user and system, of the slot's processes.",
        worker(lambda w: w.cpu_seconds),
    ),
    PoolMetric(
        "worker_restarts_total", _C, ("worker",),
        "Processes of the slot after its first.",
        worker(lambda w: w.restarts),
    ),
    _ITEM_RUN_OF_WORKERS,
    PoolMetric(
        "worker_state", _G, ("worker", "state"),
        "1 for the state that the slot's worker is in, 0 for the others.",
        worker_one_hot(lambda w: w.state, WorkerState),
    ),
    PoolMetric(
        "worker_queue_tasks", _G, ("worker",),
        "Tasks that were sent to the worker and not begun.",
        process(lambda w: w.queue_tasks),
    ),
    PoolMetric(
        "worker_resident_memory_bytes", _G, ("worker",),
        "Resident memory of the present process, as last sampled; absent before.",
        process(lambda w: w.resident_memory or None),
    ),
    PoolMetric(
        "worker_start_time_seconds", _G, ("worker",),
        "When the present process was started, in seconds of the UNIX epoch.",
        process(lambda w: w.start_time),
    ),
    PoolMetric(
        "worker_process_tasks", _G, ("worker",),
        "Tasks that the present process ran; against max_tasks_per_child.",
        process(lambda w: w.process_tasks),
    ),
    PoolMetric(
        "worker_pid", _G, ("worker",),
        "Process id of the present process, in its own pid namespace.",
        process(lambda w: w.pid),
    ),
    PoolMetric(
        "worker_generation", _G, ("worker",),
        "Which process of the slot this is; 1 is the first.",
        process(lambda w: w.generation),
    ),
    PoolMetric(
        "worker_task_start_time_seconds", _G, ("worker",),
        "When the running task began, in seconds of the UNIX epoch; absent when idle.",
        process(lambda w: w.task_start_time),
    ),
)  # fmt: skip

# One family for each name that a program uses, at most 16 a pool: their names are in snapshots.
USER_COUNTERS = Family(
    "user_<name>_total", _C, (),
    "Counted by the program itself (obspool.counter).",
)  # fmt: skip


def user_metrics(snapshot: Snapshot) -> list[PoolMetric]:
    """Return the metrics of a program's own counters; a foreign file may hold any name."""
    return [user_metric(name) for name in snapshot.user_counters if is_name(name)]


def user_metric(name: str) -> PoolMetric:
    """Return the metric of one of them."""
    return PoolMetric(
        USER_COUNTERS.name.replace("<name>", name),
        USER_COUNTERS.type,
        USER_COUNTERS.labels,
        USER_COUNTERS.help,
        value(lambda s: s.user_counters.get(name)),
    )


# The exporter's own, without `pool`: a snapshot that can't be read has no name to give.
EXPORTER_ERRORS = Family(
    "exporter_errors_total", _C, ("reason",),
    "What this exporter could not serve: source (a pool's telemetry could not be read), snapshot "
    "(a reading of it made no sense), duplicate (two pools of one name), response (an answer "
    "failed).",
)  # fmt: skip


def pool_metrics(*, worker_histograms: bool = False) -> tuple[PoolMetric, ...]:
    """Return the table of all metrics that are read from snapshots.

    Args:
        worker_histograms: whether each worker's run times are a full histogram, not a summary.
    """
    metrics = _POOL_METRICS + _WORK_METRICS + _WORKER_METRICS
    if not worker_histograms:
        return metrics
    return tuple(
        replace(metric, type=MetricType.HISTOGRAM) if metric is _ITEM_RUN_OF_WORKERS else metric
        for metric in metrics
    )
