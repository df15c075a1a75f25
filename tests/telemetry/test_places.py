"""Where segments go when a directory has no room, isn't ours, is shared, or vanishes."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from obspool.telemetry import facts, place, reader, registry
from obspool.telemetry.layout import MOST_SLOTS
from obspool.telemetry.segment import Segment
from obspool.words import PoolOutcome
from tests.helpers import poll
from tests.telemetry.processes import (
    AS_NOBODY,
    NOBODY,
    look,
    need_namespaces,
    need_root,
    owner,
    run,
    small_tmpfs,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MEBIBYTE = 1 << 20


@contextmanager
def created(name: str = "nightly", slots: int = 64) -> Iterator[Segment]:
    """Make a segment that is closed afterwards."""
    segment = Segment.create(facts.facts_of_this_process(name, "processes", "fork"), slots)
    try:
        yield segment
    finally:
        segment.close(PoolOutcome.FINISHED)


@pytest.fixture
def small(obspool_dir: Path) -> Iterator[Path]:
    """A tmpfs of 4 MiB, as OBSPOOL_DIR would be in a container with little shared memory."""
    with small_tmpfs(obspool_dir, "4m") as directory:
        yield directory


def _store_everywhere(segment: Segment) -> None:
    """Touch each page, as the pool's work will: on a sparse file of a full tmpfs that is SIGBUS."""
    for word in range(segment.layout.pool, segment.layout.words, 512):
        segment.cells[word] = 1


def test_a_tmpfs_of_4_mib_holds_segments_until_it_is_full(
    small: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Those that don't fit any more are in memory, with one INFO line each, and work."""
    monkeypatch.setenv("OBSPOOL_DIR", str(small))
    made = []
    with caplog.at_level(logging.INFO, "obspool"):
        for number in range(10):
            described = facts.facts_of_this_process("nightly", "processes", "fork")
            made.append(Segment.create(described, 64))
            _store_everywhere(made[number])
    on_disk = [segment for segment in made if segment.path]
    in_memory = [segment for segment in made if segment.path is None]
    assert (len(on_disk), len(in_memory)) == (5, 5)
    assert len(caplog.records) == 5
    assert "No space left" in caplog.text
    assert not [entry for entry in small.iterdir() if entry.name.endswith(".tmp")]
    assert len({segment.facts.name for segment in made}) == 10
    listed = registry.list_pools()
    assert (len(listed.entries), listed.skipped) == (10, ())
    assert sum(look()["alive"].values()) == 10
    for segment in made:
        segment.close(PoolOutcome.FINISHED)


def test_a_full_place_is_passed_over_for_the_next(
    small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, obspool_dir: Path
) -> None:
    """Without OBSPOOL_DIR: shared memory, then the runtime directory, then the temp directory."""
    monkeypatch.delenv("OBSPOOL_DIR")
    monkeypatch.setattr(place, "SHARED_MEMORY", small)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(place.tempfile, "tempdir", str(obspool_dir))  # type: ignore[attr-defined]
    with created() as first:
        assert Path(first.path or "").parent.parent == small
        (small / "ballast").write_bytes(bytes(os.statvfs(small).f_bavail * 4096))
        with created("next") as second:
            _store_everywhere(second)
            assert Path(second.path or "").parent == tmp_path / "obspool"
            names = {entry.facts.name for entry in registry.list_pools().entries}
            assert {"nightly", "next"} <= names
        shutil.rmtree(tmp_path)
        with created("last") as third:
            assert Path(third.path or "").parent == obspool_dir / f"obspool-{os.geteuid()}"


def test_a_read_only_place_gives_a_segment_in_memory(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's read-only root file system."""
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    monkeypatch.setenv("OBSPOOL_DIR", str(small))
    with created() as segment:
        _store_everywhere(segment)
        assert segment.path is None
        assert reader.read(segment).alive
        assert look()["alive"] == {"nightly": True}


def test_a_directory_without_rights_gives_a_segment_in_memory(
    monkeypatch: pytest.MonkeyPatch, obspool_dir: Path
) -> None:
    """Nobody may write below another user's directory."""
    need_root()
    obspool_dir.chmod(0o755)
    monkeypatch.setenv("OBSPOOL_DIR", str(obspool_dir / "mine"))
    with owner(prelude=AS_NOBODY) as other:
        assert other.path == "None"
        assert look()["alive"] == {"nightly": True}


@pytest.mark.parametrize("kind", ["file", "symlink"])
def test_what_is_no_directory_is_not_used(
    kind: str, monkeypatch: pytest.MonkeyPatch, obspool_dir: Path
) -> None:
    """A symlink could lead anywhere."""
    given = obspool_dir / "given"
    if kind == "file":
        given.touch()
    else:
        (obspool_dir / "elsewhere").mkdir()
        given.symlink_to(obspool_dir / "elsewhere")
    monkeypatch.setenv("OBSPOOL_DIR", str(given))
    with created() as segment:
        assert segment.path is None


def test_a_directory_that_others_may_write_to_is_not_used(
    monkeypatch: pytest.MonkeyPatch, obspool_dir: Path
) -> None:
    """Somebody could replace the files in it."""
    monkeypatch.delenv("OBSPOOL_DIR")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(place, "SHARED_MEMORY", obspool_dir)
    monkeypatch.setattr(place.tempfile, "tempdir", str(obspool_dir / "none"))  # type: ignore[attr-defined]
    directory = obspool_dir / f"obspool-{os.geteuid()}"
    directory.mkdir()
    directory.chmod(0o770)
    with created() as segment:
        assert segment.path is None
    directory.chmod(0o700)
    with created() as segment:
        assert Path(segment.path or "").parent == directory


def test_the_segment_in_memory_is_found_by_others_and_vanishes(
    monkeypatch: pytest.MonkeyPatch, obspool_dir: Path
) -> None:
    """Through /proc; with another OBSPOOL_DIR it isn't shown; with its process it is gone."""
    (obspool_dir / "file").touch()
    here = str(obspool_dir / "file")
    monkeypatch.setenv("OBSPOOL_DIR", here)
    with owner() as other:
        assert other.path == "None"
        entry = registry.find("nightly")
        assert entry.path.startswith(f"/proc/{other.process.pid}/fd/")
        assert registry.read(entry).alive
        elsewhere = {**os.environ, "OBSPOOL_DIR": str(obspool_dir)}
        assert look(env=elsewhere)["alive"] == {}
        other.kill()
        poll(lambda: not registry.list_pools().entries)
        with pytest.raises(OSError, match="No such file"):
            registry.read(entry)


def test_an_unlinked_segment_is_found_through_proc(obspool_dir: Path) -> None:
    """Logind empties /dev/shm when a user's last session ends; the pool goes on."""
    with owner() as other:
        Path(other.path).unlink()
        entry = registry.find("nightly")
        assert entry.alive
        assert entry.path.startswith(f"/proc/{other.process.pid}/fd/")
        assert registry.read(entry).facts.pid == other.process.pid
        shutil.rmtree(obspool_dir)
        obspool_dir.mkdir(0o700)
        assert registry.find(str(other.process.pid)).alive


def test_the_own_unlinked_segment_is_found_and_kept_locked() -> None:
    """In the owner's process nothing may be opened."""
    with created() as segment:
        Path(segment.path or "").unlink()
        assert registry.find("nightly").alive
        registry.read(registry.find("nightly"))
        assert look()["alive"] == {"nightly": True}


def test_a_pool_of_another_pid_namespace_is_alive() -> None:
    """A record lock doesn't care for pids; the one shown is the pool's own."""
    command = need_namespaces("--pid", "--fork", "--kill-child", "--mount-proc")
    with owner("contained", *command) as other:
        entry = registry.find("contained")
        assert entry.alive
        assert entry.facts.pid == 1
        assert entry.facts.pid_namespace != facts.facts_of_this_process("x", "", "").pid_namespace
        assert entry.path == other.path
        other.close()
        assert registry.find("contained").outcome is PoolOutcome.FINISHED


def test_from_within_another_pid_namespace_a_pool_is_alive() -> None:
    """A sidecar in a container of its own."""
    command = need_namespaces("--pid", "--fork", "--kill-child", "--mount-proc")
    code = "from obspool.telemetry import registry; print(registry.find('nightly').alive)"
    with created():
        done = subprocess.run(
            [*command, "python3", "-c", code],
            capture_output=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert done.stdout == b"True\n", done.stderr


def test_another_user_sees_nothing(obspool_dir: Path) -> None:
    """Files are 0600 in a directory 0700; also when the directory is open."""
    need_root()
    with created() as segment:
        path = segment.path or ""
        assert look(AS_NOBODY)["alive"] == {}
        obspool_dir.chmod(0o755)
        found = look(AS_NOBODY)
        assert found["alive"] == {}
        assert "which doesn't share it" in found["skipped"][path]


def test_root_sees_the_pools_of_all_users(
    monkeypatch: pytest.MonkeyPatch, obspool_dir: Path
) -> None:
    """A directory that anybody may write to gets one for each user below it."""
    need_root()
    shared = obspool_dir / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    obspool_dir.chmod(0o755)
    monkeypatch.setenv("OBSPOOL_DIR", str(shared))
    with owner("theirs", prelude=AS_NOBODY) as other, created("mine") as mine:
        assert Path(other.path).parent == shared / f"obspool-{NOBODY}"
        assert Path(mine.path or "").parent == shared / f"obspool-{os.geteuid()}"
        names = {entry.facts.name: entry.facts.uid for entry in registry.list_pools().entries}
        assert names == {"theirs": NOBODY, "mine": os.geteuid()}
        assert look(AS_NOBODY)["alive"] == {"theirs": True}
        other.kill()
        assert look()["outcome"]["theirs"] == PoolOutcome.DIED
    monkeypatch.setenv("OBSPOOL_KEEP", "0.0001")
    registry.sweep()
    assert Path(other.path).exists(), "only the owning user sweeps"


def test_obspool_group_shares_segments_with_a_group(
    monkeypatch: pytest.MonkeyPatch, obspool_dir: Path
) -> None:
    """A sidecar's user of that group reads; nobody but the owner writes."""
    need_root()
    shared = obspool_dir / "shared"
    obspool_dir.chmod(0o755)
    monkeypatch.setenv("OBSPOOL_DIR", str(shared))
    monkeypatch.setenv("OBSPOOL_GROUP", "4711")
    with created() as segment:
        path = Path(segment.path or "")
        assert (path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (4711, 0o640)
        assert (shared.stat().st_gid, stat.S_IMODE(shared.stat().st_mode)) == (4711, 0o750)
        assert look(AS_NOBODY)["alive"] == {}
        member = {**os.environ, "TEST_GROUPS": "4711"}
        assert look(AS_NOBODY, env=member)["alive"] == {"nightly": True}
        path.chmod(0o660)
        reason = look(AS_NOBODY, env=member)["skipped"][str(path)]
        assert reason == "belongs to uid 0, which doesn't share it (OBSPOOL_GROUP)"


def test_an_unknown_group_is_told_and_shares_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Telemetry never breaks work."""
    monkeypatch.setenv("OBSPOOL_GROUP", "no-such-group")
    with caplog.at_level(logging.INFO, "obspool"), created() as segment:
        assert stat.S_IMODE(Path(segment.path or "").stat().st_mode) == 0o600
    assert "OBSPOOL_GROUP" in caplog.text


def test_a_pool_does_not_grow_where_there_is_no_room(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error, and nothing else has changed; then there is room for less."""
    monkeypatch.setenv("OBSPOOL_DIR", str(small))
    with created() as segment:
        with pytest.raises(OSError, match="No space left"):
            segment.grow(MOST_SLOTS)
        assert len(reader.read(segment).workers) == 0
        segment.grow(64)
        _store_everywhere(segment)
        assert reader.read(segment.path or "").alive
        with pytest.raises(ValueError, match=f"at most {MOST_SLOTS} workers"):
            segment.grow(MOST_SLOTS + 1)


def test_a_limit_on_the_size_of_files_stops_no_pool() -> None:
    """Under `ulimit -f` not even a memfd can grow; forked workers still share plain memory."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "from obspool.telemetry import facts, reader; from obspool.telemetry.segment import *;"
        "s = Segment.create(facts.facts_of_this_process('x', 'processes', 'fork'), 2);"
        "s.cells[s.layout.words - 1] = 3; print(s.path, s.fd, reader.read(s).alive);"
        "s.close(PoolOutcome.FINISHED)"
    )
    assert run(code).split() == ["None", "-1", "True"]


def test_without_memfds_an_unlinked_file_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setenv("OBSPOOL_DIR", "/dev/null/none")
    with created() as segment:
        _store_everywhere(segment)
        assert segment.path is None
        assert os.fstat(segment.fd).st_nlink == 0
        assert reader.read(segment).alive


def test_the_places_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """OBSPOOL_DIR is the only one if it is set."""
    uid = os.geteuid()
    monkeypatch.setenv("OBSPOOL_DIR", str(tmp_path / "here"))
    assert place.candidates() == [tmp_path / "here"]
    monkeypatch.delenv("OBSPOOL_DIR")
    monkeypatch.setattr(place, "SHARED_MEMORY", tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    monkeypatch.setattr(place.tempfile, "tempdir", "/somewhere")  # type: ignore[attr-defined]
    assert place.candidates() == [
        tmp_path / f"obspool-{uid}",
        Path("/run/user/7/obspool"),
        Path(f"/somewhere/obspool-{uid}"),
    ]
    monkeypatch.setattr(place, "SHARED_MEMORY", tmp_path / "missing")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert place.candidates() == [Path(f"/somewhere/obspool-{uid}")]
