"""The benchmarks run, and judge rightly; what they measure is nobody's test."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.benchmarks import memory, skew
from tests.benchmarks.__main__ import parse
from tests.benchmarks.figures import AtMost, Cost, Faster, Unit
from tests.benchmarks.lines import LINES
from tests.benchmarks.peers import PEERS

if TYPE_CHECKING:
    from tests.benchmarks.figures import Figure

REPOSITORY = Path(__file__).resolve().parents[2]


def run(tmp_path: Path, *arguments: str) -> tuple[str, list[dict[str, Any]]]:
    """Run the quickest of benchmarks; return what it prints and what it writes."""
    file = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--quick", "--json", str(file), *arguments],
        check=False,
        cwd=REPOSITORY,
        env=os.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(file.read_text())["figures"]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_each_line_runs(tmp_path: Path, line: Any) -> None:
    """It prints a row for each figure with its target, and writes all that it knows to the file."""
    printed, figures = run(tmp_path, "--only", line.name)
    assert [figure["label"] for figure in figures] == [one.label for one in line.figures]
    for one, figure in zip(line.figures, figures, strict=True):
        (row,) = (text for text in printed.splitlines() if text.startswith(one.label))
        assert one.asked in row
        assert figure["target"] == one.target
        assert figure["reached"] == row.endswith("ok")
        names = {"obspool"} | ({line.baseline.name} if line.baseline else set())
        assert set(figure["values"]) == names
        assert all(len(values) == 1 for values in figure["values"].values())
        assert figure["score_min"] == figure["score"] == figure["score_max"]


def test_the_stdlib_against_itself(tmp_path: Path) -> None:
    """A self-check judges nothing, and leaves out what isn't about the stdlib."""
    printed, figures = run(tmp_path, "--self-check", "--only", "apply", "--only", "scrape")
    assert [figure["label"] for figure in figures] == ["apply, p50", "apply, p99"]
    assert all(set(figure["values"]) == {"stdlib", "stdlib again"} for figure in figures)
    assert "MISSED" not in printed


def test_peers_are_in_one_table(tmp_path: Path) -> None:
    """With obspool's ratio to each of them; a peer that hasn't got something has no number."""
    lines = [f"--only={name}" for name in ("imap", "recycle_fork")]
    peers = ["stdlib", "ProcessPoolExecutor"]
    printed, figures = run(tmp_path, *lines, *(f"--against={peer}" for peer in peers))
    assert [figure["label"] for figure in figures] == [
        "imap, chunksize 1",
        "maxtasksperchild=1, fork",
    ]
    assert all(set(figure["values"]) == {"obspool", *peers} for figure in figures)
    assert figures[1]["values"]["ProcessPoolExecutor"] == []
    assert printed.count("first") + printed.count("NOT FIRST") >= len(figures)


def test_a_peer_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to install for all of them."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SystemExit):
        parse([f"--against={name}" for name in PEERS])
    said = capsys.readouterr().err
    assert "pip install loky joblib mpire pebble billiard multiprocess\n" in said


@pytest.mark.parametrize(
    ("figure", "score", "reached", "shown"),
    [
        (Faster("f", 4.0), 4.0, True, "4.00"),
        (Faster("f", 4.1), 4.0, False, "4.00"),
        (AtMost("f", 0.5), 0.5, True, "500 ms"),
        (AtMost("f", 0.4), 0.5, False, "500 ms"),
        (AtMost("f", 1.0, Unit.NONE), 0.5, True, "0.5"),
        (Cost("f", -0.75), -0.75, True, "-75.0%"),
        (Cost("f", -0.8), -0.75, False, "-75.0%"),
    ],
)
def test_figures_are_judged(figure: Figure, score: float, reached: bool, shown: str) -> None:
    """Of pairs, one of which was disturbed: by the median of what the pairs themselves give."""
    assert figure.score([2.0, 2.0, 2.0], [0.5, 0.5, 50.0]) == score
    assert figure.reached(score) is reached
    assert figure.show(score) == shown


def test_the_best_schedule() -> None:
    """Each item begins as soon as a worker is free: computed by hand."""
    assert skew.greedy([3, 1, 1, 1, 5], 2) == 8
    assert skew.greedy([5, 3, 1, 1, 1], 2) == 6
    for shape in (skew.ramp, skew.lognormal, skew.slow_first, skew.slow_last):
        items = shape()
        best = skew.greedy(items, skew.WORKERS)
        assert len(items) == skew.ITEMS
        assert 0.999 * sum(items) / skew.WORKERS < best < 1.0


def test_the_peak_of_memory_stays() -> None:
    """Also when the memory is given back."""
    size = 256 << 20
    before = memory.peak()
    held = bytearray(size)
    held[::4096] = b"x" * (size // 4096)
    del held
    assert memory.peak() - before > 0
