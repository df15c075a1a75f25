"""Whether the kernel killed a process because memory ran out: it says so only in counters."""

from __future__ import annotations

from pathlib import Path

from obspool.cgroups import directories

_MACHINE = Path("/proc/vmstat")
_FILES = {1: "memory.oom_control", 2: "memory.events"}


class OomKills:
    """The kernel's counts of such kills, of this process's cgroup and of the machine."""

    def __init__(self) -> None:
        own = [groups[0] / _FILES[version] for version, groups in directories("memory")]
        self._files = [_MACHINE, *own]
        self._seen = self._counts()
        self._unexplained = 0  # kills that were counted, and that no worker's end was ascribed to

    def explains_a_death(self) -> bool:
        """Tell whether one more kill was counted than deaths were asked about."""
        counts = self._counts()
        self._unexplained += max(
            (count - self._seen.get(path, count) for path, count in counts.items()), default=0
        )
        self._seen = counts
        if self._unexplained <= 0:
            return False
        self._unexplained -= 1
        return True

    def _counts(self) -> dict[Path, int]:
        counts = {}
        for path in self._files:
            try:
                words = path.read_text().split()
                counts[path] = int(words[words.index("oom_kill") + 1])
            except (OSError, ValueError, IndexError):  # no such file, or an older kernel's
                continue
        return counts
