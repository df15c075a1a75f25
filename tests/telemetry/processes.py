"""Other processes for tests of segments: some own a pool's segment, others look at it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOBODY = 65534
DEADLINE = 20.0

# Says where its segment is, then lives until its standard input ends; "close" before ends the pool.
OWNER = """
import sys
from obspool.telemetry.facts import facts_of_this_process
from obspool.telemetry.segment import Segment
from obspool.words import PoolOutcome
segment = Segment.create(facts_of_this_process(sys.argv[1], "processes", "fork"), 2)
print(segment.path, segment.facts.name, flush=True)
if sys.stdin.readline() == "close\\n":
    segment.close(PoolOutcome.FINISHED)
"""

# Another user often may not even read the interpreter: so first all that it needs is imported.
AS_NOBODY = f"""
import os, tempfile
from obspool.telemetry import facts, registry, segment
facts.facts_of_this_process("first", "", "")
os.setgroups([int(gid) for gid in os.environ.get("TEST_GROUPS", "").split()])
os.setgid({NOBODY})
os.setuid({NOBODY})
"""

LOOK = """
import json
from obspool.telemetry import registry
listing = registry.list_pools()
print(json.dumps({
    "alive": {e.facts.name: e.alive for e in listing.entries},
    "outcome": {e.facts.name: e.outcome for e in listing.entries},
    "path": {e.facts.name: e.path for e in listing.entries},
    "skipped": {s.path: s.reason for s in listing.skipped},
}))
"""


class Owner:
    """A process that owns a pool's segment."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        line = self._line().split()
        self.path = line[0]
        self.name = line[1]

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the owner ended before it had a segment"
        return line

    def close(self) -> None:
        """End the pool and wait for the process."""
        self.process.communicate("close\n", timeout=DEADLINE)

    def kill(self) -> None:
        """Kill the process; its segment gets no end."""
        self.process.kill()
        self.process.communicate(timeout=DEADLINE)


@contextmanager
def owner(
    name: str = "nightly", *before: str, prelude: str = "", **options: Any
) -> Iterator[Owner]:
    """Start an owner, which is gone after the `with`.

    Args:
        name: of its pool.
        before: a command in front of the interpreter.
        prelude: code that runs first.
        options: of Popen.
    """
    process = subprocess.Popen(
        [*before, sys.executable, "-c", prelude + OWNER, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )
    try:
        yield Owner(process)
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE)


def run(code: str, *arguments: str, **options: Any) -> str:
    """Run code in another interpreter and return what it printed."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        check=False,
        text=True,
        timeout=DEADLINE,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def look(prelude: str = "", **options: Any) -> dict[str, dict[str, Any]]:
    """List the pools as another process sees them: alive, outcome and path by name, skipped."""
    found: dict[str, dict[str, Any]] = json.loads(run(prelude + LOOK, **options))
    return found


def need_root() -> None:
    """Skip the test unless it may mount, change its uid and make namespaces."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


@contextmanager
def small_tmpfs(parent: Path, size: str) -> Iterator[Path]:
    """Mount a tmpfs of so many bytes ("4m"), for this user only; skip where that isn't allowed."""
    need_root()
    directory = parent / "small"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(directory)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"may not mount: {mounted.stderr.decode().strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def need_namespaces(*flags: str) -> list[str]:
    """Return the `unshare` command with these flags; skip where it isn't allowed."""
    need_root()
    command = ["unshare", *flags]
    try:
        done = subprocess.run([*command, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs unshare")
    if done.returncode != 0:
        pytest.skip(f"may not unshare: {done.stderr.decode().strip()}")
    return command
