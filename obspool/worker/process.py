"""A worker that is a process: its start, its loop, and that it never outlives its parent."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import fcntl
import gc
import io
import os
import select
import signal
import sys
import threading
from contextlib import suppress
from types import FunctionType

from obspool import counters, wire
from obspool.messages import INTERRUPT, Hooks
from obspool.worker import stacks
from obspool.worker.workbench import send

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any

    from obspool.worker.workbench import Workbench


_READY = wire.plain_frame(wire.Frame.READY)[0]

# Of this process: open to its very end.
_lifelines: list[socket.socket] = []

# What `__main__` had before the initializer: by this `obspool.namespaces` tells what a worker
# changed.
main_before: dict[str, Any] = {}


class _Nothing(io.RawIOBase):
    """Nothing to read: the null device, opened when somebody wants its descriptor."""

    _fd = -1

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, _: object) -> int:
        """Be at the end."""
        return 0

    def fileno(self) -> int:
        """Return a descriptor of the null device."""
        if self._fd < 0:
            self._fd = os.open(os.devnull, os.O_RDONLY)
        return self._fd


# The standard input of forked workers, made before the fork: there it would cost 0.16 ms.
_NO_INPUT = io.TextIOWrapper(io.BufferedReader(_Nothing()), encoding="utf-8")


class WorkerSpec:
    """What a new worker process gets from its parent; picklable while a process is being spawned.

    Attributes:
        bench: what it works with.
        hooks: what the pool's user wants called.
        parent: pid of the pool's process.
        stacks: descriptor of the file for its stack; below 0 where there is none, or where the
            process writes to it already.
        pickled: the hooks, where this is not a forked process.
    """

    def __init__(self, bench: Workbench, hooks: Hooks, parent: int, stacks: int) -> None:
        self.bench = bench
        self.hooks = hooks
        self.parent = parent
        self.stacks = stacks
        self.pickled: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Pass the descriptor as spawn and forkserver do, and pickle what pickle alone can't."""
        from multiprocessing.reduction import DupFd  # noqa: PLC0415 - not in a worker

        from obspool.serial import dumps  # noqa: PLC0415 - as above

        return {
            **self.__dict__,
            "stacks": DupFd(self.stacks) if self.stacks >= 0 else None,
            "hooks": Hooks(),
            "pickled": dumps(self.hooks),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the descriptor; the hooks are loaded in `main`, where an error can be told."""
        self.__dict__.update(state)
        self.stacks = state["stacks"].detach() if state["stacks"] is not None else -1


def main(spec: WorkerSpec) -> None:
    """Run a worker process until it is told to stop; the target of the pool's processes."""
    bench = spec.bench
    _lifelines.append(bench.lifeline)
    counters.be_worker(bench.book)
    die_with_parent(bench.lifeline.fileno(), spec.parent)
    if sys.stdin is None:
        sys.stdin = _NO_INPUT
    threading.current_thread().name = "MainThread"  # under fork it was the parent's starter
    ignore_interrupts()
    gc.freeze()  # what was inherited stays: a collection would touch, and so copy, all of it
    # The parent is gone, or has given this worker up:
    with suppress(BrokenPipeError, ConnectionResetError, EOFError):
        hooks = _initialize(spec, bench)
        if hooks is not None:
            _work(bench, hooks)


def main_namespace() -> dict[str, Any]:
    """Return what functions of `__main__` have as their globals here.

    Under spawn that isn't the module's own dict: multiprocessing runs the script apart, and copies
    the outcome.
    """
    namespace = vars(sys.modules["__main__"])
    for value in list(namespace.values()):
        if type(value) is FunctionType and value.__module__ == "__mp_main__":
            return value.__globals__
    return namespace


def _work(bench: Workbench, hooks: Hooks) -> None:
    """Run batches until told to stop, then the finalizer."""
    bench.bank.open()
    bench.bank.ready()
    bench.runner.open(hooks.describe)
    _signal.signal(INTERRUPT, bench.runner.interrupt)
    try:
        _loop(bench)
        _signal.signal(INTERRUPT, _signal.SIG_IGN)
        bench.bank.leave()  # before the finalizer, which may let go of what had leaked
        if hooks.finalizer is not None:
            _finalize(hooks.finalizer, bench)
    finally:
        bench.bank.end()


def _initialize(spec: WorkerSpec, bench: Workbench) -> Hooks | None:
    """Run the initializer; tell the parent how it went; return the hooks if it went well."""
    try:
        hooks: Hooks = spec.hooks if spec.pickled is None else bench.codec.load(spec.pickled)
        if hooks.initializer is not None:
            main_before.update(main_namespace())
            stacks.arm(spec.stacks)  # an initializer may be what hangs
            spec.stacks = -1
            hooks.initializer(*hooks.initargs)
    except Exception as error:  # noqa: BLE001 - told to the parent, which decides
        _tell_failure(bench, error)
        return None
    spec.hooks, spec.pickled = Hooks(), None  # what the initializer had is nobody's any more
    bench.channel.sendall(_READY)
    stacks.arm(spec.stacks)  # while the parent makes others, and sends work
    return Hooks(finalizer=hooks.finalizer, describe=hooks.describe)


def _finalize(finalizer: Callable[[], object], bench: Workbench) -> None:
    """Run the finalizer; tell the parent if it fails."""
    try:
        finalizer()
    except Exception as error:  # noqa: BLE001 - told to the parent; this worker has done its work
        _tell_failure(bench, error)


def _tell_failure(bench: Workbench, error: Exception) -> None:
    """Tell the parent what a hook raised."""
    payload = bench.codec.dump_error(error)
    send(bench.channel, wire.plain_frame(wire.Frame.FAILED, None, [payload]))


def _loop(bench: Workbench) -> None:
    channel, reader, runner = bench.channel, bench.reader, bench.runner
    while True:
        frames = reader.receive(channel)
        frames.reverse()
        while frames:  # taken out one by one: a waiting worker keeps no arguments alive
            kind = frames[-1].kind
            if kind == wire.Frame.ITEM:
                frame = frames.pop()
                first, submitted, function, call = frame.records
                runner.run_one(first, submitted, function, call, frame.payloads.pop().pop())
            elif kind == wire.Frame.STOP:
                return
            else:
                runner.run(frames.pop().batch())


def ignore_interrupts() -> None:
    """Ignore Ctrl-C, unless the program has a handler of its own.

    It reaches all processes of the terminal, and the caller's process decides what it means. By a
    handler, not SIG_IGN, which programs that a task starts would inherit; and through `_signal`:
    `signal` makes enumerations of its numbers, 0.1 ms in a new process.
    """
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, ignore)


def ignore(signum: int, frame: Any) -> None:
    """Take a Ctrl-C that is meant for the parent."""


def arm(lifeline: socket.socket) -> None:
    """Prepare the worker's end of a lifeline, in its parent: there it costs less."""
    lifeline.setblocking(False)
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)


def die_with_parent(lifeline: int, parent: int) -> None:
    """Have the kernel kill this process when the parent is gone, also while it holds the GIL in C.

    The lifeline's other end is the parent's alone: it closes when the parent ends, however it ends.
    PR_SET_PDEATHSIG would follow the thread that forked, and doesn't reach through a forkserver.
    """
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        if os.getppid() != parent:  # it may have been gone before there was an owner
            with suppress(BlockingIOError):
                if os.read(lifeline, 1) == b"":
                    os._exit(1)
        return

    def watch() -> None:
        waiting = select.poll()
        waiting.register(lifeline)
        waiting.poll()
        os._exit(1)

    threading.Thread(target=watch, name="obspool-lifeline", daemon=True).start()
