"""The parent's ledger: where every item is, before it is sent and until it has its outcome.

Tasks obey a law over the parent's own counts, at all times:

    submitted = queued + outstanding + completed (ok, error, timeout, cancelled, lost)

and items have the same law, with `skipped`. A chunk that is cut, because its rest was taken back
from a worker or was lost before it began, is two tasks from then on, and is counted so.
"""

from __future__ import annotations

from collections import deque
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from obspool.feeder import Unsendable
from obspool.jobs import PARENT_ERROR, Job, Sent
from obspool.losses import ATTEMPTS, cancelled_error, lost_error, overdue_error
from obspool.messages import Kind
from obspool.streams import Stream
from obspool.telemetry.recorder import IN, KINDS, OUTCOMES, Recorder
from obspool.words import ExitReason, JobKind, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from obspool.engines.protocol import Exited
    from obspool.messages import Part
    from obspool.results import AsyncResult
    from obspool.supervisor import Worker

_OK = OUTCOMES.index(Outcome.OK)
_ERROR = OUTCOMES.index(Outcome.ERROR)
_TIMEOUT = OUTCOMES.index(Outcome.TIMEOUT)
_CANCELLED = OUTCOMES.index(Outcome.CANCELLED)
_LOST = OUTCOMES.index(Outcome.LOST)
_SKIPPED = OUTCOMES.index(Outcome.SKIPPED)

_APPLY = JobKind.APPLY
# Outcomes, as they are counted, by the kind of a part.
FAILURES = {Kind.ERROR: _ERROR, Kind.TIMEOUT: _TIMEOUT, Kind.CANCELLED: _CANCELLED}


class Ledger:
    """All jobs that have not ended, and all runs of items that are queued again.

    Attributes:
        jobs: by id.
        again: runs that were taken back, or had not begun when their worker was lost.
        finished: jobs that ended since this list was last emptied.
        queued: tasks that were fed and counted, and not taken yet.
        given_up: nothing runs any more, and no answer is waited for.
        wide: jobs that may have work for more than one worker.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.jobs: dict[int, Job] = {}
        self.again: deque[Sent] = deque()
        self.finished: list[Job] = []
        self.queued = 0
        self.given_up = False
        self.wide = 0

    def submit(self, job: Job) -> None:
        """Take a job in; its feeder may have begun, and may have ended, already.

        A shared one may come again: somebody appended to it when it had ended.
        """
        self.jobs[job.id] = job
        if job.shared:
            job.dropped = None
            return
        self.wide += job.kind is not _APPLY
        self._recorder.job_submitted(job)

    def busy(self) -> bool:
        """Tell whether anything is left to do."""
        return not all(job.idle for job in self.jobs.values())

    def count_fed(self, job: Job) -> None:
        """Count what the job's feeder has fed meanwhile."""
        if isinstance(job, Stream):
            job.look()
        tasks, items = job.tasks_fed, job.items_fed  # the feeder's; read once
        new = tasks - job.tasks_counted
        recorder = self._recorder
        if new:
            recorder.tasks_submitted[KINDS.index(job.kind)] += new
            self.queued += new
            if job.listed:
                self._count_sizes(job, new)
            else:
                if job.shared:
                    recorder.calls_submitted(new)
                recorder.task_items[0] += new
                recorder.task_items[-1] += new
        size, dump = job.bytes_fed, job.dump_time
        if size != job.bytes_counted or dump != job.dump_counted:
            recorder.task_bytes[IN] += size - job.bytes_counted
            recorder.dump += dump - job.dump_counted
            job.bytes_counted, job.dump_counted = size, dump
        if new or items != job.items_counted:
            recorder.items_submitted += items - job.items_counted
            job.tasks_counted, job.items_counted = tasks, items

    def _count_sizes(self, job: Job, tasks: int) -> None:
        """Count how many items the tasks of a job of chunks have that were fed."""
        odd = job.odd_sizes
        while odd and tasks:  # it is there before its task is counted
            self._recorder.count_tasks(1, odd.popleft())
            tasks -= 1
        if tasks:
            self._recorder.count_tasks(tasks, job.chunk)

    def collect(self, job: Job) -> None:
        """Take the job out if it has ended."""
        if not job.done or self.jobs.pop(job.id, None) is None:
            return
        self.wide -= job.kind is not _APPLY
        if job.dropped is None:
            self.count_fed(job)
        if not job.shared:
            self._recorder.job_completed(job, job.failed_outcome)
        number = job.function.number
        for worker in job.holders:
            worker.known.discard(number)
            worker.forget.append(number)
        self._end(job)

    def take(self, job: Job, room: int) -> Sent | None:
        """Take what is to be sent next of what the feeder has fed.

        Returns:
            One chunk, or up to `room` single items; None when there is nothing. What the feeder
            could not pickle gets its outcome here, and is passed over.
        """
        pending = job.pending
        while job.flawed and pending and type(pending[0]) is Unsendable:
            flaw = pending.popleft()
            item = job.items_taken
            self._taken(job, 1, 1)
            self._settle(job, item, 1, flaw.error, Outcome.ERROR)
            self._recorder.tasks_completed[_ERROR] += 1
        item = job.items_taken
        if not pending:
            self.collect(job)
            return None
        if job.listed:
            payload, count = pending.popleft()
            self._taken(job, 1, count)
            return Sent(job, item, count, [payload])
        count = min(room, len(pending))
        if job.flawed:
            count = next((i for i in range(count) if type(pending[i]) is Unsendable), count)
        payloads, submitted = job.take(count)
        self._taken(job, count, count)
        return Sent(job, item, count, payloads, submitted=submitted)

    def _taken(self, job: Job, tasks: int, items: int) -> None:
        job.taken(tasks, items)
        if job.tasks_taken > job.tasks_counted:
            self.count_fed(job)
        self.queued -= tasks

    def _settle(
        self, job: Job, item: int, count: int, error: BaseException, outcome: Outcome
    ) -> None:
        """Give items an outcome that the parent made."""
        if job.failed_outcome is Outcome.OK:
            job.failed_outcome = outcome
        errors = [error] * count
        self._hand_over(job, item, count, PARENT_ERROR, errors, OUTCOMES.index(outcome))

    def _hand_over(
        self, job: Job, item: int, count: int, kind: int, payloads: list[Any], outcome: int
    ) -> None:
        """Give the outcome of items to their job."""
        self._recorder.items_completed[outcome] += count
        if isinstance(job, Stream):
            began = job.settle(item, count, kind, payloads)
            now = monotonic_ns()
            self._recorder.calls_completed(outcome, [now - at for at in began])
            self._end(job)
        else:
            job.receive(item, count, kind, payloads)

    def _end(self, job: Job) -> None:
        """See that what has ended of a job is handed over at the end of the round."""
        if not self.finished or self.finished[-1] is not job:
            self.finished.append(job)

    # -- outcomes from workers

    def accept(self, worker: Worker, parts: Iterable[Part]) -> int:
        """Take results: a part may cover several runs, and a run may come in any partition.

        Returns:
            How many tasks they complete.

        Raises:
            LookupError: the worker answered for an item that it wasn't asked for.
        """
        done = 0
        for part in parts:
            first, left, payloads = part.first, part.count, part.payloads
            while left:
                sent = worker.outstanding[0]
                if first != sent.first + sent.received:
                    raise LookupError(
                        f"the worker in slot {worker.id.slot} answered for item {first}, and "
                        f"{sent.first + sent.received} was asked for next"
                    )
                count = min(left, sent.count - sent.received)
                mine = payloads
                if count < left:
                    mine, payloads = payloads[:count], payloads[count:]
                done += self._receive(worker, sent, count, part.kind, mine)
                first += count
                left -= count
        return done

    def _receive(
        self, worker: Worker, sent: Sent, count: int, kind: int, payloads: list[Any]
    ) -> int:
        job = sent.job
        outcome = _OK
        if kind in FAILURES:
            outcome = FAILURES[kind]
            sent.failed = True
        elif kind == Kind.SKIPPED:
            outcome = _SKIPPED
        item = sent.item + sent.received
        sent.received += count
        whole = sent.received == sent.count
        if whole:
            worker.outstanding.popleft()
        done = int(whole) if job.listed else count
        if done:
            self._complete(worker, done, _ERROR if sent.failed and job.listed else outcome)
        self._hand_over(job, item, count, kind, payloads, outcome)
        if job.done:
            self.collect(job)
        return done

    def _complete(self, worker: Worker, tasks: int, outcome: int) -> None:
        worker.tasks -= tasks
        if outcome != _LOST:
            worker.tasks_done += tasks
        self._recorder.tasks_outstanding -= tasks
        self._recorder.tasks_completed[outcome] += tasks

    # -- calls that go their own way

    def single_out(
        self, stream: Stream, result: AsyncResult, workers: Iterable[Worker]
    ) -> Job | None:
        """Make a call of a stream a job of its own; None when it has its outcome already."""
        self.count_fed(stream)
        found, index = stream.part(result)
        if not found:
            return None
        payload, submitted = result.asked()
        job = Job(
            *(stream.kind, stream.function, stream.call, 1, result),
            retries=stream.retries,
            timeout=stream.timeout,
        )
        job.submitted = submitted
        job.feed_one(payload)
        job.tasks_counted = job.items_counted = 1  # by the stream
        result.attach(job)
        self.jobs[job.id] = job
        if index is not None:
            job.take(1)
            job.taken(1, 1)
            for runs in (self.again, *(worker.outstanding for worker in workers)):
                _single_out(runs, stream, index, job)
        self.collect(stream)
        return job

    # -- back into the queue

    def _cut(self, worker: Worker, sent: Sent, offset: int) -> Sent | None:
        """Take the run from `offset` on away from a worker; no item of it has begun."""
        if offset >= sent.count:
            return None
        tail = sent.tail(offset)
        if sent.job.listed and offset:
            self._recorder.tasks_submitted[KINDS.index(sent.job.kind)] += 1
            if sent.received == sent.count:
                self._complete(worker, 1, _ERROR if sent.failed else _OK)
        else:
            worker.tasks -= tail.tasks
            self._recorder.tasks_outstanding -= tail.tasks
        return tail

    def take_back(self, worker: Worker, first: int, until: int, parts: int) -> None:
        """Queue again what a worker gave back: its items numbered in [first, until).

        Args:
            worker: that gave back.
            first: the first item's number.
            until: the number after the last one's.
            parts: into how many tasks to cut a chunk, for as many idle workers.
        """
        tails: list[Sent] = []
        kept: list[Sent] = []
        outstanding = worker.outstanding
        while outstanding and outstanding[-1].first + outstanding[-1].count > first:
            sent = outstanding.pop()
            if sent.first >= until:  # sent after the question was asked
                kept.append(sent)
                continue
            offset = max(first - sent.first, sent.received)
            tail = self._cut(worker, sent, offset)
            if tail is not None:
                tails.append(tail)
                if not sent.job.listed or not offset:  # the part that stays is still its task
                    worker.tasks_left += tail.tasks
            if sent.received < sent.count:
                kept.append(sent)
        outstanding.extend(reversed(kept))
        for tail in tails:
            if tail.job.dropped is not None:
                self._give_up(tail, tail.job.dropped)
                continue
            for piece in reversed(self._split(tail, parts)):
                self._recorder.tasks_stolen += piece.tasks
                self.again.appendleft(piece)

    def _split(self, sent: Sent, parts: int) -> list[Sent]:
        pieces = [sent]
        if sent.job.listed:
            length = -(-sent.count // parts)
            while pieces[-1].count > length:
                pieces.append(pieces[-1].tail(length))
            self._recorder.tasks_submitted[KINDS.index(sent.job.kind)] += len(pieces) - 1
        return pieces

    def lose(self, worker: Worker, event: Exited) -> None:
        """Settle what a dead worker had: what had begun is lost, the rest runs elsewhere."""
        again: list[Sent] = []
        seen = self._recorder.last_seen(worker.id, event.begun)
        for index, sent in enumerate(worker.outstanding):
            begun = min(max(event.begun - sent.first, sent.received), sent.count)
            if not index and begun == sent.received:
                sent.attempts += 1
                if sent.attempts >= ATTEMPTS:  # whatever kills workers on its way: not for ever
                    begun = sent.count if sent.job.listed else begun + 1
            rest = self._cut(worker, sent, begun)
            self._settle_condemned(worker, event, sent)
            lost = sent.count - sent.received
            if lost and sent.losses < sent.job.retries:
                again += self._retry(worker, sent, event.begun - 1 - sent.first - sent.received)
            elif lost:
                error = lost_error(worker, event, sent, seen)
                self._complete(worker, 1 if sent.job.listed else lost, _LOST)
                self._settle(sent.job, sent.item + sent.received, lost, error, Outcome.LOST)
                self.collect(sent.job)
            if rest is not None:
                again.append(rest)
        worker.outstanding.clear()
        for sent in reversed(again):
            if sent.job.dropped is None:
                self.again.appendleft(sent)
            else:
                self._give_up(sent, sent.job.dropped)

    def _settle_condemned(self, worker: Worker, event: Exited, sent: Sent) -> None:
        """Settle the item for which its worker was killed, if it is in this run."""
        ran = event.begun - 1 - sent.first
        # The one that was to end may have done so just before; then another has begun.
        timed_out = worker.reason is ExitReason.TIMEOUT
        meant = sent.job.timeout if timed_out else sent.job.interrupted_at
        if not (worker.condemned and meant and sent.received <= ran < sent.count):
            return
        overdue = self._cut(worker, sent, ran)
        if overdue is None:
            return
        if timed_out:
            self._give_up(overdue, overdue_error(worker, overdue), Outcome.TIMEOUT)
        else:
            self._give_up(overdue, cancelled_error(worker, overdue))

    def _retry(self, worker: Worker, sent: Sent, finished: int) -> list[Sent]:
        """Return what to run again of a run of which all had begun when its worker died.

        The item that ran goes apart from the `finished` ones before it, whose results were lost: it
        may be what kills workers.
        """
        lost = self._cut(worker, sent, sent.received)
        if lost is None:
            return []
        lost.losses += 1
        self._recorder.items_retried += lost.count
        if not 0 < finished < lost.count:
            return [lost]
        ran = lost.tail(finished)
        if sent.job.listed:
            self._recorder.tasks_submitted[KINDS.index(sent.job.kind)] += 1
        return [lost, ran]

    def fail_all(self, workers: Iterable[Worker], error: BaseException) -> None:
        """Give every item that has no outcome yet this error: nothing runs any more."""
        self.given_up = True
        for worker in workers:
            for sent in worker.outstanding:
                tail = self._cut(worker, sent, sent.received)
                if tail is not None:
                    self.again.append(tail)
            worker.outstanding.clear()
        while self.again:
            self._give_up(self.again.popleft(), error)
        for job in list(self.jobs.values()):
            self.drop(job, error)

    def drop(self, job: Job, error: BaseException) -> None:
        """Send nothing more of a job; what was sent still has its outcome, or is taken back.

        Its feeder may be anywhere in user code, and may never come back.
        """
        if job.id not in self.jobs or job.dropped is not None:
            return
        job.cancelled = True
        fed = job.fed  # before the count, and before `pending` is emptied
        job.fed = fed or job.shared
        self.count_fed(job)
        while job.pending:
            sent = self.take(job, len(job.pending))
            if sent is not None:
                self._give_up(sent, error)
        if not fed and not job.shared:
            job.failed_outcome = Outcome.CANCELLED
            job.sink.receive(job.items_taken, 1, PARENT_ERROR, [error])
        job.dropped = error
        # What its feeder has counted and is about to append: nobody will take it.
        late = job.tasks_counted - job.tasks_taken
        self.queued -= late
        self._recorder.tasks_completed[_CANCELLED] += late
        self._recorder.items_completed[_CANCELLED] += job.items_counted - job.items_taken
        again, self.again = self.again, deque()
        for sent in again:
            if sent.job is job:
                self._give_up(sent, error)
            else:
                self.again.append(sent)
        job.release_feeder()
        self.collect(job)

    def _give_up(
        self, sent: Sent, error: BaseException, outcome: Outcome = Outcome.CANCELLED
    ) -> None:
        self._settle(sent.job, sent.item, sent.count, error, outcome)
        self._recorder.tasks_completed[OUTCOMES.index(outcome)] += sent.tasks
        self.collect(sent.job)


def _single_out(runs: deque[Sent], stream: Stream, index: int, job: Job) -> None:
    """Give one item of a stream to a job of its own, if it is in these runs and not received."""
    for at, sent in enumerate(runs):
        if sent.job is stream and sent.item <= index < sent.item + sent.count:
            offset = index - sent.item
            own = sent.tail(offset)
            own.first = sent.first + offset
            pieces = [sent, own] if sent.count > sent.received else [own]
            if own.count > 1:
                rest = own.tail(1)
                rest.first = own.first + 1
                pieces.append(rest)
            own.job, own.item = job, 0
            before = list(runs)
            runs.clear()
            runs.extend([*before[:at], *pieces, *before[at + 1 :]])
            return
