from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil
import pytest

from obspool import cgroups, memory

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(name="kernel")
def _kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 8 GiB, with nothing said of cgroups."""
    (tmp_path / "meminfo").write_text("MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n")
    (tmp_path / "self").write_text("4:cpu,memory:/job/part\n0::/job/part\n")
    monkeypatch.setattr(memory, "_MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(cgroups, "SELF", tmp_path / "self")
    monkeypatch.setattr(cgroups, "CGROUPS", tmp_path)
    return tmp_path


def _write(group: Path, **files: str) -> None:
    group.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (group / name.replace("__", ".")).write_text(text + "\n")


def test_without_limits_it_is_the_machines(kernel: Path) -> None:
    _write(kernel / "job/part", memory__max="max", memory__current="1")
    assert (memory.total(), memory.available()) == (8 << 30, 4 << 30)


def test_the_tightest_limit_of_all_cgroups_above_counts(kernel: Path) -> None:
    _write(kernel / "job/part", memory__max=str(3 << 30), memory__current=str(1 << 30))
    _write(kernel / "job", memory__max=str(2 << 30), memory__current=str(1 << 30))
    assert (memory.total(), memory.available()) == (2 << 30, 1 << 30)


def test_version_1_has_other_names(kernel: Path) -> None:
    _write(
        kernel / "memory/job/part",
        memory__limit_in_bytes=str(1 << 30),
        memory__usage_in_bytes=str(2 << 30),
    )
    _write(
        kernel / "memory",
        memory__limit_in_bytes="9223372036854771712",
        memory__usage_in_bytes="1",
    )
    assert (memory.total(), memory.available()) == (1 << 30, 0)


def test_where_nothing_is_said_nothing_is_known(kernel: Path) -> None:
    (kernel / "meminfo").unlink()
    (kernel / "self").unlink()
    assert (memory.total(), memory.available()) == (0, 0)


def test_a_process_has_about_what_psutil_says() -> None:
    ours, theirs = memory.resident_bytes(os.getpid()), psutil.Process().memory_info().rss
    assert abs(ours - theirs) < 8 << 20
    assert memory.resident_bytes(2**22 + 1) == 0
