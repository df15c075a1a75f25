"""What memory a program and its workers have, and whether it grows with the work."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.benchmarks.half import warm_pool
from tests.benchmarks.work import no_op

if TYPE_CHECKING:
    from tests.benchmarks.half import MakePool, Scale

_HIGH_WATER = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)

# Results may be so many items behind what has been read.
BUFFER = 10_000

# Memory is looked at so often in a run, and what it grows is counted from the tenth look on.
LOOKS = 100
FIRST_LOOK = 10


def peak() -> float:
    """Return the largest resident memory each process has had, of this one and its children."""
    return float(sum(map(_high_water, (os.getpid(), *_children()))))


def _high_water(pid: int) -> int:
    found = _HIGH_WATER.search(Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    return 0 if found is None else int(found[1]) * 1024


def _children() -> list[int]:
    return [child.pid for child in psutil.Process().children(recursive=True)]


def measure_growth(make: MakePool, scale: Scale) -> tuple[float, ...]:
    """How much more memory there is at most, once a tenth of very many items is done."""
    count = scale(10_000_000)
    with warm_pool(make) as pool:
        processes = [psutil.Process(pid) for pid in (os.getpid(), *_children())]
        found = []
        iterator = pool.imap_unordered(no_op, range(count), buffersize=BUFFER)  # type: ignore[call-arg]
        for number, _ in enumerate(iterator, 1):
            if number % (count // LOOKS) == 0:
                found.append(sum(process.memory_info().rss for process in processes))
    return (float(max(found[FIRST_LOOK - 1 :]) - found[FIRST_LOOK - 1]),)
