"""What the parent and a worker say to each other, whatever carries it.

Items are numbered by sequence number: the parent numbers all that it sends to one worker from 0 on,
in the order in which they run. A worker knows no jobs: which job and item a number is, is in the
parent's ledger alone, so that a worker can't mix them up.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # `signal` makes enumerations, 0.1 ms in a worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


# Has a worker look whether its item is to be interrupted. Ignored by default: one that comes too
# early or too late harms nothing, nor a program that an item has started.
INTERRUPT: int = _signal.SIGURG


class Call:
    """How a payload becomes arguments (plain numbers: they go by the million)."""

    ONE = 0  # function(item)
    STAR = 1  # function(*item)
    FULL = 2  # function(*item[0], **item[1])


class Kind:
    """What a part of results holds."""

    ITEMS = 0  # a payload for each item
    LIST = 1  # one payload: the list of the items' results
    ERROR = 2  # one item's exception
    SKIPPED = 3  # nothing: items after an error in their chunk
    TIMEOUT = 5  # one item's exception: its time was over
    CANCELLED = 6  # one item's exception: it was cancelled while it ran


class Interrupted:
    """Marks a payload as the error of an item that was interrupted, until it is in a part."""

    __slots__ = ("kind", "payload")

    def __init__(self, kind: int, payload: Any) -> None:
        self.kind = kind
        self.payload = payload


class Piece:
    """A run of items of one function: single-item tasks, or a (part of a) chunk.

    Attributes:
        function: number of the function.
        call: how to call it.
        chunk: whether the payload is a list of items (one payload then); otherwise one item a
            payload.
        skip: items at the payload's start that are not of this piece.
        stop_on_error: skip what follows an error, as the stdlib's `map` does in a chunk.
        first: sequence number of the first item.
        count: number of items.
        submitted: CLOCK_MONOTONIC in ns when the job was submitted.
        payloads: the items.
        timeout: how long an item may run (seconds), 0 for ever.
    """

    __slots__ = (
        "call",
        "chunk",
        "count",
        "first",
        "function",
        "payloads",
        "skip",
        "stop_on_error",
        "submitted",
        "timeout",
    )

    def __init__(
        self,
        function: int,
        call: int,
        *,
        chunk: bool,
        skip: int,
        stop_on_error: bool,
        first: int,
        count: int,
        submitted: int,
        payloads: list[Any],
        timeout: float = 0.0,
    ) -> None:
        self.timeout = timeout
        self.function = function
        self.call = call
        self.chunk = chunk
        self.skip = skip
        self.stop_on_error = stop_on_error
        self.first = first
        self.count = count
        self.submitted = submitted
        self.payloads = payloads


class Hooks:
    """What the pool's user wants called in each worker.

    Attributes:
        initializer: called with `initargs` before the first task.
        finalizer: called at a planned exit.
        describe: called as the function is, for the name of the item that begins.
    """

    __slots__ = ("describe", "finalizer", "initargs", "initializer")

    def __init__(
        self,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        finalizer: Callable[[], object] | None = None,
        describe: Callable[..., object] | None = None,
    ) -> None:
        self.initializer = initializer
        self.initargs = initargs
        self.finalizer = finalizer
        self.describe = describe


class FunctionMessage:
    """A function that the worker doesn't have yet.

    Attributes:
        number: by which pieces name it.
        kept: load it once, and keep it; otherwise load it anew for each task.
        label: its histogram in the segment.
    """

    __slots__ = ("kept", "label", "number", "payload")

    def __init__(self, number: int, *, kept: bool, label: int, payload: Any) -> None:
        self.number = number
        self.kept = kept
        self.label = label
        self.payload = payload


class Batch:
    """Work for one worker.

    Attributes:
        functions: those that the pieces need and the worker hasn't got.
        forget: numbers of functions whose jobs are over.
        pieces: run in this order.
    """

    __slots__ = ("forget", "functions", "pieces")

    def __init__(
        self, functions: list[FunctionMessage], forget: list[int], pieces: list[Piece]
    ) -> None:
        self.functions = functions
        self.forget = forget
        self.pieces = pieces


class Part:
    """The outcome of a run of items.

    Attributes:
        first: sequence number of the first item.
        count: number of items.
        kind: what the payloads are.
        payloads: by kind.
    """

    __slots__ = ("count", "first", "kind", "payloads")

    def __init__(self, first: int, count: int, kind: int, payloads: list[Any]) -> None:
        self.first = first
        self.count = count
        self.kind = kind
        self.payloads = payloads
