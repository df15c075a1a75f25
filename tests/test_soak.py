"""A short run of `python -m tests.soak`, which is for hours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 10


@pytest.mark.slow
def test_a_pool_under_signals_loses_nothing_and_keeps_nothing() -> None:
    """A process of its own, so that its memory and its descriptors are its own."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--minutes", str(SECONDS / 60)],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.endswith("all rules held\n"), ran.stdout
