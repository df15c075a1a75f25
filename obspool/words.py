"""The vocabulary shared by the code, the metrics, the dashboard and the docs.

An enumeration's order is part of the segment's layout: an array of counters by outcome has one
cell for each member, in this order. Append, never reorder.
"""

from __future__ import annotations

from enum import StrEnum


class Word(StrEnum):
    """One of a few words; it is the text."""

    # As the text's. An enumeration's own is a call of Python, and counts by outcome are looked up
    # in thousands of rows for one picture.
    __hash__ = str.__hash__


class JobKind(Word):
    """Which call on the pool made a job; the label `kind` of metrics."""

    APPLY = "apply"
    MAP = "map"
    STARMAP = "starmap"
    IMAP = "imap"
    IMAP_UNORDERED = "imap_unordered"


class Outcome(Word):
    """How an item, a task or a job ended.

    Jobs and tasks are never `skipped`: that is for items after an error in their chunk.
    """

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    LOST = "lost"
    SKIPPED = "skipped"


class PoolState(Word):
    """What a pool does now."""

    RUNNING = "running"
    PAUSED = "paused"
    CLOSING = "closing"
    ENDED = "ended"


class PoolOutcome(Word):
    """How a pool ended.

    finished: nothing was pending. abandoned: terminated with work pending. broken: it could no
    longer run work. died: its process is gone without a word.
    """

    FINISHED = "finished"
    ABANDONED = "abandoned"
    BROKEN = "broken"
    DIED = "died"


class WorkerState(Word):
    """A worker's life, as a slot shows it."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    DRAINING = "draining"
    GONE = "gone"


class ExitReason(Word):
    """Why a worker ended."""

    TASKS = "tasks"
    MEMORY = "memory"
    AGE = "age"
    LOST = "lost"
    TIMEOUT = "timeout"
    RESIZE = "resize"
    COMMAND = "command"
    SHUTDOWN = "shutdown"


class IdleReason(Word):
    """Why a slot runs nothing, as far as the parent knows.

    no_work: nothing is to be done. starved: there is work to begin, or more of it to be read or
    pickled, and this worker has none. tail: the jobs in progress have nothing left to begin.
    paused: the pool is. recycling: the slot has no worker that is ready.
    """

    NO_WORK = "no_work"
    STARVED = "starved"
    TAIL = "tail"
    PAUSED = "paused"
    RECYCLING = "recycling"


class Direction(Word):
    """Which way a payload goes: in to a worker, or out of it."""

    IN = "in"
    OUT = "out"


class EventKind(Word):
    """What a record of the event ring tells."""

    POOL_STARTED = "pool_started"
    POOL_CLOSING = "pool_closing"
    POOL_ENDED = "pool_ended"
    WORKER_STARTED = "worker_started"
    WORKER_EXITED = "worker_exited"
    COMMAND = "command"
    TROUBLE = "trouble"
