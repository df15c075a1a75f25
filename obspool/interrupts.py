"""What must not go on: items whose time is over, and what was sent of cancelled jobs.

    cancelled, not begun ── taken back ──> its outcome
    cancelled, runs, or its time is over ── interrupted (softly) ── grace ──> worker killed

An item whose time is over is interrupted by its worker itself; a cancelled one by a signal of ours,
which is repeated: it may come between two items, where it does nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from obspool.words import ExitReason

if TYPE_CHECKING:
    from obspool.engines.protocol import Engine
    from obspool.jobs import Job, Sent
    from obspool.supervisor import Supervisor, Worker

# An item that goes on when it was interrupted is ended with its worker after this (seconds).
GRACE = 2.0

# How soon to ask again, at first and later (ns): a worker gives nothing back while it claims, and a
# signal may find it between two items.
_AGAIN = 2_000_000
_LONGEST_WAIT = 50_000_000


class Interrupts:
    """Ends items; all of it is for the scheduler's thread.

    Attributes:
        look_at: when to look again though nothing happened, ns.
    """

    def __init__(self, engine: Engine, supervisor: Supervisor, *, balance: bool) -> None:
        """`balance=False`: a chunk of another job is never cut."""
        self._whole = not balance
        self._engine = engine
        self._supervisor = supervisor
        self._timed = False  # there was a job whose items may run for so long only
        self._cancelled: dict[int, Job] = {}  # those of which something may still run
        self._wait = _AGAIN
        self.look_at: int | None = None

    def watch(self, job: Job) -> None:
        """Take note of a new job."""
        self._timed = self._timed or job.timeout > 0

    def cancel(self, job: Job) -> None:
        """See to it that nothing more of a job begins, and that what runs ends, if it is to."""
        self._cancelled[job.id] = job
        self._wait = _AGAIN

    def look(self, now: int) -> None:
        """Look at all that was sent."""
        self.look_at = None
        if not (self._timed or self._cancelled):
            return
        for job in [job for job in self._cancelled.values() if job.done]:
            del self._cancelled[job.id]
        if self._cancelled:
            self.look_at = now + self._wait
            self._wait = min(2 * self._wait, _LONGEST_WAIT)
        for worker in self._supervisor.workers.values():
            if worker.outstanding and not worker.condemned:
                begun = self._engine.begun(worker.id)
                # From when it was first seen to run, at most a heartbeat late: before, a worker may
                # have had to import what the item needs.
                if begun != worker.begun:
                    worker.begun, worker.begun_at = begun, now
                self._take_back(worker, begun)
                self._end_running(worker, begun, now)

    def _take_back(self, worker: Worker, begun: int) -> None:
        """Ask for what has not begun of cancelled jobs, and so for what is behind it."""
        if not self._cancelled:
            return
        for sent in worker.outstanding:
            if sent.job.dropped is not None and sent.first + sent.count > begun:
                first = max(sent.first, begun)
                self._engine.revoke(worker.id, first, worker.next_seq, exact=self._whole)
                return

    def _end_running(self, worker: Worker, begun: int, now: int) -> None:
        """Interrupt what runs, if it must end; kill its worker if it must have ended."""
        running = _running(worker, begun)
        job = running.job
        if begun <= running.first + running.received:
            worker.begun_at = now
        elif job.interrupted_at:
            self._engine.interrupt(worker.id, running.first, running.first + running.count)
            since = max(worker.begun_at, job.interrupted_at)
            self._end_at(since + round(GRACE * 1e9), worker, ExitReason.COMMAND, now)
            return
        if job.timeout:
            limit = worker.begun_at + round((job.timeout + GRACE) * 1e9)
            self._end_at(limit, worker, ExitReason.TIMEOUT, now)

    def _end_at(self, limit: int, worker: Worker, reason: ExitReason, now: int) -> None:
        if now >= limit:
            worker.condemned, worker.reason = True, reason
            self._engine.kill(worker.id, hard=True)
        elif self.look_at is None or limit < self.look_at:
            self.look_at = limit


def _running(worker: Worker, begun: int) -> Sent:
    """Return the run of which an item runs, or that is next."""
    for sent in worker.outstanding:
        if sent.first + sent.received < begun <= sent.first + sent.count:
            return sent
    return worker.outstanding[0]
