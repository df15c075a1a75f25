"""How many CPUs this process may really use: what `processes=None` means."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_SELF = Path("/proc/self/cgroup")


def usable_cpus() -> int:
    """Return the number of CPUs this process may use, at least 1.

    `PYTHON_CPU_COUNT` (as in Python 3.13) says it outright; otherwise it is the scheduler's
    affinity, and no more than the cgroup's CPU quota, rounded up. The stdlib's Pool counts the
    machine's CPUs before 3.13, and never sees the quota: in a container it starts 64 workers for 2
    CPUs.
    """
    said = os.environ.get("PYTHON_CPU_COUNT", "")
    if said.isdecimal() and int(said):
        return int(said)
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, count if quota is None else min(count, math.ceil(quota)))


def _cgroup_quota() -> float | None:
    """Return the tightest CPU quota of this process's cgroup and those above it, in CPUs."""
    try:
        lines = _SELF.read_text().splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            quotas += [_quota_v2(_CGROUP / part) for part in _upwards(path)]
        elif "cpu" in controllers.split(","):
            quotas += [_quota_v1(_CGROUP / "cpu" / part) for part in _upwards(path)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _upwards(path: str) -> list[str]:
    """Return a cgroup's path and those of all above it, relative to the mount, itself first.

    Inside a cgroup namespace the mount is the cgroup itself: the empty path.
    """
    parts = [part for part in path.split("/") if part and part != ".."]
    return ["/".join(parts[:length]) for length in range(len(parts), -1, -1)]


def _quota_v2(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(group: Path) -> float | None:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        return quota / int((group / "cpu.cfs_period_us").read_text()) if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
