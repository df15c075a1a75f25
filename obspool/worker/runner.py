"""Runs batches: the same code in a process, in a thread, wherever an engine has a worker."""

from __future__ import annotations

from itertools import islice
from time import monotonic_ns

from obspool.messages import Interrupted, Kind
from obspool.telemetry.bank import Tally
from obspool.worker.items import BINDERS, anew, counted, in_item, raiser, run_items, run_singles
from obspool.worker.stopwatch import Stopwatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any

    from obspool.messages import Batch, FunctionMessage, Piece
    from obspool.telemetry.bank import Bank, Claims
    from obspool.worker.codec import Codec
    from obspool.worker.limits import Limiter
    from obspool.worker.outbox import Outbox

# A slice has at most so many items (longer ones gain nothing), and takes about so long (ns), so
# that the parent can soon take back the rest of its chunk. When one turns out slow, it lets go of
# what it has not begun.
SLICE_ITEMS = 4096
SLICE_TIME = 1_000_000

# What ran is reported, in a message to the parent and in the segment, after so much of it (ns).
# With less the parent is woken more often for less; with more `imap` lags. Within a chunk that goes
# on and on it is twice as long each time, up to the longest, and that from the beginning where
# nobody gets some of its results before the others: a message costs as much CPU as forty items of
# 10 µs. One item that takes longer than a slice is reported at once.
REPORT_TIME = 4_000_000
LONGEST_REPORT = 32_000_000

# Chunks that take less than this (ns) are written down together, up to so many: that costs 4 µs.
# What takes longer has numbers of its own, and those before it, too.
QUICK_TIME = 100_000
QUICK_TASKS = 64

# A slice may be this many times as long as the one before: the next items may be slower.
SLICE_GROWTH = 4


class Runner:
    """Runs the items of batches, one after the other."""

    def __init__(self, bank: Bank, claims: Claims, outbox: Outbox, codec: Codec) -> None:
        """Take what a worker is made of."""
        self._describe: Callable[..., object] | None = None
        self._bank = bank
        self._claims = claims
        self._outbox = outbox
        self._codec = codec
        self._functions: dict[int, tuple[Any, FunctionMessage]] = {}
        self._tally = Tally()
        self._width = 1
        self._last = 0  # the function that `_width` is for
        self._slice: tuple[int, list[Any]] = (-1, [])  # its first item's number, and what it runs
        self._begun_before = -1
        self._patience = REPORT_TIME
        self._reported = 0  # when results of chunks were, ns
        self._next = 0  # number of the next item
        self._stopwatch = Stopwatch(codec)
        self._limiter: Limiter | None = None
        self._cancelled = -1  # the item that was interrupted last

    def open(self, describe: Callable[..., object] | None = None) -> None:
        """Begin, in the worker itself; `describe` names an item by its arguments."""
        self._describe = describe
        # Not before: a cycle keeps what a parent has made for its worker longer than it should.
        self._outbox.stalled = self._shorten
        self._outbox.unsendable = self._note

    def _shorten(self) -> None:
        """Give up the claim on what a slice that takes long has not begun; in the outbox's thread.

        The main thread iterates over the list that is cut here: it ends sooner, and claims the rest
        again, unless that was taken back meanwhile. An item is fetched and marked without a turn of
        the GIL in between (zip and the lists allocate nothing, and the mark is stored by C
        code), so nothing behind the mark is on its way. The next item is given up only when the
        mark has not moved for a while all the same: until then the slice is just a long one.
        """
        with self._claims.lock:
            first, items = self._slice
            begun = self._claims.begun()
            stuck, self._begun_before = begun == self._begun_before, begun
            keep = begun - first + (not stuck)
            if self._claims.first() == first and 0 < keep < len(items):
                del items[keep:]
                self._claims.shorten(first + keep)

    def run(self, batch: Batch) -> None:
        """Run a batch, and send all its results; pass over one that comes a second time."""
        if batch.pieces:
            last = batch.pieces[-1]
            if last.first < self._next:
                return
            self._next = last.first + last.count
        for number in batch.forget:
            self._functions.pop(number, None)
        for function in batch.functions:
            self._functions[function.number] = (None, function)
        self._outbox.active = True
        self._reported = monotonic_ns()
        final = len(batch.pieces) - 1
        for index, piece in enumerate(batch.pieces):
            if piece.function != self._last:
                self._last = piece.function
                self._width = 1
            run = self._run_chunk if piece.chunk else self._run_singles
            run(piece, index < final)
        self._outbox.active = False
        if self._limiter is not None:
            self._limiter.rest()
        self._slice = (-1, [])  # an idle worker keeps no arguments alive
        self._outbox.flush()
        self._bank.account(self._claims.lock, self._tally, monotonic_ns())
        self._bank.idle()

    def run_one(self, first: int, submitted: int, number: int, call: int, payload: Any) -> None:
        """Run a batch of one item: as `run`, but nothing is shared, and nothing kept back.

        Args:
            first: its sequence number.
            submitted: when it was submitted, CLOCK_MONOTONIC in ns.
            number: of its function.
            call: how to call that.
            payload: the item.
        """
        if first < self._next:
            return
        self._next = first + 1
        claims, bank, tally, outbox = self._claims, self._bank, self._tally, self._outbox
        function = self._bind(number, call)
        began = self._begin(number, submitted)
        if claims.take(first, 1)[1]:
            results: list[Any] = []
            failed = self._run_one(function, payload, results)
            ended = monotonic_ns()
            busy = ended - began
            outbox.send_one(first, results.pop(), failed=failed, busy=busy, ended=ended)
            tally.busy += busy
            tally.task_run += busy
            tally.items += 1
            tally.tasks += 1
            tally.errors += failed
            tally.failed += failed
            bank.account(claims.lock, tally, ended)
        if self._limiter is not None:
            self._limiter.rest()
        bank.idle()

    def _run_one(self, function: Callable[[Any], Any], payload: Any, results: list[Any]) -> bool:
        """Run an item; return whether it failed. Now and then take the time of its encoding."""
        codec, mark, watch = self._codec, self._bank.mark, self._stopwatch
        begun = iter(((1, payload),))
        timed = watch.is_due(payload)
        source: Any = watch if timed else codec
        try:
            run_singles(mark, begun, function, results, source.load, source.dump)
        except SystemExit:  # ends this worker
            raise
        except BaseException as error:  # noqa: BLE001 - the item's error
            results.append(self._failure(error, 0.0))
            return True
        finally:
            if timed:
                watch.account(self._tally, timed)
        return False

    def _bind(
        self, number: int, call: int, *, chunk: bool = False, timeout: float = 0.0
    ) -> Callable[[Any], Any]:
        """Return what to call with an item.

        A function that isn't kept is loaded anew for each task: for each item, where items are
        tasks.
        """
        function, message = self._functions[number]
        try:
            if function is None and (message.kept or chunk):
                function = self._codec.load(message.payload)
                if message.kept:
                    self._functions[number] = (function, message)
        except Exception as error:  # noqa: BLE001 - the error of every item
            return raiser(error)
        if function is None:
            function = anew(self._codec.load, message.payload)
        if self._describe is not None:
            function = self._described(function)
        bound = BINDERS[call](function)
        return self._limited(bound, timeout) if timeout else bound

    def _described(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return what shows the name of an item before it calls the function."""
        describe, show, claims = self._describe, self._bank.describe, self._claims

        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                text = str(describe(*args, **kwargs)) if describe is not None else ""
            except (Exception, SystemExit) as error:  # noqa: BLE001 - it must end no item
                text = f"describe raised {type(error).__name__}"
            show(claims.lock, claims.begun(), text)
            return function(*args, **kwargs)

        return call

    def interrupt(self, _number: int, frame: FrameType | None) -> None:
        """Interrupt the item that runs, if that is asked for; a signal's handler.

        Raises:
            SoftTimeoutError: its time is over.
            SoftCancelError: it is cancelled. Once only: it may clean up.
        """
        if not in_item(frame):  # it comes again
            return
        if self._limiter is not None:
            self._limiter.expire()
        number = self._claims.begun() - 1
        if number != self._cancelled and self._claims.is_cancelled(number):
            self._cancelled = number  # first: the signal may come again while this is imported
            from obspool.errors import SoftCancelError  # noqa: PLC0415 - few workers need it

            raise SoftCancelError("this item's call was cancelled")

    def _limited(self, function: Callable[[Any], Any], timeout: float) -> Callable[[Any], Any]:
        if self._limiter is None:
            from obspool.worker.limits import Limiter  # noqa: PLC0415 - signal, enum: few need it

            self._limiter = Limiter()
        return self._limiter.limited(function, timeout)

    def _failure(self, error: BaseException, timeout: float) -> Any:
        """Encode what an item raised."""
        if timeout or self._cancelled >= 0:
            from obspool import errors  # noqa: PLC0415 - few workers need it

            if isinstance(error, errors.SoftTimeoutError):
                self._tally.timeouts += 1
                text = f"the item ran longer than {timeout:g} s, and was interrupted"
                overdue = errors.TaskTimeoutError(text)
                self._note(overdue)
                return self._interrupted(Kind.TIMEOUT, overdue, error)
            if isinstance(error, errors.SoftCancelError):
                self._tally.cancelled += 1
                cancelled = errors.CancelledError("cancelled while it ran")
                return self._interrupted(Kind.CANCELLED, cancelled, error)
        self._note(error)
        return self._codec.dump_error(error)

    def _note(self, error: BaseException) -> None:
        """Write an item's error down in the segment, for those who look."""
        self._bank.failed(error, self._claims.begun())

    def _interrupted(self, kind: int, error: BaseException, cause: BaseException) -> Interrupted:
        """Encode the error of an item that was interrupted, with the place where it was."""
        return Interrupted(kind, self._codec.dump_error(error.with_traceback(cause.__traceback__)))

    def _begin(self, number: int, submitted: int) -> int:
        """Show that something of a function begins; return the time."""
        label = self._functions[number][1].label
        tally = self._tally
        now = monotonic_ns()
        if tally.items and tally.label != label:
            self._bank.account(self._claims.lock, tally, now)
        tally.label = label
        if tally.wait is None:
            tally.wait = max(0, now - submitted)
        self._bank.begin(label, now)
        return now

    def _begin_piece(self, piece: Piece) -> int:
        """Show that a piece begins; return the time."""
        if piece.timeout:
            self._outbox.flush()  # it may have to be ended, and this worker with it
        together = piece.chunk and piece.stop_on_error
        self._patience = LONGEST_REPORT if together else REPORT_TIME
        return self._begin(piece.function, piece.submitted)

    def _end_slice(
        self, busy: int, now: int, count: int, errors: int, more: bool, piece: Piece
    ) -> bool:
        """Count a slice, choose the length of the next, and see to it that results don't wait.

        Returns:
            Whether it is time to report.
        """
        tally, outbox = self._tally, self._outbox
        tally.busy += busy
        tally.items += count
        tally.errors += errors
        if busy > SLICE_TIME or self._width < SLICE_ITEMS:
            width = SLICE_TIME * count // (busy + 1)
            self._width = max(1, min(width, self._width * SLICE_GROWTH, SLICE_ITEMS))
        outbox.busy += busy
        outbox.ended = now
        slow = count == 1 and busy >= SLICE_TIME
        report = slow or tally.busy >= self._patience or piece.timeout > 0
        if more:
            if report or outbox.overdue:
                outbox.flush()
            elif not outbox.watched:
                outbox.watch()
        return report

    def _run_singles(self, piece: Piece, more: bool) -> None:
        """Run tasks of one item each: several share a claim, a clock reading and an account."""
        function = self._bind(piece.function, piece.call, timeout=piece.timeout)
        tally, outbox, payloads = self._tally, self._outbox, piece.payloads
        before = self._begin_piece(piece)
        first = position = piece.first
        until = first + piece.count
        while position < until:
            wanted = min(until - position, 1 if piece.timeout else self._width)
            position, count = self._claims.take(position, wanted)
            if not count:
                continue
            if count > 1 and not outbox.watched:
                outbox.watch()
            offset = position - first
            mine = payloads[offset : offset + count]
            count, errors = self._singles(function, position, mine, piece)
            now = monotonic_ns()
            busy, before = now - before, now
            position += count
            tally.tasks += count
            tally.task_run += busy
            tally.failed += errors
            more_now = more or position < until
            if self._end_slice(busy, now, count, errors, more_now, piece) and position < until:
                self._bank.account(self._claims.lock, tally, now)
                tally.wait = max(0, now - piece.submitted)
                self._bank.begin(tally.label, now)

    def _singles(
        self, function: Callable[[Any], Any], first: int, payloads: list[Any], piece: Piece
    ) -> tuple[int, int]:
        """Run one slice of tasks of one item; return how many ran, and how many of these failed."""
        mark, codec = self._bank.mark, self._codec
        results: list[Any] = []
        failed: list[int] = []
        self._outbox.open_singles(first, results, failed)
        self._slice = first, payloads
        begun = counted(payloads)
        watch = self._stopwatch
        while True:
            try:
                if not results and codec.pickles:  # the first of them is timed, for all
                    timed = islice(begun, 1)
                    run_singles(mark, timed, function, results, watch.load, watch.dump)
                run_singles(mark, begun, function, results, codec.load, codec.dump)
                break
            except SystemExit:
                self._outbox.close_singles()
                self._leave()
                raise
            except BaseException as error:  # noqa: BLE001 - the item's error
                payload = self._failure(error, piece.timeout)
                failed.append(len(results))  # before the result: the outbox's thread counts results
                results.append(payload)
        self._outbox.close_singles()
        watch.account(self._tally, len(results))
        return len(results), len(failed)

    def _run_chunk(self, piece: Piece, more: bool) -> None:
        """Run a chunk, or a part of one: it is one task here."""
        function = self._bind(piece.function, piece.call, chunk=True, timeout=piece.timeout)
        tally, outbox, mark, take = self._tally, self._outbox, self._bank.mark, self._claims.take
        before = started = self._begin_piece(piece)
        outbox.alone = not piece.stop_on_error
        position, until = piece.first, piece.first + piece.count
        items: list[Any] | None = None
        failed = False
        while position < until:
            wanted = min(until - position, 1 if piece.timeout else self._width)
            position, count = take(position, wanted)
            if not count:
                continue
            if items is None:
                function, items = self._load_chunk(function, piece)
            if count > 1 and not outbox.watched:
                outbox.watch()
            offset = position - piece.first
            slice_items = items[offset : offset + count]
            self._slice = position, slice_items
            begun = counted(slice_items)
            values: list[Any] = []
            errors = 0
            try:
                run_items(mark, begun, function, values)
            except BaseException as error:  # noqa: BLE001 - the item's error, mostly
                errors = self._after_error(error, function, begun, position, values, piece)
            else:
                outbox.add_values(position, values)
            now = monotonic_ns()
            if tally.tasks and now - before > QUICK_TIME:
                self._set_apart(before, started - piece.submitted)
            busy, before = now - before, now
            position += len(values)
            failed = failed or errors > 0
            if errors and piece.stop_on_error:
                self._skip(position, until)
                position = until
            more_now = more or position < until
            if self._end_slice(busy, now, len(values), errors, more_now, piece) and (
                position < until
            ):
                failed = self._encode() or failed
                self._bank.account(self._claims.lock, tally, now)
                self._bank.tick(now)
                self._patience = min(2 * self._patience, LONGEST_REPORT)
        if items is not None:  # else all of it was taken back
            failed = self._encode() or failed
            tally.tasks += 1
            tally.failed += failed
            tally.task_run += before - started
            self._end_chunk(before, more)

    def _set_apart(self, now: int, waited: int) -> None:
        """Write down chunks that were quick, before one that isn't; that waited so long (ns)."""
        self._bank.account(self._claims.lock, self._tally, now)
        self._tally.wait = max(0, waited)

    def _end_chunk(self, now: int, more: bool) -> None:
        """Write down what ran, and report it: not at once where more comes soon."""
        tally = self._tally
        if tally.failed or tally.task_run >= QUICK_TIME or tally.tasks >= QUICK_TASKS or not more:
            self._bank.account(self._claims.lock, tally, now)
        if more and now - self._reported >= REPORT_TIME:
            self._reported = now
            self._outbox.flush()

    def _leave(self) -> None:
        """Send what is finished, and write it down: an item ends this worker."""
        self._outbox.flush()
        self._bank.account(self._claims.lock, self._tally, monotonic_ns())

    def _encode(self) -> bool:
        """Encode what was kept of a chunk; tell whether some of it could not be."""
        unsendable = self._outbox.encode()
        self._tally.errors += unsendable
        if self._codec.pickles:
            self._tally.dump += self._outbox.dump_time()
        return unsendable > 0

    def _load_chunk(
        self, function: Callable[[Any], Any], piece: Piece
    ) -> tuple[Callable[[Any], Any], list[Any]]:
        """Return what to call, and the chunk's items, loaded after the chunk was claimed."""
        began = monotonic_ns()
        try:
            loaded = self._codec.load(piece.payloads[0])
            items: list[Any] = list(loaded) if type(loaded) is range else loaded
        except Exception as error:  # noqa: BLE001 - the error of every item
            return raiser(error), [None] * piece.count
        if self._codec.pickles:
            self._tally.load += monotonic_ns() - began
        return function, items[piece.skip : piece.skip + piece.count] if piece.skip else items

    def _after_error(
        self,
        error: BaseException,
        function: Callable[[Any], Any],
        begun: Iterator[tuple[int, Any]],
        first: int,
        values: list[Any],
        piece: Piece,
    ) -> int:
        """Go on with a slice of a chunk after an error; return how many items failed.

        Nothing of the slice follows the error in `values` where the job stops at errors.

        Raises:
            SystemExit: an item's; it ends this worker, and what is finished is sent first.
        """
        mark = self._bank.mark
        failed: dict[int, Any] = {}
        while True:
            if isinstance(error, SystemExit):
                self._outbox.add_values(first, values, failed)
                self._leave()
                raise error
            failed[len(values)] = self._failure(error, piece.timeout)
            values.append(None)
            if piece.stop_on_error:
                break
            try:
                run_items(mark, begun, function, values)
                break
            except BaseException as another:  # noqa: BLE001 - the item's error
                error = another
        self._outbox.add_values(first, values, failed)
        return len(failed)

    def _skip(self, position: int, until: int) -> None:
        """Report the rest of the chunk as skipped, but for what was taken back."""
        while position < until:
            position, count = self._claims.take(position, until - position)
            if count:
                self._outbox.add_skipped(position, count)
                self._tally.skipped += count
                position += count
