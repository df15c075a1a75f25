"""The unit for systemd."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from obspool.cli.arguments import parse

UNIT = Path(__file__).parents[2] / "deploy" / "obspool-exporter.service"


def _commands() -> list[list[str]]:
    """Return the commands of ExecStart=, those that are commented out as well."""
    text = UNIT.read_text(encoding="utf-8").replace("\\\n#", "")
    lines = [line.removeprefix("#") for line in text.splitlines()]
    found = [line.removeprefix("ExecStart=").split() for line in lines if "ExecStart=/" in line]
    assert len(found) == 2
    return found


def test_its_commands_are_understood() -> None:
    """Each option is one that the exporter has, and the port is the usual one."""
    for program, *arguments in _commands():
        assert program == "/opt/obspool/bin/obspool"
        parsed = parse(arguments)
        assert parsed.command == "exporter"
        assert parsed.listen.endswith(":9400")
        assert parsed.state is not None


def test_it_says_who_it_runs_as() -> None:
    """A user of its own, and nothing private that would hide segments."""
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    assert "User=obspool-exporter" in lines
    assert "PrivateTmp=no" in lines


def test_systemd_understands_it(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say but that the program isn't in /opt."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no `systemd-analyze` on PATH (Debian: apt-get install systemd)")
    unit = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8")
    unit.write_text(text.replace("/opt/obspool/bin/obspool", sys.executable), encoding="utf-8")
    done = subprocess.run(
        [analyze, "verify", str(unit)], capture_output=True, check=False, timeout=30, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
