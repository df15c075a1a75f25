"""Takes work from busy workers for idle ones, so that no task waits behind a slow one.

What is taken back are items that the worker has not claimed: whole tasks behind the one that runs,
and the rest of the chunk that runs. Half of the most loaded worker's goes to the idle ones at a
time: so the pieces become smaller towards the end, as in guided self-scheduling. What waits behind
a slow item goes to others earlier, while there still is something else to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from obspool.words import WorkerState

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from obspool.engines.protocol import Engine, WorkerId
    from obspool.supervisor import Worker

# What is worth taking (ns of work), or how long a worker must have shown no result (ns): with less,
# the end of every quick map would be a flurry of messages; with more, workers idle.
WORTH = 2_000_000
AFTER = 5_000_000

# While there is work for all, what waits behind an item is taken back when that has run for so long
# (ns), and all that waits there would take longer than everything else: begun last, it would end
# last. With less, a worker that had no CPU for a moment would be taken for a slow one.
SLOW = 20_000_000

# When a look found nothing to take, the next one may be later, up to this (ns).
LONGEST_WAIT = 100_000_000


class Balancer:
    """Decides when to ask which worker to give back how much."""

    def __init__(self, engine: Engine, *, balance: bool) -> None:
        """`balance=False`: chunks stay whole; only tasks behind the one that runs are taken."""
        self._engine = engine
        self._whole = not balance
        self._wait = AFTER
        self._idle = 0  # at the last look
        self._relieved_at = 0
        self._seen: dict[WorkerId, tuple[int, int]] = {}  # how many had begun, and since when
        self.look_at: int | None = None  # when to look again (ns)

    def look(
        self,
        workers: Collection[Worker],
        idle: int,
        now: int,
        pace: Mapping[int, float],
        queued: int,
    ) -> None:
        """Look once.

        Args:
            workers: all that have work.
            idle: how many could take more and have none.
            now: CLOCK_MONOTONIC in ns.
            pace: mean time of a task by function, ns.
            queued: tasks that have not been sent.
        """
        self._idle = idle
        self.look_at = None
        if not idle:
            self._wait = AFTER
            if queued and now - self._relieved_at >= AFTER:
                self._relieved_at = now
                self._relieve(workers, now, pace, queued)
            return
        best: tuple[float, Worker, int] | None = None
        for worker in workers:
            waiting = self._waiting(worker)
            if waiting < 1 or worker.state is WorkerState.STARTING:
                continue
            if self.look_at is None:
                self.look_at = now + self._wait
            worth = self._worth(worker, now, pace)
            if worth >= WORTH and (best is None or worth > best[0]):
                best = worth, worker, waiting
        if best is None:
            return
        _, worker, waiting = best
        if now - worker.asked_at < AFTER:
            return
        worker.asked_at, worker.unanswered = now, True
        self._wait = min(self._wait * 2, LONGEST_WAIT)
        self._ask(worker, max(1, waiting * idle // (idle + 1)))

    def _relieve(
        self, workers: Collection[Worker], now: int, pace: Mapping[int, float], queued: int
    ) -> None:
        """Take back all that waits behind an item that takes much longer than others."""
        before, self._seen = self._seen, {}
        for worker in workers:
            # Results of quick items come together, and late: the items themselves are looked at.
            begun = self._engine.begun(worker.id)
            seen = before.get(worker.id)
            if seen is None or seen[0] != begun:
                seen = begun, now
            self._seen[worker.id] = seen
            since = now - seen[1]
            waiting = min(self._waiting(worker), worker.next_seq - begun)
            if since < SLOW or waiting < 1 or now - worker.asked_at < since:
                continue
            known = pace.get(worker.outstanding[0].job.function.number)
            if known is not None and waiting * since * len(workers) > queued * known:
                worker.asked_at, worker.unanswered = now, True
                self._idle = len(workers)
                self._ask(worker, waiting)

    def empty(self, worker: Worker) -> None:
        """Take back all that may be: the worker is to end soon."""
        if worker.outstanding:
            first = worker.outstanding[0]
            begin = first.first + (first.count if self._whole and first.job.listed else 0)
            if begin < worker.next_seq:
                self._engine.revoke(worker.id, begin, worker.next_seq, exact=self._whole)

    def rest(self) -> None:
        """Nothing runs: there is nothing to look at."""
        self.look_at = None
        self._wait = AFTER

    def gained(self) -> int:
        """Look again soon, as something was given back; return how many parts to make of it."""
        self._wait = AFTER
        return 1 if self._whole else max(1, self._idle)

    def _waiting(self, worker: Worker) -> int:
        """Return how many items may be taken: all but the one that surely runs."""
        waiting = sum(sent.count - sent.received for sent in worker.outstanding) - 1
        if self._whole and waiting > 0 and worker.outstanding[0].job.listed:
            first = worker.outstanding[0]
            waiting -= first.count - first.received - 1
        return waiting

    @staticmethod
    def _worth(worker: Worker, now: int, pace: Mapping[int, float]) -> float:
        """Return about how long (ns) the worker will need for what waits there."""
        since = now - worker.progress_at
        if since >= AFTER:  # whatever it was said to take: it takes longer
            return float(since)
        first = worker.outstanding[0]
        known = pace.get(first.job.function.number)
        return 0.0 if known is None else known * worker.tasks - since

    def _ask(self, worker: Worker, items: int) -> None:
        """Ask for so many items, from the end."""
        until = worker.next_seq
        first = until
        for sent in reversed(worker.outstanding):
            here = sent.count - sent.received
            if self._whole and sent.job.listed:
                if sent is worker.outstanding[0] or items <= 0:
                    break
                first = sent.first
                items -= here
                continue
            first = sent.first + sent.count - min(here, items)
            items -= min(here, items)
            if items <= 0:
                break
        if first < until:
            self._engine.revoke(worker.id, first, until, exact=self._whole)
