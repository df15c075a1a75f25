"""Work that a caller's own thread sends to an idle worker: one thread switch less for `apply`.

    scheduler ── make ──> open offers ── claim ──> caller's thread ── send ──> worker
        ▲                                  │
        └────── settle: into the ledger ───┘

One append is both the claim and the entry for the ledger: so whatever interrupts the caller behind
it, the scheduler knows of the job. It can't know then whether the job was sent, and sends it again:
a worker passes over numbers that it has seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from obspool.messages import Batch, Piece

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from obspool.engines.protocol import Engine
    from obspool.jobs import Job
    from obspool.supervisor import Worker

# More of them at a time would only cost the scheduler a look at each.
MOST = 8


class Offer:
    """An idle worker, for the first who claims it to send one item to.

    Attributes:
        worker: the scheduler's; but for `known`, callers don't look at it.
        send: the engine's, for any thread.
        number: sequence number that the item will have.
        claims: the jobs of those who tried, in order; None is the scheduler, which takes it back.
        sent: the job is on its way.
    """

    __slots__ = ("claims", "number", "send", "sent", "worker")

    def __init__(self, worker: Worker, send: Callable[[Batch], bool]) -> None:
        self.worker = worker
        self.send = send
        self.number = worker.next_seq
        self.claims: list[Job | None] = []
        self.sent = False

    def claim(self, job: Job | None) -> bool:
        """Try to have it; return whether it was the first try."""
        self.claims.append(job)
        return self.claims[0] is job

    def batch(self, job: Job, payload: Any) -> Batch:
        """Return what to send."""
        piece = Piece(
            job.function.number,
            job.call,
            chunk=False,
            skip=0,
            stop_on_error=False,
            first=self.number,
            count=1,
            submitted=job.submitted,
            payloads=[payload],
        )
        return Batch([], [], [piece])


class Offers:
    """The open ones; all but `take` is for the scheduler's thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._open: list[Offer] = []

    def take(self, job: Job, payload: Any) -> bool:
        """Send a job of one small item from this thread, if a worker waits that has its function.

        Returns:
            Whether it is taken care of; otherwise the scheduler has to be asked.
        """
        number = job.function.number
        for offer in tuple(self._open):
            if not offer.claims and number in offer.worker.known and offer.claim(job):
                try:
                    offer.sent = offer.send(offer.batch(job, payload))
                finally:
                    if not offer.sent:
                        self._engine.wake()
                return True
        return False

    def make(self, worker: Worker) -> None:
        """Offer a worker that has nothing to do, unless there are enough."""
        if worker.offer is None and len(self._open) < MOST:
            send = self._engine.direct(worker.id)
            if send is not None:
                worker.offer = Offer(worker, send)
                self._open.append(worker.offer)

    def taken(self) -> list[Offer]:
        """Return those that were claimed since the last time, and are offers no longer."""
        taken = [offer for offer in self._open if offer.claims]
        for offer in taken:
            self._close(offer)
        return taken

    def withdraw(self, worker: Worker) -> Offer | None:
        """Take a worker's offer back; return it if somebody was faster."""
        offer = worker.offer
        if offer is None:
            return None
        self._close(offer)
        return None if offer.claim(None) else offer

    def _close(self, offer: Offer) -> None:
        offer.worker.offer = None
        self._open.remove(offer)
