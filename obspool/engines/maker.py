"""How worker processes are made: first all that they need, then the processes."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from typing import TYPE_CHECKING, Any, NoReturn

from obspool import _fork, wire
from obspool.claim_lock import ClaimLock
from obspool.engines import forking
from obspool.engines.protocol import StartFailed
from obspool.engines.starter import adopt, allow_fork_with_threads, list_process, start_process
from obspool.telemetry.bank import Claims
from obspool.worker.process import WorkerSpec, arm, main
from obspool.worker.workbench import Workbench

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from obspool.engines.protocol import Plan, WorkerId
    from obspool.engines.template import Template


# Of so many workers the ends that are of no use here may stay open for a while.
_FEW = 8


@dataclass(eq=False, slots=True)
class LocalWorker:
    """One process, as its parent sees it.

    Attributes:
        theirs: the process's own ends, until it has them.
        bench: what the process works with, where it is made here; as long.
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
    bench: Workbench | None
    claims: Claims
    reader: wire.FrameReader
    sender: wire.Sender
    open: bool = True
    writing: bool = False
    watched: bool = False
    lent: bool = False
    gone: bool = False

    def hang_up(self) -> None:
        """Close the channel, as soon as no caller's thread has it."""
        self.open = False
        del self.channel

    def close(self) -> None:
        """Close what is left, which ends the process."""
        for end in (self.channel, self.lifeline, *self.theirs):
            end.close()


class Maker:
    """Makes workers: all is prepared for all of them before the first is started.

    Attributes:
        gate: what keeps those waiting that were forked, if any do.
        gated_at: when the last of them was forked (CLOCK_MONOTONIC in s).
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._memory = wire.scratch()
        self._forks = plan.make_process is ForkProcess and forking.AVAILABLE
        self._litter: list[LocalWorker] = []
        self.gate: forking.Gate | None = None
        self.gated_at = 0.0

    def make(
        self, ids: Sequence[WorkerId], template: Template | None = None
    ) -> list[LocalWorker | StartFailed]:
        """Make workers, or have the template make them, which tells of them later.

        Returns:
            Those that were made here, and why others could not be.
        """
        if template is not None:
            failed = self._order(ids, template)
            if failed is not None:
                return failed
        workers, made = self._prepare_all(ids, equipped=True)
        return made + (self._fork(workers) if self._forks else self._start(workers))

    def release(self) -> None:
        """Let all that were forked go on."""
        if self.gate is not None:
            self.gate.open()
            self.gate = None

    def tidy(self) -> None:
        """Let go of what only started processes need: later, as pages are copied for this, too."""
        while self._litter:
            worker = self._litter.pop()
            worker.bench = None
            for end in worker.theirs:
                end.close()

    def _order(
        self, ids: Sequence[WorkerId], template: Template
    ) -> list[LocalWorker | StartFailed] | None:
        """Ask the template; return what failed before that, None if all of it did."""
        workers, failed = self._prepare_all(ids, equipped=False)
        if not workers:
            return failed
        try:
            template.request(workers)
        except OSError:  # it is gone, or doesn't keep up
            for worker in workers:
                worker.close()
            return None
        for worker in workers:
            for end in worker.theirs:
                end.close()
        return failed

    def _prepare_all(
        self, ids: Sequence[WorkerId], *, equipped: bool
    ) -> tuple[list[LocalWorker], list[LocalWorker | StartFailed]]:
        workers: list[LocalWorker] = []
        failed: list[LocalWorker | StartFailed] = []
        for worker_id in ids:
            try:
                workers.append(self._prepare(worker_id, equipped=equipped))
            except Exception as error:  # noqa: BLE001 - told to the scheduler
                failed.append(StartFailed(worker_id, error))
        return workers, failed

    def _prepare(self, worker_id: WorkerId, *, equipped: bool) -> LocalWorker:
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
        bench: Workbench | None = None
        arguments: tuple[WorkerSpec, ...] = ()
        if equipped:
            bench = Workbench(plan.segment, worker_id, lock, theirs, their_lifeline)
            arguments = (WorkerSpec(bench, plan.hooks, os.getpid(), plan.stacks),)
        process = plan.make_process(target=main, args=arguments)
        process.name = process.name.replace("Process", "PoolWorker")
        process.daemon = True
        return LocalWorker(
            worker_id,
            process,
            channel,
            lifeline,
            (theirs, their_lifeline),
            bench,
            claims,
            wire.FrameReader(self._memory),
            wire.Sender(),
        )

    def _fork(self, workers: list[LocalWorker]) -> list[LocalWorker | StartFailed]:
        allow_fork_with_threads()
        try:
            forking.flush()
        except Exception as error:  # noqa: BLE001 - the disk is full, or nobody reads any more
            for worker in workers:
                worker.close()
            return [StartFailed(worker.id, error) for worker in workers]
        kept = [tuple(end.fileno() for end in worker.theirs) for worker in workers]
        # As many as there are CPUs start at once.
        free = 0 if self.gate is not None else len(os.sched_getaffinity(0))
        if free < len(workers):
            with suppress(OSError):  # no descriptor is left
                self.gate = self.gate or forking.Gate()
        gate = self.gate
        if gate is not None:
            kept[free:] = [(*each, gate.keep_out()) for each in kept[free:]]

        def run(index: int) -> NoReturn:
            if gate is not None and index >= free:
                gate.wait()
            worker = workers[index]
            forking.become(worker.process, worker.theirs[1].fileno())

        made: list[LocalWorker | StartFailed] = []
        for worker, forked in zip(workers, forking.fork_each(kept, run), strict=True):
            if isinstance(forked, Exception):
                worker.close()
                made.append(StartFailed(worker.id, forked))
            else:
                adopt(worker.process, forking.Forked(*forked))
                list_process(worker.process)
                made.append(worker)
        self.gated_at = time.monotonic()
        self._litter += workers
        if len(self._litter) > _FEW:
            self.tidy()
        return made

    @staticmethod
    def _start(workers: list[LocalWorker]) -> list[LocalWorker | StartFailed]:
        made: list[LocalWorker | StartFailed] = []
        for worker in workers:
            _fork.keep(*(end.fileno() for end in worker.theirs))
            try:
                start_process(worker.process)
            except BaseException as error:  # noqa: BLE001 - told to the scheduler
                worker.close()
                made.append(StartFailed(worker.id, error))
            else:
                made.append(worker)
            finally:
                _fork.keep()
            worker.bench = None
            for end in worker.theirs:
                end.close()
        return made
