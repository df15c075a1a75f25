"""What a reader makes of a segment's numbers."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from obspool.errors import SegmentError
from obspool.telemetry import header, locks, reader
from obspool.telemetry.facts import boot_id
from obspool.telemetry.head import read_head
from obspool.telemetry.layout import (
    FUNCTIONS,
    HISTOGRAM_WORDS,
    LATENCY_BOUNDS,
    PARENT,
    POOL,
    WORD,
    WORKER,
    Layout,
)
from obspool.telemetry.snapshot import Histogram, Serializing
from obspool.words import ExitReason, Outcome, PoolOutcome, PoolState, WorkerState
from tests.helpers import poll
from tests.synthetic import NOW, make_snapshot
from tests.synthetic_segment import BOOT, SECOND, fill, live_segment, write_segment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from obspool.telemetry.segment import Segment
    from obspool.telemetry.snapshot import Snapshot

STARTING, IDLE, DRAINING, GONE = (
    list(WorkerState).index(state)
    for state in (WorkerState.STARTING, WorkerState.IDLE, WorkerState.DRAINING, WorkerState.GONE)
)


@pytest.fixture
def segment() -> Iterator[Segment]:
    """A live segment with four slots that were never used."""
    empty = dataclasses.replace(make_snapshot(0), jobs=(), events=())
    with live_segment(empty, slots=4) as made:
        yield made


def _parent(segment: Segment, slot: int, generation: int, **values: int) -> None:
    at = segment.layout.parent_block(slot, generation)
    for name, value in {"generation": generation, **values}.items():
        segment.cells[at + PARENT[name]] = value


def _worker(segment: Segment, slot: int, generation: int, **values: int) -> None:
    at = segment.layout.worker_block(slot, generation)
    for name, value in values.items():
        segment.cells[at + WORKER[name]] = value


def _comparable(snapshot: Snapshot, **changes: object) -> Snapshot:
    """Round sums of durations, which a segment has in whole nanoseconds; leave out the time."""

    def rounded(histogram: Histogram) -> Histogram:
        return dataclasses.replace(histogram, sum=round(histogram.sum, 3))

    workers = tuple(
        dataclasses.replace(worker, item_run=rounded(worker.item_run))
        for worker in snapshot.workers
    )
    return dataclasses.replace(
        snapshot,
        time=0.0,
        workers=workers,
        task_wait=rounded(snapshot.task_wait),
        task_run=rounded(snapshot.task_run),
        task_result_wait=rounded(snapshot.task_result_wait),
        worker_startup=rounded(snapshot.worker_startup),
        item_run={name: rounded(run) for name, run in snapshot.item_run.items()},
        **changes,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("workers", [0, 1, 8, 64])
def test_all_numbers_of_a_live_pool_come_back(workers: int) -> None:
    """What was stored is what is read, for every field of the snapshot."""
    stored = make_snapshot(workers)
    if not workers:  # these are kept by workers
        empty = Histogram(LATENCY_BOUNDS, (0,) * (len(LATENCY_BOUNDS) + 1), 0.0)
        parents = dataclasses.replace(stored.serialize_seconds, worker_load=0.0, worker_dump=0.0)
        stored = dataclasses.replace(
            stored, task_wait=empty, task_run=empty, serialize_seconds=parents
        )
    with live_segment(stored, slots=1) as segment:
        found = reader.read(segment)
    assert _comparable(found) == _comparable(stored)


def test_all_numbers_of_an_ended_pool_come_back(obspool_dir: Path) -> None:
    """The file of a pool that ended tells its outcome, its end and its final counts."""
    stored = make_snapshot(outcome=PoolOutcome.ABANDONED)
    path = write_segment(obspool_dir, stored)
    assert _comparable(reader.read(path)) == _comparable(stored)


def test_a_pool_without_lock_and_end_has_died(obspool_dir: Path) -> None:
    """Its end is when it was last heard of; its workers are gone; its counts stay."""
    running = make_snapshot()
    found = reader.read(write_segment(obspool_dir, running))
    assert (found.alive, found.state, found.outcome) == (
        False,
        PoolState.ENDED,
        PoolOutcome.DIED,
    )
    assert found.ended_time == running.heartbeat_time
    assert {worker.state for worker in found.workers} == {WorkerState.GONE}
    assert found.workers[0].task_start_time is None
    assert found.workers[0].function == "resize_image"
    assert found.tasks == running.tasks
    assert found.items_completed == running.items_completed


def test_the_head_says_the_same_as_the_snapshot(obspool_dir: Path) -> None:
    """A list of pools reads less, and tells the same."""
    path = write_segment(obspool_dir)
    head, whole = read_head(path), reader.read(path)
    assert (head.facts, head.alive, head.state, head.outcome) == (
        whole.facts,
        whole.alive,
        whole.state,
        whole.outcome,
    )
    assert (head.ended_time, head.heartbeat_time) == (whole.ended_time, whole.heartbeat_time)


def test_a_worker_that_is_ready_is_busy_while_a_task_runs(segment: Segment) -> None:
    """The parent tells the life, the worker what it does."""
    for slot, lifecycle in enumerate((STARTING, IDLE, IDLE, DRAINING)):
        _parent(segment, slot, 1, lifecycle=lifecycle)
    _worker(segment, 2, 1, task_start=5 * SECOND)
    _worker(segment, 3, 1, task_start=5 * SECOND)
    states = [worker.state for worker in reader.read(segment).workers]
    expected = [WorkerState.STARTING, WorkerState.IDLE, WorkerState.BUSY, WorkerState.DRAINING]
    assert states == expected


@pytest.mark.parametrize(
    ("older", "newer", "shown"),
    [
        (IDLE, STARTING, 4),
        (DRAINING, STARTING, 4),
        (DRAINING, IDLE, 5),
        (GONE, STARTING, 5),
        (GONE, IDLE, 5),
        (IDLE, GONE, 4),
        (GONE, GONE, 5),
    ],
)
def test_who_works_in_a_slot_now(segment: Segment, older: int, newer: int, shown: int) -> None:
    """The newest that is alive and past its start-up; else the newest alive; else the newest."""
    _parent(segment, 0, 4, lifecycle=older, pid=44)
    _parent(segment, 0, 5, lifecycle=newer, pid=55)
    (worker,) = reader.read(segment).workers
    assert (worker.generation, worker.pid) == (shown, 11 * shown)
    assert worker.restarts == shown - 1


def test_a_slots_totals_are_those_of_both_banks(segment: Segment) -> None:
    """Each generation continues its bank; a recycled worker's counts are never lost."""
    for generation, ok in ((1, 100), (2, 30)):
        _parent(segment, 0, generation, lifecycle=GONE if generation == 1 else IDLE)
        _worker(segment, 0, generation, busy=ok * SECOND, cpu=ok * SECOND, process_tasks=ok)
        _worker(segment, 0, generation, tasks=ok, items=2 * ok)
    (worker,) = reader.read(segment).workers
    assert (worker.tasks[Outcome.OK], worker.items[Outcome.OK]) == (130, 260)
    assert (worker.busy_seconds, worker.cpu_seconds) == (130.0, 130.0)
    assert worker.process_tasks == 30


def test_the_parents_sample_of_cpu_time_counts_while_a_task_runs_long(segment: Segment) -> None:
    """The worker writes its own at the end of tasks only."""
    _parent(segment, 0, 1, lifecycle=IDLE, cpu_sample=9 * SECOND)
    _worker(segment, 0, 1, cpu=2 * SECOND)
    assert reader.read(segment).workers[0].cpu_seconds == 9.0


def test_a_starting_worker_shows_nothing_of_its_predecessor(segment: Segment) -> None:
    """A killed worker's fields stand in the bank until its successor there clears them."""
    _parent(segment, 0, 3, lifecycle=STARTING)
    _worker(segment, 0, 3, task_start=SECOND, slice_start=SECOND, function=1, process_tasks=7)
    _worker(segment, 0, 3, tasks=70)
    found = reader.read(segment)
    (worker,) = found.workers
    assert (worker.function, worker.task_start_time, worker.process_tasks) == (None, None, 0)
    assert worker.tasks[Outcome.OK] == 70
    assert found.tasks.running == 0


def test_a_draining_worker_runs_beside_its_successor(segment: Segment) -> None:
    """Both tasks of the slot run; none of them is taken for dispatched."""
    _parent(segment, 0, 1, lifecycle=DRAINING, queue_tasks=1)
    _parent(segment, 0, 2, lifecycle=IDLE, queue_tasks=2)
    for generation in (1, 2):
        _worker(segment, 0, generation, task_start=SECOND)
    segment.cells[segment.layout.pool + POOL["tasks_outstanding"]] = 5
    found = reader.read(segment)
    assert (found.tasks.running, found.tasks.dispatched) == (2, 3)
    assert found.workers[0].queue_tasks == 3


def test_memory_can_shrink(segment: Segment) -> None:
    """A worker that gave memory back has a negative growth; one not yet measured has none."""
    _parent(segment, 0, 1, lifecycle=IDLE, resident_bytes=90, ready_resident_bytes=100)
    _parent(segment, 1, 1, lifecycle=IDLE, resident_bytes=90)
    growth = [worker.memory_growth for worker in reader.read(segment).workers]
    assert growth == [-10, 0]


def test_the_exit_reason_of_a_worker_that_is_gone(segment: Segment) -> None:
    """It is shown until a successor starts."""
    reason = 1 + list(ExitReason).index(ExitReason.MEMORY)
    _parent(segment, 0, 1, lifecycle=GONE, exit_reason=reason)
    (worker,) = reader.read(segment).workers
    assert (worker.state, worker.exit_reason) == (WorkerState.GONE, ExitReason.MEMORY)


def test_functions_beyond_the_table_are_others(segment: Segment) -> None:
    """The 17th function runs and is timed under the name `other`."""
    _parent(segment, 0, 1, lifecycle=IDLE)
    _worker(segment, 0, 1, function=FUNCTIONS + 1, task_start=SECOND)
    other = segment.layout.worker_block(0, 1) + WORKER["item_run"] + FUNCTIONS * HISTOGRAM_WORDS
    segment.cells[other] = 5
    segment.cells[other + HISTOGRAM_WORDS - 1] = 2 * SECOND
    found = reader.read(segment)
    assert found.workers[0].function == "other"
    assert (found.item_run["other"].count, found.item_run["other"].sum) == (5, 2.0)
    assert found.workers[0].item_run.count == 5


def test_the_counts_of_all_banks_of_all_slots_make_the_pools_histograms(segment: Segment) -> None:
    """Also those of slots whose workers are gone."""
    for slot in range(4):
        for generation in (1, 2):
            _parent(segment, slot, generation, lifecycle=GONE)
            at = segment.layout.worker_block(slot, generation) + WORKER["task_run"]
            segment.cells[at + 3] = 10
            segment.cells[at + HISTOGRAM_WORDS - 1] = SECOND // 2
    run = reader.read(segment).task_run
    assert (run.counts[3], run.count, run.sum) == (80, 80, 4.0)


def test_monotonic_times_are_converted_with_our_own_clocks_on_the_same_boot() -> None:
    """A pool whose wall clock was set since its last heartbeat is still shown right."""
    facts = dataclasses.replace(make_snapshot().facts, boot_id=boot_id())
    stored = dataclasses.replace(make_snapshot(1), facts=facts)
    with live_segment(stored) as segment:
        at = segment.layout.worker_block(0, stored.workers[0].generation)
        segment.cells[at + WORKER["task_start"]] = time.monotonic_ns() - 3 * SECOND
        shown = reader.read(segment)
    started = shown.workers[0].task_start_time
    assert started is not None
    assert shown.time - started == pytest.approx(3.0, abs=1.0)


def test_on_another_boot_they_are_converted_with_the_pools_heartbeat(obspool_dir: Path) -> None:
    """A directory may be shared by hosts; then the pool's own pair of clocks is what there is."""
    path = write_segment(obspool_dir, make_snapshot())
    found = reader.read(path)
    assert found.queue_oldest_time == NOW - 12.5


def test_names_and_texts_that_are_no_utf8_are_replaced(segment: Segment) -> None:
    """A reader never fails on what a text says."""
    layout: Layout = segment.layout
    segment.cells[layout.pool + POOL["functions"]] = 1
    segment.cells[layout.functions] = int.from_bytes(b"caf\xe9", "little")
    assert list(reader.read(segment).item_run) == ["caf\N{REPLACEMENT CHARACTER}"]


def test_a_newer_writers_states_and_fields_are_no_error(segment: Segment) -> None:
    """What this version doesn't know is shown as the usual."""
    _parent(segment, 0, 1, lifecycle=77, exit_reason=99)
    segment.cells[segment.layout.pool + POOL["state"]] = 55
    found = reader.read(segment)
    assert (found.state, found.workers[0].state) == (PoolState.RUNNING, WorkerState.IDLE)
    assert found.workers[0].exit_reason is None


def test_a_pool_that_ends_while_it_is_read_did_not_die(
    segment: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is asked for before the state is read."""
    path = segment.path
    assert path is not None
    before = signal.signal(signal.SIGUSR1, lambda *_: segment.close(PoolOutcome.FINISHED))
    child = os.fork()
    if not child:
        code = 1
        try:
            # In this process the lock is another's. The end comes after the first look at it, or
            # at all of the numbers.
            asked, read = locks.held_by_another, os.pread

            def end() -> None:
                os.kill(os.getppid(), signal.SIGUSR1)
                poll(lambda: not asked(segment_file))

            def held_then_end(fd: int) -> bool:
                answer = asked(fd)
                end()
                return answer

            def read_then_end(fd: int, size: int, offset: int) -> bytes:
                answer = read(fd, size, offset)
                if size == segment.layout.words * WORD:
                    end()
                return answer

            segment_file = os.open(path, os.O_RDONLY)
            monkeypatch.setattr(locks, "held_by_another", held_then_end)
            monkeypatch.setattr(os, "pread", read_then_end)
            code = 0 if reader.read(path).outcome is not PoolOutcome.DIED else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    signal.signal(signal.SIGUSR1, before)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_descriptor_can_be_read(obspool_dir: Path) -> None:
    """It stays the caller's."""
    path = write_segment(obspool_dir)
    with path.open("rb") as file:
        assert reader.read(file.fileno()).facts.name == "nightly"
        assert file.read(8) == b"OBSPOOL\n"


def test_the_layout_of_another_minor_version_is_read_by_name(obspool_dir: Path) -> None:
    """Fields that moved are found, unknown ones ignored, missing ones 0."""
    path = write_segment(obspool_dir)
    expected = reader.read(path)
    assert expected.task_items.count
    raw = bytearray(path.read_bytes())
    text = raw[header.PREFIX.size : Layout(1).header_words * WORD].rstrip(b"\0")
    changed = text.replace(b'"items_retried":', b'"items_from_the_future":')
    assert changed != text
    prefix = list(header.PREFIX.unpack_from(raw))
    prefix[6] = len(changed)
    raw[: header.PREFIX.size] = header.PREFIX.pack(*prefix)
    raw[header.PREFIX.size : header.PREFIX.size + len(changed)] = changed
    path.write_bytes(raw)
    found = reader.read(path)
    assert found.items_retried == 0
    assert dataclasses.replace(found, items_retried=3, time=0.0) == dataclasses.replace(
        expected, time=0.0
    )


def test_fill_uses_the_boot_it_is_given() -> None:
    """The made-up host's clocks are consistent."""
    layout = Layout(8)
    cells = memoryview(bytearray(layout.words * WORD)).cast("Q")
    fill(cells, layout, make_snapshot())
    wall = cells[layout.pool + POOL["heartbeat_wall"]]
    assert wall - cells[layout.pool + POOL["heartbeat"]] == BOOT


def test_what_is_missing_is_an_os_error(obspool_dir: Path) -> None:
    """A caller tells a pool that went from a file that is none."""
    with pytest.raises(FileNotFoundError):
        reader.read(obspool_dir / "none.obspool")
    (obspool_dir / "empty.obspool").touch()
    with pytest.raises(SegmentError, match="cut short"):
        reader.read(obspool_dir / "empty.obspool")


def test_a_segment_of_the_first_minor_version_is_read(obspool_dir: Path) -> None:
    """What it didn't have is 0 or empty, and its histograms of numbers have no observations."""
    path = write_segment(obspool_dir)
    expected = reader.read(path)
    raw = bytearray(path.read_bytes())
    text = raw[header.PREFIX.size : Layout(1).header_words * WORD].rstrip(b"\0")
    described = json.loads(text)
    del described["count_bounds"], described["tables"]["counters"], described["tables"]["errors"]
    later = ("idle", "task_bytes", "dump", "load", "scheduler_busy", "memory_growth", "task_items")
    for name in (*later, "job_duration", "lifetime_tasks", "counters", "counter_values"):
        del described["tables"]["pool"]["fields"][name]
    mine = ("load", "dump", "counter_keys", "counter_values", "first_resident", "last_resident")
    for name in mine:
        del described["tables"]["worker"]["fields"][name]
    old = json.dumps(described).encode().ljust(len(text))
    prefix = list(header.PREFIX.unpack_from(raw))
    prefix[3], prefix[6] = 0, len(old)
    raw[: header.PREFIX.size] = header.PREFIX.pack(*prefix)
    raw[header.PREFIX.size : header.PREFIX.size + len(old)] = old
    path.write_bytes(raw)
    found = reader.read(path)
    assert found.items_completed == expected.items_completed
    assert found.task_items.count == found.worker_lifetime_tasks.count == 0
    assert not any(found.idle_seconds.values())
    assert not any(found.task_bytes.values())
    assert not any(histogram.count for histogram in found.job_duration.values())
    assert found.serialize_seconds == Serializing(0.0, 0.0, 0.0, 0.0)
    assert (found.scheduler_busy_seconds, found.worker_memory_growth) == (0.0, 0)
    assert found.user_counters == {}
    assert any(worker.errors for worker in expected.workers)
    assert not any(worker.errors for worker in found.workers)
