"""The tree of errors; each also derives from the stdlib's type that users catch today.

ObspoolError
├── WorkerLostError   (RuntimeError)   a worker died with the item begun
├── TaskTimeoutError  (TimeoutError)   an item ran longer than its `timeout=`
├── CancelledError    (RuntimeError)   a call was cancelled before all of it was done
├── PoolBrokenError   (RuntimeError)   the pool can't run work any more
├── PoolTerminatedError (RuntimeError) the pool was terminated before the result was there
├── ForkedPoolError   (RuntimeError)   a pool used in a forked child of its process
├── MetricsServerError (OSError)       /metrics can't be served at this address
├── SegmentError      (ValueError)     a file that isn't a segment this version can read
├── PoolNotFoundError (LookupError) no pool, or not only one, goes by this name or pid
├── StackUnavailableError (RuntimeError) a worker's stack can't be had, or not now
└── ControlError      (RuntimeError)   a pool did not do what it was asked over its socket

SoftTimeoutError      (BaseException)  raised in the item whose time is over, in its worker
SoftCancelError       (BaseException)  raised in an item that is cancelled, in its worker
"""

from __future__ import annotations


class ObspoolError(Exception):
    """The base of all errors of obspool's own."""


class WorkerLostError(ObspoolError, RuntimeError):
    """A worker died, and with it items that had begun there.

    The stdlib's Pool never tells: the job waits for ever (cpython gh-66587).

    Attributes:
        slot: the worker's place in the pool.
        pid: of its process.
        exitcode: as a `Process`'s: negative for a signal's number; None when it isn't known.
        function: name of the function.
        item: index in its call of the item that ran, None when that was another call's.
        description: of that item, by the pool's `describe=`; else empty.
        finished: indices of the items that had been run, and whose results are lost with the
            worker.
        seconds: how long the item had run, None when that isn't known.
        memory: the worker's resident memory when last seen, bytes, 0 when it never was.
        out_of_memory: the kernel counted a process that it killed because memory ran out: it was
            probably this one.
    """

    slot: int | None = None
    pid: int | None = None
    exitcode: int | None = None
    function: str = ""
    item: int | None = None
    description: str = ""
    finished: range = range(0)
    seconds: float | None = None
    memory: int = 0
    out_of_memory: bool = False


class TaskTimeoutError(ObspoolError, TimeoutError):
    """An item ran longer than its `timeout=`; it was interrupted, or its worker was killed.

    Not a `multiprocessing.TimeoutError`, which says that a result isn't there yet.
    """


class SoftTimeoutError(BaseException):
    """Raised in the item whose time is over, in its worker, so that it can clean up.

    As KeyboardInterrupt no `Exception`: code that catches all errors doesn't catch it. An item that
    goes on all the same is ended with its worker after a grace of a few seconds.
    """


class CancelledError(ObspoolError, RuntimeError):
    """A call was cancelled (`AsyncResult.cancel`) before all of it was done."""


class SoftCancelError(BaseException):
    """Raised in an item that runs when its call is cancelled with `running=True`, in its worker.

    As SoftTimeoutError: so that it can clean up, and with the same grace.
    """


class PoolBrokenError(ObspoolError, RuntimeError):
    """The pool can't run work any more, for the reason given as its cause."""


class PoolTerminatedError(ObspoolError, RuntimeError):
    """The pool was terminated before this result was there (in the stdlib: a wait for ever)."""


class ForkedPoolError(ObspoolError, RuntimeError):
    """A pool was used in a forked child; only the process that made it can."""


class MetricsServerError(ObspoolError, OSError):
    """/metrics can't be served at the address that was asked for."""


class SegmentError(ObspoolError, ValueError):
    """A file that isn't a segment which this version can read; the message says why."""


class PoolNotFoundError(ObspoolError, LookupError):
    """No pool, or not only one, goes by this name or pid; the message lists those there are."""


class StackUnavailableError(ObspoolError, RuntimeError):
    """A worker's stack can't be had, or not now; the message says why, and what to do."""


class ControlError(ObspoolError, RuntimeError):
    """A pool did not do what it was asked to over its control socket; the message says why."""
