"""The jobs that have work to send, in the order in which they were submitted.

    submitted ──> queued, fed ──> head ──> nothing left and fed: out
                       ▲            │
                       └── nothing left yet: behind all others

A stream (see `streams`) is queued while there is something in it: it comes last, since whatever is
submitted after it ends it.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obspool.calls import Calls
    from obspool.engines.protocol import Engine
    from obspool.jobs import Job
    from obspool.ledger import Ledger


class Queue:
    """A pool's; all of it is for the scheduler's thread."""

    def __init__(self, engine: Engine, ledger: Ledger) -> None:
        self._engine = engine
        self._ledger = ledger
        self._queue: OrderedDict[int, Job] = OrderedDict()
        self._feeding: dict[int, Job] = {}  # to which something may be appended

    def __bool__(self) -> bool:
        return bool(self._queue) or bool(self._ledger.again)

    def __len__(self) -> int:
        return len(self._queue) + len(self._ledger.again)

    def submit(self, job: Job) -> None:
        """Take a job's tasks; what comes after them comes in another stream."""
        self.end_streams(job)
        self._queue[job.id] = job
        self._feeding[job.id] = job
        self.see_fed()

    def end_streams(self, but: Job | None = None) -> None:
        """Have nothing more appended to streams."""
        for job in self._feeding.values():
            if job.shared and job is not but:
                job.fed = True
                if job.pending:  # whoever appends from here on sees that it has ended
                    self._queue[job.id] = job

    def clear(self) -> None:
        """Forget all: every job has ended."""
        self._queue.clear()
        self._feeding.clear()

    def drop(self, job: Job) -> None:
        """Forget a job: nothing more of it is to be sent."""
        self._queue.pop(job.id, None)
        self._feeding.pop(job.id, None)

    def see_streams(self) -> None:
        """Queue the streams to which something was appended."""
        for job in self._feeding.values():
            if job.shared and job.pending:
                self._queue[job.id] = job

    def see_late(self) -> None:
        """Do so with those that had ended, too: who appended may have been interrupted then."""
        for job in self._ledger.jobs.values():
            if job.shared and job.pending:
                self._queue[job.id] = job

    def see_fed(self) -> None:
        """Count what was fed, and ask feeders that lag to wake this thread."""
        for job in list(self._feeding.values()):
            fed = job.fed  # before all else: the feeder sets it after its last append
            if not fed and not job.pending:
                job.hungry = True
                fed = job.fed
                if fed or job.pending:  # it was fed while we looked
                    self._engine.wake()
            self._ledger.count_fed(job)
            if fed:
                del self._feeding[job.id]
                self._ledger.collect(job)

    def unfed(self, calls: Calls) -> list[Job]:
        """Return the jobs that nobody feeds any more: an interrupt came before or behind a feeder.

        What a call does about that itself may be interrupted too.
        """
        gone = [
            job
            for job in self._feeding.values()
            if not job.shared
            and calls.is_over(job.caller)
            and not (job.feeder and job.feeder.is_alive())
        ]
        return [job for job in gone if not job.fed]  # asked last: it may have just been

    def release_feeders(self) -> None:
        """Let waiting feeders go on: last in a round, as they compete for the GIL."""
        for job in self._feeding.values():
            job.release_feeder()

    def head(self) -> Job | None:
        """Return the job whose tasks are to be sent next: first what was sent once before."""
        if self._ledger.again:
            return self._ledger.again[0].job
        queue = self._queue
        for _ in range(len(queue)):
            job = next(iter(queue.values()))
            fed = job.fed  # before `pending`: the feeder sets it after its last append
            if job.pending:
                return job
            if fed or job.shared:
                del queue[job.id]
            else:
                queue.move_to_end(job.id)
        return None

    def tasks(self) -> int:
        """Return how many tasks wait."""
        return self._ledger.queued + sum(sent.tasks for sent in self._ledger.again)

    def oldest(self) -> int:
        """Return when the first of the tasks that wait was submitted, ns; 0: there are none."""
        waiting = [sent.submitted for sent in self._ledger.again]
        waiting += [
            job.oldest()
            for job in (*self._feeding.values(), *islice(self._queue.values(), 1))
            if job.pending
        ]
        return min(waiting, default=0)
