"""Listing, finding and sweeping the pools of a host."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import TYPE_CHECKING

import pytest

from obspool.errors import PoolNotFoundError
from obspool.telemetry import header, registry, retention
from obspool.telemetry.facts import facts_of_this_process
from obspool.telemetry.segment import Segment
from obspool.words import PoolOutcome, PoolState
from tests.synthetic import make_snapshot
from tests.synthetic_segment import live_segment, write_segment
from tests.telemetry.processes import owner

if TYPE_CHECKING:
    from pathlib import Path

    from obspool.telemetry.snapshot import Snapshot

HOUR = 3600.0


def _ended(directory: Path, name: str, ago: float, pid: int = 5) -> Path:
    """Write a segment of a pool that finished so many seconds ago, and set its file's time so."""
    moment = time.time() - ago
    shown: Snapshot = make_snapshot(1, name=name, now=moment + 20, outcome=PoolOutcome.FINISHED)
    shown = dataclasses.replace(shown, facts=dataclasses.replace(shown.facts, pid=pid))
    path = write_segment(directory, shown)
    os.utime(path, (moment, moment))
    return path


def _died(directory: Path, name: str, last_heard: float, touched: float) -> Path:
    """Write one that was killed: heard of, and its file touched, so many seconds ago."""
    now = time.time()
    shown = make_snapshot(1, name=name, now=now - last_heard + 0.25)
    path = write_segment(directory, shown)
    os.utime(path, (now - touched, now - touched))
    return path


def test_live_pools_come_first_then_the_latest_end(obspool_dir: Path) -> None:
    """Ended ones are told apart, with their outcome and time."""
    _ended(obspool_dir, "old", 300)
    _ended(obspool_dir, "new", 100)
    with owner("killed") as other:
        other.kill()
    with live_segment(make_snapshot(name="alive")):
        entries = registry.list_pools().entries
    found = [(entry.facts.name, entry.alive, entry.outcome) for entry in entries]
    assert found[0] == ("alive", True, None)
    assert found[1:] == [
        ("killed", False, PoolOutcome.DIED),  # it was never heard of after its start
        ("new", False, PoolOutcome.FINISHED),
        ("old", False, PoolOutcome.FINISHED),
    ]
    assert {entry.state for entry in entries[1:]} == {PoolState.ENDED}
    assert entries[1].ended_time == entries[1].facts.start_time


def test_a_killed_owners_pool_has_died() -> None:
    """Nobody has to notice: the kernel released the lock."""
    with owner() as other:
        assert registry.find("nightly").alive
        other.kill()
        entry = registry.find("nightly")
    assert (entry.alive, entry.outcome) == (False, PoolOutcome.DIED)
    assert registry.read(entry).state is PoolState.ENDED


def test_find_by_name_or_pid(obspool_dir: Path) -> None:
    """A name goes before a pid; of several runs of a name the live one, else the latest."""
    _ended(obspool_dir, "nightly", 300, pid=300)
    _ended(obspool_dir, "nightly", 100, pid=100)
    _ended(obspool_dir, "300", 50, pid=50)
    assert registry.find("nightly").facts.pid == 100
    assert registry.find("100").facts.name == "nightly"
    assert registry.find("300").facts.pid == 50
    with live_segment():
        assert registry.find("nightly").alive


def test_a_pid_with_several_pools_is_an_error_that_lists_them() -> None:
    """Which of them is meant only the caller knows."""
    with live_segment(make_snapshot(name="one")), live_segment(make_snapshot(name="two")):
        pid = str(make_snapshot().facts.pid)
        with pytest.raises(PoolNotFoundError, match=r"one \(pid \d+\), two \(pid \d+\)"):
            registry.find(pid)
        assert [entry.facts.name for entry in registry.matches(pid)] == ["one", "two"]
    assert len(registry.matches(pid)) == 2


def test_what_is_not_found_says_what_runs(obspool_dir: Path) -> None:
    """The error helps with the next try; it is a LookupError too."""
    _ended(obspool_dir, "over", 10)
    with pytest.raises(LookupError, match="no pool is running"):
        registry.find("nightyl")
    with (
        live_segment(),
        pytest.raises(PoolNotFoundError, match=r"'nightyl'; running are: nightly \(pid 41822\)"),
    ):
        registry.find("nightyl")
    assert registry.matches("999999999") == ()


def test_files_that_are_no_segments_are_skipped_with_a_reason(obspool_dir: Path) -> None:
    """Another major version, cut short, foreign, a symlink, a directory: the others are listed."""
    good = _ended(obspool_dir, "good", 10)
    raw = good.read_bytes()
    prefix = list(header.PREFIX.unpack_from(raw))
    newer, other = prefix.copy(), prefix.copy()
    newer[2], other[1] = 2, int.from_bytes(prefix[1].to_bytes(8, "little"), "big")
    files = {
        "major": header.PREFIX.pack(*newer) + raw[header.PREFIX.size :],
        "order": header.PREFIX.pack(*other) + raw[header.PREFIX.size :],
        "short": raw[:20_000],
        "shorter": raw[:1000],
        "tiny": b"OBS",
        "foreign": b"\x7fELF" + raw[4:],
        "nonsense": raw[: header.PREFIX.size] + raw[header.PREFIX.size :].replace(b"{", b"["),
    }
    for name, content in files.items():
        (obspool_dir / f"{name}.x.obspool").write_bytes(content)
    (obspool_dir / "link.x.obspool").symlink_to(good)
    (obspool_dir / "dangling.x.obspool").symlink_to("nowhere")
    (obspool_dir / "directory.x.obspool").mkdir()
    os.mkfifo(obspool_dir / "fifo.x.obspool")
    (obspool_dir / "notes.txt").write_text("not looked at")
    listing = registry.list_pools()
    assert [entry.facts.name for entry in listing.entries] == ["good"]
    reasons = {
        skipped.path.rpartition("/")[2].split(".")[0]: skipped.reason for skipped in listing.skipped
    }
    expected = {
        "major": "segment version 2, and this obspool reads version 1",
        "order": "another byte order",
        "short": "cut short",
        "shorter": "cut short",
        "tiny": "cut short",
        "foreign": "not a segment",
        "nonsense": "no JSON",
        "link": "a symlink",
        "dangling": "a symlink",
        "directory": "not a regular file",
        "fifo": "not a regular file",
    }
    assert set(reasons) == set(expected)
    for name, text in expected.items():
        assert text in reasons[name]
        assert str(obspool_dir) not in reasons[name]


def test_a_directory_full_of_files_is_looked_at_in_part(
    obspool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the listing says so."""
    monkeypatch.setattr(registry, "MAX_FILES", 3)
    for number in range(5):
        _ended(obspool_dir, f"pool-{number}", 10)
    listing = registry.list_pools()
    assert len(listing.entries) == 3
    assert listing.skipped[0].reason == "more than 3 segments"


def test_no_directory_means_no_pools(obspool_dir: Path) -> None:
    """Nothing has run here yet."""
    obspool_dir.rmdir()
    assert registry.list_pools() == registry.Listing((), ())
    assert registry.sweep() == 0
    obspool_dir.mkdir()


def test_ended_segments_are_kept_for_an_hour(obspool_dir: Path) -> None:
    """Of a pool that died the last sign of life counts, not only its file's time."""
    young = _ended(obspool_dir, "young", HOUR - 60)
    old = _ended(obspool_dir, "old", HOUR + 60)
    heard = _died(obspool_dir, "heard", last_heard=60, touched=5 * HOUR)
    silent = _died(obspool_dir, "silent", last_heard=2 * HOUR, touched=2 * HOUR)
    assert registry.sweep() == 2
    assert (young.exists(), old.exists(), heard.exists(), silent.exists()) == (
        True,
        False,
        True,
        False,
    )


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("60", 60.0), ("0.5", 0.5), ("0", 0.0), ("-1", HOUR), ("soon", HOUR), ("nan", HOUR)],
)
def test_the_keep_time_can_be_set(
    value: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OBSPOOL_KEEP, in seconds; what is no time counts as not set."""
    monkeypatch.setenv("OBSPOOL_KEEP", value)
    assert retention.keep_seconds() == seconds


def test_nothing_is_kept_with_a_keep_time_of_0(
    obspool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file goes with its pool."""
    monkeypatch.setenv("OBSPOOL_KEEP", "0")
    with live_segment():
        assert registry.find("nightly").alive
    assert registry.list_pools().entries == ()


def test_a_live_segment_is_never_swept(obspool_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither our own nor another process's, however old, however many there are."""
    monkeypatch.setattr(retention, "MAX_ENDED", 0)
    with live_segment() as segment, owner("theirs") as other:
        for path in (segment.path, other.path):
            assert path is not None
            os.utime(path, (1, 1))
        assert registry.sweep() == 0
        assert len([entry for entry in registry.list_pools().entries if entry.alive]) == 2
        other.kill()
        assert registry.sweep() == 1


def test_the_oldest_beyond_a_number_go_first(
    obspool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the keep time too; a new pool's segment does it."""
    monkeypatch.setattr(retention, "MAX_ENDED", 3)
    paths = [_ended(obspool_dir, f"pool-{number}", 100 + number) for number in range(5)]
    Segment.create(facts_of_this_process("x", "", ""), 1).close(PoolOutcome.FINISHED)
    assert [path.exists() for path in paths] == [True, True, True, False, False]


def test_the_oldest_beyond_a_size_go_first(
    obspool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended pools never fill a container's shared memory."""
    paths = [_ended(obspool_dir, f"pool-{number}", 100 + number) for number in range(5)]
    monkeypatch.setattr(retention, "MAX_ENDED_BYTES", 2 * paths[0].stat().st_size)
    assert registry.sweep() == 3
    assert [path.exists() for path in paths] == [True, True, False, False, False]


def test_unfinished_files_of_dead_writers_are_swept(obspool_dir: Path) -> None:
    """After a minute, in which a living writer has long locked its file."""
    fresh, stale = obspool_dir / ".5-aa.tmp", obspool_dir / ".6-bb.tmp"
    others = obspool_dir / "notes.tmp"
    for path in (fresh, stale, others):
        path.touch()
    for path in (stale, others):
        os.utime(path, (1, 1))
    assert registry.sweep() == 1
    assert (fresh.exists(), stale.exists(), others.exists()) == (True, False, True)


def test_damaged_files_of_ours_are_swept_by_their_time(obspool_dir: Path) -> None:
    """They would be told at each listing for ever."""
    path = obspool_dir / "damaged.x.obspool"
    path.write_bytes(b"nothing")
    assert registry.sweep() == 0
    os.utime(path, (1, 1))
    assert registry.sweep() == 1
