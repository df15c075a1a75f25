"""The layout of a segment: which fields there are, and at which word each one lives.

A segment is an array of little-endian 8-byte words. Its header describes the layout in JSON, so
that a reader of another version finds every field it knows by name and ignores the others:

    +--------+------+--------------------------------------+--------+--------+------------+
    | header | pool | functions | counters | jobs | events | slot 0 | slot 1 | ...        |
    +--------+------+--------------------------------------+--------+--------+------------+
                                                             |
                        bank 0 | bank 1 | errors 0 | errors 1 ---+   (generation's parity)
                             |
                             +-- parent's fields | worker's fields

Each field has one writer, and each bank has two blocks, so that the parent and the worker never
share a cache line. All times are nanoseconds: `_wall` of the UNIX epoch, others of CLOCK_MONOTONIC,
which all processes of a host share.
"""

from __future__ import annotations

from types import MappingProxyType

from obspool.words import Direction, ExitReason, IdleReason, JobKind, Outcome

# A worker imports this module at every recycle: no dataclasses (they import inspect), no typing.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

MAGIC = b"OBSPOOL\n"
MAJOR = 1
MINOR = 2
WORD = 8
HEADER_BYTES = 8192  # magic, versions, JSON: grows in whole pages when the JSON needs it
PAGE_WORDS = 512

# Bounds in seconds (upper, inclusive). A mean is sum/count, never a quantile of these.
LATENCY_BOUNDS = (
    0.0001, 0.00025, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0,
    2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
)  # fmt: skip
HISTOGRAM_WORDS = len(LATENCY_BOUNDS) + 2  # a count for each bucket, +Inf's, then the sum

# Bounds of histograms of how many: of items in a task, of tasks in a life.
COUNT_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)
COUNT_WORDS = len(COUNT_BOUNDS) + 2

FUNCTIONS = 16  # named ones; the histogram after them is `other`
FUNCTION_NAME_WORDS = 16
COUNTERS = 16  # of the program's own
COUNTER_NAME_WORDS = 8  # 64 bytes
MOST_SLOTS = 4096  # that a pool may be resized to: 42 MiB of addresses, not of memory
EVENTS = 256
JOBS = 64
TEXT_WORDS = 25  # 200 bytes
DESCRIPTION_WORDS = 16  # 128 bytes
ERRORS = 4  # the newest of items, of the generations of one parity
ERROR_ITEM_WORDS = 8  # 64 bytes


class Field:
    """One field of a record: `words` cells from word `offset` of its record on."""

    __slots__ = ("name", "offset", "words")

    def __init__(self, name: str, offset: int, words: int) -> None:
        self.name = name
        self.offset = offset
        self.words = words


class Record:
    """A named sequence of fields; `record["name"]` is the field's offset in words."""

    def __init__(self, *fields: str | tuple[str, int], align: int = 8) -> None:
        """Lay out the fields in order; a tuple gives the number of words, a name alone means 1."""
        laid: dict[str, Field] = {}
        offset = 0
        for field in fields:
            name, words = (field, 1) if isinstance(field, str) else field
            laid[name] = Field(name, offset, words)
            offset += words
        self.fields: Mapping[str, Field] = MappingProxyType(laid)
        self.words = -(-offset // align) * align
        self._offsets = {name: field.offset for name, field in laid.items()}

    def __getitem__(self, name: str) -> int:
        """Return the field's offset in words from the start of the record."""
        return self._offsets[name]


def text_words(text: str, words: int) -> memoryview:
    """Return the text as so many words: cut, but not through a character, and filled with zeros."""
    data = text.encode("utf-8", "replace")[: words * WORD]
    data = data.decode("utf-8", "ignore").encode()
    return memoryview(data.ljust(words * WORD, b"\0")).cast("Q")


def counter_key(name: str) -> int:
    """Return what stands in a bank for a counter's name: FNV-1a, 64 bits, never 0.

    A worker can't write to the table of names, which is the parent's, and a bank has no room for
    sixteen names: so it has keys.
    """
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = (key ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return key or 1


def text_of(words: memoryview) -> str:
    """Return the text that such words hold, whatever their bytes are."""
    return words.tobytes().partition(b"\0")[0].decode("utf-8", "replace")


POOL = Record(
    "heartbeat_wall",
    "heartbeat",
    "state",  # index in PoolState
    "outcome",  # 1 + index in PoolOutcome; 0 while it lives
    "ended_wall",
    "last_success_wall",
    "workers_configured",
    "max_tasks_per_child",  # 0: unlimited
    "functions",  # how many names of the function table are set
    "jobs_in_progress",
    ("jobs_submitted", len(JobKind)),
    ("jobs_completed", len(Outcome)),
    ("tasks_submitted", len(JobKind)),
    ("tasks_completed", len(Outcome)),
    "items_submitted",
    ("items_completed", len(Outcome)),
    "tasks_queued",
    "tasks_outstanding",  # sent to a worker, no complete result yet
    "tasks_result",  # done in a worker, not yet taken by the caller
    "queue_oldest",  # submission time of the oldest queued task; 0: the queue is empty
    ("worker_exits", len(ExitReason)),
    "tasks_stolen",
    "items_retried",
    "callback_errors",
    "telemetry_errors",
    ("idle", len(IdleReason)),  # time of workers
    ("task_bytes", len(Direction)),
    "dump",  # time that the parent took to pickle arguments
    "load",  # and to unpickle results
    "scheduler_busy",
    "memory_growth",  # of workers that are gone, bytes
    ("task_items", COUNT_WORDS),  # of tasks as they were asked for
    ("task_result_wait", HISTOGRAM_WORDS),
    ("worker_startup", HISTOGRAM_WORDS),
    ("job_duration", HISTOGRAM_WORDS * len(JobKind)),
    ("lifetime_tasks", COUNT_WORDS),  # of workers that are gone
    "counters",  # how many names of the program's counters are set
    ("counter_values", COUNTERS),  # what the parent counted, in the order of the names
    "events",  # how many were ever written
    "slots",  # how many there are; 0: as the header says
)

FUNCTION = Record(("name", FUNCTION_NAME_WORDS))

COUNTER = Record(("name", COUNTER_NAME_WORDS))

JOB = Record(
    "id",  # 0: the record is free
    "kind",  # index in JobKind
    "submitted_wall",
    "ended_wall",  # 0: in progress
    "outcome",  # 1 + index in Outcome; 0: in progress
    "items_total",  # 1 + the number of items; 0: not yet known
    "items_ok",
    "items_error",  # error, timeout, lost, cancelled
    "items_skipped",
    ("function", FUNCTION_NAME_WORDS),
)

EVENT = Record(
    "number",  # 1 for the first event ever; written last
    "wall",
    "kind",  # index in EventKind
    "slot",  # 1 + slot; 0: none
    "pid",
    "generation",
    ("text", TEXT_WORDS),
)

# What the parent knows of one generation of a slot.
PARENT = Record(
    "generation",  # 1 for the first; 0: the bank was never used
    "pid",
    "lifecycle",  # index in WorkerState: starting, idle (means ready), draining, gone
    "started_wall",
    "queue_tasks",  # sent to it, not begun
    "resident_bytes",
    "ready_resident_bytes",  # when it was ready
    "cpu_sample",  # CPU time of the process as last sampled
    "sampled",  # when
    "exit_reason",  # 1 + index in ExitReason; 0: alive
    "revoked_from",  # items by sequence number in [from, until) were taken back
    "revoked_until",
    "cancelled_from",  # items by sequence number in [from, until) may be interrupted
    "cancelled_until",
)

# What a worker tells of itself. All but the live fields continue through its slot's generations.
WORKER = Record(
    "sequence",  # odd while the fields below are being written
    "mark",  # (sequence number << 16) + items of the slice begun: see obspool.worker
    "claim",  # items below this sequence number are claimed
    "task_start",  # when the running task's first item began; 0: idle
    "slice_start",
    "function",  # 1 + index of the function that runs; 0: idle
    "process_tasks",  # of this generation only
    "busy",  # time in items
    "cpu",  # time of CPU
    ("tasks", len(Outcome)),
    ("items", len(Outcome)),
    ("task_wait", HISTOGRAM_WORDS),
    ("task_run", HISTOGRAM_WORDS),
    ("item_run", HISTOGRAM_WORDS * (FUNCTIONS + 1)),
    "load",  # time it took to unpickle arguments
    "dump",  # and to pickle results
    ("counter_keys", COUNTERS),  # which of the program's counters (see `counter_key`); 0: none
    ("counter_values", COUNTERS),
    "first_resident",  # memory of this generation when it was ready, bytes
    "last_resident",  # and when it ended as planned; 0: it has not
    "described",  # 1 + sequence number of the item that the description is of
    ("description", DESCRIPTION_WORDS),
)

# The last errors of items, as the worker tells them: each field has a word, or a text, for each.
ITEM_ERRORS = Record(
    ("number", ERRORS),  # 1 for the first one ever, which is in the first place; written last
    ("again", ERRORS),  # the same
    ("wall", ERRORS),
    ("generation", ERRORS),
    ("function", ERRORS),  # 1 + index of the function
    ("item", ERRORS * ERROR_ITEM_WORDS),  # which one it was, where the pool describes items
    ("text", ERRORS * TEXT_WORDS),
)

BANK_WORDS = PAGE_WORDS
if PARENT.words + WORKER.words > BANK_WORDS:
    raise AssertionError("a bank must fit its page")
PARENT_OFFSET = 0
WORKER_OFFSET = PARENT.words
ERRORS_OFFSET = 2 * BANK_WORDS
SLOT_WORDS = 2 * (BANK_WORDS + ITEM_ERRORS.words)


class Layout:
    """Where everything is in a segment with `slots` slots, in words from its start.

    Attributes:
        pool: first word of the pool block.
        functions: first word of the table of function names.
        counters: first word of the table of the names of the program's own counters.
        jobs: first word of the table of jobs.
        events: first word of the ring of events.
        first_slot: first word of slot 0, on a page boundary.
        words: the whole segment's length.
    """

    def __init__(self, slots: int, header_words: int = HEADER_BYTES // WORD) -> None:
        self.slots = slots
        self.header_words = header_words
        self.pool = header_words
        self.functions = self.pool + POOL.words
        self.counters = self.functions + FUNCTIONS * FUNCTION.words
        self.jobs = self.counters + COUNTERS * COUNTER.words
        self.events = self.jobs + JOBS * JOB.words
        self.first_slot = -(-(self.events + EVENTS * EVENT.words) // PAGE_WORDS) * PAGE_WORDS
        self.words = self.first_slot + slots * SLOT_WORDS

    def parent_block(self, slot: int, generation: int) -> int:
        """First word of the parent's fields for this generation of the slot."""
        return self._bank(slot, generation) + PARENT_OFFSET

    def worker_block(self, slot: int, generation: int) -> int:
        """First word of the worker's fields for this generation of the slot."""
        return self._bank(slot, generation) + WORKER_OFFSET

    def errors_block(self, slot: int, generation: int) -> int:
        """First word of the last errors of this parity's generations of the slot."""
        at = self.first_slot + slot * SLOT_WORDS + ERRORS_OFFSET
        return at + (generation & 1) * ITEM_ERRORS.words

    def _bank(self, slot: int, generation: int) -> int:
        return self.first_slot + slot * SLOT_WORDS + (generation & 1) * BANK_WORDS
