"""A pool's segment from its owner's side: making, publishing, ending; forks and spawned workers."""

from __future__ import annotations

import dataclasses
import gc
import multiprocessing
import os
import shutil
import stat
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from obspool.telemetry import facts, locks, own, place, reader, registry
from obspool.telemetry.cells import attach
from obspool.telemetry.head import read_head
from obspool.telemetry.layout import HEADER_BYTES, POOL, WORD, WORKER
from obspool.telemetry.segment import Segment
from obspool.words import PoolOutcome, PoolState
from tests.synthetic import make_snapshot
from tests.synthetic_segment import live_segment
from tests.telemetry.processes import look, owner, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def create() -> Iterator[Callable[..., Segment]]:
    """Make segments that are closed after the test."""
    made: list[Segment] = []

    def make(name: str = "nightly", slots: int = 2, *, publish: bool = True) -> Segment:
        described = facts.facts_of_this_process(name, "processes", "fork")
        made.append(Segment.create(described, slots, publish=publish))
        return made[-1]

    yield make
    for segment in made:
        segment.close(PoolOutcome.FINISHED)


def _in_child(check: Callable[[], bool]) -> bool:
    """Run the check in a forked child; False also when it raises there."""
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if check() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_file_and_its_directory_are_private(
    create: Callable[..., Segment], monkeypatch: pytest.MonkeyPatch, obspool_dir: Path
) -> None:
    """0600 in 0700, whatever the umask; and all of its room is set aside."""
    directory = obspool_dir / "made"
    monkeypatch.setenv("OBSPOOL_DIR", str(directory))
    before = os.umask(0)
    try:
        path = Path(create().path or "")
    finally:
        os.umask(before)
    assert path.parent == directory
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    status = path.stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_blocks * 512 >= status.st_size


def test_64_slots_take_at_most_a_mebibyte(create: Callable[..., Segment]) -> None:
    """So a container's /dev/shm of 64 MiB holds dozens of pools."""
    assert Path(create(slots=64).path or "").stat().st_size <= 1 << 20


def test_a_taken_name_gets_the_next_free_suffix(create: Callable[..., Segment]) -> None:
    """An ended pool's name is free again."""
    first, second, third = create(), create(), create()
    names = [segment.facts.name for segment in (first, second, third)]
    assert names == ["nightly", "nightly-2", "nightly-3"]
    second.close(PoolOutcome.FINISHED)
    assert create().facts.name == "nightly-2"
    listed = [entry.facts.name for entry in registry.list_pools().entries if entry.alive]
    assert sorted(listed) == ["nightly", "nightly-2", "nightly-3"]


def test_names_are_unique_among_processes(create: Callable[..., Segment]) -> None:
    """Also when it was another process that took the name, and ended ones don't count."""
    with owner() as other:
        assert (other.name, create().facts.name) == ("nightly", "nightly-2")
        other.kill()
    assert create().facts.name == "nightly"


def test_racing_processes_get_different_names() -> None:
    """Names are given out under the directory's lock."""
    context = multiprocessing.get_context("fork")
    start = context.Event()
    done = context.Event()
    names = context.SimpleQueue()

    def race() -> None:
        start.wait()
        described = facts.facts_of_this_process("race", "processes", "fork")
        made = [Segment.create(described, 1) for _ in range(20)]
        names.put([segment.facts.name for segment in made])
        done.wait()
        for segment in made:
            segment.close(PoolOutcome.FINISHED)

    racers = [context.Process(target=race) for _ in range(3)]
    for racer in racers:
        racer.start()
    start.set()
    given = sorted(name for _ in racers for name in names.get())
    done.set()
    for racer in racers:
        racer.join()
    expected = sorted(["race", *(f"race-{number}" for number in range(2, 61))])
    assert given == expected


def test_threads_get_different_names(create: Callable[..., Segment]) -> None:
    """A lock of processes alone would let two threads of one in."""
    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({segment.facts.name for segment in own.segments()}) == 8


def test_a_long_header_moves_everything_behind_it(create: Callable[..., Segment]) -> None:
    """Facts that don't fit make the header grow by whole pages; readers don't care."""
    labels = tuple((f"label_{i}", "\N{SNOWMAN}" * 128) for i in range(16))
    described = facts.facts_of_this_process("big", "processes", "fork")
    segment = Segment.create(dataclasses.replace(described, labels=labels), 2)
    assert segment.layout.header_words * WORD > HEADER_BYTES
    assert segment.layout.header_words % 512 == 0
    segment.cells[segment.layout.pool + POOL["items_submitted"]] = 7
    found = reader.read(segment)
    segment.close(PoolOutcome.FINISHED)
    assert (found.facts.labels, found.items_submitted) == (labels, 7)


def test_close_says_how_and_when(create: Callable[..., Segment]) -> None:
    """The file stays; the second close does nothing; the owner can still read."""
    segment = create()
    assert registry.find("nightly").alive
    segment.close(PoolOutcome.ABANDONED)
    segment.close(PoolOutcome.BROKEN)
    entry = registry.find("nightly")
    assert (entry.alive, entry.state) == (False, PoolState.ENDED)
    assert entry.outcome is PoolOutcome.ABANDONED
    assert entry.ended_time is not None
    assert entry.ended_time >= entry.facts.start_time
    assert reader.read(segment).outcome is PoolOutcome.ABANDONED
    assert segment.fd == -1


def test_stores_after_the_close_hurt_nobody() -> None:
    """A helper thread may be late; its views keep the memory."""
    segment = Segment.create(facts.facts_of_this_process("late", "processes", "fork"), 1)
    cells = segment.cells
    part = cells[segment.layout.pool : segment.layout.pool + 8]
    last = segment.layout.words - 1
    gone = weakref.ref(segment)
    segment.close(PoolOutcome.FINISHED)
    del segment
    gc.collect()
    assert gone() is None
    cells[last] = 5
    part[3] = 6
    assert (cells[last], part[3]) == (5, 6)


def test_a_dropped_segment_releases_its_lock_and_descriptor(obspool_dir: Path) -> None:
    """Readers see a pool that died, also while its process lives on."""
    segment = Segment.create(facts.facts_of_this_process("gone", "processes", "fork"), 1)
    fd = segment.fd
    del segment
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert registry.find("gone").outcome is PoolOutcome.DIED


def test_reading_in_the_owners_process_keeps_the_lock(create: Callable[..., Segment]) -> None:
    """By path, by descriptor of /proc, by listing, by sweeping: another process sees it alive."""
    segment = create()
    path = segment.path
    assert path is not None
    reader.read(path)
    read_head(Path(path))
    reader.read(segment)
    reader.read(segment.fd)
    reader.read(f"/proc/{os.getpid()}/fd/{segment.fd}")
    registry.read(registry.find("nightly"))
    registry.find(str(os.getpid()))
    registry.sweep()
    create("nightly")
    assert look()["alive"]["nightly"] is True


def test_a_lock_that_other_code_dropped_is_taken_back(create: Callable[..., Segment]) -> None:
    """Any close of any descriptor of the file drops it: `hold` repairs that."""
    segment = create()
    with Path(segment.path or "").open("rb"):
        pass
    assert look()["alive"]["nightly"] is False
    segment.hold()
    assert look()["alive"]["nightly"] is True


def test_a_pools_file_never_looks_old(create: Callable[..., Segment]) -> None:
    """The temp directory's own sweeper goes by the file's time."""
    path = Path(create().path or "")
    os.utime(path, (1, 1))
    own.segments()[0].hold()
    assert path.stat().st_mtime == pytest.approx(time.time(), abs=60)


def test_a_forked_child_owns_nothing(create: Callable[..., Segment]) -> None:
    """It can store, being a worker, and can neither end the pool nor drop its lock."""
    segment = create()
    fd, path = segment.fd, segment.path or ""
    at = segment.layout.worker_block(1, 1) + WORKER["busy"]

    def check() -> bool:
        segment.cells[at] = 42
        segment.hold()
        segment.close(PoolOutcome.BROKEN)
        try:
            os.fstat(fd)
        except OSError:
            return segment.fd == -1 and reader.read(path).alive and reader.read(segment).alive
        return False

    assert _in_child(check)
    assert segment.cells[at] == 42
    assert look()["alive"]["nightly"] is True
    assert reader.read(segment).state is PoolState.RUNNING


def test_a_forked_child_can_have_pools_of_its_own(create: Callable[..., Segment]) -> None:
    """Their names differ from the parent's, whose segment it sees as another's."""
    create()

    def check() -> bool:
        described = facts.facts_of_this_process("nightly", "processes", "fork")
        mine = Segment.create(described, 1)
        alive = {entry.facts.name: entry.alive for entry in registry.list_pools().entries}
        mine.close(PoolOutcome.FINISHED)
        return alive == {"nightly": True, "nightly-2": True}

    assert _in_child(check)
    assert look()["alive"] == {"nightly": True, "nightly-2": False}


SPAWNED = """
import sys
from obspool.telemetry.cells import attach
slots, header_words, word = map(int, sys.argv[2:])
attached = attach(int(sys.argv[1]), slots, header_words)
attached.cells[word] = 43
print(attached.layout.words, attached.fd)
"""


def test_a_spawned_worker_attaches_by_descriptor(create: Callable[..., Segment]) -> None:
    """It maps the same words, and its end drops nothing."""
    segment = create()
    layout = segment.layout
    at = layout.worker_block(1, 1) + WORKER["busy"]
    numbers = (segment.fd, layout.slots, layout.header_words, at)
    printed = run(SPAWNED, *map(str, numbers), pass_fds=[segment.fd])
    assert printed.split() == [str(layout.words), "-1"]
    assert segment.cells[at] == 43
    assert look()["alive"]["nightly"] is True


def test_attach_refuses_what_is_no_segment(create: Callable[..., Segment], tmp_path: Path) -> None:
    """A file that is too short would kill the worker at its first store."""
    short = tmp_path / "short"
    short.write_bytes(b"x" * 4096)
    with short.open("r+b") as file, pytest.raises(ValueError, match="shorter than"):
        attach(file.fileno(), 2, 1024)
    with pytest.raises(ValueError, match="no descriptor"):
        attach(-1, 2, 1024)
    with pytest.raises(OSError, match="Bad file descriptor"):
        Segment.attach(10_000, 2, 1024)


def test_a_worker_imports_no_more_than_it_needs() -> None:
    """An import is paid at every recycle under spawn."""
    code = (
        "import sys; before = set(sys.modules); import obspool.telemetry.cells;"
        "print(*sorted(set(sys.modules) - before))"
    )
    loaded = set(run(code).split())
    assert not loaded & {"dataclasses", "inspect", "json", "logging", "tempfile"}


def test_an_unpublished_segment_is_nowhere_to_be_found(create: Callable[..., Segment]) -> None:
    """OBSPOOL_DISABLE: the same cells, no file, no lock, no name; `stats()` still works."""
    segment = create(publish=False)
    assert (segment.path, registry.list_pools().entries, look()["alive"]) == (None, (), {})
    assert create("nightly").facts.name == "nightly"
    segment.cells[segment.layout.pool + POOL["items_submitted"]] = 7
    found = reader.read(segment)
    assert (found.alive, found.items_submitted) == (True, 7)
    segment.close(PoolOutcome.FINISHED)
    assert reader.read(segment).alive is False


def test_no_half_made_file_is_ever_visible(
    create: Callable[..., Segment], monkeypatch: pytest.MonkeyPatch, obspool_dir: Path
) -> None:
    """It gets its name when it is complete and locked, and vanishes when that fails."""
    seen: list[list[str]] = []
    written = Segment._write_header

    def look_then_write(self: Segment) -> None:
        seen.append([entry.name for entry in obspool_dir.iterdir()])
        written(self)

    monkeypatch.setattr(Segment, "_write_header", look_then_write)
    create()
    assert not [name for name in seen[0] if name.endswith(place.SUFFIX)]

    def no_locks(_: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(locks, "take", no_locks)
    assert create("other").path is None
    names = [entry.name for entry in obspool_dir.iterdir()]
    assert len([name for name in names if name.endswith(place.SUFFIX)]) == 1
    assert not [name for name in names if name.endswith(".tmp")]


def test_a_stopped_holder_of_the_directorys_lock_blocks_nobody(
    create: Callable[..., Segment], obspool_dir: Path
) -> None:
    """After a bounded wait the pool goes on without being found."""
    with locks.directory(obspool_dir):
        assert create().path is None
    assert create("next").path is not None


def test_publishing_may_be_put_off_while_the_directory_is_locked(obspool_dir: Path) -> None:
    segment = Segment.prepare(facts.facts_of_this_process("later", "processes", "fork"), 1)
    try:
        with locks.directory(obspool_dir):
            assert not segment.publish(patience=0)
            assert not segment.published
        assert segment.publish(patience=0)
        assert segment.path is not None
    finally:
        segment.close(PoolOutcome.FINISHED)


def test_a_child_forked_under_the_directorys_lock_does_not_keep_it(obspool_dir: Path) -> None:
    """It inherits the descriptor of a lock that belongs to open files."""
    read_end, write_end = os.pipe()
    with locks.directory(obspool_dir):
        child = os.fork()
        if not child:
            os.close(write_end)
            os.read(read_end, 1)
            os._exit(0)
    os.close(read_end)
    with locks.directory(obspool_dir):
        pass
    os.close(write_end)
    os.waitpid(child, 0)


@pytest.mark.parametrize("slots", [-1, 8193])
def test_absurd_numbers_of_slots_are_refused(slots: int) -> None:
    """The reader has the same bound."""
    with pytest.raises(ValueError, match="at most 8192 slots"):
        Segment.create(make_snapshot(1).facts, slots)


def test_names_are_checked_once_more() -> None:
    """A name with a slash would be a path."""
    described = dataclasses.replace(make_snapshot(1).facts, name="../x")
    with pytest.raises(ValueError, match="not a pool's name"):
        Segment.create(described, 1)


def test_live_segment_ends_with_its_block() -> None:
    """The helper of other tests leaves nothing alive."""
    with live_segment() as segment:
        assert registry.find("nightly").alive
    assert not registry.find("nightly").alive
    assert segment.fd == -1


def test_a_prepared_segment_is_found_once_it_is_published(obspool_dir: Path) -> None:
    """Workers can use it before: their start needn't wait for its name."""
    described = facts.facts_of_this_process("nightly", "processes", "fork")
    segment = Segment.prepare(described, 1)
    segment.cells[segment.layout.worker_block(0, 1) + WORKER["busy"]] = 42
    assert not registry.list_pools().entries
    control = str(obspool_dir / f"{2**22}-99.sock")
    segment.publish(control)
    (entry,) = registry.list_pools().entries
    assert (entry.facts.name, entry.facts.control) == ("nightly", control)
    segment.close(PoolOutcome.FINISHED)


def test_a_segment_that_was_never_published_leaves_no_file(obspool_dir: Path) -> None:
    """Its pool could not be opened."""
    Segment.prepare(facts.facts_of_this_process("x", "", ""), 1).close(PoolOutcome.ABANDONED)
    assert not list(obspool_dir.iterdir())


def test_a_directory_that_goes_while_the_workers_start_stops_no_pool(
    obspool_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The pool works, and says that it can't be found."""
    segment = Segment.prepare(facts.facts_of_this_process("x", "", ""), 1)
    shutil.rmtree(obspool_dir)
    with caplog.at_level("INFO", "obspool"):
        segment.publish()
    obspool_dir.mkdir(0o700)
    assert "pool x: its telemetry can't be found" in caplog.text
    assert not segment.published
    segment.cells[segment.layout.words - 1] = 1
    segment.close(PoolOutcome.FINISHED)


def test_a_segment_does_not_grow_after_its_end() -> None:
    """It has no descriptor any more; its last reading would be beyond its file."""
    segment = Segment.create(facts.facts_of_this_process("over", "processes", "fork"), 1)
    segment.close(PoolOutcome.FINISHED)
    segment.grow(100)
    assert reader.read(segment).outcome is PoolOutcome.FINISHED
