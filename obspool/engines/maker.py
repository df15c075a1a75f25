"""How a worker process is made: its lock and its sockets, then the process, then what is ours."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from obspool import _fork, wire
from obspool.claim_lock import ClaimLock
from obspool.engines.starter import start_process
from obspool.telemetry.bank import Claims
from obspool.worker.process import WorkerSpec, arm, main

if TYPE_CHECKING:
    from obspool.engines.protocol import Plan, WorkerId


@dataclass(eq=False, slots=True)
class LocalWorker:
    """One process, as its parent sees it."""

    id: WorkerId
    process: Any
    channel: socket.socket
    lifeline: socket.socket
    claims: Claims
    reader: wire.FrameReader
    sender: wire.Sender
    open: bool = True
    writing: bool = False


class Maker:
    """Makes workers, one at a time."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._memory = wire.scratch()

    def make(self, worker_id: WorkerId) -> LocalWorker:
        """Make a worker.

        Raises:
            Exception: whatever kept the process from being started.
        """
        plan = self._plan
        ends: list[socket.socket] = []
        try:
            lock = ClaimLock()
            claims = Claims(plan.segment.cells, plan.segment.layout, *worker_id, lock)
            claims.reset()
            channel, theirs = _pair(ends)
            lifeline, their_lifeline = _pair(ends)
            arm(their_lifeline)
            spec = WorkerSpec(
                *worker_id,
                theirs.fileno(),
                their_lifeline.fileno(),
                plan.segment,
                lock,
                plan.initializer,
                plan.initargs,
            )
            process = plan.make_process(target=main, args=(spec,))
            process.name = process.name.replace("Process", "PoolWorker")
            process.daemon = True
            _fork.keep(theirs.fileno(), their_lifeline.fileno())
            start_process(process)
        except BaseException:
            _fork.close(*ends)
            raise
        finally:
            _fork.keep()
        _fork.close(theirs, their_lifeline)
        channel.setblocking(False)
        reader = wire.FrameReader(self._memory)
        return LocalWorker(worker_id, process, channel, lifeline, claims, reader, wire.Sender())


def _pair(ends: list[socket.socket]) -> tuple[socket.socket, socket.socket]:
    """Make a pair that other workers don't keep, and enter it in `ends`."""
    pair = socket.socketpair()
    _fork.own(*pair)
    ends += pair
    return pair
