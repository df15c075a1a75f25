"""The pools of this host: which run, which ended lately, and which files are none.

Looked at are the directories of `place.searched`, the segments that this process itself keeps in
memory, and, through /proc, those of other processes whose file isn't (or no longer) in a directory:
logind empties /dev/shm when a user's last session ends.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from obspool.errors import PoolNotFoundError, SegmentError
from obspool.telemetry import own, place, reader, retention, source
from obspool.telemetry.head import read_head

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from obspool.telemetry.facts import PoolFacts
    from obspool.telemetry.snapshot import Snapshot
    from obspool.words import PoolOutcome, PoolState

# What one look takes at most, so that a directory full of anything, or a server with a million
# descriptors, can't hold a screen or a scrape up.
MAX_FILES = 1000
MAX_DESCRIPTORS = 20_000  # some 5 µs each
_DELETED = " (deleted)"
_MEMORY = "/memfd:"


@dataclass(frozen=True, slots=True)
class PoolEntry:
    """A pool whose segment is there to read.

    Attributes:
        path: of the segment's file; of a descriptor (/proc/PID/fd/N) for one without.
        alive: whether its owner lives and hasn't ended the pool.
        outcome: None while it lives.
        ended_time: None while it lives; of one that died, when it was last heard of.
    """

    path: str
    facts: PoolFacts
    alive: bool
    state: PoolState
    outcome: PoolOutcome | None
    ended_time: float | None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file among the segments that couldn't be read as one, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What one look found: live pools by their start, then ended ones, the latest first."""

    entries: tuple[PoolEntry, ...]
    skipped: tuple[Skipped, ...]


def directories() -> list[Path]:
    """Return the directories that are searched, those of this user first."""
    return list(place.searched())


def list_pools() -> Listing:
    """List the pools that this process may read. Never raises for what others left lying around."""
    entries: dict[tuple[int, int], PoolEntry] = {}
    skipped: list[Skipped] = []
    for path in _paths(skipped):
        try:
            status = Path(path).stat(follow_symlinks=source.is_descriptor(path))
            identity = status.st_dev, status.st_ino
            if identity not in entries:
                entries[identity] = _entry(path)
        except FileNotFoundError:
            continue  # it was swept, or its process ended, since it was listed
        except SegmentError as error:
            skipped.append(Skipped(path, str(error).removeprefix(f"{path}: ")))
        except OSError as error:
            skipped.append(Skipped(path, error.strerror or str(error)))
    ordered = sorted(entries.values(), key=_order)
    return Listing(tuple(ordered), tuple(skipped))


def matches(text: str, listing: Listing | None = None) -> tuple[PoolEntry, ...]:
    """Return the pools that a name or a pid means: live ones if there are any, else ended ones.

    Ended pools of one name are its runs, of which the latest is meant; the pools of one process
    are different pools, of which all are returned.

    Args:
        text: a name, or else a pid (as the pool's own pid namespace numbers it).
        listing: where to look; None for a new one.
    """
    entries = (listing or list_pools()).entries
    named = [entry for entry in entries if entry.facts.name == text]
    if named:
        return _living(named) or (named[0],)
    if not (text.isascii() and text.isdigit()):
        return ()
    of_pid = [entry for entry in entries if str(entry.facts.pid) == text]
    return _living(of_pid) or tuple(of_pid)


def find(text: str) -> PoolEntry:
    """Return the one pool that a name or a pid means.

    Raises:
        PoolNotFoundError: there is none, or more than one; the message lists those there are.
    """
    listing = list_pools()
    found = matches(text, listing)
    if len(found) == 1:
        return found[0]
    if found:
        raise PoolNotFoundError(f"{len(found)} pools are meant by {text!r}: {_named(found)}")
    living = _living(listing.entries)
    running = f"running are: {_named(living)}" if living else "no pool is running"
    raise PoolNotFoundError(f"no pool has the name or pid {text!r}; {running}")


def read(entry: PoolEntry) -> Snapshot:
    """Read a pool's segment.

    Raises:
        SegmentError: what is there can't be read by this version.
        OSError: nothing is there any more.
    """
    return reader.read(entry.path)


def sweep() -> int:
    """Remove this user's ended segments that aren't to be kept; return how many files went."""
    return sum(retention.sweep(directory) for directory in place.searched())


def _living(entries: Sequence[PoolEntry]) -> tuple[PoolEntry, ...]:
    return tuple(entry for entry in entries if entry.alive)


def _named(entries: Sequence[PoolEntry]) -> str:
    return ", ".join(f"{entry.facts.name} (pid {entry.facts.pid})" for entry in entries)


def _order(entry: PoolEntry) -> tuple[bool, float, str]:
    if entry.alive:
        return False, entry.facts.start_time, entry.facts.name
    return True, -(entry.ended_time or entry.facts.start_time), entry.facts.name


def _entry(path: str) -> PoolEntry:
    head = read_head(path)
    return PoolEntry(path, head.facts, head.alive, head.state, head.outcome, head.ended_time)


def _paths(skipped: list[Skipped]) -> Iterator[str]:
    for directory in place.searched():
        yield from files(directory, skipped)
    for segment in own.segments():
        if segment.fd >= 0 and segment.published:
            yield f"/proc/{os.getpid()}/fd/{segment.fd}"
    yield from descriptors(skipped)


def files(directory: Path, skipped: list[Skipped]) -> Iterator[str]:
    """Yield the paths of what is called a segment in a directory, a bounded number of them."""
    count = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if not entry.name.endswith(place.SUFFIX):
                    continue
                count += 1
                if count > MAX_FILES:
                    skipped.append(Skipped(str(directory), f"more than {MAX_FILES} segments"))
                    return
                yield entry.path
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            skipped.append(Skipped(str(directory), error.strerror or str(error)))


def descriptors(skipped: list[Skipped]) -> Iterator[str]:
    """Yield descriptors of other processes that are segments without a name in a directory."""
    prefixes = tuple(f"{directory}/" for directory in place.searched())
    count = 0
    for process in _processes():
        try:
            numbers = os.listdir(f"{process}/fd")  # noqa: PTH208 - see below
        except OSError:
            continue  # it ended, or it isn't ours to look at
        for number in numbers:
            count += 1
            if count > MAX_DESCRIPTORS:
                text = f"only the first {MAX_DESCRIPTORS} open files were looked at"
                skipped.append(Skipped("/proc", text))
                return
            path = f"{process}/fd/{number}"
            if _is_nameless(path, prefixes):
                yield path


def _processes() -> list[str]:
    """Return /proc/PID of the other processes of this user; of all users, for root."""
    uid = os.geteuid()
    me = str(os.getpid())
    found = []
    try:
        with os.scandir("/proc") as entries:
            for entry in entries:
                if entry.name.isdigit() and entry.name != me:
                    try:
                        owner = entry.stat(follow_symlinks=False).st_uid
                    except OSError:
                        continue  # it ended
                    if uid in {0, owner}:
                        found.append(entry.path)
    except OSError:
        return []  # macOS
    return found


def _is_nameless(path: str, prefixes: tuple[str, ...]) -> bool:
    try:
        # There may be tens of thousands of descriptors; a Path costs more than the call itself.
        name = os.readlink(path)  # noqa: PTH115
    except OSError:
        return False  # it was closed
    if not name.endswith(_DELETED):
        return False
    name = name.removesuffix(_DELETED)
    if name.startswith(_MEMORY):
        return place.is_memory_name(name.removeprefix(_MEMORY))
    return name.endswith(place.SUFFIX) and name.startswith(prefixes)
