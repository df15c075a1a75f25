"""The rows from which a person chooses chunksize and maxtasksperchild."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana.builder import queries as q
from grafana.builder.panels import Query, Steps, lines, number, words
from grafana.builder.queries import RANGE, WINDOW

if TYPE_CHECKING:
    from grafana.builder.panels import AnyPanel

_IDLE, _STARVED, _TAIL = "worker_idle_seconds_total", 'reason="starved"', 'reason="tail"'

_CHUNKSIZE_TEXT = """\
**chunksize = 0.2 s / time per item.** Tasks of a few tenths of a second are long enough for what a
task costs to vanish, and short enough for the pool to end together.

1. Read *Time per item*, or take the number beside this text.
2. *Overhead* or *Idle, starved* high: tasks are too small. Larger chunks.
3. *Idle, tail* high: tasks are too large. Smaller chunks.
4. Neither: leave it.

Without a chunksize, `map` makes four chunks for each worker: 1.2 million items of 2 ms on 64
workers are tasks of 4,688 items, 9.4 s each. 100 is right.
"""

_MAXTASKS_TEXT = """\
**maxtasksperchild = 2/3 of (memory for a worker - memory of a new one) / growth per task.**
Choose above what a worker may have: *Memory for a worker*.

1. *Growth per task* near 0: none is needed.
2. Else take the number beside this text.
3. Then *Cost of recycling* should be below 2 %; if not, start faster (fork, a smaller initializer)
   or give more memory.

A worker of 180 MiB that grows by 0.8 MiB a task reaches 1 GiB after some 1,055 tasks: set 700.
With 0.5 s a task and 1.9 s to start, that costs 0.5 %.
"""


def chunksize() -> list[AnyPanel]:
    """Return what chunksize is chosen by."""
    return [
        words("How to choose chunksize", "The sum, in words, with an example.", _CHUNKSIZE_TEXT),
        number(
            "chunksize for tasks of 0.2 s",
            "0.2 s over the mean time of an item in the range shown. High (thousands): items are "
            "tiny, and chunksize matters most. Low (below 2): items are long; use 1. A pool with "
            "several functions has a number for each in “Time per item”: take that of the call "
            "you tune.",
            "short",
            Query(q.chunksize(RANGE), "chunksize"),
            span=4,
            height=8,
            decimals=0,
            empty="no items yet",
        ),
        number(
            "Time per task",
            "Mean run time of a task in the range shown; pieces that balancing moved count as "
            "tasks. Low (far below 0.2 s): what a task costs the pool shows; raise chunksize. "
            "High (some seconds, with many items in a task): the end of a job waits for the last "
            "ones; lower chunksize.",
            "s",
            Query(q.mean("task_run_duration_seconds", window=RANGE), "a task"),
            span=4,
            height=8,
        ),
        number(
            "Starved in the range shown",
            "The share of all of the workers' time in which they had nothing though work was "
            "queued. High (above 10 %): chunks are too small, or the parent can't feed more: raise "
            "chunksize. Low: chunksize isn't too small.",
            "percentunit",
            Query(q.of_worker_time(_IDLE, _STARVED, window=RANGE), "starved"),
            span=4,
            height=8,
            steps=Steps(amber=0.1, red=0.3),
        ),
        number(
            "Tail in the range shown",
            "The share of all of the workers' time that went by at the ends of jobs, with nothing "
            "left to begin. High (above 10 %): chunks are too large, or one item is very long: "
            "lower chunksize. Low: chunksize isn't too large.",
            "percentunit",
            Query(q.of_worker_time(_IDLE, _TAIL, window=RANGE), "tail"),
            span=4,
            height=8,
            steps=Steps(amber=0.1, red=0.3),
        ),
        lines(
            "Items per task",
            "Mean chunksize as asked for; pieces that balancing moved are not counted. High: few "
            "large tasks, which balance badly; see “Idle, tail”. Low (1, with short items): the "
            "parent hands out each one; see “Idle, starved”.",
            "short",
            Query(q.mean("task_items"), "items per task"),
        ),
        lines(
            "Time per item",
            "Mean run time of an item, by function. chunksize is 0.2 s over this: 2 ms gives 100. "
            "High (above 0.2 s): chunksize 1. Low: the chunksize must be large.",
            "s",
            Query(q.mean("item_run_duration_seconds", by="function"), "{{function}}"),
        ),
        lines(
            "Bytes per task",
            "Serialized bytes sent to (in) and received from (out) a worker for a task. High "
            "(above 1 MB): copying costs as much as running; pass paths or shared memory, or "
            "lower chunksize. Low: nothing to do.",
            "bytes",
            Query(
                f"{q.rate('task_bytes_total', by='direction')}"
                f" / on () group_left () ({q.rate('tasks_completed_total')} > 0)",
                "{{direction}}",
            ),
        ),
        lines(
            "Idle, starved",
            "The share of the workers' time in which they had nothing though work was queued. "
            "High (above 10 %): chunks are too small, or the parent can't feed more: raise "
            "chunksize. Low: chunksize isn't too small.",
            "percentunit",
            Query(q.of_worker_time(_IDLE, _STARVED), "starved"),
        ),
        lines(
            "Idle, tail",
            "The share of the workers' time in which the last job had nothing left for them to "
            "begin, while others still ran. High (above 10 %): chunks are too large, or one item "
            "is very long: lower chunksize. Low: chunksize isn't too large.",
            "percentunit",
            Query(q.of_worker_time(_IDLE, _TAIL), "tail"),
        ),
        lines(
            "Work stolen",
            "Pieces of work taken back from a busy worker for an idle one: what balancing saved. "
            "High: chunks are too large, and balancing makes up for it; lower chunksize. Low: "
            "chunks are even. With `balance=False` it is always 0.",
            "suffix:pieces/s",
            Query(q.rate("tasks_stolen_total"), "stolen"),
        ),
        lines(
            "Overhead",
            "The share of the workers' time that was neither items nor idling: messages and "
            "pickles. High (above 20 %): tasks are too short, or their arguments and results too "
            "large: raise chunksize. Low: chunksize isn't too small.",
            "percentunit",
            Query(q.overhead(), "overhead"),
            span=12,
        ),
        lines(
            "The parent's own time",
            "Seconds a second that the scheduler and serializing take. High (scheduler near 1, or "
            "0.5 while the program computes in another thread): the parent can't feed more "
            "workers; raise chunksize. Serializing in the parent near 1: the same, or send less. "
            "Low: the parent isn't what limits.",
            "percentunit",
            Query(q.rate("scheduler_busy_seconds_total"), "scheduler"),
            Query(q.rate("serialize_seconds_total", by="where, step"), "{{step}} in the {{where}}"),
            span=12,
        ),
    ]


def maxtasksperchild() -> list[AnyPanel]:
    """Return what maxtasksperchild is chosen by."""
    tasks = q.series("worker_process_tasks")
    memory = q.MEMORY
    return [
        words(
            "How to choose maxtasksperchild", "The sum, in words, with an example.", _MAXTASKS_TEXT
        ),
        number(
            "maxtasksperchild to set",
            "Two thirds of the tasks that fit, in tens. High (thousands): a limit hardly matters, "
            "and costs nothing. Low (below 20): give a worker more memory, or find the leak. No "
            "number: there is no growth to see, and no limit is needed.",
            "none",
            Query(q.maxtasksperchild(RANGE), "maxtasksperchild"),
            span=4,
            height=8,
            decimals=0,
            empty="no growth",
        ),
        number(
            "Tasks that fit",
            "After how many tasks a worker reaches the memory chosen above, if it grows as in the "
            "range shown. High: no hurry. Low: a limit is needed now.",
            "none",
            Query(q.tasks_that_fit(RANGE), "tasks"),
            span=4,
            height=8,
            decimals=0,
            empty="no growth",
        ),
        number(
            "Cost of recycling in the range shown",
            "The share of all of the workers' time that went into starting them. High (above 2 %): "
            "raise maxtasksperchild, or start faster. Low: the limit costs nothing.",
            "percentunit",
            Query(q.of_worker_time("worker_startup_seconds_sum", window=RANGE), "starting"),
            span=4,
            height=8,
            decimals=1,
            steps=Steps(amber=0.02, red=0.1),
        ),
        number(
            "Time to start a worker",
            "Mean time from a worker's start to its readiness, in the range shown: process, "
            "imports, initializer. High: each recycle is dear; raise maxtasksperchild, or make "
            "the initializer cheaper. Low: recycle as often as you like.",
            "s",
            Query(q.mean("worker_startup_seconds", window=RANGE), "a start"),
            span=4,
            height=8,
            steps=Steps(amber=5, red=30),
        ),
        lines(
            "Growth per task",
            "Memory that a task leaves behind: by workers that ended (at their exit against when "
            "they were ready), and by those that live, which is only right while workers are "
            "rarely replaced. High: a leak, or a cache; set maxtasksperchild. Low (near 0): none "
            "is needed.",
            "bytes",
            Query(q.growth_of_ended_workers(WINDOW), "of ended workers"),
            Query(q.growth_of_live_workers(WINDOW), "of live workers"),
        ),
        lines(
            "Exits by reason",
            "Workers that ended. tasks, memory and age are the limits that were set. High, with a "
            "high cost of recycling: raise the limit. Low: it is rarely reached. lost and timeout "
            "are not planned: docs/runbooks.md, WorkersCrashLooping.",
            "short",
            Query(q.increase("worker_exits_total", by="reason"), "{{reason}}"),
            bars=True,
            stacked=True,
        ),
        lines(
            "Cost of recycling",
            "The share of the workers' time that starting them takes. High (above 2 %): raise "
            "maxtasksperchild, or start faster. Low: the limit costs nothing.",
            "percentunit",
            Query(q.of_worker_time("worker_startup_seconds_sum"), "starting"),
        ),
        lines(
            "Tasks of a process against the limit",
            "Tasks that the oldest and the mean worker's process has run, and maxtasksperchild if "
            "there is one. High and rising without a limit, while memory grows: set one. Low, far "
            "below the limit: it does nothing.",
            "short",
            Query(f"max({tasks})", "most"),
            Query(f"avg({tasks})", "mean"),
            Query(f"max({q.series('max_tasks_per_child')}) > 0", "limit"),
        ),
        lines(
            "Memory against what a worker may have",
            "The largest and the mean worker, and what you chose above. High (the largest near "
            "what is allowed): lower maxtasksperchild, or the kernel kills workers. Low at all "
            "times: raise it.",
            "bytes",
            Query(f"max({memory})", "largest"),
            Query(f"avg({memory})", "mean"),
            Query("vector($memory)", "allowed"),
        ),
        lines(
            "Tasks in a worker's life",
            "Mean number of tasks that workers which ended had run. High (at maxtasksperchild): "
            "the limit is what ends them. Low (far below it): something else does; see “Exits by "
            "reason”.",
            "short",
            Query(q.mean("worker_lifetime_tasks"), "tasks"),
        ),
    ]
