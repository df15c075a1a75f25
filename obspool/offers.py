"""Work that a caller's own thread sends to an idle worker: one thread switch less for `apply`.

    scheduler ── make ──> open offers ── claim ──> caller's thread ── send ──> worker
        ▲                                  │
        └────── settle: into the ledger ───┘

One append is both the claim and the entry for the ledger: so whatever interrupts the caller behind
it, the scheduler knows of the job. It writes nothing to that worker until it knows what became of
the caller's message. An interrupted caller may or may not have sent it: then it is sent again, and
a worker passes over numbers that it has seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from obspool.messages import Batch, Piece

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from obspool.calls import Calls
    from obspool.engines.protocol import Engine, WorkerId
    from obspool.jobs import Job
    from obspool.supervisor import Worker

# More of them at a time would only cost the scheduler a look at each.
MOST = 8


class Claim(NamedTuple):
    """Who would like to have a worker: `call` is the number of the call that the job is from."""

    job: Job
    payload: Any
    call: int


class Offer:
    """An idle worker, for the first who claims it to send one item to.

    Attributes:
        worker: the scheduler's; but for `known`, callers don't look at it.
        send: the engine's, for any thread.
        number: sequence number that the item will have.
        claims: of those who tried, in order; None is the scheduler, which takes it back.
        sent: whether the caller has sent the item; None until that is known.
    """

    __slots__ = ("claims", "number", "send", "sent", "worker")

    def __init__(self, worker: Worker, send: Callable[[Batch], bool]) -> None:
        self.worker = worker
        self.send = send
        self.number = worker.next_seq
        self.claims: list[Claim | None] = []
        self.sent: bool | None = None

    def claim(self, claim: Claim | None) -> bool:
        """Try to have it; return whether it was the first try."""
        self.claims.append(claim)
        return self.claims[0] is claim

    def batch(self, claim: Claim) -> Batch:
        """Return what to send."""
        job = claim.job
        piece = Piece(
            job.function.number,
            job.call,
            chunk=False,
            skip=0,
            stop_on_error=False,
            first=self.number,
            count=1,
            submitted=job.submitted,
            payloads=[claim.payload],
            timeout=job.timeout,
        )
        return Batch([], [], [piece])


class Offers:
    """The offers of a pool; all but `take` is for the scheduler's thread."""

    def __init__(self, engine: Engine, calls: Calls) -> None:
        self._engine = engine
        self._calls = calls
        self._open: dict[WorkerId, Offer] = {}
        self._on_the_way: dict[WorkerId, tuple[Offer, Claim]] = {}

    def take(self, claim: Claim) -> bool:
        """Send a job of one small item from this thread, if a worker waits that has its function.

        Returns:
            Whether it is taken care of; otherwise the scheduler has to be asked.
        """
        number = claim.job.function.number
        for offer in tuple(self._open.values()):
            if not offer.claims and number in offer.worker.known and offer.claim(claim):
                offer.sent = offer.send(offer.batch(claim))
                if not offer.sent:
                    self._engine.wake()
                return True
        return False

    def make(self, worker: Worker) -> None:
        """Offer a worker that has nothing to do, unless there are enough."""
        if worker.id not in self._open and len(self._open) < MOST:
            send = self._engine.direct(worker.id)
            if send is not None:
                self._open[worker.id] = Offer(worker, send)

    def claimed(self) -> Iterator[tuple[Offer, Claim]]:
        """Yield those that were claimed; each is no longer an offer then."""
        for worker_id, offer in list(self._open.items()):
            if offer.claims and (claim := offer.claims[0]) is not None:
                del self._open[worker_id]
                yield offer, claim

    def withdraw(self, worker_id: WorkerId) -> tuple[Offer, Claim] | None:
        """Take a worker's offer back; return it if somebody was faster."""
        offer = self._open.pop(worker_id, None)
        if offer is None or offer.claim(None):
            return None
        claim = offer.claims[0]
        return None if claim is None else (offer, claim)

    def withdraw_all(self) -> Iterator[tuple[Offer, Claim]]:
        """Take all back; yield those where somebody was faster."""
        for worker_id in list(self._open):
            taken = self.withdraw(worker_id)
            if taken is not None:
                yield taken

    def expect(self, offer: Offer, claim: Claim) -> None:
        """See that the job gets to the worker: its caller is about to send it, or has."""
        if offer.sent is not True:
            self._on_the_way[offer.worker.id] = offer, claim

    def is_expected(self, worker_id: WorkerId) -> bool:
        """Tell whether a caller may be about to write to the worker: then nobody else may."""
        return worker_id in self._on_the_way

    def forget(self, worker_id: WorkerId) -> None:
        """Expect nothing: the worker is gone."""
        self._on_the_way.pop(worker_id, None)

    def look(self) -> None:
        """See what became of those expected; send what their callers won't send any more."""
        for worker_id, (offer, claim) in list(self._on_the_way.items()):
            answered = not offer.worker.outstanding
            if answered or offer.sent is not None or self._calls.is_over(claim.call):
                del self._on_the_way[worker_id]
                if not (answered or offer.sent):
                    self._engine.send(worker_id, offer.batch(claim))
