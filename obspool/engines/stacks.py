"""The parent's part of `pool.stack`: it asks a worker process, and waits for what that writes.

    any thread                                   worker's main thread
      Stacks.ask ─── ASK ──────────────────────> in Python: writes the stacks of all threads
          │ no answer: it is in C
          └───────── DUMP ─────────────────────> anywhere: faulthandler writes this thread's stack
      Stacks.ask <── the pool's file ────────────────┘

The worker's part is `obspool.worker.stacks`. Nothing is sent to a process that doesn't catch it,
which it would end. What a process catches, holds back and does is in /proc.
"""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import obspool
from obspool.errors import StackUnavailableError
from obspool.telemetry import place
from obspool.worker import stacks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AVAILABLE = stacks.AVAILABLE and hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")

# Seconds that a worker has to answer. One that gets no CPU for so long is told of as such.
PATIENCE = 1.0

# Seconds after which a worker that waits in the kernel, and has not answered, is taken to be in C.
_GRACE = 0.05

# The same for one that runs: CPU time of its main thread, in ticks of the kernel's clock (10 ms). A
# loop of Python code looks at signals many thousand times meanwhile.
_GRACE_TICKS = 3

# In a child that a thread has forked, Python 3.13.0 looks at no signals in a loop of Python code:
# one that runs can't be told from one that is in C.
_DEAF_AFTER_FORK = sys.version_info[:3] == (3, 13, 0)

# Of pidfd_send_signal: to the main thread, not to any that takes it (from Linux 6.9 on).
_TO_MAIN_THREAD = 1

_DUMPED = re.compile(r"Stack \(most recent call first\):\n((?:  .*\n)*)")
_FILE = re.compile(r'  File "(.*)", line ')

# Where the code is that starts workers, and the code that runs what they are given.
_PACKAGE = str(Path(obspool.__file__).parent) + os.sep
_BELOW_WORKERS = (
    str(Path(multiprocessing.__file__).parent) + os.sep,
    threading.__file__,
    *(f"{_PACKAGE}{name}" for name in ("core.py", "engines", "loop.py")),
)
_OURS = (*_BELOW_WORKERS, _PACKAGE)
_SPAWNED = '  File "<string>", line 1 in <module>'
_CONSTRUCTING = '  File "__init__", line ??? in __init__'  # of the interpreter's own, from 3.13 on


class Stacks:
    """Asks the workers of a pool, one at a time; callable from any thread.

    Attributes:
        file: descriptor of the file that they write to, below 0 where there is none.
    """

    def __init__(self, start_method: str) -> None:
        """Open the file, which all workers share."""
        self._deaf = _DEAF_AFTER_FORK and start_method == "fork"
        self._file: _File | None = None
        if AVAILABLE:
            with suppress(OSError):  # no room for it: the pool works without
                self._file = _File()
        self.file = -1 if self._file is None else self._file.descriptor
        self._lock = threading.Lock()

    def ask(self, worker: str, pid: int, is_there: Callable[[], bool]) -> str:
        """Return the stack of a worker.

        Args:
            worker: what to call it in an error.
            pid: of its process.
            is_there: tells whether that is its process still.

        Raises:
            StackUnavailableError: it can't be had (now); the message says why.
        """
        file = self._file  # which stays open until the answer is there
        if file is None:
            raise StackUnavailableError(
                f"no stack of {worker}: this needs Linux 5.3 or newer, and a descriptor for a file"
            )
        if not self._lock.acquire(timeout=2 * PATIENCE):
            raise StackUnavailableError(f"no stack of {worker}: others are being asked; try again")
        try:
            pidfd = os.pidfd_open(pid)
            try:
                if not is_there():
                    raise ProcessLookupError
                return tidy(
                    _Question(file.descriptor, worker, pid, pidfd, deaf=self._deaf).answer()
                )
            finally:
                os.close(pidfd)
        except (ProcessLookupError, FileNotFoundError):
            raise StackUnavailableError(f"no stack of {worker}: it has ended") from None
        except OSError as error:
            raise StackUnavailableError(f"no stack of {worker}: {error}") from error
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close the file, as soon as nobody waits for what is written to it."""
        self._file = None


class _File:
    """A file without a name, to which every process appends."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self.descriptor = os.memfd_create(place.STACKS_MEMORY)
        else:
            import tempfile  # noqa: PLC0415 - slow to import, and hardly ever needed

            with tempfile.TemporaryFile() as temporary:
                self.descriptor = os.dup(temporary.fileno())
        fcntl.fcntl(self.descriptor, fcntl.F_SETFL, os.O_APPEND)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class _Question:
    """One question to one worker."""

    def __init__(self, file: int, worker: str, pid: int, pidfd: int, *, deaf: bool) -> None:
        self._deaf = deaf
        self._file = file
        self._worker = worker
        self._pid = pid
        self._pidfd = pidfd
        self._deadline = time.monotonic() + PATIENCE

    def answer(self) -> str:
        """Return what the worker has written.

        Raises:
            StackUnavailableError: it doesn't answer.
            OSError: it is gone, or the kernel forbids the question.
        """
        self._wait_until_armed()
        self._send(stacks.ASK)
        asked_at = time.monotonic()
        ticks: int | None = None
        for _ in self._pauses():
            if text := self._told(self._read()):
                return text
            status = _Status(self._pid)
            if ticks is None and not status.pending(stacks.ASK):
                ticks = _ticks(self._pid)
            if ticks is not None and time.monotonic() - asked_at >= _GRACE:
                waits = status.state == "S"
                runs = status.state == "R" and not self._deaf
                if waits or (runs and _ticks(self._pid) - ticks >= _GRACE_TICKS):
                    return self._dump()
        raise self._no_answer()

    def _dump(self) -> str:
        """Have faulthandler write the stack.

        While it does so the kernel holds its signal back. What it wrote for another thread, which
        may have none, is dropped.
        """
        self._send(stacks.DUMP)
        for _ in self._pauses():
            status = _Status(self._pid)
            if status.pending(stacks.DUMP) or status.blocks(stacks.DUMP):
                continue
            text = self._read()
            if told := self._told(text):  # it has just come back from C
                return told
            if found := _DUMPED.search(text):
                return f"Main thread, in C (most recent call first):\n{found[1]}"
            self._send(stacks.DUMP)
        raise self._no_answer()

    def _wait_until_armed(self) -> None:
        """See that the worker catches the signals: it does so a moment after it is ready."""
        deadline = time.monotonic() + _GRACE
        for _ in self._pauses():
            status = _Status(self._pid)
            self._check(status)
            if status.catches(stacks.ASK) and status.catches(stacks.DUMP):
                if status.blocks(stacks.ASK) or status.blocks(stacks.DUMP):
                    raise self._unavailable("its main thread blocks signals")
                return
            if time.monotonic() >= deadline:
                break
        raise self._unavailable("it is still starting; try again")

    def _send(self, number: int) -> None:
        status = _Status(self._pid)
        self._check(status)
        if not status.catches(number):
            raise self._unavailable("it doesn't catch the signal any more")
        os.ftruncate(self._file, 0)
        if status.pending(number):
            return
        try:
            signal.pidfd_send_signal(self._pidfd, number, None, _TO_MAIN_THREAD)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            signal.pidfd_send_signal(self._pidfd, number)

    def _check(self, status: _Status) -> None:
        if status.state in "ZX":
            raise ProcessLookupError
        if status.state in "Tt":
            raise self._unavailable(
                f"it is stopped, by a signal or a debugger; `kill -CONT {self._pid}` continues it"
            )

    def _no_answer(self) -> StackUnavailableError:
        status = _Status(self._pid)
        self._check(status)
        why = {
            "D": "it waits in the kernel, for a disk or the network, where no signal reaches it",
            "R": "it gets too little CPU, or runs Python code that looks at no signals",
        }.get(status.state, f"its state is {status.state}")
        return self._unavailable(f"no answer within {PATIENCE:g} s: {why}")

    def _unavailable(self, why: str) -> StackUnavailableError:
        return StackUnavailableError(f"no stack of {self._worker}: {why}")

    def _pauses(self) -> Iterator[None]:
        """Yield at once, and then after longer and longer pauses until the time is over."""
        pause = 0.0005
        while True:
            yield
            if time.monotonic() >= self._deadline:
                return
            time.sleep(pause)
            pause = min(2 * pause, 0.02)

    def _read(self) -> str:
        return os.pread(self._file, 2 * stacks.MOST, 0).decode(errors="replace")

    def _told(self, text: str) -> str:
        """Return what the worker's handler has written, once that is complete."""
        begin, end = stacks.marks(self._pid)
        _, found, rest = text.partition(begin)
        told, complete, _ = rest.partition(end)
        return told if found and complete else ""


class _Status:
    """What the kernel says of a process and its main thread."""

    def __init__(self, pid: int) -> None:
        text = Path(f"/proc/{pid}/task/{pid}/status").read_text(encoding="utf-8", errors="replace")
        fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        self.state = fields["State"].strip()[:1]
        self._caught, self._blocked, pending, shared = (
            int(fields.get(name, "0"), 16) for name in ("SigCgt", "SigBlk", "SigPnd", "ShdPnd")
        )
        self._pending = pending | shared

    def catches(self, number: int) -> bool:
        return bool(self._caught >> number - 1 & 1)

    def blocks(self, number: int) -> bool:
        return bool(self._blocked >> number - 1 & 1)

    def pending(self, number: int) -> bool:
        return bool(self._pending >> number - 1 & 1)


def _ticks(pid: int) -> int:
    """Return the CPU time of a process's main thread."""
    text = Path(f"/proc/{pid}/task/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    fields = text.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def tidy(text: str) -> str:
    """Cut off the frames below the user's: they are the same in every worker, and say nothing.

    A text that is cut short may end between two threads.
    """
    return "\n".join(_cut(part) for part in text.split("\n\n") if part)


def _cut(part: str) -> str:
    """Cut one thread's; where none of the user's code runs, the worker's own is kept."""
    heading, *rows = part.splitlines()
    for ours in (_OURS, _BELOW_WORKERS):
        kept = len(rows)
        while kept and _is_below(rows[kept - 1], ours, last=kept == len(rows)):
            kept -= 1
        if kept:
            rows = rows[:kept]
            break
    return "".join(f"{row}\n" for row in (heading, *rows))


def _is_below(row: str, places: tuple[str, ...], *, last: bool) -> bool:
    if row == _CONSTRUCTING or (last and row == _SPAWNED):
        return True
    found = _FILE.match(row)
    return found is not None and found[1].startswith(places)
