"""The memory there is for this process and its workers: the cgroup's limit, or the machine's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from obspool.cgroups import directories

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGE = os.sysconf("SC_PAGE_SIZE")
_MACHINE = Path("/proc/meminfo")
_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    2: ("memory.max", "memory.current"),
}

# Version 1 says so when there is no limit: the largest number of pages.
_NO_LIMIT = 1 << 60


def total() -> int:
    """Return the bytes that all processes together may use, 0 where that can't be known."""
    limits = [limit for limit, _ in _cgroups()]
    machine = _machine("MemTotal:")
    return min([*limits, machine] if machine else limits, default=0)


def available() -> int:
    """Return the bytes that are still to be had, 0 where that can't be known."""
    rests = [max(0, limit - used) for limit, used in _cgroups()]
    machine = _machine("MemAvailable:")
    return min([*rests, machine] if machine else rests, default=0)


def _machine(field: str) -> int:
    try:
        words = _MACHINE.read_text().split()
        return int(words[words.index(field) + 1]) << 10
    except (OSError, ValueError, IndexError):  # no Linux
        return 0


def _cgroups() -> Iterator[tuple[int, int]]:
    """Yield limit and usage of each cgroup that this process is in and that has a limit."""
    for version, groups in directories("memory"):
        for group in groups:
            try:
                limit, used = (int((group / name).read_text()) for name in _FILES[version])
            except (OSError, ValueError):  # not there, or "max"
                continue
            if limit < _NO_LIMIT:
                yield limit, used


def resident_bytes(pid: int) -> int:
    """Return a process's resident memory, bytes; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        pass
    import psutil  # noqa: PLC0415 - only where there is no such file

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
