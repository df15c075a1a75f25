"""A program with a real pool, which does what a test tells it, and its numbers from outside."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.cli.environment import environment
from tests.cli.pools import obspool

# Runs four items that wait until they are let go. Each line on its standard input is a step. They
# aren't read through `sys.stdin`: a worker closes that, and hangs if it was forked while its parent
# read there (the stdlib's too).
_PROGRAM = """
import os
import obspool

reader, writer = os.pipe()

def wait(number):
    os.read(reader, 1)
    return number

def tell(call):
    try:
        print(call(), flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)

if __name__ == "__main__":
    pool = obspool.Pool(2, name="nightly")
    result = pool.map_async(wait, range(4), chunksize=1)
    print("ready", flush=True)
    for line in os.fdopen(os.dup(0)):
        step, _, number = line.strip().partition(" ")
        if step == "let":
            os.write(writer, b"." * int(number))
        elif step == "result":
            tell(lambda: result.get(20))
        elif step == "call":
            tell(lambda: pool.map(abs, [1]))
    pool.terminate()
    pool.join()
"""


class Program:
    """The process: four items in a pool named nightly, of which its two workers run two."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert self._line() == "ready"

    def let(self, items: int) -> None:
        """Have some of the items that wait end."""
        self._step(f"let {items}")

    def result(self) -> str:
        """Return what the job's caller gets: the values, or the error's name."""
        self._step("result")
        return self._line()

    def call(self) -> str:
        """Return what a new call on the pool gets: `[1]`, or the error's name."""
        self._step("call")
        return self._line()

    def end(self) -> None:
        """Have it terminate its pool and end."""
        self.process.communicate(timeout=20)

    def _step(self, line: str) -> None:
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def stats(pool: str = "nightly") -> dict[str, Any]:
    shown = obspool("stats", pool, "--json")
    assert shown.returncode == 0, shown.stderr
    read: dict[str, Any] = json.loads(shown.stdout)
    return read
