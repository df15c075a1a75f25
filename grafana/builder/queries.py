"""PromQL, put together: selectors of a dashboard's variables, rates, shares, quantiles.

Sums never keep labels that a scrape adds (a pod, a zone), and divisions are between sums, so that
labels which only one side has can't empty a panel.
"""

from __future__ import annotations

WINDOW = "$__rate_interval"
WINDOW_SECONDS = "$__rate_interval_ms / 1000"
RANGE = "$__range"

POOLS = 'job=~"$job", instance=~"$instance", pool=~"$pool"'


def series(name: str, matchers: str = "") -> str:
    """Return the selector of a metric for the chosen pools; `name` is without the prefix."""
    chosen = f"{POOLS}, {matchers}" if matchers else POOLS
    return f"obspool_{name}{{{chosen}}}"


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""


def total(name: str, matchers: str = "", *, by: str = "") -> str:
    """Return the sum of a metric's present values."""
    return f"sum{_by(by)} ({series(name, matchers)})"


def rate(name: str, matchers: str = "", *, by: str = "", window: str = WINDOW) -> str:
    """Return the sum of a counter's rates."""
    return f"sum{_by(by)} (rate({series(name, matchers)}[{window}]))"


def increase(name: str, matchers: str = "", *, by: str = "", window: str = WINDOW) -> str:
    """Return by how much a counter went up."""
    return f"sum{_by(by)} (increase({series(name, matchers)}[{window}]))"


def share(part: str, whole: str) -> str:
    """Return part / whole, and nothing, rather than NaN, where the whole is 0."""
    return f"{part} / ({whole} > 0)"


def mean(name: str, *, by: str = "", window: str = WINDOW) -> str:
    """Return the mean of what a histogram took in lately, or else of all it ever took in.

    A `map` of an hour may observe its tasks in the first second: without the second half there
    would be nothing to see after that.
    """
    lately = share(
        rate(f"{name}_sum", by=by, window=window), rate(f"{name}_count", by=by, window=window)
    )
    ever = share(total(f"{name}_sum", by=by), total(f"{name}_count", by=by))
    return f"{lately} or {ever}"


def quantile(q: float, name: str, *, by: str = "") -> str:
    """Return a quantile of what a histogram took in lately."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q:g}, {rate(f'{name}_bucket', by=labels)})"


def worker_seconds(window: str = WINDOW) -> str:
    """Return the seconds that all workers together had in the window.

    Of a window that began before the pools only the part since then counts, or else the share of a
    young pool's time is far too low.
    """
    seconds = f"{RANGE}_s" if window == RANGE else WINDOW_SECONDS
    start = f"min(min_over_time({series('pool_start_time_seconds')}[{window}]))"
    workers = f"sum(avg_over_time({series('workers_configured')}[{window}]))"
    return f"({workers} * clamp_max(time() - {start}, {seconds}))"


def of_worker_time(seconds_counter: str, matchers: str = "", *, window: str = WINDOW) -> str:
    """Return which share of the workers' time a counter of seconds has taken."""
    return share(increase(seconds_counter, matchers, window=window), worker_seconds(window))


def overhead(*, window: str = WINDOW) -> str:
    """Return which share of the workers' time was neither items nor idling: what tasks cost."""
    busy, idle = (
        increase(f"worker_{name}_seconds_total", window=window) for name in ("busy", "idle")
    )
    return f"clamp_min(1 - ({busy} + {idle}) / ({worker_seconds(window)} > 0), 0)"


UTILISATION = of_worker_time("worker_busy_seconds_total")

ITEMS_RATE = rate("items_completed_total")
ERROR_RATIO = share(
    rate("items_completed_total", 'outcome=~"error|timeout|lost"'), rate("items_completed_total")
)
BACKLOG = total("tasks", 'state=~"queued|dispatched|running"')
TIME_TO_DRAIN = share(
    f"clamp_min({total('items_submitted_total')} - {total('items_completed_total')}, 0)",
    ITEMS_RATE,
)

MEMORY = series("worker_resident_memory_bytes")
LONGEST_TASK = f"max(time() - {series('worker_task_start_time_seconds')})"
BUSY_BY_WORKER = (
    f"sum by (pool, instance, worker) (rate({series('worker_busy_seconds_total')}[{WINDOW}]))"
)

# What a worker can be given as maxtasksperchild, by the memory it may have (the variable `memory`).
_GROWTH, _LIFE = "worker_memory_growth_bytes_total", "worker_lifetime_tasks_sum"


def growth_of_ended_workers(window: str) -> str:
    """Return the bytes that a task left behind, by the workers that ended."""
    lately = share(increase(_GROWTH, window=window), increase(_LIFE, window=window))
    return f"{lately} or {share(total(_GROWTH), total(_LIFE))}"


def growth_of_live_workers(window: str) -> str:
    """Return the same, by the workers that live.

    Both slopes fall alike when a worker is replaced, so their quotient stays what it is.
    """
    memory = f"sum(deriv({series('worker_resident_memory_bytes')}[{window}]))"
    return share(memory, f"sum(deriv({series('worker_process_tasks')}[{window}]))")


def tasks_that_fit(window: str) -> str:
    """Return after how many tasks a worker reaches the memory it may have.

    A new worker's memory isn't a metric, and need not be: the mean worker is `process_tasks`
    tasks away from it.
    """
    growth = f"({growth_of_ended_workers(window)}) > 0 or {growth_of_live_workers(window)} > 0"
    tasks = f"avg({series('worker_process_tasks')} and {MEMORY})"
    return f"($memory - avg({MEMORY})) / ({growth}) + {tasks}"


def maxtasksperchild(window: str) -> str:
    """Return two thirds of what fits, in round numbers."""
    return f"clamp_min(floor(({tasks_that_fit(window)}) * 2 / 3 / 10) * 10, 1)"


CHUNK_SECONDS = 0.2


def chunksize(window: str) -> str:
    """Return how many items make a task of 0.2 seconds."""
    return f"{CHUNK_SECONDS:g} / ({mean('item_run_duration_seconds', window=window)})"
