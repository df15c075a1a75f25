"""The protocol between the scheduler and an engine: messages both ways, and nothing else.

    scheduler ── start, send, revoke, interrupt, stop, kill ──> engine
    scheduler <── poll(): Started, Ready, Results, Revoked, Exited ... ── engine

An engine never blocks its caller but in `poll`, and never calls back. So an engine may have its
workers in this process, in others, or behind a network; and the scheduler can't tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from obspool.functions import Function
    from obspool.messages import Batch, Hooks, Part
    from obspool.telemetry.segment import Segment


class WorkerId(NamedTuple):
    """One generation of a slot."""

    slot: int
    generation: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What an engine needs to make workers.

    Attributes:
        segment: where they tell of themselves.
        hooks: what is called in each worker.
        make_process: the context's `Process`, or the pool's where a subclass overrides it.
        context: of multiprocessing; only local processes need one.
        stacks: descriptor of the file that processes write their stacks to, below 0 for none.
    """

    segment: Segment
    hooks: Hooks
    make_process: Callable[..., Any]
    context: Any
    stacks: int = -1


@dataclass(frozen=True, slots=True)
class Started:
    """A worker exists; `handle` is what `Pool._pool` shows of it."""

    worker: WorkerId
    pid: int
    handle: Any


@dataclass(frozen=True, slots=True)
class StartFailed:
    """A worker could not be made at all."""

    worker: WorkerId
    error: BaseException


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has run its initializer and waits for work."""

    worker: WorkerId


@dataclass(frozen=True, slots=True)
class HookFailed:
    """A worker's initializer raised, or its finalizer; `error` is a payload. The worker exits."""

    worker: WorkerId
    error: Any


@dataclass(frozen=True, slots=True)
class CounterNamed:
    """A worker counts on one of the program's own counters: the parent writes down the name."""

    worker: WorkerId
    name: str


@dataclass(slots=True)
class Results:
    """Results: the parts, in the order in which the items ran.

    Attributes:
        busy: time in the items, ns.
        ended: CLOCK_MONOTONIC in ns when the last one was done.
        size: bytes of the payloads.
    """

    worker: WorkerId
    parts: list[Part]
    busy: int
    ended: int
    size: int


@dataclass(frozen=True, slots=True)
class Revoked:
    """Items from `first` to below `until` were taken back: none of them has begun."""

    worker: WorkerId
    first: int
    until: int


@dataclass(frozen=True, slots=True)
class Exited:
    """A worker is gone, and all that it sent has been received.

    Attributes:
        code: exit code, negative for a signal's number; None where there is no such thing.
        begun: items with lower sequence numbers had begun, but for those taken back.
        began: CLOCK_MONOTONIC in ns when the last of them did, 0 when that isn't known.
        out_of_memory: the kernel says that it killed somebody because memory ran out.
    """

    worker: WorkerId
    code: int | None
    begun: int
    began: int = 0
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True)
class Leaving:
    """A worker that was lent is gone; Exited follows when it is back."""

    worker: WorkerId


Event: TypeAlias = (
    Started | StartFailed | Ready | HookFailed | CounterNamed | Results | Revoked | Leaving | Exited
)


# What came of one item: the kind, as a part's; the time that it took and when that was over, in ns;
# the payload of the result or of the error.
Answer: TypeAlias = tuple[int, int, int, Any]


class Line(Protocol):
    """A worker that is lent, for the thread that has it; an exception may interrupt anything.

    Attributes:
        read: what was read and not taken.
    """

    read: list[bytes]

    def ask(self, function: int, call: int, first: int, submitted: int, payload: Any) -> bool:
        """Send one small item; return whether it was sent: all of it, or nothing."""

    def answer(self, first: int, patience: float) -> Answer | None:
        """Wait so long (seconds) for the outcome of the item with this number.

        None: it didn't come, or not alone. What did come stays in `read`.
        """

    def forget(self) -> None:
        """Drop what was read: it was an answer, and is told."""

    def take(self) -> list[bytes]:
        """Take what was read, for `reclaim`: a caller that comes back forgets nothing of it."""

    def stop(self) -> None:
        """Neither send nor read any more, whatever was about to: this thread was interrupted."""


class Engine(Protocol):
    """Makes workers and talks to them; all but `wake`, `stack` and the encoding is the scheduler's.

    Attributes:
        name: of the engine, as metrics show it.
        killable: whether a worker can be ended while it runs an item.
        pickles: whether payloads are pickles, and not the objects themselves.
        start_method: of multiprocessing; empty where there is none.
    """

    name: str
    killable: bool
    pickles: bool
    start_method: str

    @property
    def troubles(self) -> int:
        """How often looking at workers from outside failed; that keeps none from working."""

    def start(self, worker: WorkerId) -> None:
        """Begin to make a worker: Started, or StartFailed, follows; then Ready."""

    def open(self) -> None:
        """Make the first workers, which were asked for, if that can be done at once."""

    def send(self, worker: WorkerId, batch: Batch) -> None:
        """Send a batch to a worker that is ready, or that has just gone; never waits."""

    def lend(self, worker: WorkerId) -> Line | None:
        """Return a worker's line, for any one thread at a time; None where it can't be had.

        The worker has nothing to do and nothing on its way. Until it is back the engine neither
        sends to it nor listens; should it end, Leaving tells of that.
        """

    def reclaim(self, worker: WorkerId, read: list[bytes]) -> None:
        """Take a worker's line back; what was read of it and is nobody's yet comes as events."""

    def revoke(self, worker: WorkerId, first: int, until: int, *, exact: bool) -> None:
        """Ask for the items in [first, until) that aren't claimed yet: Revoked follows, maybe.

        `exact`: for all of them or none.
        """

    def interrupt(self, worker: WorkerId, first: int, until: int) -> None:
        """Interrupt the item that runs, if it is in [first, until) and can be."""

    def stop(self, worker: WorkerId) -> None:
        """Have a worker end when it has run what it was sent; Exited follows."""

    def kill(self, worker: WorkerId, *, hard: bool) -> None:
        """End a worker now, politely (SIGTERM) or not (SIGKILL): Exited follows, if it can be."""

    def begun(self, worker: WorkerId) -> int:
        """Return the number below which a worker's items have begun, but for those taken back."""

    def memory(self, worker: WorkerId) -> int:
        """Return a worker's resident memory now, bytes; 0 where it has none of its own."""

    def stack(self, worker: WorkerId) -> str:
        """Return the Python stack of a worker, from any thread; waits, but not for long.

        Raises:
            StackUnavailableError: it can't be had (now); the message says why.
        """

    def poll(self, timeout: float | None) -> list[Event]:
        """Wait until there are events, `wake` was called, or the time (seconds) is over."""

    def wake(self) -> None:
        """Have `poll` return; from any thread, a signal handler, a `__del__`."""

    def close(self) -> None:
        """Let go of everything; all workers are gone or can't be ended."""

    def encode_function(self, function: Callable[..., Any]) -> Function:
        """Make a function ready to travel; runs user code."""

    def encode(self, value: Any, *, copy: bool = True) -> Any:
        """Make a payload; runs user code. `copy`: the caller may change the value afterwards."""

    def decode(self, payload: Any) -> Any:
        """Make the value of a result or an error again; runs user code."""

    def size(self, payload: Any) -> int:
        """Return the bytes that the payload takes on its way."""
