"""How long segments of pools that ended stay: an hour, and in bounded number and size.

Only the uid that owns a file removes it, and never one whose lock is held. A file without its lock
has no owner any more and never gets one again: it is locked before it gets its name.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from obspool.errors import SegmentError
from obspool.telemetry import place, source
from obspool.telemetry.head import read_head

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_KEEP = 3600.0  # seconds
MAX_ENDED = 100
MAX_ENDED_BYTES = 64 * 1024 * 1024
TEMPORARY_SUFFIX = ".tmp"
# A file that is being made has no lock for some microseconds; on a stopped machine for longer.
_TEMPORARY_AGE = 60.0

_log = logging.getLogger("obspool")


@dataclass(frozen=True)
class _File:
    path: str
    status: os.stat_result

    @property
    def size(self) -> int:
        return self.status.st_size

    @property
    def modified(self) -> float:
        """When its owner touched it last; close() does."""
        return self.status.st_mtime

    def is_held(self) -> bool:
        return source.is_held(self.path, self.status)


def keep_seconds() -> float:
    """Return OBSPOOL_KEEP in seconds, an hour when it isn't set or no number of at least 0."""
    try:
        seconds = float(os.environ.get("OBSPOOL_KEEP", DEFAULT_KEEP))
    except ValueError:
        return DEFAULT_KEEP
    return seconds if seconds >= 0 else DEFAULT_KEEP


def sweep(directory: Path, now: float | None = None) -> int:
    """Remove from a directory what is no longer to be kept; return how many files went.

    These are our own segments that ended longer ago than `keep_seconds()`, the oldest ones beyond
    100 files (then 80 are left) or 64 MiB, and unfinished files of writers that died. Files that
    can't be removed stay, without an error.

    Args:
        directory: may be missing.
        now: seconds of the UNIX epoch; None for the clock's.
    """
    moment = time.time() if now is None else now
    keep = keep_seconds()
    temporaries, segments = _files(directory)
    gone = [
        file
        for file in temporaries
        if moment - file.modified > _TEMPORARY_AGE and not file.is_held()
    ]
    count, size = 0, 0
    # Some more than must go: else every pool from then on would have to look at all of them.
    most = MAX_ENDED - MAX_ENDED // 5
    crowded = len(segments) > MAX_ENDED or sum(file.size for file in segments) > MAX_ENDED_BYTES
    for file in sorted(segments, key=lambda file: -file.modified):
        old = moment - file.modified > keep
        if not (old or crowded) or file.is_held():
            continue
        count += 1
        size += file.size
        too_many = count > most or size > MAX_ENDED_BYTES
        if too_many or (old and moment - _last_sign(file) > keep):
            gone.append(file)
    return sum(_remove(file.path) for file in gone)


def _files(directory: Path) -> tuple[list[_File], list[_File]]:
    """Return our own unfinished files and our own segments in the directory."""
    temporaries: list[_File] = []
    segments: list[_File] = []
    for entry in _scan(directory):
        unfinished = entry.name.startswith(".") and entry.name.endswith(TEMPORARY_SUFFIX)
        if not unfinished and not entry.name.endswith(place.SUFFIX):
            continue
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue  # another sweeper was faster
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
            file = _File(entry.path, status)
            (temporaries if unfinished else segments).append(file)
    return temporaries, segments


def _scan(directory: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            yield from entries
    except OSError:
        return  # no directory, nothing to remove


def _last_sign(file: _File) -> float:
    """Return when the pool was last heard of: a killed one never touched its file's time."""
    try:
        head = read_head(file.path)
    except (OSError, SegmentError):
        return file.modified
    return max(file.modified, head.ended_time or 0.0, head.heartbeat_time)


def _remove(path: str) -> bool:
    try:
        Path(path).unlink()
    except OSError as error:
        _log.debug("can't remove %s: %s", path, error)
        return False
    return True
