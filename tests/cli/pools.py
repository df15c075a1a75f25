"""Pools as far as the command line can tell: real segments and control sockets, no workers."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from obspool.control.server import serve, withdraw
from obspool.telemetry.facts import facts_of_this_process
from obspool.telemetry.layout import JOB, POOL
from obspool.telemetry.segment import Segment
from obspool.words import JobKind, PoolOutcome, PoolState
from tests.cli.environment import environment
from tests.control.targets import RecordingTarget

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from obspool.control.protocol import Command


class ShamPool:
    """A pool of this process that shows what it is given and writes down what it is told."""

    def __init__(self, name: str, *, control: bool = True) -> None:
        self.target = RecordingTarget(name)
        path = serve(self.target) if control else None
        facts = facts_of_this_process(name, "processes", "fork", path)
        self.segment = Segment.create(facts, slots=2)
        self.name = self.target.name = self.segment.facts.name
        self.set("state", list(PoolState).index(PoolState.RUNNING))
        self.set("workers_configured", 2)

    @property
    def commands(self) -> list[Command]:
        return self.target.commands

    @property
    def arguments(self) -> list[Mapping[str, object]]:
        return [request.arguments for request, _ in self.target.requests]

    def set(self, field: str, value: int) -> None:
        self.segment.cells[self.segment.layout.pool + POOL[field]] = value

    def add_job(self, number: int, function: str, *, total: int, done: int) -> None:
        """Show a map that is in progress; the function's name has at most eight letters."""
        cells, at = self.segment.cells, self.segment.layout.jobs
        cells[at + JOB["id"]] = number
        cells[at + JOB["kind"]] = list(JobKind).index(JobKind.MAP)
        cells[at + JOB["function"]] = int.from_bytes(
            function.encode().ljust(8, b"\0"), sys.byteorder
        )
        cells[at + JOB["items_total"]] = total + 1
        cells[at + JOB["items_ok"]] = done

    def end(self, outcome: PoolOutcome = PoolOutcome.FINISHED) -> None:
        withdraw(self.target)
        self.segment.close(outcome)


@contextmanager
def sham_pool(name: str, *, control: bool = True) -> Iterator[ShamPool]:
    pool = ShamPool(name, control=control)
    try:
        yield pool
    finally:
        pool.end()


def started(*arguments: str) -> subprocess.Popen[str]:
    """Start the command line in a process of its own, without a terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "obspool", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def obspool(
    *arguments: str, text: str | None = None, timeout: float = 30.0, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "obspool", *arguments],
        check=False,
        capture_output=True,
        input=text or "",
        text=True,
        timeout=timeout,
        env=environment(COLUMNS="200", **{"PYTHONIOENCODING": "utf-8"} | variables),
    )
