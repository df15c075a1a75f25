"""Following pools that come and go, among files of all kinds."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from obspool.telemetry import watch
from obspool.telemetry.facts import facts_of_this_process
from obspool.telemetry.segment import Segment
from obspool.telemetry.watch import Skip, Watch
from obspool.words import PoolOutcome
from tests.helpers import poll
from tests.synthetic import make_snapshot
from tests.synthetic_segment import write_segment
from tests.telemetry.processes import NOBODY, need_namespaces, need_root, owner, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obspool.telemetry.watch import Ended


@pytest.fixture
def watched() -> Iterator[Watch]:
    """A watch that leaves no descriptor open."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    made = Watch()
    yield made
    made.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def names(ended: tuple[Ended, ...]) -> list[str]:
    return [one.run.facts.name for one in ended]


def test_a_pool_begins_and_ends(watched: Watch) -> None:
    """Another process's pool is new once, lives, and has its last values when it has ended."""
    with owner("nightly") as process:
        first = watched.look()
        assert [run.facts.name for run in first.begun] == ["nightly"]
        assert first.ended == ()
        assert watched.look() == watch.Look((), ())
        (run,) = watched.runs.values()
        assert run.read().alive
        process.close()
        (ended,) = watched.look().ended
    assert ended.snapshot is not None
    assert ended.snapshot.outcome is PoolOutcome.FINISHED
    assert watched.runs == {}
    assert watched.look() == watch.Look((), ())


def test_a_killed_pool_has_died(watched: Watch) -> None:
    """Its lock is gone, whatever its state says."""
    with owner() as process:
        watched.look()
        process.kill()
        (ended,) = watched.look().ended
    assert ended.snapshot is not None
    assert ended.snapshot.outcome is PoolOutcome.DIED


def test_pools_that_came_and_went_between_two_looks_are_seen_once(
    watched: Watch, obspool_dir: Path
) -> None:
    """By their end."""
    for name, now in (("late", 1_750_000_100.0), ("early", 1_750_000_000.0)):
        write_segment(
            obspool_dir, make_snapshot(2, name=name, now=now, outcome=PoolOutcome.FINISHED)
        )
    assert names(watched.look().ended) == ["early", "late"]
    assert watched.look() == watch.Look((), ())


def test_the_last_values_are_there_when_the_file_has_gone(
    watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With OBSPOOL_KEEP=0 the file goes with its pool."""
    monkeypatch.setenv("OBSPOOL_KEEP", "0")
    with owner() as process:
        watched.look()
        process.close()
        assert not Path(process.path).exists()
        (ended,) = watched.look().ended
    assert ended.snapshot is not None
    assert ended.snapshot.outcome is PoolOutcome.FINISHED


def test_a_copy_is_the_same_run(watched: Watch, obspool_dir: Path) -> None:
    """A run counts once, however many files show it, now and in a later life of the exporter."""
    path = write_segment(obspool_dir, make_snapshot(2), outcome=PoolOutcome.DIED)
    assert len(watched.look().ended) == 1
    shutil.copy(path, obspool_dir / "copy.obspool")
    assert watched.look().ended == ()
    later = Watch(watched.done)
    assert later.look().ended == ()
    later.close()


def test_a_segment_in_memory_is_followed(watched: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wide look finds a pool without a file, and its last values after it has gone."""
    prelude = "from obspool.telemetry import place; place.candidates = lambda: []\n"
    with owner(prelude=prelude) as process:
        assert watched.look(wide=False).begun == ()
        assert [run.facts.name for run in watched.look().begun] == ["nightly"]
        process.close()
        (ended,) = watched.look(wide=False).ended
    assert ended.snapshot is not None
    assert ended.snapshot.outcome is PoolOutcome.FINISHED


def test_this_process_keeps_the_locks_of_its_own_pools(watched: Watch) -> None:
    """Following a pool of this very process doesn't end it."""
    segment = Segment.create(facts_of_this_process("own", "processes", "fork"), 2)
    try:
        assert len(watched.look().begun) == 1
        watched.close()
        again = Watch()
        assert len(again.look().begun) == 1
    finally:
        segment.close(PoolOutcome.FINISHED)
    assert names(again.look().ended) == ["own"]


def test_what_is_no_segment_is_counted_and_the_rest_followed(
    watched: Watch, obspool_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Foreign files, a half-written one, a symlink, a FIFO; each is logged once, with why."""
    good = write_segment(obspool_dir, make_snapshot(2), outcome=PoolOutcome.FINISHED)
    (obspool_dir / "empty.obspool").touch()
    (obspool_dir / "foreign.obspool").write_bytes(b"a" * 10_000)
    half = obspool_dir / "half.obspool"
    half.write_bytes(good.read_bytes()[:-4096])
    (obspool_dir / "link.obspool").symlink_to(good)
    os.mkfifo(obspool_dir / "fifo.obspool")
    with caplog.at_level("INFO", logger="obspool"):
        assert names(watched.look().ended) == ["nightly"]
        watched.look()
    assert watched.skipped() == {**dict.fromkeys(Skip, 0), Skip.UNREADABLE: 3, Skip.REFUSED: 2}
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 5
    assert f"skipped {half}: cut short" in " ".join(said)
    half.unlink()
    watched.look()
    assert watched.skipped()[Skip.UNREADABLE] == 2


def test_a_half_written_file_is_taken_when_it_is_whole(watched: Watch, obspool_dir: Path) -> None:
    """A skipped file is looked at again when it has changed."""
    path = write_segment(obspool_dir, make_snapshot(2), outcome=PoolOutcome.FINISHED)
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    assert watched.look().ended == ()
    path.write_bytes(whole)
    assert names(watched.look().ended) == ["nightly"]
    assert not any(watched.skipped().values())


def test_a_segment_that_is_cut_while_it_lives_ends(watched: Watch) -> None:
    """Whoever truncates a live segment takes its last values, and nothing else."""
    with owner() as process:
        watched.look()
        os.truncate(process.path, 100)
        process.kill()
        (ended,) = watched.look().ended
    assert ended.snapshot is None


def test_too_many_files_are_a_counted_skip(
    watched: Watch, obspool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory beyond the bound, and pools beyond theirs: both show, neither stops the rest."""
    monkeypatch.setattr("obspool.telemetry.registry.MAX_FILES", 3)
    for number in range(5):
        (obspool_dir / f"{number}.obspool").write_bytes(b"no")
    watched.look()
    assert watched.skipped()[Skip.UNREADABLE] == 3
    assert watched.skipped()[Skip.DIRECTORY] == 1
    for path in obspool_dir.iterdir():
        path.unlink()
    monkeypatch.setattr(watch, "MAX_RUNS", 1)
    with owner("one"), owner("two") as second:
        assert len(watched.look().begun) == 1
        assert watched.skipped()[Skip.LIMIT] == 1
        second.close()
        poll(lambda: not watched.skipped()[Skip.LIMIT] or watched.look())
        monkeypatch.setattr(watch, "MAX_RUNS", 9)
        watched.look()
        assert len(watched.done) + len(watched.runs) == 2


def test_an_unreadable_directory_is_a_counted_skip(
    watched: Watch, obspool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OBSPOOL_DIR that can't be listed, for want of rights or because it is a file."""
    file = obspool_dir / "file"
    file.touch()
    monkeypatch.setenv("OBSPOOL_DIR", str(file))
    watched.look()
    assert watched.skipped()[Skip.DIRECTORY] == 1
    monkeypatch.setenv("OBSPOOL_DIR", str(obspool_dir))
    watched.look()
    assert watched.skipped()[Skip.DIRECTORY] == 0


def test_the_log_is_not_filled(
    watched: Watch,
    obspool_dir: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From some number on, skipped files are only counted."""
    monkeypatch.setattr(watch, "MAX_LOGGED", 3)
    for number in range(9):
        (obspool_dir / f"{number}.obspool").touch()
    with caplog.at_level("INFO", logger="obspool"):
        watched.look()
    assert len(caplog.records) == 4
    assert "only counted" in caplog.records[-1].getMessage()


def test_a_pool_of_another_pid_namespace_is_followed(watched: Watch) -> None:
    """Its end as well: a lock knows no pid namespaces."""
    command = need_namespaces("--pid", "--fork", "--kill-child")
    with owner("inside", *command) as process:
        (run,) = watched.look().begun
        assert run.is_alive()
        process.close()
        (ended,) = watched.look().ended
    assert ended.snapshot is not None
    assert ended.snapshot.outcome is PoolOutcome.FINISHED


def test_another_users_pool_needs_no_more_than_a_group(obspool_dir: Path) -> None:
    """A watch of another user follows what OBSPOOL_GROUP shares, and counts what isn't."""
    need_root()
    obspool_dir.chmod(0o755)
    environment = os.environ | {"OBSPOOL_GROUP": str(NOBODY)}
    code = f"""
import os, sys
from obspool.telemetry.watch import Watch
from obspool.telemetry import facts, place, reader
os.setgroups([{NOBODY}]); os.setgid({NOBODY}); os.setuid({NOBODY})
watch = Watch()
look = watch.look()
print(*sorted(run.facts.name for run in look.begun), dict(watch.skipped())["refused"])
"""
    with owner("shared", env=environment), owner("private"):
        assert run(code).split() == ["shared", "1"]
