"""Follows the pools of this host, those that come and go between two looks included.

    look(): the directories are listed, the locks of the pools that lived asked for
              │                          │                       │
        new and alive              new and ended            its lock is gone
              ▼                          ▼                       ▼
           a Run, kept open           its last values, then it is forgotten

A look costs a listing and 2 µs for each pool that lives; the segments themselves are read when
somebody wants numbers, and once at a pool's end. The descriptor stays open all the while, so that
the last values are to be had also of a pool whose file went with it (OBSPOOL_KEEP=0, a memfd, a
directory that was emptied).
"""

from __future__ import annotations

import logging
import os
import resource
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from obspool.errors import SegmentError
from obspool.telemetry import locks, own, place, reader, registry, source
from obspool.telemetry.cells import SegmentCells
from obspool.telemetry.head import read_head

if TYPE_CHECKING:
    from collections.abc import Iterable

    from obspool.telemetry.facts import PoolFacts
    from obspool.telemetry.snapshot import Snapshot

# Which run of a pool a segment is of, whatever its path: copies and links are one run.
RunKey: TypeAlias = tuple[int, str, int, int, float, str]

# Pools that are followed at a time: each takes a descriptor.
MAX_RUNS = 2000
_SPARE_DESCRIPTORS = 200  # for clients, and for all else that a process opens
# Ended runs that are remembered by more than their path; a segment stays for an hour, and some
# hundred of them in each directory.
MAX_REMEMBERED = 5000
# Lines about skipped files that are logged in a process's life: whoever may write to a directory
# must not fill the log with it.
MAX_LOGGED = 100

_log = logging.getLogger("obspool")


class Skip(StrEnum):
    """Why a file among the segments isn't followed; the label `reason` of the exporter's gauge."""

    REFUSED = "refused"  # another user's who doesn't share it, a symlink, no regular file
    UNREADABLE = "unreadable"  # no segment, one that is cut short, one of another version
    DIRECTORY = "directory"  # can't be listed, or has too much in it
    ERROR = "error"  # the system said no: too many open files, for example
    LIMIT = "limit"  # more pools at a time than are followed


# For these a file is looked at again when it has changed only.
_LASTING = (Skip.REFUSED, Skip.UNREADABLE)


@dataclass(eq=False)
class Run:
    """A pool that lived when it was last looked at.

    Attributes:
        key: tells it from all other runs.
        facts: of its header.
        uid: who owns the file, which is more than what the header says.
    """

    key: RunKey
    facts: PoolFacts
    uid: int
    _target: int | SegmentCells

    def is_alive(self) -> bool:
        """Tell whether the pool lives; where there are no locks, by what its segment says."""
        if isinstance(self._target, SegmentCells):
            return self._target.held() is not False
        try:
            return locks.held_by_another(self._target)
        except OSError:
            return read_head(self._target).alive

    def read(self) -> Snapshot:
        """Read the segment, but for the last errors of items.

        Raises:
            SegmentError: it can't be read any more: somebody has cut it, or written over it.
            OSError: the file system is gone.
        """
        return reader.read(self._target, errors=False)

    def close(self) -> None:
        """Let go of the segment."""
        _close(self._target)


@dataclass(frozen=True)
class Ended:
    """A run that has ended; `snapshot` is None when its last values couldn't be read."""

    run: Run
    snapshot: Snapshot | None


@dataclass(frozen=True)
class Look:
    """What has changed since the look before.

    Attributes:
        ended: by their end; also those that nobody has seen alive.
        begun: by their start.
    """

    ended: tuple[Ended, ...]
    begun: tuple[Run, ...]


@dataclass(frozen=True)
class _Skipped:
    signature: tuple[int, ...]
    reason: Skip


class _Opened(NamedTuple):
    path: str
    uid: int
    signature: tuple[int, ...]
    target: int | SegmentCells


class Watch:
    """The pools of the host, followed by one thread at a time.

    Attributes:
        runs: those that live, by key.
    """

    def __init__(self, done: Iterable[RunKey] = ()) -> None:
        """Start with nothing seen.

        Args:
            done: runs which have ended and are known already: they are passed over.
        """
        self.runs: dict[RunKey, Run] = {}
        self._done: OrderedDict[RunKey, None] = OrderedDict.fromkeys(done)
        self._known: set[str] = set()
        self._skipped: dict[str, _Skipped] = {}
        self._places: tuple[str, ...] = ()
        self._logged = 0

    @property
    def done(self) -> tuple[RunKey, ...]:
        """The runs that ended, as far as they are remembered."""
        return tuple(self._done)

    def skipped(self) -> dict[Skip, int]:
        """Return how many files, and directories, are passed over now, by reason."""
        counts = dict.fromkeys(Skip, 0)
        for one in self._skipped.values():
            counts[one.reason] += 1
        counts[Skip.DIRECTORY] += len(self._places)
        return counts

    def look(self, *, wide: bool = True) -> Look:
        """See what has begun and what has ended since the last look.

        Args:
            wide: look through /proc as well, for segments that have no file in a directory. That
                takes up to 100 ms on a host with very many open files, so not at each look.
        """
        ended = [run for run in self.runs.values() if not self._lives(run)]
        begun: list[Run] = []
        # All are opened before any is read: while pools come and go by the hundred, those that
        # ended first are being removed.
        for opened in self._opened(wide=wide):
            run = self._entered(opened)
            if run is not None:
                (begun if self._lives(run) else ended).append(run)
        return Look(
            tuple(sorted((self.end(run) for run in ended), key=_end_time)),
            tuple(sorted(begun, key=lambda run: run.facts.start_time)),
        )

    def end(self, run: Run) -> Ended:
        """Read a run that has ended for the last time, and let go of it."""
        self.runs.pop(run.key, None)
        self._done[run.key] = None
        while len(self._done) > MAX_REMEMBERED:
            self._done.popitem(last=False)
        try:
            return Ended(run, run.read())
        except (OSError, SegmentError) as error:
            self._log(f"the end of pool {run.facts.name}", str(error))
            return Ended(run, None)
        finally:
            run.close()

    def close(self) -> None:
        """Let go of all segments."""
        for run in self.runs.values():
            run.close()
        self.runs = {}

    def _lives(self, run: Run) -> bool:
        try:
            return run.is_alive()
        except (OSError, SegmentError):
            return False

    def _opened(self, *, wide: bool) -> list[_Opened]:
        """Open all that is new."""
        places: list[registry.Skipped] = []
        present: set[str] = set()
        opened: list[_Opened] = []
        for directory in place.searched():
            for path in registry.files(directory, places):
                present.add(path)
                if path not in self._known:
                    self._open(path, opened)
        # What isn't there any more need not be remembered.
        self._known &= present
        self._skipped = {path: one for path, one in self._skipped.items() if path in present}
        if wide:
            for segment in own.segments():
                if segment.fd >= 0 and segment.published:
                    self._open(f"/proc/{os.getpid()}/fd/{segment.fd}", opened)
            for path in registry.descriptors(places):
                self._open(path, opened)
        self._tell_places(places)
        return opened

    def _open(self, path: str, opened: list[_Opened]) -> None:
        """Open a path that may be a new run's."""
        signature: tuple[int, ...] = ()
        try:
            status = Path(path).stat(follow_symlinks=source.is_descriptor(path))
            signature = (status.st_ino, status.st_ctime_ns, status.st_size)
            before = self._skipped.get(path)
            if before in [_Skipped(signature, reason) for reason in _LASTING]:
                return  # it is what it was
            if len(self.runs) + len(opened) >= MAX_RUNS:
                self._skip(path, signature, Skip.LIMIT, f"more than {MAX_RUNS} pools")
                return
            target = source.acquire(path)
        except FileNotFoundError:
            return  # it was swept since it was listed
        except (PermissionError, SegmentError) as error:
            self._skip(path, signature, Skip.REFUSED, _reason(error))
        except OSError as error:
            self._skip(path, signature, Skip.ERROR, _reason(error))
        else:
            opened.append(_Opened(path, status.st_uid, signature, target))

    def _entered(self, opened: _Opened) -> Run | None:
        """Make a run of what was opened, None when it is none, or known."""
        path, uid, signature, target = opened
        try:
            facts = read_head(target).facts
        except (OSError, SegmentError) as error:
            _close(target)
            self._skip(path, signature, Skip.UNREADABLE, _reason(error))
            return None
        self._skipped.pop(path, None)
        self._known.add(path)
        key = (uid, facts.boot_id, facts.pid_namespace, facts.pid, facts.start_time, facts.name)
        if key in self.runs or key in self._done:
            _close(target)
            return None
        run = self.runs[key] = Run(key, facts, uid, target)
        return run

    def _skip(self, path: str, signature: tuple[int, ...], reason: Skip, text: str) -> None:
        skipped = _Skipped(signature, reason)
        if self._skipped.get(path) == skipped:
            return
        if not source.is_descriptor(path):  # those aren't listed at each look
            self._skipped[path] = skipped
        self._log(path, text)

    def _tell_places(self, places: list[registry.Skipped]) -> None:
        texts = tuple(one.path for one in places)
        if texts != self._places:
            for one in places:
                self._log(one.path, one.reason)
        self._places = texts

    def _log(self, what: str, why: str) -> None:
        self._logged += 1
        if self._logged <= MAX_LOGGED:
            _log.info("skipped %s: %s", what, why.removeprefix(f"{what}: "))
        elif self._logged == MAX_LOGGED + 1:
            _log.info("skipped more than %d files: further ones are only counted", MAX_LOGGED)


def _close(target: int | SegmentCells) -> None:
    if isinstance(target, int):
        os.close(target)


def _reason(error: Exception) -> str:
    """Return what is wrong with a file, without what the reader calls it: a number here."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    text = str(error)
    before, colon, after = text.partition(": ")
    return after if colon and before.startswith("descriptor ") else text


def _end_time(ended: Ended) -> float:
    snapshot = ended.snapshot
    if snapshot is None or snapshot.ended_time is None:
        return time.time()
    return snapshot.ended_time


def raise_the_limit() -> None:
    """Allow this process as many open files as MAX_RUNS needs, if it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_RUNS + _SPARE_DESCRIPTORS
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
