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
    """A kernel's files: the machine's counts, and those of a cgroup of version 2 and of 1."""
    (tmp_path / "self").write_text("4:cpu,memory:/job\n0::/slice/job\n")
    (tmp_path / "vmstat").write_text("nr_free_pages 1\noom_kill 7\n")
    for group, name in (("slice/job", "memory.events"), ("memory/job", "memory.oom_control")):
        (tmp_path / group).mkdir(parents=True)
        (tmp_path / group / name).write_text("low 0\noom 3\noom_kill 2\n")
    monkeypatch.setattr(cgroups, "SELF", tmp_path / "self")
    monkeypatch.setattr(oom, "_MACHINE", tmp_path / "vmstat")
    monkeypatch.setattr(cgroups, "CGROUPS", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "file", ["slice/job/memory.events", "memory/job/memory.oom_control", "vmstat"]
)
def test_each_kill_explains_one_death(kernel: Path, file: str) -> None:
    kills = OomKills()
    assert not kills.explains_a_death()
    (kernel / file).write_text("oom_kill 9\n" if file == "vmstat" else "oom_kill 4\n")
    assert [kills.explains_a_death() for _ in range(3)] == [True, True, False]


def test_one_kill_counted_twice_is_one(kernel: Path) -> None:
    """The machine counts what the cgroup counts."""
    kills = OomKills()
    (kernel / "vmstat").write_text("oom_kill 8\n")
    (kernel / "slice/job/memory.events").write_text("oom_kill 3\n")
    assert [kills.explains_a_death() for _ in range(2)] == [True, False]


def test_where_the_kernel_says_nothing_nothing_is_explained(kernel: Path) -> None:
    (kernel / "vmstat").unlink()
    (kernel / "self").unlink()
    kills = OomKills()
    (kernel / "slice/job/memory.events").write_text("oom_kill 99\n")
    assert not kills.explains_a_death()
