"""A process that forks workers, so that the pool's own process needn't.

    pool's process                          template                        worker
      Template.request ─── descriptors ──────> serve() ─────── fork ────────> main()
      Template.hear <─── pids, exit codes ────────┘ <──────── reaped ───────────┘

A fork of a process with threads and a large heap stops all of its threads, copies its page tables,
and makes it copy every page that it writes to afterwards; and there is one for each worker that is
replaced. The template is forked once, does nothing but fork, and so is cheap to copy. Its workers
find what the pool's process was when the template was made.
"""

from __future__ import annotations

import gc
import marshal
import os
import select
import signal
import socket
import time
from array import array
from collections import deque
from contextlib import suppress
from multiprocessing import process as mp_process
from multiprocessing.context import ForkProcess
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from obspool import _fork
from obspool.claim_lock import ClaimLock
from obspool.engines.forking import Forked, Gate, become, fork_each
from obspool.engines.protocol import WorkerId
from obspool.engines.starter import adopt, list_process, reap, start_unlisted
from obspool.worker import stacks
from obspool.worker.process import WorkerSpec, arm, die_with_parent, ignore, main
from obspool.worker.workbench import Workbench, worker_end

if TYPE_CHECKING:
    from collections.abc import Sequence

    from obspool.engines.maker import LocalWorker
    from obspool.engines.protocol import Plan

    _Order = tuple[int, int, str, Any]  # slot, generation, name and identity of the process

# Seconds until a template that was asked is taken for stuck: a very large process forks slowly.
_ANSWER_TIME = 10.0

# Workers that are asked for at once: as many descriptors go with them.
MANY = 16
_MOST_DESCRIPTORS = 4 * MANY
_MESSAGE = 1 << 16  # bytes; none is nearly as long


class News(NamedTuple):
    """What a template tells: workers that it made and that ended, and those it could not make."""

    made: list[LocalWorker]
    ended: list[LocalWorker]
    failed: list[WorkerId]


class Template:
    """The pool's end of it.

    Attributes:
        asked: workers that it is to fork.
        forked: those that it has forked, and that have not ended.
        gone: it has ended; how its workers end is not known from then on.
    """

    def __init__(self, plan: Plan) -> None:
        """Fork the template.

        Raises:
            OSError: there is no room for one more process, or no descriptor.
        """
        self._channel, theirs = _fork.Socket.pair(socket.SOCK_SEQPACKET)
        self._lifeline, their_lifeline = _fork.Socket.pair()
        arm(their_lifeline)
        self._process: Any = ForkProcess(
            target=serve,
            args=(plan, theirs, their_lifeline.fileno(), os.getpid()),
            name="obspool-template",
            daemon=True,
        )
        _fork.keep(theirs.fileno(), their_lifeline.fileno())
        try:
            start_unlisted(self._process)
        finally:
            _fork.keep()
            theirs.close()
            their_lifeline.close()
        self._channel.setblocking(False)
        self.asked: dict[WorkerId, LocalWorker] = {}
        self.forked: dict[WorkerId, LocalWorker] = {}
        self.gone = False
        self._ending: set[WorkerId] = set()
        self._heard_at = 0.0

    def fileno(self) -> int:
        """Return what becomes readable when there is something to hear."""
        return self._channel.fileno()

    def request(self, workers: Sequence[LocalWorker]) -> None:
        """Have workers forked, at most MANY at a time.

        Raises:
            OSError: the template is gone, or doesn't keep up.
        """
        orders: list[_Order] = []
        descriptors: list[int] = []
        for worker in workers:
            process = worker.process
            orders.append((*worker.id, process.name, process._identity))  # noqa: SLF001
            descriptors += [end.fileno() for end in worker.theirs]
            descriptors += worker.claims.lock.descriptors
        socket.send_fds(self._channel, [marshal.dumps(orders)], descriptors)
        self._expect()
        self.asked.update((worker.id, worker) for worker in workers)

    def will_tell(self, worker: LocalWorker) -> bool:
        """Tell whether the exit code of a worker that has ended is yet to be heard."""
        if worker.id not in self.forked:
            return False
        self._expect()
        self._ending.add(worker.id)
        return True

    def _expect(self) -> None:
        if not self.asked and not self._ending:
            self._heard_at = time.monotonic()

    def is_overdue(self) -> bool:
        """Tell whether it has something to tell, and doesn't."""
        expected = self.asked or self._ending
        return bool(expected) and time.monotonic() - self._heard_at > _ANSWER_TIME

    def drop(self, worker_id: WorkerId) -> bool:
        """Want a worker no more that it was asked for; return whether it was."""
        worker = self.asked.pop(worker_id, None)
        if worker is not None:
            worker.close()  # its lifeline ends it, should it be there
        return worker is not None

    def hear(self) -> News:
        """Return what it has to tell."""
        news = News([], [], [])
        while True:
            try:
                message, pidfds, _ = _receive(self._channel, MANY)
            except BlockingIOError:
                return news
            except OSError:
                message, pidfds = b"", []
            if not message:
                self.gone = True
                return news
            self._heard_at = time.monotonic()
            forked, reaped = marshal.loads(message)  # noqa: S302 - our own child's
            unclaimed = deque(pidfds)
            for slot, generation, pid in forked:
                worker = self.asked.pop(WorkerId(slot, generation), None)
                pidfd = unclaimed.popleft() if pid and unclaimed else -1
                if worker is None:  # it was dropped meanwhile
                    if pidfd >= 0:
                        os.close(pidfd)
                elif pidfd < 0:  # it could not be forked, or there was no descriptor left here
                    worker.close()
                    news.failed.append(worker.id)
                else:
                    adopt(worker.process, Forked(pid, pidfd, own=False))
                    list_process(worker.process)
                    self.forked[worker.id] = worker
                    news.made.append(worker)
            for slot, generation, code in reaped:
                self._ending.discard(WorkerId(slot, generation))
                worker = self.forked.pop(WorkerId(slot, generation), None)
                if worker is not None:
                    worker.process._popen.returncode = code  # noqa: SLF001
                    news.ended.append(worker)

    def close(self) -> None:
        """End it: with its lifeline, as nothing is left for it to do."""
        self.abandon()
        for worker in self.asked.values():
            worker.close()
        for worker in self.forked.values():
            worker.process._popen.orphaned = True  # noqa: SLF001
        reap(self._process)

    def abandon(self) -> None:
        """Close the descriptors, in a forked child."""
        self._channel.close()
        self._lifeline.close()


def _receive(channel: socket.socket, most: int) -> tuple[bytes, list[int], bool]:
    """Return a message, its descriptors, and whether some of these were lost for lack of room.

    As `socket.recv_fds`, which takes no flags: it would pass descriptors on to programs.
    """
    received = array("i")
    room = socket.CMSG_LEN(most * received.itemsize)
    message, ancillary, flags, _ = channel.recvmsg(_MESSAGE, room, socket.MSG_CMSG_CLOEXEC)
    for _level, _kind, data in ancillary:
        received.frombytes(data[: len(data) - len(data) % received.itemsize])
    return message, received.tolist(), bool(flags & socket.MSG_CTRUNC)


# -- in the template's process


def serve(plan: Plan, channel: socket.socket, lifeline: int, pool: int) -> None:
    """Fork workers on request, and tell of their ends, until nobody wants any more.

    Args:
        plan: what workers are made of.
        channel: to the pool's process.
        lifeline: the descriptor of a socket whose other end only that process holds.
        pool: its pid.
    """
    die_with_parent(lifeline, pool)
    _fork.settle()
    stacks.arm(plan.stacks)  # for all workers: each one's own would cost it 60 µs
    gc.freeze()
    _Server(plan, channel, pool).run()


class _Server:
    """The template's loop."""

    def __init__(self, plan: Plan, channel: socket.socket, pool: int) -> None:
        self._plan = plan
        self._channel = channel
        self._pool = pool
        # What each worker becomes, as if the pool's process had forked it.
        process: Any = ForkProcess(target=main, daemon=True)
        process._parent_pid = pool  # noqa: SLF001
        process._parent_name = mp_process.parent_process().name  # type: ignore[union-attr] # noqa: SLF001
        self._process = process
        self._workers: dict[int, tuple[int, tuple[int, int]]] = {}  # by pidfd
        # Ctrl-C is for the pool's process; SIGCHLD may be for a handler that reaps all it finds.
        self._handlers: dict[signal.Signals, Any] = {}
        for number, handler, usual in (
            (signal.SIGINT, ignore, signal.default_int_handler),
            (signal.SIGCHLD, signal.SIG_DFL, signal.SIG_DFL),
        ):
            before = signal.signal(number, handler)
            if before not in {usual, None}:
                self._handlers[number] = before

    def run(self) -> None:
        """Do what is asked for; then wait for the workers that are left."""
        waiting = self._waiting = select.poll()
        waiting.register(self._channel, select.POLLIN)
        open_ = True
        while open_ or self._workers:
            for ready, _ in waiting.poll():
                if ready in self._workers:
                    self._reap(ready)
                elif not self._obey():
                    waiting.unregister(self._channel)
                    open_ = False

    def _obey(self) -> bool:
        """Fork what the next message asks for; return whether there was one.

        Its workers wait for each other: they would take the CPU that the next fork needs, and the
        pool isn't open before all of them are there.
        """
        try:
            message, descriptors, cut = _receive(self._channel, _MOST_DESCRIPTORS)
        except ConnectionResetError:  # the pool has ended, and not heard all that it was told
            return False
        if not message:
            return False
        if cut:  # no descriptor is left here: the pool does without a template
            os._exit(1)
        orders: list[_Order] = marshal.loads(message)  # noqa: S302 - our own parent's
        each = len(descriptors) // len(orders)
        theirs = [descriptors[begin : begin + each] for begin in range(0, len(descriptors), each)]
        specs: list[WorkerSpec] = []
        if len(orders) > 1:
            # Before the first fork, after which what is touched here is copied. One alone makes its
            # own: all of it was shared with the one before, and would be copied here and there.
            specs = [self._spec(*each) for each in zip(orders, theirs, strict=True)]
        gate = Gate() if specs else None

        def run(index: int) -> NoReturn:
            for descriptor in self._workers:
                os.close(descriptor)
            spec = specs[index] if specs else self._spec(orders[index], descriptors)
            if gate is not None:
                gate.wait()
            self._run_worker(orders[index], spec)

        kept = [(*ends[:2], gate.keep_out()) if gate else (*ends[:2],) for ends in theirs]
        forked = fork_each(kept, run)
        self._watch(orders, forked)
        if gate is not None:
            gate.open()
        else:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _watch(self, orders: list[_Order], forked: Sequence[tuple[int, int] | Exception]) -> None:
        """Take charge of what was forked, and tell of it; why it wasn't the pool finds itself."""
        told = []
        for (slot, generation, *_), child in zip(orders, forked, strict=True):
            if isinstance(child, Exception):
                told.append((slot, generation, 0))
                continue
            pid, pidfd = child
            self._workers[pidfd] = pid, (slot, generation)
            self._waiting.register(pidfd, select.POLLIN)
            told.append((slot, generation, pid))
        pidfds = [child[1] for child in forked if isinstance(child, tuple)]
        self._tell(forked=told, pidfds=pidfds)

    def _spec(self, order: _Order, descriptors: list[int]) -> WorkerSpec:
        """Take the descriptors."""
        slot, generation, _, _ = order
        channel, lifeline, *lock = descriptors
        plan = self._plan
        ends = worker_end(channel), worker_end(lifeline)
        bench = Workbench(plan.segment, (slot, generation), ClaimLock(lock), *ends)
        return WorkerSpec(bench, plan.hooks, self._pool, -1)  # the template itself is armed

    def _run_worker(self, order: _Order, spec: WorkerSpec) -> NoReturn:
        """Be a worker, from here on, as if the pool's process had forked it."""
        process = self._process
        process._args = (spec,)  # noqa: SLF001
        process._name, process._identity = order[2:]  # noqa: SLF001
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        become(process, spec.bench.lifeline.fileno())

    def _reap(self, pidfd: int) -> None:
        pid, worker = self._workers.pop(pidfd)
        self._waiting.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        self._tell(reaped=[(*worker, os.waitstatus_to_exitcode(status))])

    def _tell(
        self,
        forked: Sequence[tuple[int, int, int]] = (),
        reaped: Sequence[tuple[int, int, int]] = (),
        pidfds: Sequence[int] = (),
    ) -> None:
        """Tell of forks (pids, 0 for one that failed) and of ends (exit codes)."""
        with suppress(OSError):  # the pool is gone
            socket.send_fds(
                self._channel, [marshal.dumps((tuple(forked), tuple(reaped)))], list(pidfds)
            )
