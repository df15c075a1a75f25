"""The script that draws the README's picture."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.dashboard.terminal import ROOT, environment

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = ROOT / "scripts" / "screenshot.py"


def _draw(*arguments: str) -> int:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--seconds", "6", *arguments],
        timeout=40,
        check=False,
        env=environment(),
    )
    return done.returncode


def test_the_same_sources_give_the_same_picture(tmp_path: Path) -> None:
    """And it says what the README promises, without anything from another host."""
    picture = tmp_path / "docs" / "top.svg"
    assert _draw("--out", str(picture)) == 0
    svg = picture.read_text(encoding="utf-8")
    for text in ("nightly", "resize_image", "Workers", "Jobs", "Events"):
        assert text in svg
    assert "@font-face" not in svg
    assert "url(http" not in svg
    assert _draw("--check", "--out", str(picture)) == 0
    picture.write_text(svg.replace("nightly", "weekly"), encoding="utf-8")
    assert _draw("--check", "--out", str(picture)) == 1


def test_the_picture_is_there() -> None:
    """The README shows it."""
    assert (ROOT / "docs" / "top.svg").read_text(encoding="utf-8").startswith("<svg")
