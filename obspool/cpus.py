"""How many CPUs this process may really use: what `processes=None` means."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from obspool.cgroups import directories

if TYPE_CHECKING:
    from pathlib import Path


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
    quotas = [
        (_quota_v1 if version == 1 else _quota_v2)(group)
        for version, groups in directories("cpu")
        for group in groups
    ]
    return min((quota for quota in quotas if quota is not None), default=None)


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
