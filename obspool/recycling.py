"""Which workers have lived long enough, by their memory, their age, or somebody's wish.

What becomes too large or too old is replaced, not killed: the worker ends what it runs, and its
successor starts meanwhile (see `supervisor`). Only so many at a time: the others work on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from obspool import memory
from obspool.words import ExitReason, WorkerState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obspool.engines.protocol import Engine, WorkerId
    from obspool.supervisor import Supervisor, Worker

# How often a worker's memory is looked at between its results (ns): a look costs 20 µs. A worker
# that gives no results is looked at with each heartbeat.
_LOOK_EVERY = 50_000_000


class Recycling:
    """Names the workers to replace; all of it is for the scheduler's thread."""

    def __init__(
        self,
        engine: Engine,
        supervisor: Supervisor,
        *,
        max_memory: int | Literal["auto"] | None = None,
        max_age: float | None = None,
    ) -> None:
        """Take the limits: resident bytes, "auto" for an equal share; and seconds."""
        self._engine = engine
        self._supervisor = supervisor
        self._shared = max_memory == "auto"
        self._max_memory = None if max_memory == "auto" else max_memory
        self._max_age = max_age
        self._wanted: dict[WorkerId, ExitReason] = {}
        self.share()
        supervisor.has_room = self._has_room

    def share(self) -> None:
        """Give each worker its share, where memory is shared: their number has changed."""
        if self._shared:
            self._max_memory = memory.total() * 4 // 5 // self._supervisor.size or None

    def _has_room(self) -> bool:
        return self._max_memory is None or memory.available() >= self._max_memory

    def want(self, worker: Worker, reason: ExitReason) -> None:
        """Have a worker replaced."""
        self._wanted.setdefault(worker.id, reason)

    def look(self, now: int) -> None:
        """Look at all workers."""
        if self._max_memory is not None or self._max_age is not None:
            for worker in self._supervisor.workers.values():
                if worker.state is WorkerState.IDLE:
                    self.look_at(worker, now)
                    age = (now - worker.ready_at) / 1e9
                    if self._max_age is not None and age > self._max_age * worker.spread:
                        self.want(worker, ExitReason.AGE)

    def look_at(self, worker: Worker, now: int) -> None:
        """Look at a worker's memory, unless that was done just now."""
        if self._max_memory is not None and now - worker.measured_at >= _LOOK_EVERY:
            worker.measured_at = now
            if self._engine.memory(worker.id) > self._max_memory * worker.spread:
                self.want(worker, ExitReason.MEMORY)

    def due(self) -> Iterator[tuple[Worker, ExitReason]]:
        """Yield those to be replaced now; who isn't ready yet is so later."""
        for worker_id, reason in list(self._wanted.items()):
            if not self._supervisor.may_drain():
                return
            worker = self._supervisor.workers.get(worker_id)
            if worker is not None and worker.state is WorkerState.STARTING:
                continue
            del self._wanted[worker_id]
            if worker is not None and worker.state is WorkerState.IDLE:
                yield worker, reason
