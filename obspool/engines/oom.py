"""Whether the kernel killed a process because memory ran out: it says so only in counters."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

from obspool.cgroups import directories

_MACHINE = Path("/proc/vmstat")
_FILES = {1: "memory.oom_control", 2: "memory.events"}

# For so many seconds a kill may explain a death. After that it was another process's, surely.
_RECENT = 10.0
_MOST = 4096  # kills kept: as many as a pool may have workers


class OomKills:
    """The kernel's count of such kills in this process's cgroup, where its workers are too.

    The machine's count has everybody's kills, those of other containers too: it is asked only where
    there is no cgroup of memory.
    """

    def __init__(self) -> None:
        files = [
            group / _FILES[version] for version, groups in directories("memory") for group in groups
        ]
        self._file = next((file for file in files if _count(file) is not None), _MACHINE)
        self._seen = _count(self._file)
        self._unexplained: deque[float] = deque(maxlen=_MOST)  # when each was noticed

    def look(self) -> None:
        """Notice new kills: often enough, and a death is not explained by an old one."""
        count = _count(self._file)
        if count is not None and self._seen is not None:
            new = max(0, count - self._seen)
            self._unexplained.extend([time.monotonic()] * min(new, _MOST))
        self._seen = count

    def explains_a_death(self) -> bool:
        """Tell whether more processes were killed of late than deaths were asked about."""
        self.look()
        while self._unexplained:
            if time.monotonic() - self._unexplained.popleft() < _RECENT:
                return True
        return False


def _count(file: Path) -> int | None:
    try:
        words = file.read_text().split()
        return int(words[words.index("oom_kill") + 1])
    except (OSError, ValueError, IndexError):  # no such file, or an older kernel's
        return None
