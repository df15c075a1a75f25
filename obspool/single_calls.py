"""How a call of `apply` or `apply_async` gets to a worker.

an idle worker is lent, and its caller waits ──> loan: from the caller's own thread; or did so
                                                 each time when it called the function before
the last call was of the same function ────────> the stream that is open
all else ──────────────────────────────────────> a stream of its own, open for the next ones
"""

from __future__ import annotations

from sys import modules
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from obspool import _fork
from obspool.handlers import pass_on
from obspool.results import AsyncResult
from obspool.streams import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from obspool.functions import Function
    from obspool.loop import Loop

# A larger item isn't sent by a caller's thread: a channel need not take it at once. Nor does it
# share a stream, whose batches are measured by the mean.
SMALL_BYTES = 4096


class SingleCalls:
    """Those of a pool, for any thread.

    Attributes:
        stream: the one to append to; None: there is none, or something was called since.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._engine = loop.engine
        self._decode = loop.decoder.one
        self._encode = loop.engine.encode
        self._encode_function = loop.engine.encode_function
        self._forks = _fork.forks
        self.stream: Stream | None = None

    def append(
        self,
        pool: Any,
        func: Callable[..., Any],
        call: int,
        item: Any,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        wait: bool = False,
    ) -> AsyncResult | None:
        """Append a call to the stream that is open, or have it served as such a call.

        Args:
            pool: alive as long as it works for this call.
            func: what is called.
            call: how.
            item: its arguments.
            callback: called with the result.
            error_callback: called with the error.
            wait: the caller waits for it, and changes nothing meanwhile.

        Returns:
            What the caller gets; None: it is no such call.
        """
        stream = self.stream
        if (
            stream is None
            or stream.func is not func
            or stream.call != call
            or self._forks != _fork.forks
            or not (
                getattr(modules.get(stream.module), stream.name, None) is func
                or self._is_still(func, stream)
            )
        ):
            return None
        began = monotonic_ns()
        try:
            payload = self._encode(item, copy=not wait)
        except Exception as error:  # noqa: BLE001 - found again by who makes it the call's outcome
            pass_on(error)
            return None
        if not began & 15:  # of about every sixteenth, by the clock's last digits
            stream.encode_time = monotonic_ns() - began
        if self._loop.close_asked:
            return None
        result = AsyncResult(pool, self._decode, callback, error_callback, stream, payload, began)
        if type(payload) is not bytes or len(payload) > SMALL_BYTES:
            self._hand_in(stream.apart(self._engine.size), result)
            return result
        if (
            (wait or (stream.one_by_one and not result.has_callback()))
            and not stream.timeout
            and self._serve(stream, result, wait=wait)
        ):
            return result
        stream.pending.append(result)
        if stream.fed:  # it has ended meanwhile, maybe without this call
            self.stream = None
            self._loop.post(self._loop.submit, stream)
        elif stream.hungry:
            stream.hungry = False
            self._engine.wake()
        return result

    def _is_still(self, func: Callable[..., Any], stream: Stream) -> bool:
        """Tell whether a function is what the stream's workers have, though not in its place."""
        try:
            return self._encode_function(func) is stream.function
        except Exception as error:  # noqa: BLE001 - found again by who makes it the call's outcome
            pass_on(error)
            return False

    def _serve(self, stream: Stream, result: AsyncResult, *, wait: bool) -> bool:
        """Have a call served by a worker that is lent; return whether one was there."""
        loop, before = self._loop, self.stream
        # What came first goes first; it may be this caller's.
        if loop.inbox or (before is not None and before.pending):
            return False
        return loop.loans.serve(stream, result, wait=wait) is not None

    def _hand_in(self, stream: Stream, result: AsyncResult) -> None:
        """Have a stream run that takes this call and no more."""
        self.stream = None
        result.attach(stream)
        stream.pending.append(result)
        stream.fed = True
        self._loop.post(self._loop.submit, stream)

    def begin(
        self,
        func: Callable[..., Any],
        function: Function,
        call: int,
        item: Any,
        result: AsyncResult,
        *,
        retries: int,
        timeout: float,
        usual: bool,
        wait: bool,
    ) -> None:
        """Have a call run.

        Args:
            func: what is called.
            function: the same, encoded.
            call: how.
            item: its arguments.
            result: what the caller gets.
            retries: as the job's.
            timeout: as the job's.
            usual: the two are as the pool says.
            wait: the caller waits for it, and changes nothing meanwhile.

        Raises:
            Exception: what kept the arguments from being pickled.
        """
        engine, loop = self._engine, self._loop
        stream = Stream(func, function, call, size=engine.size, retries=retries, timeout=timeout)
        began = monotonic_ns()
        payload = engine.encode(item, copy=not wait)
        stream.encode_time = monotonic_ns() - began if engine.pickles else 0
        result.ask(stream, payload, began)
        small = type(payload) is bytes and len(payload) <= SMALL_BYTES
        if wait and small and not timeout and self._serve(stream, result, wait=True):
            return
        if not (small and usual and function.kept):
            self._hand_in(stream, result)
            return
        self.stream = None
        stream.module, stream.name = func.__module__, func.__qualname__
        stream.size = len  # as small ones that pickle has made
        stream.pending.append(result)
        loop.post(loop.submit, stream)
        self.stream = stream  # only now: others append to what the scheduler knows
        if loop.close_asked:  # the pool's end waits for those that are open
            self.stream = None
