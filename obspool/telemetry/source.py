"""What a reading is made from: a segment's file, or the memory of one that this process has mapped.

Files are read with pread, never mapped: one that shrinks would kill its reader.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from obspool.errors import SegmentError
from obspool.telemetry import locks, own
from obspool.telemetry.cells import SegmentCells
from obspool.telemetry.layout import WORD

if TYPE_CHECKING:
    from collections.abc import Iterator

Target = str | os.PathLike[str] | int | SegmentCells

# O_NONBLOCK: what was a file a moment ago may be a FIFO by now.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Source(Protocol):
    """Bytes of a segment, and whether its owner lives.

    Attributes:
        where: names it in messages.
        size: in bytes.
    """

    where: str
    size: int

    def read(self, offset: int, size: int) -> bytes:
        """Return at most `size` bytes from `offset` on; fewer when it is shorter by now."""
        ...

    def held(self) -> bool | None:
        """Tell whether a process holds the lock; None: that can't be known from here."""
        ...


class _File:
    """A file of another process; the descriptor is the caller's to close."""

    def __init__(self, fd: int, where: str) -> None:
        self.where = where
        self._fd = fd
        self.size = os.fstat(fd).st_size

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def held(self) -> bool | None:
        return locks.held_by_another(self._fd)


class _Memory:
    """A segment that this process has mapped: its own, or that of the pool whose worker it is."""

    def __init__(self, segment: SegmentCells) -> None:
        self.where = "a segment of this process"
        self._segment = segment
        self._bytes = segment.cells.cast("B")
        self.size = segment.layout.words * WORD

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self._bytes[offset : offset + size])

    def held(self) -> bool | None:
        return self._segment.held()


@contextmanager
def opened(target: Target) -> Iterator[Source]:
    """Open a segment for reading: by path, by descriptor, or as the object of this process.

    Accepted are regular files, not through symlinks, that belong to us; that belong to anybody,
    when we are root; or that their owner has made readable for a group of ours (OBSPOOL_GROUP)
    and writable for nobody else.

    Raises:
        SegmentError: it isn't such a file.
        OSError: it can't be opened.
    """
    if isinstance(target, SegmentCells):
        yield _Memory(target)
    elif isinstance(target, int):
        yield _source(target, f"descriptor {target}")
    else:
        where = os.fspath(target)
        # Never open what is our own: closing it again would drop the owner's lock.
        if (segment := own.find(_status(where))) is not None:
            yield _Memory(segment)
            return
        follow = is_descriptor(where)
        fd = os.open(where, _FLAGS if follow else _FLAGS | os.O_NOFOLLOW)
        try:
            yield _source(fd, where)
        finally:
            os.close(fd)


def acquire(where: str) -> int | SegmentCells:
    """Open a segment's path for more than one reading, as `opened` accepts it.

    Whoever holds the descriptor reads the pool's last values also when its file is gone.

    Returns:
        A descriptor, the caller's to close; or the object, when the segment is this process's own.

    Raises:
        SegmentError: it isn't such a file.
        OSError: it can't be opened.
    """
    if (segment := own.find(_status(where))) is not None:
        return segment
    fd = os.open(where, _FLAGS if is_descriptor(where) else _FLAGS | os.O_NOFOLLOW)
    try:
        _check(os.fstat(fd), where)
    except BaseException:
        os.close(fd)
        raise
    return fd


def is_held(path: str, status: os.stat_result) -> bool:
    """Tell whether the lock of a regular file of ours is held; yes when that can't be found out.

    For those who ask about a whole directory of them, at the start of each pool.

    Args:
        path: of the file.
        status: of the file, as lstat gives it.
    """
    if own.find(status) is not None:
        return True
    try:
        fd = os.open(path, _FLAGS | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        return locks.held_by_another(fd)
    except OSError:
        return True
    finally:
        os.close(fd)


def is_descriptor(path: str) -> bool:
    """Tell whether a path is another process's descriptor, /proc/PID/fd/N: a link to its file."""
    parts = path.split("/")
    return (
        len(parts) == 5  # noqa: PLR2004 - "", proc, PID, fd, N
        and (parts[1], parts[3]) == ("proc", "fd")
        and all(part.isascii() and part.isdigit() for part in (parts[2], parts[4]))
    )


def _status(path: str) -> os.stat_result:
    status = Path(path).stat(follow_symlinks=is_descriptor(path))
    if stat.S_ISLNK(status.st_mode):
        raise SegmentError(f"{path}: a symlink, which isn't followed")
    _check(status, path)
    return status


def _source(fd: int, where: str) -> Source:
    status = os.fstat(fd)
    if (segment := own.find(status)) is not None:
        return _Memory(segment)
    _check(status, where)
    return _File(fd, where)


def _check(status: os.stat_result, where: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise SegmentError(f"{where}: not a regular file")
    if os.geteuid() in {0, status.st_uid}:
        return
    shared = status.st_mode & stat.S_IRGRP and not status.st_mode & _OTHERS_MAY_WRITE
    if not shared or status.st_gid not in {os.getegid(), *os.getgroups()}:
        raise SegmentError(
            f"{where}: belongs to uid {status.st_uid}, which doesn't share it (OBSPOOL_GROUP)"
        )
