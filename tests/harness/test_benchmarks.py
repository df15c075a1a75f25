"""The benchmarks run; what they measure is nobody's test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("contender", [[], ["--self-check"]], ids=["obspool", "stdlib"])
def test_benchmarks_run(tmp_path: Path, contender: list[str]) -> None:
    """The quickest of runs prints a row for each figure and writes them to the file."""
    file = tmp_path / "figures.json"
    arguments = ["--quick", "--only", "apply", "--json", str(file), *contender]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *arguments],
        check=False,
        cwd=REPOSITORY,
        env=os.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert "apply, p50" in done.stdout
    figures = json.loads(file.read_text())["figures"]
    assert [figure["label"] for figure in figures] == ["apply, p50", "apply, p99"]
    assert all(figure["ratio"] > 0 for figure in figures)
