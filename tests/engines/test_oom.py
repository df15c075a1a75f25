from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from obspool import cgroups
from obspool.engines import oom
from obspool.engines.oom import OomKills

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(name="kernel")
def _kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel's files: the machine's counts, and those of cgroups of version 2 and of 1."""
    (tmp_path / "self").write_text("0::/slice/job\n")
    (tmp_path / "vmstat").write_text("nr_free_pages 1\noom_kill 7\n")
    for group, name in (
        ("slice/job", "memory.events"),
        ("memory/job", "memory.oom_control"),
        ("memory", "memory.oom_control"),
    ):
        (tmp_path / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / group / name).write_text("low 0\noom 3\noom_kill 2\n")
    monkeypatch.setattr(cgroups, "SELF", tmp_path / "self")
    monkeypatch.setattr(oom, "_MACHINE", tmp_path / "vmstat")
    monkeypatch.setattr(cgroups, "CGROUPS", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("cgroup", "file"),
    [
        ("0::/slice/job", "slice/job/memory.events"),
        ("4:cpu,memory:/job\n0::/elsewhere", "memory/job/memory.oom_control"),
        (
            "4:memory:/docker/f00\n",
            "memory/memory.oom_control",
        ),  # the container's own, mounted there
        ("0::/", "vmstat"),
    ],
)
def test_each_kill_explains_one_death(kernel: Path, cgroup: str, file: str) -> None:
    (kernel / "self").write_text(cgroup)
    kills = OomKills()
    assert not kills.explains_a_death()
    (kernel / file).write_text("oom_kill 9\n")
    count = 9 - (7 if file == "vmstat" else 2)
    assert [kills.explains_a_death() for _ in range(count + 1)] == [True] * count + [False]


def test_a_kill_elsewhere_explains_nothing(kernel: Path) -> None:
    """The machine counts those of every container."""
    kills = OomKills()
    (kernel / "vmstat").write_text("oom_kill 8\n")
    assert not kills.explains_a_death()


def test_an_old_kill_explains_nothing(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process's; or else the death would have been seen long ago."""
    kills = OomKills()
    now = 100.0
    monkeypatch.setattr("obspool.engines.oom.time.monotonic", lambda: now)
    (kernel / "slice/job/memory.events").write_text("oom_kill 4\n")
    kills.look()
    now += 5.0
    assert kills.explains_a_death()
    now += 10.0
    assert not kills.explains_a_death()


def test_where_the_kernel_says_nothing_nothing_is_explained(kernel: Path) -> None:
    (kernel / "vmstat").unlink()
    (kernel / "self").unlink()
    kills = OomKills()
    (kernel / "slice/job/memory.events").write_text("oom_kill 99\n")
    assert not kills.explains_a_death()
