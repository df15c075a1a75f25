"""A half of a pair in a process of its own: for what a process has only once.

That is its peak of memory, and what was in its environment when it began.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.contenders import CONTENDERS
from tests.benchmarks.half import Scale
from tests.benchmarks.peers.peer import UnableError

if TYPE_CHECKING:
    from tests.benchmarks.contenders import Contender
    from tests.benchmarks.lines import Line

_ROOT = Path(__file__).parents[2]


def measure(
    line: Line, contender: Contender, start_method: str, scale: Scale, limit: float | None = None
) -> tuple[float, ...] | None:
    """Have another process do the work; None where the contender can't, within `limit` seconds.

    Raises:
        CalledProcessError: it failed.
    """
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.benchmarks.alone"),
            *(line.name, contender.name, start_method),
            *(["--quick"] if scale.quick else []),
        ],
        cwd=_ROOT,
        env={**os.environ, **contender.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            printed, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with suppress(ProcessLookupError):  # what it may have left behind
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    found = json.loads(printed)
    return None if found is None else tuple(found)


def main() -> None:
    """Be that process: print the values as JSON."""
    from tests.benchmarks.lines import LINES  # noqa: PLC0415 - not in a circle

    parser = argparse.ArgumentParser()
    for name in ("line", "contender", "start_method"):
        parser.add_argument(name)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    (line,) = (one for one in LINES if one.name == asked.line)
    make = CONTENDERS[asked.contender].maker(asked.start_method)
    found: tuple[float, ...] | None = None
    with suppress(UnableError):
        found = line.measure(make, Scale(quick=asked.quick))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
