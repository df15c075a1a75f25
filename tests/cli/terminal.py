"""A program on a terminal of its own, as a person has it: keys in, everything it shows out."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Self

from tests.cli.environment import environment

if TYPE_CHECKING:
    from types import TracebackType

DEADLINE = 30.0
PATIENCE = 1.0
LINES, COLUMNS = 30, 120


class Terminal:
    """Runs `python -m obspool …` as the foreground of a pseudo-terminal."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        self._main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "obspool", *arguments],
            stdin=side,
            stdout=side,
            stderr=side,
            start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509 - nothing in the test runs threads by then
            env=environment(TERM="xterm", **variables),
        )
        os.close(side)
        self.shown = ""
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._main)

    def type(self, keys: str) -> None:
        os.write(self._main, keys.encode())

    def wait_for(self, pattern: str) -> str:
        """Read until the pattern is shown."""
        end = time.monotonic() + DEADLINE
        while not re.search(pattern, self.shown):
            if not self._read(end):
                raise AssertionError(f"{pattern!r} was not shown, but:\n{self.shown}")
        return self.shown

    def wait(self) -> int:
        """Read until the program ends; return its exit code."""
        end = time.monotonic() + DEADLINE
        while self._read(end):
            pass
        return self.process.wait(max(0.1, end - time.monotonic()))

    def interrupt(self) -> int:
        """Press Ctrl-C until the program ends; return its exit code.

        One that comes between a prompt and its read() is seen by CPython only after the read.
        """
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            self.type("\x03")
            again = time.monotonic() + PATIENCE
            while self._read(again):
                pass
            if self._ended:
                break
        return self.process.wait(max(0.1, end - time.monotonic()))

    def _read(self, end: float) -> bool:
        ready, _, _ = select.select([self._main], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._main, 65536)
        except OSError:  # EIO: nobody has the other side open any more
            self._ended = True
            return False
        self.shown += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
