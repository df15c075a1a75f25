"""Programs with pools that a test stops, kills or limits while they run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

import psutil

from tests.cli.environment import environment
from tests.helpers import poll, process_gone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS = 30.0

_HEAD = """
import multiprocessing, os, sys, threading, time, warnings
from obspool import Pool, PoolBrokenError, WorkerLostError
from tests.faults import deeds
from tests.helpers import poll
from tests.pool import work
context = multiprocessing.get_context({method!r})
directory = {directory!r}
if __name__ == "__main__":
"""


class Program:
    """One that runs, and prints a line when it has come to a point that a test waits for."""

    def __init__(self, process: subprocess.Popen[str], out: IO[str]) -> None:
        self.process = process
        self.pid = process.pid
        self._out = out

    def line(self) -> str:
        """Return the next line of its output."""
        return self._out.readline().strip()

    def numbers(self) -> list[int]:
        """Return the numbers in it."""
        return [int(word) for word in self.line().split()]

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def stop(self) -> None:
        """Stop it, and return when it has stopped."""
        self.signal(signal.SIGSTOP)
        poll(lambda: psutil.Process(self.pid).status() == psutil.STATUS_STOPPED)

    def ended(self) -> str:
        """Wait for its good end; return the rest of its output."""
        try:
            out, err = self.process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            _kill_group(self.process)
            out, err = self.process.communicate()
            raise AssertionError(f"the program hung; it said:\n{out}\n{err}") from None
        assert self.process.returncode == 0, f"{out}\n{err}"
        return out


@contextmanager
def running(
    folder: Path, method: str, source: str, *wrapper: str, **variables: str
) -> Iterator[Program]:
    """Run a program; at the end of the block it and what it left behind are ended.

    Args:
        folder: the program's, as `directory`; the file is beside it.
        method: its `context` is that of this start method.
        source: the body, below `if __name__ == "__main__"`.
        wrapper: a command that runs another.
        variables: for its environment.
    """
    path = folder.with_suffix(".py")
    head = _HEAD.format(method=method, directory=str(folder))
    path.write_text(head + textwrap.indent(textwrap.dedent(source), "    "))
    with subprocess.Popen(
        [*wrapper, sys.executable, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**variables),
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield Program(process, process.stdout)
        finally:
            _kill_group(process)


def run(folder: Path, method: str, source: str, *wrapper: str, **variables: str) -> str:
    """Run a program to its good end; return what it printed."""
    with running(folder, method, source, *wrapper, **variables) as program:
        return program.ended()


def _kill_group(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def all_gone(pids: list[int]) -> bool:
    return all(process_gone(pid) for pid in pids)
