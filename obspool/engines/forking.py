"""How processes are forked, several at once, and what their parent has of each.

After a fork whatever is written to is copied first, page by page, by parent and child alike. So all
is made ready before the first fork, nothing but forks comes between, and what follows from them
comes after the last.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import atexit
import os
import select
import signal
import sys
import time
from contextlib import suppress
from multiprocessing import util
from typing import TYPE_CHECKING, Any, NoReturn

from obspool import _fork
from obspool.worker.process import ignore_interrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Without it processes are forked by multiprocessing, one by one.
AVAILABLE = hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")

# From 3.13 on multiprocessing's forked processes run what atexit has.
HONOURS_ATEXIT = sys.version_info >= (3, 13)

# Exit code of a process whose end nobody saw, as in multiprocessing's forkserver.
UNKNOWN = 255

# Seconds until a process that is as good as gone is gone, and its exit code known.
_PATIENCE = 1.0


def fork_each(
    kept: Sequence[tuple[int, ...]], run: Callable[[int], NoReturn]
) -> list[tuple[int, int] | Exception]:
    """Fork children; each calls `run` with its number, from 0 on.

    Args:
        kept: which of our sockets each child is to keep.
        run: what a child does; it doesn't return.

    Returns:
        For each its pid and pidfd, or why it isn't there.
    """
    pids: list[int | Exception] = [0] * len(kept)
    # A Ctrl-C reaches all processes of the terminal: it waits until a child takes it as a worker.
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGINT,))
    for index, descriptors in enumerate(kept):
        _fork.keep(*descriptors)
        try:
            pid = os.fork()
        except Exception as error:  # noqa: BLE001 - no room for one more, or the interpreter ends
            pids[index] = error
            continue
        if not pid:
            try:
                ignore_interrupts()
                _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
                run(index)
            finally:
                os._exit(1)
        pids[index] = pid
    _fork.keep()
    _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
    return [_watched(pid) if isinstance(pid, int) else pid for pid in pids]


def _watched(pid: int) -> tuple[int, int] | Exception:
    """Open a child's pidfd, or end it."""
    try:
        return pid, os.pidfd_open(pid)
    except OSError as error:
        with suppress(OSError):  # it has ended, and somebody else reaps it
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        return error


class Gate:
    """Keeps forked children waiting: they would take the CPU that the next fork needs."""

    def __init__(self) -> None:
        """Make a closed one.

        Raises:
            OSError: no descriptor is left.
        """
        self._ours, self._theirs = _fork.Socket.pair()
        self._kept_out = 0

    def keep_out(self) -> int:
        """Take note of one more child; return the descriptor that it keeps."""
        self._kept_out += 1
        return self._theirs.fileno()

    def wait(self) -> None:
        """Wait in a child until it is open; should the parent end, it is."""
        self._theirs.recv(1)
        self._theirs.close()

    def open(self) -> None:
        """Let all of them go on."""
        with suppress(OSError):  # they have ended already
            self._ours.sendall(bytes(self._kept_out))
        self._ours.close()
        self._theirs.close()


def become(process: Any, sentinel: int) -> NoReturn:
    """Be a multiprocessing process, in a child that was forked for it.

    Args:
        process: its object, not started.
        sentinel: a descriptor that becomes readable when the parent ends.
    """
    code = 1
    try:
        if HONOURS_ATEXIT:
            atexit._clear()  # noqa: SLF001
            atexit.register(util._exit_function)  # type: ignore[attr-defined] # noqa: SLF001
        code = process._bootstrap(parent_sentinel=sentinel)  # noqa: SLF001
    finally:
        if HONOURS_ATEXIT:
            atexit._run_exitfuncs()  # noqa: SLF001
        os._exit(code)


def flush() -> None:
    """Write out what is buffered: a child would write it once more."""
    util._flush_std_streams()  # type: ignore[attr-defined] # noqa: SLF001


class Forked:
    """What a multiprocessing process asks its `_popen`, for one that isn't a `Popen`'s.

    Attributes:
        pid: its pid.
        sentinel: its pidfd.
        orphaned: nobody will say how it ended.
    """

    method = "fork"

    def __init__(self, pid: int, pidfd: int, *, own: bool = True) -> None:
        """Take a child of this process; not `own`: of another, which tells how it ended."""
        self.pid = pid
        self.sentinel = pidfd
        self.returncode: int | None = None
        self.orphaned = False
        self._own = own

    def poll(self, _flag: int = 0) -> int | None:
        """Return the exit code, None before it is known."""
        if self.returncode is None and self._own:
            self._look()
        if self.returncode is None and self.orphaned and self._ends_within(0):
            self.returncode = UNKNOWN
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end; return as `poll` does."""
        if self.returncode is None and self._ends_within(timeout):
            deadline = time.monotonic() + _PATIENCE
            while self.poll() is None and time.monotonic() < deadline:
                time.sleep(0.001)
        return self.returncode

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._send(signal.SIGKILL)

    def close(self) -> None:
        """Close the sentinel."""
        sentinel, self.sentinel = self.sentinel, -1  # first: no number is closed twice
        if sentinel >= 0:
            os.close(sentinel)

    __del__ = close

    def _look(self) -> None:
        """See how it ended, then reap it: so no thread finds it reaped and its code not there."""
        try:
            end = os.waitid(os.P_PIDFD, self.sentinel, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # another thread has done so, or somebody reaps all children
            self.orphaned = self.returncode is None
            return
        if end is not None:
            by_itself = end.si_code == os.CLD_EXITED
            self.returncode = end.si_status if by_itself else -end.si_status
            with suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, self.sentinel, os.WEXITED | os.WNOHANG)

    def _send(self, number: int) -> None:
        if self.returncode is None and self.sentinel >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.sentinel, number)

    def _ends_within(self, seconds: float | None) -> bool:
        waiting = select.poll()
        waiting.register(self.sentinel, select.POLLIN)
        return bool(waiting.poll(None if seconds is None else max(0.0, seconds) * 1000))


def is_known(process: Any) -> bool:
    """Tell whether somebody will know how a process ended."""
    popen = process._popen  # noqa: SLF001
    return not (isinstance(popen, Forked) and popen.orphaned)
