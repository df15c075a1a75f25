"""Record locks: who holds a segment's lock is alive.

POSIX record locks belong to a process, are not inherited by fork, are seen across pid namespaces,
and vanish with their process however it dies. Their one trap: see `own`.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# struct flock, whose fields have another order on the BSDs. l_start and l_len of 0: the whole file.
_BSD = sys.platform.startswith(("darwin", "freebsd", "openbsd", "netbsd", "dragonfly"))
_FLOCK = struct.Struct("@qqihhi" if _BSD else "@hhqqi")

_DIRECTORY_LOCK = ".lock"
# A holder needs well under a millisecond. One that was stopped meanwhile must not keep others from
# starting pools: theirs can't be found then.
DIRECTORY_PATIENCE = 1.0
_DIRECTORY_INTERVAL = 0.002


def take(fd: int) -> None:
    """Lock the whole file for this process's life; a no-op when this process holds it already.

    Raises:
        OSError: another process holds it, or the file system has no locks.
    """
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def release(fd: int) -> None:
    """Give the lock up."""
    fcntl.lockf(fd, fcntl.LOCK_UN)


def held_by_another(fd: int) -> bool:
    """Tell whether another process holds the file's lock; `fd` may be read-only.

    Raises:
        OSError: the file system can't tell.
    """
    if _BSD:
        question = _FLOCK.pack(0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET, 0)
    else:
        question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    answer = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, question)[: _FLOCK.size])
    kind: int = answer[3] if _BSD else answer[0]
    return kind != fcntl.F_UNLCK


@contextmanager
def directory(path: Path, patience: float = DIRECTORY_PATIENCE) -> Iterator[None]:
    """Hold the directory's lock, under which names are given out.

    A flock, because two threads of one process must exclude each other too. It is released
    explicitly: a child forked meanwhile inherits the descriptor, and would hold it for its life.

    Raises:
        OSError: TimeoutError when another holds it for longer than the patience (seconds); or the
            lock file can't be made.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path / _DIRECTORY_LOCK, flags, 0o600)
    try:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TimeoutError(
                        f"{path} is locked by a process that doesn't go on"
                    ) from None
                # flock has no time limit of its own, and an alarm would be the program's.
                time.sleep(_DIRECTORY_INTERVAL)
        try:
            yield
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)
