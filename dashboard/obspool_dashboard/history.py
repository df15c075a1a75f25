"""Rates, from the differences of consecutive snapshots over the time between them.

A history keeps a few numbers of a few seconds and a bounded series for the sparkline: nothing in it
grows with time, and the pool it looks at never notices.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from obspool.words import Outcome, WorkerState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from obspool.telemetry.snapshot import JobSnapshot, Snapshot, WorkerSnapshot

# Over how many seconds a rate is taken. Shorter, and items of a second make it jump between nothing
# and twice the truth; longer, and a pool that stops still seems to run.
WINDOW = 5.0
# Samples within the window at the shortest interval, 0.25 s, and the one before it.
MAX_SAMPLES = 22
# Points of the sparkline: more than the widest one has cells.
MAX_SERIES = 120


class WorkerRates(NamedTuple):
    """What a slot did lately; None while there is one reading only.

    Attributes:
        items: ended, each second.
        busy: the share of time spent in items, 0 to 1.
        cpu: seconds of CPU each second.
    """

    items: float | None = None
    busy: float | None = None
    cpu: float | None = None


@dataclass(frozen=True, slots=True)
class JobRates:
    """A job's items a second, and the seconds until it is done at that rate."""

    items: float | None = None
    eta: float | None = None


NO_WORKER_RATES = WorkerRates()
NO_JOB_RATES = JobRates()


@dataclass(frozen=True, slots=True)
class Rates:
    """What a pool did lately.

    Attributes:
        items: ended, each second.
        busy: the share of its workers' time spent in items.
        errors: of them, those that ended badly.
        over: seconds that the rates are taken over.
        still: seconds in which no item ended, as far as was looked; None at the first reading.
        eta: seconds until all submitted items are done at this rate.
        series: items a second between readings, the oldest first.
    """

    items: float | None = None
    errors: float | None = None
    over: float = 0.0
    still: float | None = None
    busy: float | None = None
    eta: float | None = None
    series: tuple[float, ...] = ()
    workers: Mapping[int, WorkerRates] = field(default_factory=lambda: MappingProxyType({}))
    jobs: Mapping[int, JobRates] = field(default_factory=lambda: MappingProxyType({}))


# A tuple: a thousand of them are made for each reading, in half the time of a dataclass.
class _WorkerSample(NamedTuple):
    items: int
    busy: float
    cpu: float
    live: bool


@dataclass(frozen=True, slots=True)
class _Sample:
    time: float
    items: int
    errors: int
    workers: Mapping[int, _WorkerSample]
    jobs: Mapping[int, int]


class History:
    """The last few seconds of one pool."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque(maxlen=MAX_SAMPLES)
        self._series: deque[float] = deque(maxlen=MAX_SERIES)
        self._rates = Rates()
        self._moved_at = 0.0

    def add(self, snapshot: Snapshot) -> Rates:
        """Take in a reading and return the rates up to it.

        A reading that is no younger than the last one changes nothing.
        """
        sample = _sample(snapshot)
        if self._samples:
            last = self._samples[-1]
            if sample.time <= last.time:
                return self._rates
            self._series.append(max(0, sample.items - last.items) / (sample.time - last.time))
        if not self._samples or sample.items != self._samples[-1].items:
            self._moved_at = sample.time
        self._samples.append(sample)
        while len(self._samples) > 2 and self._samples[1].time <= sample.time - WINDOW:  # noqa: PLR2004 - a difference takes two
            self._samples.popleft()
        self._rates = self._compute(snapshot)
        return self._rates

    def _compute(self, snapshot: Snapshot) -> Rates:
        first, last = self._samples[0], self._samples[-1]
        elapsed = last.time - first.time
        if elapsed <= 0:
            return Rates()
        items = max(0, last.items - first.items) / elapsed
        before = first.workers.get
        workers = {
            slot: _worker_rates(before(slot), now, elapsed) for slot, now in last.workers.items()
        }
        live = [workers[slot] for slot, sample in last.workers.items() if sample.live]
        jobs = {job.id: self._job(job) for job in snapshot.jobs if job.ended_time is None}
        return Rates(
            items=items,
            errors=max(0, last.errors - first.errors) / elapsed,
            over=elapsed,
            still=last.time - self._moved_at,
            busy=_mean([rates.busy for rates in live]),
            eta=_eta(snapshot.items_submitted - last.items, items),
            series=tuple(self._series),
            workers=MappingProxyType(workers),
            jobs=MappingProxyType(jobs),
        )

    def _job(self, job: JobSnapshot) -> JobRates:
        first, last = self._samples[0], self._samples[-1]
        # A job younger than the window has done nothing before it was submitted.
        since, done = first.time, first.jobs.get(job.id)
        if done is None:
            since, done = max(first.time, job.submitted_time), 0
        if last.time <= since:
            return NO_JOB_RATES
        speed = max(0, job.items_done - done) / (last.time - since)
        left = None if job.items_total is None else job.items_total - job.items_done
        return JobRates(speed, _eta(left, speed))


def ended_average(snapshot: Snapshot) -> Rates:
    """Return the averages over a whole life, for a pool that is no more."""
    elapsed = (snapshot.ended_time or snapshot.heartbeat_time) - snapshot.facts.start_time
    if elapsed <= 0:
        return Rates()
    workers = {
        worker.slot: WorkerRates(
            items=items_done(worker.items) / elapsed,
            busy=min(1.0, worker.busy_seconds / elapsed),
            cpu=worker.cpu_seconds / elapsed,
        )
        for worker in snapshot.workers
    }
    return Rates(
        items=items_done(snapshot.items_completed) / elapsed,
        busy=_mean([rates.busy for rates in workers.values()]),
        workers=MappingProxyType(workers),
    )


def item_running(worker: WorkerSnapshot, now: float) -> float | None:
    """Return for how many seconds the present item has run, None when there is none."""
    if worker.task_start_time is None or worker.item_start_time is None:
        return None
    return max(0.0, now - worker.item_start_time)


def items_done(items: Mapping[Outcome, int]) -> int:
    """Count the items that ended, whatever way."""
    return sum(items.values())


def items_failed(items: Mapping[Outcome, int]) -> int:
    """Count the items that ended badly: error, timeout, lost."""
    failed = items.get
    return failed(Outcome.ERROR, 0) + failed(Outcome.TIMEOUT, 0) + failed(Outcome.LOST, 0)


def _worker_rates(first: _WorkerSample | None, last: _WorkerSample, elapsed: float) -> WorkerRates:
    if first is None or not last.live:
        return NO_WORKER_RATES
    return WorkerRates(
        items=max(0, last.items - first.items) / elapsed,
        busy=min(1.0, max(0.0, last.busy - first.busy) / elapsed),
        cpu=max(0.0, last.cpu - first.cpu) / elapsed,
    )


def _sample(snapshot: Snapshot) -> _Sample:
    return _Sample(
        time=snapshot.time,
        items=items_done(snapshot.items_completed),
        errors=items_failed(snapshot.items_completed),
        workers={worker.slot: _worker_sample(worker, snapshot.time) for worker in snapshot.workers},
        jobs={job.id: job.items_done for job in snapshot.jobs if job.ended_time is None},
    )


def _worker_sample(worker: WorkerSnapshot, now: float) -> _WorkerSample:
    # A worker adds to its busy time when a slice ends: without the slice that runs, one long item
    # would read 0 % for a minute and 6,000 % for a moment.
    running = item_running(worker, now) or 0.0
    return _WorkerSample(
        items=items_done(worker.items),
        busy=worker.busy_seconds + running,
        cpu=worker.cpu_seconds,
        live=worker.state is not WorkerState.GONE,
    )


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _eta(left: int | None, speed: float) -> float | None:
    """Return None when the end isn't known or nothing moves."""
    if left is None or left < 0 or speed <= 0:
        return None
    return left / speed
