"""Where control sockets live in the file system, and how to reach one whose path is long."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from obspool.telemetry import place

if TYPE_CHECKING:
    from collections.abc import Iterator

_SUFFIX = ".sock"
_MAX_PATH = 103  # bytes that fit sockaddr_un with its NUL on every system (macOS: 104, Linux: 108)
_CANDIDATES = 100  # names tried for one pid; containers that share a directory have equal pids
_YOUNG = 5.0  # seconds; between bind() and listen() a socket refuses connections, and isn't stale


def listen() -> tuple[socket.socket, Path]:
    """Return a listening socket that only this user can connect to, and its path.

    It is beside the segments, in the first of their directories that can hold it.

    Raises:
        OSError: there is no such directory; the message says what is wrong with each.
    """
    refusals = []
    for directory in place.candidates():
        try:
            place.prepare(directory)
            return _listen_in(directory)
        except OSError as error:
            refusals.append(f"{directory}: {error}")
    raise OSError("; ".join(refusals) or "no directory is writable")


def connect(path: Path, seconds: float) -> socket.socket:
    """Return a connection to the socket, with its timeout set to these seconds.

    Raises:
        OSError: there is no socket, nobody listens, or it may not be used.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        with _short(path) as short:
            connection.connect(short)
    except BaseException:
        connection.close()
        raise
    return connection


def _listen_in(directory: Path) -> tuple[socket.socket, Path]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path = _bind_free_name(listener, directory)
        listener.listen()
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener, path


def _bind_free_name(listener: socket.socket, directory: Path) -> Path:
    for path in _names(directory):
        with _short(path) as short:
            try:
                _bind(listener, short)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                raise
            # Nobody can connect before listen(), so nobody gets in by the umask's mode.
            Path(short).chmod(0o600)
        return path
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), str(directory))


def _bind(listener: socket.socket, path: str) -> None:
    """Bind, also where a killed process with our pid has left its socket.

    Raises:
        OSError: somebody listens there, or it can't be done.
    """
    try:
        listener.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        with suppress(FileNotFoundError):  # it went meanwhile: just as good
            if not _stale(Path(path), Path(path).lstat()):
                raise
            Path(path).unlink()
        listener.bind(path)


def _names(directory: Path) -> Iterator[Path]:
    pid = os.getpid()
    yield directory / f"{pid}{_SUFFIX}"
    for number in range(2, _CANDIDATES):
        yield directory / f"{pid}-{number}{_SUFFIX}"


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Give a name for the path that fits a socket address, through its directory's descriptor."""
    if len(os.fsencode(path)) <= _MAX_PATH or not sys.platform.startswith("linux"):
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


def sweep(directory: Path) -> None:
    """Remove sockets of ours that nobody listens on any more: their process was killed."""
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.endswith(_SUFFIX):
                # It may go meanwhile: its process ends, another sweeper is faster. What stays is
                # only untidy.
                with suppress(OSError):
                    if _stale(Path(entry.path), entry.stat(follow_symlinks=False)):
                        Path(entry.path).unlink()


def _stale(path: Path, status: os.stat_result) -> bool:
    if not stat.S_ISSOCK(status.st_mode) or status.st_uid != os.geteuid():
        return False
    if time.time() - status.st_ctime < _YOUNG:
        return False
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with probe, _short(path) as short:
        probe.setblocking(False)  # a full backlog is EAGAIN: somebody listens
        return probe.connect_ex(short) == errno.ECONNREFUSED
