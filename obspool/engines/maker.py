"""How a worker process is made: its lock and its sockets, then the process, then what is ours."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from obspool import _fork, wire
from obspool.claim_lock import ClaimLock
from obspool.engines.protocol import StartFailed
from obspool.engines.starter import start_process
from obspool.telemetry.bank import Claims
from obspool.worker.process import WorkerSpec, arm, main
from obspool.worker.workbench import Workbench

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

    from obspool.engines.protocol import Plan, WorkerId
    from obspool.engines.template import Template

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class LocalWorker:
    """One process, as its parent sees it.

    Attributes:
        theirs: the process's own ends, until it has them.
        open: there is a channel.
        writing: the channel is full; what waits is in `sender`.
        watched: the selector looks at the process's sentinel.
        lent: a caller may have the channel.
        gone: it ended while it was lent.
    """

    id: WorkerId
    process: Any
    channel: socket.socket
    lifeline: socket.socket
    theirs: tuple[socket.socket, socket.socket]
    claims: Claims
    reader: wire.FrameReader
    sender: wire.Sender
    open: bool = True
    writing: bool = False
    watched: bool = False
    lent: bool = False
    gone: bool = False

    def start(self) -> None:
        """Start the process.

        Raises:
            Exception: whatever kept it from being started.
        """
        _fork.keep(*(end.fileno() for end in self.theirs))
        try:
            start_process(self.process)
        finally:
            _fork.keep()

    def hang_up(self) -> None:
        """Close the channel, as soon as no caller's thread has it."""
        self.open = False
        del self.channel

    def close(self) -> None:
        """Close what is left, which ends the process."""
        for end in (self.channel, self.lifeline, *self.theirs):
            end.close()


class Maker:
    """Makes workers in three steps, each for several of them at a time.

    After each fork all that is touched again is copied: what comes before and after the forks of
    many workers is done before and after them all.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._memory = wire.scratch()

    def make(
        self, ids: Iterable[WorkerId], template: Template | None = None
    ) -> list[LocalWorker | StartFailed]:
        """Make workers, or have the template make them, which tells of them later.

        Returns:
            Those that were made here, and why others could not be.
        """
        prepared = [self._attempt(self._prepare, worker_id, worker_id) for worker_id in ids]
        workers = [one for one in prepared if isinstance(one, LocalWorker)]
        made: list[LocalWorker | StartFailed]
        made = [one for one in prepared if isinstance(one, StartFailed)]
        if not workers or template is None or not self._passed_on(workers, template):
            made += [self._attempt(self._start, worker.id, worker) for worker in workers]
        for worker in workers:
            for end in worker.theirs:
                end.close()
        return made

    @staticmethod
    def _passed_on(workers: list[LocalWorker], template: Template) -> bool:
        try:
            template.request(workers)
        except OSError:  # it is gone, or doesn't keep up
            return False
        return True

    @staticmethod
    def _attempt(
        step: Callable[[T], LocalWorker], worker_id: WorkerId, argument: T
    ) -> LocalWorker | StartFailed:
        try:
            return step(argument)
        except BaseException as error:  # noqa: BLE001 - told to the scheduler
            return StartFailed(worker_id, error)

    def _prepare(self, worker_id: WorkerId) -> LocalWorker:
        plan = self._plan
        lock = ClaimLock()
        claims = Claims(plan.segment.cells, plan.segment.layout, *worker_id, lock)
        claims.reset()
        channel, theirs = _fork.Socket.pair()
        channel.setblocking(False)
        wire.widen(channel)
        wire.widen(theirs)
        lifeline, their_lifeline = _fork.Socket.pair()
        arm(their_lifeline)
        bench = Workbench(plan.segment, worker_id, lock, theirs, their_lifeline)
        spec = WorkerSpec(bench, plan.hooks, os.getpid(), plan.stacks)
        process = plan.make_process(target=main, args=(spec,))
        process.name = process.name.replace("Process", "PoolWorker")
        process.daemon = True
        return LocalWorker(
            worker_id,
            process,
            channel,
            lifeline,
            (theirs, their_lifeline),
            claims,
            wire.FrameReader(self._memory),
            wire.Sender(),
        )

    @staticmethod
    def _start(worker: LocalWorker) -> LocalWorker:
        try:
            worker.start()
        except BaseException:
            worker.close()
            raise
        return worker
