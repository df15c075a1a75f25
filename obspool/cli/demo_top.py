"""`obspool demo --top`: the batch in a process of its own, the dashboard on this terminal.

    this process: obspool top ── reads the segment ──> batch ── prints into a file
          └── the batch's standard input: when it ends, so does the batch ──┘

The batch has its own session, so that no key of the terminal reaches it, and nothing it prints
meets the screen. What it said is printed when the screen is gone.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from obspool.cli import WRONG_USE, Failure, top
from obspool.telemetry import registry
from obspool.units import printable

if TYPE_CHECKING:
    from argparse import Namespace
    from typing import IO

_START_POLL = 0.05  # seconds
_END = 15.0  # seconds for the batch to end in good order


def run(arguments: Namespace) -> int:
    """Run both, and return the batch's exit code; 0 when it was ended by leaving the dashboard."""
    if not top.is_terminal():
        raise Failure("--top needs a terminal; leave it out here", WRONG_USE)
    top.check_installed()
    import obspool_dashboard  # noqa: PLC0415 - textual takes a while, and may not be there

    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        batch = subprocess.Popen(
            [sys.executable, "-m", "obspool", "demo", "--lifeline", *_passed_on(arguments)],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            if _pool_is_there(batch):
                obspool_dashboard.run(
                    str(batch.pid), interval=1.0, read_only=False, no_color=False, ascii_only=False
                )
            left = batch.poll() is None
        finally:
            _end(batch)
        _repeat(said)
    return 0 if left else batch.returncode


def _passed_on(arguments: Namespace) -> list[str]:
    passed = ["--minutes", str(arguments.minutes)]
    if arguments.dir is not None:
        passed += ["--dir", arguments.dir]
    if arguments.workers is not None:
        passed += ["--workers", str(arguments.workers)]
    if arguments.metrics is not None:
        passed += ["--metrics", arguments.metrics]
    return passed


def _pool_is_there(batch: subprocess.Popen[bytes]) -> bool:
    """Wait for the batch's pool; False when the batch ended without one."""
    # Not any ended pool of a process that had the same pid.
    while not any(entry.alive for entry in registry.matches(str(batch.pid))):
        try:
            batch.wait(_START_POLL)
        except subprocess.TimeoutExpired:
            continue
        return False
    return True


def _end(batch: subprocess.Popen[bytes]) -> None:
    if batch.stdin is not None:
        batch.stdin.close()
    try:
        batch.wait(_END)
    except subprocess.TimeoutExpired:
        batch.kill()
        batch.wait()
        print("obspool: the batch did not end, and was killed", file=sys.stderr)


def _repeat(said: IO[str]) -> None:
    said.seek(0)
    for line in said:
        print(printable(line.rstrip("\n")))
