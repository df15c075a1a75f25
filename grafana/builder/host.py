"""The dashboard of a host with many pools: which of them needs a look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana.builder import queries as q
from grafana.builder.panels import Query, Steps, lines, number, rows

if TYPE_CHECKING:
    from grafana.builder.panels import AnyPanel

POOL_UID = "obspool-pool"
BY = "instance, pool"
_NOT_ENDED = q.series("pool_state", 'state="ended"')
_LOST = q.increase("items_completed_total", 'outcome="lost"', window=q.RANGE)
_ENDED_BADLY = q.increase("pools_ended_total", 'outcome=~"broken|died"', window=q.RANGE)
_POOL_URL = (
    f"/d/{POOL_UID}?${{datasource:queryparam}}&${{job:queryparam}}"
    "&var-instance=${__data.fields.instance}&var-pool=${__data.fields.pool}&${__url_time_range}"
)


def summary() -> list[AnyPanel]:
    """Return the numbers of all pools together."""
    return [
        number(
            "Pools",
            "Pools that have not ended.",
            "short",
            Query(f"count({_NOT_ENDED} == 0) or vector(0)", "pools"),
        ),
        number(
            "Workers",
            "Live workers of all pools. More than the host has CPUs, and all of them computing: "
            "pools slow each other down.",
            "short",
            Query(q.total("workers"), "workers"),
        ),
        number(
            "Workers busy",
            "Workers that run an item now.",
            "short",
            Query(q.total("workers", 'state="busy"'), "busy"),
        ),
        number(
            "Items a second",
            "Items that ended, in all pools.",
            "suffix:items/s",
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
            "Tasks of all pools that were submitted and have not ended.",
            "short",
            Query(q.BACKLOG, "tasks"),
        ),
        number(
            "Items lost",
            "Items lost with their worker, in the range shown.",
            "short",
            Query(f"round({_LOST})", "lost"),
            steps=Steps(amber=1, red=2),
        ),
        number(
            "Pools that ended badly",
            "Pools that broke or died in the range shown.",
            "short",
            Query(f"round({_ENDED_BADLY})", "pools"),
            steps=Steps(amber=1, red=2),
        ),
    ]


def _busy_share() -> str:
    lived = (
        f"clamp_max(time() - min by ({BY})"
        f" (min_over_time({q.series('pool_start_time_seconds')}[{q.WINDOW}])), {q.WINDOW_SECONDS})"
    )
    configured = f"sum by ({BY}) (avg_over_time({q.series('workers_configured')}[{q.WINDOW}]))"
    return q.share(q.increase("worker_busy_seconds_total", by=BY), f"({configured} * {lived})")


def pools() -> list[AnyPanel]:
    """Return a line for each pool."""
    last = q.series("pool_last_success_timestamp_seconds")
    failed = q.rate("items_completed_total", 'outcome=~"error|timeout|lost"', by=BY)
    return [
        rows(
            "All pools",
            "One line a pool. “oldest task” is how long the task has run that runs longest; "
            "“to drain” how long what is submitted takes at the present rate. A name leads to the "
            "pool's own dashboard.",
            ["instance", "pool"],
            Query(q.total("workers", by=BY), "workers"),
            Query(_busy_share(), "busy", "percentunit"),
            Query(q.rate("items_completed_total", by=BY), "items/s"),
            Query(q.share(failed, q.rate("items_completed_total", by=BY)), "failed", "percentunit"),
            Query(q.total("tasks", 'state=~"queued|dispatched|running"', by=BY), "backlog"),
            Query(
                q.share(
                    f"clamp_min({q.total('items_submitted_total', by=BY)}"
                    f" - {q.total('items_completed_total', by=BY)}, 0)",
                    q.rate("items_completed_total", by=BY),
                ),
                "to drain",
                "s",
            ),
            Query(
                f"max by ({BY}) (time() - {q.series('worker_task_start_time_seconds')})",
                "oldest task",
                "s",
            ),
            Query(q.total("worker_resident_memory_bytes", by=BY), "memory", "bytes"),
            Query(q.total("items_completed_total", 'outcome="lost"', by=BY), "lost"),
            Query(f"max by ({BY}) ({last}) * 1000", "last success", "dateTimeFromNow"),
            links={"pool": ("The pool's dashboard", _POOL_URL)},
        )
    ]


def history() -> list[AnyPanel]:
    """Return the pools against each other, over time."""
    legend = "{{pool}} ({{instance}})"
    return [
        lines(
            "Items a second, by pool",
            "Items that ended. One that falls while another rises: they share the CPUs.",
            "suffix:items/s",
            Query(q.rate("items_completed_total", by=BY), legend),
        ),
        lines(
            "Utilisation, by pool",
            "The share of the workers' time in which they ran items. Low with a backlog: "
            "open the pool's dashboard.",
            "percentunit",
            Query(_busy_share(), legend),
            highest=1,
        ),
        lines(
            "Backlog, by pool",
            "Tasks submitted and not ended. One that only rises: its pool needs more workers, or "
            "less work.",
            "short",
            Query(q.total("tasks", 'state=~"queued|dispatched|running"', by=BY), legend),
        ),
        lines(
            "Items that failed",
            "Items with an error, a timeout or a lost worker, by pool.",
            "suffix:items/s",
            Query(q.rate("items_completed_total", 'outcome=~"error|timeout|lost"', by=BY), legend),
        ),
        lines(
            "Memory of the workers",
            "Resident memory of all workers, by pool. Pages that workers share are counted for "
            "each, so the sum may be more than the host has.",
            "bytes",
            Query(q.total("worker_resident_memory_bytes", by=BY), legend),
            stacked=True,
        ),
        lines(
            "CPU of the workers",
            "CPUs that the workers keep busy, by pool. The sum at the host's number of CPUs: more "
            "workers don't help any more.",
            "suffix:CPUs",
            Query(q.rate("worker_cpu_seconds_total", by=BY), legend),
            stacked=True,
        ),
        lines(
            "Workers that were lost",
            "Workers that died or were killed for a timeout, by pool: neither is planned.",
            "short",
            Query(q.increase("worker_exits_total", 'reason=~"lost|timeout"', by=BY), legend),
            bars=True,
        ),
        lines(
            "Longest running task",
            "How long the task has run that runs longest, by pool.",
            "s",
            Query(f"max by ({BY}) (time() - {q.series('worker_task_start_time_seconds')})", legend),
        ),
        lines(
            "Pools ended, by outcome",
            "finished: nothing was pending. abandoned: terminated with work pending. broken: it "
            "could no longer run work. died: its process is gone without a word.",
            "short",
            Query(q.increase("pools_ended_total", by="outcome"), "{{outcome}}"),
            bars=True,
            stacked=True,
        ),
    ]
