"""`run`: what is said when there can't be a dashboard."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import obspool_dashboard
from obspool.words import PoolOutcome
from obspool_dashboard.recorded import RecordedSource
from tests.dashboard.film import snapshot_at
from tests.synthetic import make_snapshot

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[2]


def test_without_a_terminal_it_says_so_and_ends() -> None:
    """Exit code 2, and what to do instead; Textual itself would run for ever."""
    code = "import obspool_dashboard, sys; sys.exit(obspool_dashboard.run(None))"
    path = os.pathsep.join([str(ROOT), str(ROOT / "dashboard")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 2
    assert "stdin is not a terminal" in done.stderr
    assert "obspool top --once" in done.stderr


def test_importing_the_package_does_not_import_textual() -> None:
    """The command line looks for it before it needs it."""
    code = "import obspool_dashboard, sys; sys.exit('textual' in sys.modules)"
    path = os.pathsep.join([str(ROOT), str(ROOT / "dashboard")])
    subprocess.run(
        [sys.executable, "-c", code], timeout=30, check=True, env={**os.environ, "PYTHONPATH": path}
    )


def test_a_dumb_terminal_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no cursor to place."""
    monkeypatch.setattr(obspool_dashboard, "_streams_without_terminal", list)
    monkeypatch.setenv("TERM", "dumb")
    assert obspool_dashboard.run(None) == 2


def test_no_such_pool_lists_those_that_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, without a flicker of the screen."""
    monkeypatch.setattr(obspool_dashboard, "_streams_without_terminal", list)
    monkeypatch.setenv("TERM", "xterm")
    source = RecordedSource(nightly=partial(snapshot_at, 0))
    assert obspool_dashboard.run("[/x]", source=source) == 1
    assert "no pool has the name or pid '[/x]'; running: nightly" in capsys.readouterr().err
    assert obspool_dashboard.run("x", source=RecordedSource()) == 1
    assert "none is running" in capsys.readouterr().err


def test_no_such_column_lists_those_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong use, exit code 2."""
    monkeypatch.setattr(obspool_dashboard, "_streams_without_terminal", list)
    monkeypatch.setenv("TERM", "xterm")
    assert obspool_dashboard.run(None, sort="size", source=RecordedSource()) == 2
    assert "no column 'size' to sort by; there are slot, pid" in capsys.readouterr().err


def test_which_pool_to_begin_with() -> None:
    """The one that runs, the one that is named, or a list."""
    ended = partial(make_snapshot, name="old", outcome=PoolOutcome.FINISHED)
    one = RecordedSource(nightly=partial(snapshot_at, 0), old=ended)
    two = RecordedSource(a=partial(make_snapshot, name="a"), b=partial(make_snapshot, name="b"))

    def chosen(source: RecordedSource, target: str | None) -> str | None:
        entry, _ = obspool_dashboard._choose(source, target)
        return None if entry is None else entry.facts.name

    assert chosen(one, None) == "nightly"
    assert chosen(one, "old") == "old"
    assert chosen(two, None) is None
    assert chosen(two, "b") == "b"
    assert chosen(two, "41822") is None
    assert chosen(RecordedSource(), None) is None
