from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from obspool import Pool, ThreadPool, cgroups, cpus

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine of 8 CPUs without limits; its cgroup files are the test's to write."""
    monkeypatch.delenv("PYTHON_CPU_COUNT", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(cgroups, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cgroups, "SELF", tmp_path / "self")
    (tmp_path / "cgroup").mkdir()
    return tmp_path


def _write(group: Path, own: str, **files: str) -> None:
    (group / "self").write_text(own)
    for name, text in files.items():
        path = group / "cgroup" / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_without_limits_it_is_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    """What taskset and sched_setaffinity count."""
    assert cpus.usable_cpus() == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    assert cpus.usable_cpus() == 2


@pytest.mark.parametrize(("said", "count"), [("3", 3), ("64", 64), ("0", 8), ("x", 8), ("", 8)])
def test_the_environment_says_it_outright(
    monkeypatch: pytest.MonkeyPatch, said: str, count: int
) -> None:
    """PYTHON_CPU_COUNT wins, as in Python 3.13; nonsense is passed over."""
    monkeypatch.setenv("PYTHON_CPU_COUNT", said)
    assert cpus.usable_cpus() == count


@pytest.mark.parametrize(
    ("quota", "count"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("3200000 100000", 8),
        ("nonsense", 8),
        ("100 0", 8),
    ],
)
def test_a_cgroup_quota_of_version_2_is_rounded_up(group: Path, quota: str, count: int) -> None:
    """A container with 1.5 CPUs has two workers."""
    _write(group, "0::/\n", cpu_DOT_max=quota)
    assert cpus.usable_cpus() == count


def test_the_tightest_of_all_groups_above_counts(group: Path) -> None:
    """A limit of the parent's slice holds for what is below it."""
    _write(
        group,
        "0::/a/b\n",
        a__cpu_DOT_max="200000 100000",
        a__b__cpu_DOT_max="400000 100000",
    )
    assert cpus.usable_cpus() == 2


def test_a_cgroup_quota_of_version_1(group: Path) -> None:
    """The older layout, with a controller of its own."""
    _write(
        group,
        "5:memory:/x\n4:cpu,cpuacct:/x\n",
        cpu__x__cpu_DOT_cfs_quota_us="300000",
        cpu__x__cpu_DOT_cfs_period_us="100000",
        cpu__cpu_DOT_cfs_quota_us="-1",
        cpu__cpu_DOT_cfs_period_us="100000",
    )
    assert cpus.usable_cpus() == 3


def test_it_is_what_processes_none_means(group: Path) -> None:
    """A pool made without a number has as many workers."""
    _write(group, "0::/\n", cpu_DOT_max="100000 100000")
    for make in (Pool, ThreadPool):
        with make() as pool:
            assert pool._processes == len(pool._pool) == 1
