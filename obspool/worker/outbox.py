"""Results on their way to the parent: several slices' in one message, none held back for long."""

from __future__ import annotations

import threading
from time import monotonic_ns, sleep

from obspool.messages import Interrupted, Kind, Part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from obspool.worker.codec import Codec

# Results that the main thread keeps back are sent after this (seconds), even if the next item never
# ends: it may wait for what somebody does with an earlier result.
RESULT_DELAY = 0.005
LONGEST_DELAY = 0.05  # while nothing comes


_NONE: dict[int, Any] = {}


def _no_note(_: BaseException) -> None:
    """Note nothing: until somebody says where."""


def _nothing() -> None:
    """Do nothing."""


def _failure(number: int, payload: Any) -> Part:
    if type(payload) is Interrupted:
        return Part(number, 1, payload.kind, [payload.payload])
    return Part(number, 1, Kind.ERROR, [payload])


class Outbox:
    """Collects parts of results and sends them; used by a worker's main thread.

    Attributes:
        busy: time of the slices since the last message, ns.
        ended: when the last of them ended, CLOCK_MONOTONIC in ns.
        active: a batch runs.
        watched: what is kept back is sent soon, without the main thread's help.
        alone: each result of a chunk that isn't plain is pickled by itself, so that one which can't
            be loaded again fails alone.
        stalled: called when the watch is over: by then a slice should have ended.
        overdue: there are results that only the main thread may encode, and should.
    """

    def __init__(self, send: Callable[[list[Part], int, int], None], codec: Codec) -> None:
        """Take the function that sends parts, the time they took, and when the last was done."""
        self._send = send
        self._codec = codec
        self._deferrable = codec.deferrable
        self._lock = threading.Lock()
        self._parts: list[Part] = []
        self._values: list[Any] = []  # results of a chunk that may be pickled later
        self._values_first = self._values_until = 0
        self._open: tuple[int, list[Any], list[int]] | None = None
        self._announced: list[Callable[[], None]] = []
        self._taken = 0
        self._failed = 0
        self._flushes = 0  # by the main thread
        self.alone = False
        self.busy = 0
        self.ended = 0
        self._dump = 0
        self.stalled: Callable[[], None] = _nothing
        self.unsendable: Callable[[BaseException], None] = _no_note
        self._wake: threading.Lock | None = None
        self.active = self.watched = self.overdue = False

    def open_singles(self, first: int, results: list[Any], failed: list[int]) -> None:
        """Show a slice of tasks that begins: results that will be payloads, indices of errors.

        Both grow while the slice runs; what is there can be sent before it ends.
        """
        self._open = first, results, failed
        self._taken = 0

    def close_singles(self) -> None:
        """Add what is left of the slice that was opened."""
        with self._lock:
            self._take_singles()
            self._open = None

    def _take_singles(self) -> None:
        if self._open is None:
            return
        first, results, failed = self._open
        begin, end = self._taken, len(results)
        self._taken = end
        for index in (*(i for i in failed if begin <= i < end), end):
            if index > begin:
                items = Part(first + begin, index - begin, Kind.ITEMS, results[begin:index])
                self._parts.append(items)
            if index < end:
                self._parts.append(_failure(first + index, results[index]))
            begin = index + 1

    def add_values(self, first: int, values: list[Any], failed: dict[int, Any] = _NONE) -> None:
        """Add results of consecutive items of a chunk; `failed` has errors' payloads by index."""
        if not failed:
            self._add_good(first, values)
            return
        begin = 0
        for index in (*failed, len(values)):
            if index > begin:
                self._add_good(first + begin, values[begin:index])
            if index < len(values):
                self._add(_failure(first + index, failed[index]))
            begin = index + 1

    def encode(self) -> int:
        """Encode what was kept of a chunk; return how many more results could not be.

        Called at a chunk's end as well: a part is of one chunk.
        """
        if self._values:
            with self._lock:
                self._close_values()
        failed, self._failed = self._failed, 0
        return failed

    def dump_time(self) -> int:
        """Return the time (ns) that encoding results of chunks took since this was last asked."""
        if not self._dump:
            return 0
        with self._lock:
            taken, self._dump = self._dump, 0
        return taken

    def add_skipped(self, first: int, count: int) -> None:
        """Add items that do not run, after an error in their chunk."""
        self._add(Part(first, count, Kind.SKIPPED, []))

    def _add(self, part: Part) -> None:
        with self._lock:
            self._close_values()
            self._parts.append(part)

    def _add_good(self, first: int, values: list[Any]) -> None:
        """Keep results of a chunk, encoded together by its end, which is when the stdlib does."""
        with self._lock:
            if first != self._values_until:
                self._close_values()
            if not self._values:
                self._values_first = first
            self._values += values
            self._values_until = first + len(values)

    def _list_parts(self, first: int, values: list[Any]) -> list[Part]:
        """Encode results of a chunk as one list; each alone, when one of them can't be pickled."""
        if self.alone and not self._deferrable.issuperset(map(type, values)):
            return [self._single(first + index, value) for index, value in enumerate(values)]
        try:
            return [Part(first, len(values), Kind.LIST, [self._codec.dump(values)])]
        except Exception:  # noqa: BLE001 - found again below, by its item
            return [self._single(first + index, value) for index, value in enumerate(values)]

    def _single(self, first: int, value: Any) -> Part:
        try:
            return Part(first, 1, Kind.ITEMS, [self._codec.dump(value)])
        except Exception as error:  # noqa: BLE001 - the item's error
            self._failed += 1
            self.unsendable(error)
            return Part(first, 1, Kind.ERROR, [self._codec.dump_error(error)])

    def _close_values(self) -> None:
        """Encode the results kept; the main thread does, but for what can't change meanwhile."""
        if self._values:
            values, self._values = self._values, []
            began = monotonic_ns()
            self._parts += self._list_parts(self._values_first, values)
            self._dump += monotonic_ns() - began

    def send_one(self, first: int, payload: Any, *, failed: bool, busy: int, ended: int) -> None:
        """Send the outcome of an item that was all that there was; it took so long, in ns."""
        part = _failure(first, payload) if failed else Part(first, 1, Kind.ITEMS, [payload])
        with self._lock:
            if self._announced:
                self._announce()
            self._send([part], busy, ended)

    def flush(self) -> None:
        """Send everything."""
        self._flushes += 1
        with self._lock:
            self._close_values()
            self._flush()

    def _flush(self) -> None:
        self.overdue = False
        if self._announced:
            self._announce()
        if self._parts:
            parts, busy = self._parts, self.busy
            self._parts, self.busy = [], 0
            self._send(parts, busy, self.ended)

    def announce(self, send: Callable[[], None]) -> None:
        """Call what sends something else: now, or with the next results if those are on their way.

        From any thread; also from code that is called while results are encoded.
        """
        self._announced.append(send)
        if self._lock.acquire(blocking=False):
            try:
                self._announce()
            finally:
                self._lock.release()

    def _announce(self) -> None:
        while self._announced:
            self._announced.pop()()

    def watch(self) -> None:
        """Have what is, or will be, kept back sent by a thread, should an item take long."""
        self.watched = True
        if self._wake is None:
            self._wake = threading.Lock()
            threading.Thread(target=self._run, name="obspool-outbox", daemon=True).start()
        else:
            self._wake.release()

    def _run(self) -> None:
        wake = self._wake
        if wake is None:
            return
        wake.acquire()
        while True:
            delay = RESULT_DELAY
            while self.watched:
                before = self._flushes, self.ended
                sleep(delay)
                if before != (self._flushes, self.ended) and self.active:
                    continue  # the main thread is quick enough by itself
                self.stalled()
                try:
                    delay = RESULT_DELAY if self._send_kept() else min(2 * delay, LONGEST_DELAY)
                except OSError:  # the parent is gone, which the main thread finds out by itself
                    return
            wake.acquire()

    def _send_kept(self) -> bool:
        """Send what the main thread has kept back; return whether there was anything."""
        with self._lock:
            self._take_singles()
            if self._deferrable.issuperset(map(type, self._values)):
                self._close_values()
            else:  # the main thread may be about to change them: its affair
                self.overdue = True
            sent = bool(self._parts)
            self._flush()
            if not self.active:
                self.watched = False
            return sent
