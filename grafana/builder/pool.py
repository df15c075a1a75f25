"""The dashboard of one pool: how it does, and what slows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana.builder import queries as q
from grafana.builder.panels import Query, Steps, heat, lines, number, rows

if TYPE_CHECKING:
    from grafana.builder.panels import AnyPanel

PER_SECOND_ITEMS, PER_SECOND_TASKS = "suffix:items/s", "suffix:tasks/s"

OUTCOME_COLORS = {
    "ok": "green",
    "error": "red",
    "timeout": "orange",
    "lost": "dark-red",
    "cancelled": "blue",
    "skipped": "purple",
}


def overview() -> list[AnyPanel]:
    """Return the numbers to look at first."""
    return [
        number(
            "Utilisation",
            "The share of the workers' time in which they ran items. High is good. Low with a "
            "backlog: see the reasons in “Idle by reason”. Low without one: there is no work.",
            "percentunit",
            Query(q.UTILISATION, "busy"),
            steps=Steps(amber=0.7, red=0.3),
        ),
        number(
            "Items a second",
            "Items that ended, whatever came of them.",
            PER_SECOND_ITEMS,
            Query(q.ITEMS_RATE, "items"),
            decimals=1,
        ),
        number(
            "Error ratio",
            "Of the items that ended, the share with an error, a timeout or a lost worker.",
            "percentunit",
            Query(q.ERROR_RATIO, "failed"),
            steps=Steps(amber=0.01, red=0.05),
            empty="no items",
        ),
        number(
            "Backlog",
            "Tasks that were submitted and have not ended. An `imap` submits only as far ahead as "
            "it reads.",
            "short",
            Query(q.BACKLOG, "tasks"),
        ),
        number(
            "Time to drain",
            "Items submitted and not ended, over items a second: how long what is here takes at "
            "the present rate. What a lazy iterable still holds isn't counted.",
            "s",
            Query(q.TIME_TO_DRAIN, "left"),
            empty="nothing ends",
        ),
        number(
            "Items lost",
            "Items whose worker died while it ran them, since the pool began; those that ran again "
            "(`retries=`) are not lost. Any is a reason to look: docs/runbooks.md, ItemsLost.",
            "short",
            Query(q.total("items_completed_total", 'outcome="lost"'), "lost"),
            steps=Steps(amber=1, red=2),
        ),
        number(
            "Last success",
            "When a job last ended without an error.",
            "dateTimeFromNow",
            Query(f"max({q.series('pool_last_success_timestamp_seconds')}) * 1000", "last success"),
            empty="none yet",
        ),
        number(
            "Workers missing",
            "Workers that the pool is to have, less those that live. More than 0 for longer than a "
            "start takes: they can't be started.",
            "short",
            Query(f"{q.total('workers_configured')} - {q.total('workers')}", "missing"),
            steps=Steps(amber=1, red=2),
        ),
    ]


def work() -> list[AnyPanel]:
    """Return rate, errors, duration."""
    name = "item_run_duration_seconds"
    return [
        lines(
            "Tasks by outcome",
            "Tasks that ended a second. Anything but ok: an item of theirs raised, took too long, "
            "was cancelled, or was lost with its worker.",
            PER_SECOND_TASKS,
            Query(q.rate("tasks_completed_total", by="outcome"), "{{outcome}}"),
            stacked=True,
            colors=OUTCOME_COLORS,
        ),
        lines(
            "Items by outcome",
            "Items that ended a second. Skipped ones were not run, because an item before them in "
            "their chunk raised.",
            PER_SECOND_ITEMS,
            Query(q.rate("items_completed_total", by="outcome"), "{{outcome}}"),
            stacked=True,
            colors=OUTCOME_COLORS,
        ),
        lines(
            "Run time of an item, by function",
            "Quantiles, as exact as the histogram's buckets. p99 far above p50: items differ much, "
            "and small chunks balance them better.",
            "s",
            Query(q.quantile(0.5, name, by="function"), "{{function}} p50"),
            Query(q.quantile(0.95, name, by="function"), "{{function}} p95"),
            Query(q.quantile(0.99, name, by="function"), "{{function}} p99"),
        ),
        heat(
            "Run times of items",
            "How many items took how long. Two bands are two kinds of items; a rising band is work "
            "that gets slower.",
            "s",
            Query(q.increase(f"{name}_bucket", by="le"), "{{le}}"),
            span=12,
        ),
        lines(
            "Duration of a job, by kind",
            "From the call on the pool to its end: p50 and p95.",
            "s",
            Query(q.quantile(0.5, "job_duration_seconds", by="kind"), "{{kind}} p50"),
            Query(q.quantile(0.95, "job_duration_seconds", by="kind"), "{{kind}} p95"),
            span=6,
        ),
        lines(
            "Jobs in progress",
            "Calls on the pool that have not ended.",
            "short",
            Query(q.total("jobs_in_progress"), "jobs"),
            span=6,
        ),
    ]


def queue() -> list[AnyPanel]:
    """Return what waits, where and for how long."""
    oldest = q.series("queue_oldest_task_timestamp_seconds")
    return [
        lines(
            "Depth by stage",
            "Tasks queued (not sent), dispatched (sent, not begun), running, and results that the "
            "program has not taken. Many results: the program's own loop is what is slow.",
            "short",
            Query(q.total("tasks", by="state"), "{{state}}"),
            stacked=True,
            span=6,
        ),
        lines(
            "Wait of a task",
            "From being submitted to beginning; and how long the oldest queued task has waited. "
            "For a `map` this is simply its length. For `apply`, where somebody waits for each, "
            "high means too few workers.",
            "s",
            Query(q.quantile(0.5, "task_queue_wait_seconds"), "p50"),
            Query(q.quantile(0.95, "task_queue_wait_seconds"), "p95"),
            Query(f"time() - min({oldest})", "oldest in the queue"),
            span=6,
        ),
        lines(
            "Submitted against finished",
            "Where submitted stays above finished, the backlog grows: more workers, or less work.",
            PER_SECOND_TASKS,
            Query(q.rate("tasks_submitted_total"), "submitted"),
            Query(q.rate("tasks_completed_total"), "finished"),
            span=6,
        ),
        lines(
            "Wait of a result",
            "From a task's end in its worker to its result being handed over, p50 and p95. High: "
            "the parent is busy (see “The parent's own time”), or results are large.",
            "s",
            Query(q.quantile(0.5, "task_result_wait_seconds"), "p50"),
            Query(q.quantile(0.95, "task_result_wait_seconds"), "p95"),
            span=6,
        ),
    ]


def workers() -> list[AnyPanel]:
    """Return what the workers do, and what they cost."""
    busy = q.BUSY_BY_WORKER
    memory = q.MEMORY
    return [
        lines(
            "Busy share of a worker",
            "The share of its time in which a worker ran items: the busiest, the mean, the least "
            "busy. Far apart: chunks are too large to balance, or one item is very long.",
            "percentunit",
            Query(f"max({busy})", "busiest"),
            Query(f"avg({busy})", "mean"),
            Query(f"min({busy})", "least busy"),
            highest=1,
        ),
        lines(
            "Idle by reason",
            "The share of the workers' time in which they ran nothing. no_work: nothing was "
            "submitted. starved: work was queued and didn't reach them. tail: the last job had "
            "nothing left to begin. paused; recycling: between a worker and its successor.",
            "percentunit",
            Query(
                f"{q.increase('worker_idle_seconds_total', by='reason')}"
                f" / on () group_left () {q.worker_seconds()}",
                "{{reason}}",
            ),
            stacked=True,
        ),
        lines(
            "Imbalance",
            "The busiest worker's busy time over the mean worker's. 1 is even; 2 means that half "
            "of the pool waits for one worker: smaller chunks, or `balance=True`.",
            "none",
            Query(q.share(f"max({busy})", f"avg({busy})"), "busiest over mean"),
        ),
        lines(
            "Memory of a worker",
            "Resident memory of the largest, the mean and the smallest worker. A mean that only "
            "rises: see “Choosing maxtasksperchild”.",
            "bytes",
            Query(f"max({memory})", "largest"),
            Query(f"avg({memory})", "mean"),
            Query(f"min({memory})", "smallest"),
        ),
        lines(
            "CPU per busy second",
            "CPU seconds for each second in which items ran. Near 1: they compute. Near 0: they "
            "wait (disk, network, locks), and more workers than CPUs, or threads, may help. Above "
            "1: items have threads of their own, and fewer workers may be faster.",
            "none",
            Query(
                q.share(q.rate("worker_cpu_seconds_total"), q.rate("worker_busy_seconds_total")),
                "CPU seconds",
            ),
        ),
        lines(
            "Longest running task",
            "How long the task has run that runs longest. Far above its kind: it is stuck, or it "
            "is the one large item; `obspool stack` shows where it is.",
            "s",
            Query(q.LONGEST_TASK, "longest"),
        ),
        lines(
            "Workers by state",
            "Live workers. Many in starting: they are replaced too often, or start slowly.",
            "short",
            Query(q.total("workers", by="state"), "{{state}}"),
            stacked=True,
        ),
        _slots(),
    ]


def _slots() -> AnyPanel:
    def of(name: str) -> str:
        return f"max by (worker) ({q.series(name)})"

    run = "worker_item_run_duration_seconds"
    return rows(
        "Workers now",
        "One line a slot: the present process, its memory, the tasks it ran, and the mean run time "
        "of an item in this slot, over all its processes. One slot whose mean is far above the "
        "others' has the hard items, or a bad CPU.",
        ["worker"],
        Query(of("worker_pid"), "pid", "none"),
        Query(of("worker_generation"), "generation"),
        Query(f"time() - {of('worker_start_time_seconds')}", "age", "s"),
        Query(of("worker_resident_memory_bytes"), "memory", "bytes"),
        Query(of("worker_process_tasks"), "tasks"),
        Query(of("worker_queue_tasks"), "waiting"),
        Query(
            q.share(q.total(f"{run}_sum", by="worker"), q.total(f"{run}_count", by="worker")),
            "mean item",
            "s",
        ),
        Query(q.total("worker_restarts_total", by="worker"), "restarts"),
        span=16,
    )


def own_counters() -> list[AnyPanel]:
    """Return what a program counts itself, and what went wrong beside the work."""
    return [
        lines(
            "The program's own counters",
            "What the program counts with `obspool.counter(name)`, since the pool began.",
            "short",
            Query(
                f'sum by (__name__) ({{__name__=~"obspool_user_.+_total", {q.POOLS}}})',
                "{{__name__}}",
            ),
            span=12,
        ),
        lines(
            "Troubles beside the work",
            "Since the pool began: callbacks that raised, failures inside the telemetry, items "
            "that ran again after their worker was lost.",
            "short",
            Query(q.total("callback_errors_total"), "callbacks that raised"),
            Query(q.total("telemetry_errors_total"), "telemetry errors"),
            Query(q.total("items_retried_total"), "items retried"),
            span=12,
        ),
    ]
