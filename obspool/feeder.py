"""Takes a job's items from the caller's iterable, pickles them, and stays a bounded way ahead.

All that runs user code (the iterable, `__reduce__`) is here: in the caller's thread where the
caller waits anyway or the job is small, else in a thread of the job's own, since an iterable may
block, or wait for the job's own earlier results.
"""

from __future__ import annotations

from itertools import chain, cycle, islice, repeat
from threading import Lock
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from obspool.handlers import pass_on
from obspool.jobs import AHEAD_BYTES, AHEAD_TASKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from obspool.engines.protocol import Engine
    from obspool.jobs import Job

# A chunk that workers wait for is handed over at once if it is large: else the scheduler would wait
# for its turn of the GIL (5 ms) while this thread pickles the next ones.
YIELD_BYTES = 1 << 13
# For so long at most (seconds): with less this thread would go on, and take the GIL, just when the
# scheduler's is about to send what it was given but has no CPU for a moment.
YIELD_TIME = 0.01

# Of single items each so many'th is timed while it is pickled.
SAMPLE_EVERY = 16


class Feeder:
    """Feeds one job."""

    def __init__(self, job: Job, items: Iterable[Any], engine: Engine) -> None:
        self._job = job
        self._items = items
        self._engine = engine

    def run(self, *, copy: bool = True) -> None:
        """Feed the job to its end, or until it is cancelled.

        What the iterable raises becomes the outcome of the item that it should have given, as in
        the stdlib; nothing follows it.

        Args:
            copy: whether the caller may change large objects before they are sent.
        """
        job = self._job
        try:
            whole, self._items = self._items, ()
            items = iter(whole)
            if job.room is not None:
                items = job.room.within(job, items)
            if not job.listed:
                self._feed_items(items, copy=copy)
            elif type(whole) is range and job.room is None:
                self._feed_chunks(_ranges(whole, job.chunk), copy=copy)
            else:
                self._feed_chunks(_lists(items, job.chunk), copy=copy)
        except Exception as error:  # noqa: BLE001 - an outcome
            pass_on(error)
            self._fail(error)
        job.fed = True
        self._engine.wake()

    def run_in_thread(self) -> None:
        """Feed the job in a thread of its own, where also a SystemExit is just an outcome."""
        try:
            self.run()
        except BaseException as error:  # noqa: BLE001 - an outcome: there is no caller to raise it in
            self._fail(error)
            self._job.fed = True
            self._engine.wake()

    def _feed_items(self, items: Iterator[Any], *, copy: bool) -> None:
        stopwatch = Stopwatch(self._job, self._engine)
        try:
            self._feed_timed(zip(items, stopwatch.encoders(), strict=False), copy=copy)
        finally:
            stopwatch.stop()

    def _feed_timed(self, items: Iterable[tuple[Any, Callable[..., Any]]], *, copy: bool) -> None:
        job, size = self._job, self._engine.size
        pending = job.pending
        for item, encode in items:
            try:
                payload = encode(item, copy=copy)
            except Exception as error:  # noqa: BLE001 - the item's outcome
                pass_on(error)
                self._fail(error)
                continue
            job.items_fed += 1
            job.tasks_fed += 1
            job.bytes_fed += len(payload) if type(payload) is bytes else size(payload)
            pending.append(payload)
            if job.hungry:
                job.hungry = False
                self._engine.wake()
            if job.tasks_fed - job.tasks_taken >= AHEAD_TASKS or (
                job.bytes_fed - job.bytes_taken >= AHEAD_BYTES
            ):
                self._wait()
            if job.cancelled:
                return

    def _feed_chunks(self, chunks: Iterable[Sequence[Any]], *, copy: bool) -> None:
        job, engine = self._job, self._engine
        for chunk in chunks:
            began = monotonic_ns()
            try:
                payload = engine.encode(chunk, copy=copy)
            except Exception as error:  # noqa: BLE001 - found again below, by its item
                pass_on(error)
                self._feed_one_by_one(chunk, copy=copy)
            else:
                if engine.pickles:
                    job.dump_time += monotonic_ns() - began
                self._push(payload, len(chunk))
            if job.cancelled:
                return

    def _feed_one_by_one(self, chunk: Sequence[Any], *, copy: bool) -> None:
        """Feed a chunk in which something can't be pickled: all but that runs."""
        for item in chunk:
            try:
                payload = self._engine.encode([item], copy=copy)
            except Exception as error:  # noqa: BLE001 - the item's outcome
                pass_on(error)
                self._fail(error)
            else:
                self._push(payload, 1)

    def _push(self, payload: Any, count: int) -> None:
        job = self._job
        size = self._engine.size(payload)
        if count != job.chunk and job.odd_sizes is not None:
            job.odd_sizes.append(count)
        job.items_fed += count
        job.tasks_fed += 1
        job.bytes_fed += size
        job.pending.append((payload, count))
        if job.hungry:
            job.hungry = False
            if size >= YIELD_BYTES:
                self._wait(YIELD_TIME)
            else:
                self._engine.wake()
        if job.bytes_fed - job.bytes_taken >= AHEAD_BYTES or (
            job.tasks_fed - job.tasks_taken >= AHEAD_TASKS
        ):
            self._wait()

    def _fail(self, error: BaseException) -> None:
        """Make an error the outcome of the next item; it takes its place among the pending ones."""
        job = self._job
        if job.odd_sizes is not None:
            job.odd_sizes.append(1)
        job.items_fed += 1
        job.tasks_fed += 1
        job.flawed = True
        job.pending.append(Unsendable(error))
        if job.hungry:
            job.hungry = False
            self._engine.wake()

    def _wait(self, once: float | None = None) -> None:
        """Wait until the scheduler has taken half of what is ahead, or for so long (seconds)."""
        job = self._job
        gate = Lock()
        gate.acquire()
        job.feeder_waits = gate
        self._engine.wake()
        while job.feeder_waits is gate and not job.cancelled:
            gate.acquire(timeout=once or 1.0)
            if once:
                job.feeder_waits = None


def _lists(items: Iterator[Any], size: int) -> Iterator[Sequence[Any]]:
    """Cut what an iterator gives into chunks."""
    while chunk := list(islice(items, size)):
        yield chunk


def _ranges(items: range, size: int) -> Iterator[Sequence[Any]]:
    """Cut a range into ranges: a pickle of two numbers, in place of one of a million."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


class Stopwatch:
    """Takes the time of pickling single items: of the first, then of each sixteenth for all.

    To take that of each would cost 4 % of a map at chunksize 1.
    """

    def __init__(self, job: Job, engine: Engine) -> None:
        self._job = job
        self._encode = engine.encode
        self._pickles = engine.pickles
        self._last = 0  # what the last one took, ns
        self._fed_until = 0  # items that are accounted for

    def encoders(self) -> Iterator[Callable[..., Any]]:
        """Return what to encode each item with."""
        if not self._pickles:
            return repeat(self._encode)
        return chain([self._timed], cycle([*[self._encode] * (SAMPLE_EVERY - 1), self._timed]))

    def _timed(self, item: Any, *, copy: bool) -> Any:
        began = monotonic_ns()
        payload = self._encode(item, copy=copy)
        self._last = monotonic_ns() - began
        self._account(self._job.items_fed + 1)
        return payload

    def _account(self, until: int) -> None:
        self._job.dump_time += self._last * (until - self._fed_until)
        self._fed_until = until

    def stop(self) -> None:
        """Account for the items after the last one that was timed."""
        self._account(self._job.items_fed)


class Unsendable:
    """Stands among a job's pending payloads for an item that can't be sent, and why."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error
