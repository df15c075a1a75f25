from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from obspool.cli import Failure
from obspool.cli.demo_files import source_files
from obspool.cli.demo_work import measure
from tests.cli.environment import environment
from tests.cli.pools import obspool, started
from tests.cli.terminal import Terminal
from tests.helpers import poll, process_gone

SOURCE = """\
class Café:
    def method(self, argument):
        for item in argument:
            if item:
                return item.attribute
"""
LONG = "".join(f"def function_{n}(x):\n    return x + {n}\n\n\n" for n in range(400))


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A small tree of source files: one large, one broken, some that are left out."""
    (tmp_path / "cafe.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "long.py").write_text(LONG, encoding="utf-8")
    (tmp_path / "package" / "empty.py").touch()
    (tmp_path / "package" / "broken.py").write_text("def broken(:\n", encoding="utf-8")
    (tmp_path / "package" / "notes.txt").write_text("no source", encoding="utf-8")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "cached.py").touch()
    return tmp_path


def test_a_file_is_parsed_measured_and_compressed(sources: Path) -> None:
    """The counts of a known file."""
    report = measure(str(sources / "cafe.py"))
    assert (report.lines, report.functions, report.classes) == (5, 1, 1)
    assert report.nesting == 4  # class, def, for, if
    assert report.names == 6  # Café, method, self, argument, item, attribute
    assert report.size == len(SOURCE.encode())
    long = measure(str(sources / "package" / "long.py"))
    assert 0 < long.lzma_size < long.zlib_size < long.size


def test_files_that_can_not_be_measured(tmp_path: Path) -> None:
    """Each is an error of its item, never a hang: broken, binary, a FIFO, too large."""
    broken = tmp_path / "broken.py"
    broken.write_bytes(b"\xff\xfe\x00")
    with pytest.raises((SyntaxError, ValueError)):
        measure(str(broken))
    fifo = tmp_path / "fifo.py"
    os.mkfifo(fifo)
    with pytest.raises(ValueError, match="no regular file"):
        measure(str(fifo))
    large = tmp_path / "large.py"
    large.touch()
    os.truncate(large, 9 << 20)
    with pytest.raises(ValueError, match="9,437,184 bytes"):
        measure(str(large))
    deep = tmp_path / "deep.py"
    deep.write_text("-" * 100_000 + "1", encoding="ascii")
    with pytest.raises((RecursionError, MemoryError, SyntaxError)):
        measure(str(deep))


def test_the_files_of_a_directory(sources: Path) -> None:
    """Python's only, without caches; in the same order each time."""
    found = source_files(str(sources))
    assert {Path(path).name for path in found.paths} == {
        "cafe.py",
        "long.py",
        "empty.py",
        "broken.py",
    }
    assert source_files(str(sources)).paths == found.paths


def test_the_standard_library_is_the_default() -> None:
    """It is there wherever Python is, and large enough; without what was installed into it."""
    found = source_files(None)
    assert len(found.paths) > 500
    assert not any("site-packages" in path for path in found.paths)


def test_directories_without_anything_to_do(tmp_path: Path) -> None:
    """Missing, a file, empty: each says what it is, and what to give instead."""
    with pytest.raises(Failure, match=r"doesn't exist; .*--dir"):
        source_files(str(tmp_path / "missing"))
    with pytest.raises(Failure, match="no Python source files"):
        source_files(str(tmp_path))
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(Failure, match="is no directory"):
        source_files(str(file))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who may not read")
def test_a_directory_that_can_not_be_read() -> None:
    """The reason is the system's own."""
    program = (
        "import os\n"
        "from obspool.cli.demo_files import source_files\n"
        "from obspool.cli import Failure\n"
        "os.makedirs(d := os.environ['OBSPOOL_DIR'] + '/secret', mode=0o700)\n"
        "os.chmod(os.environ['OBSPOOL_DIR'], 0o755)\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try: source_files(d)\n"
        "except Failure as failure: print(failure)\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
        env=environment(),
    )
    assert "Permission denied" in shown.stdout


def test_a_run_computes_and_sums_up(sources: Path) -> None:
    """Start lines to paste, a summary of the pool, and the result; the broken file is an error."""
    shown = obspool("demo", "--dir", str(sources), "--minutes", "0.02", "--workers", "2")
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"metrics +http://127\.0\.0\.1:\d+/metrics", shown.stdout)
    assert re.search(r"watch +.*obspool top demo", shown.stdout)
    assert "The demo is done after" in shown.stdout
    items = re.search(r"items +([\d,]+) done, ([\d,]+) of them errors", shown.stdout)
    assert items is not None
    done, errors = (int(number.replace(",", "")) for number in items.groups())
    assert done >= 4
    assert errors == done // 4
    assert "workers     2, busy" in shown.stdout
    assert "lines       1,605" in shown.stdout
    assert "biggest     package/long.py" in shown.stdout
    assert "most nested cafe.py, 4 blocks" in shown.stdout
    assert "error       SyntaxError" in shown.stdout


def test_the_default_batch_recycles_its_workers() -> None:
    """Over the standard library: workers reach their limit, are replaced, and it is told."""
    demo = started("demo", "--minutes", "5", "--workers", "2")

    def recycled() -> bool:
        shown = obspool("stats", str(demo.pid), "--json")
        return shown.returncode == 0 and json.loads(shown.stdout)["worker_exits"]["tasks"] > 0

    try:
        poll(recycled, deadline=40.0)
    finally:
        demo.send_signal(signal.SIGINT)
        summary, progress = demo.communicate(timeout=20)
    assert demo.returncode == 130
    count = re.search(r"recycled +([\d,]+) workers, each after 200 tasks", summary)
    assert count is not None
    assert int(count[1]) >= 1
    assert "round 1: " in progress


def test_ctrl_c_ends_it_with_the_summary_so_far() -> None:
    """The terminal's Ctrl-C reaches all processes; only the demo itself has something to say."""
    with Terminal("demo", "--minutes", "5", "--workers", "2") as terminal:
        terminal.wait_for(r"round 1\b.*\d")
        workers = psutil.Process(terminal.process.pid).children(recursive=True)
        assert workers
        terminal.type("\x03")
        assert terminal.wait() == 130
        assert "The demo is stopped after" in terminal.shown
        assert "What it computed" in terminal.shown
        assert "Traceback" not in terminal.shown
        assert "KeyboardInterrupt" not in terminal.shown
    poll(lambda: all(process_gone(worker.pid) for worker in workers))


def test_an_impatient_ctrl_c_leaves_no_process() -> None:
    """Ctrl-C again and again, from the first moment on."""
    with Terminal("demo", "--minutes", "5", "--workers", "2") as terminal:
        terminal.wait_for("metrics")
        workers = psutil.Process(terminal.process.pid).children(recursive=True)
        for _ in range(5):
            terminal.type("\x03")
        assert terminal.wait() == 130
        assert "Traceback" not in terminal.shown
    poll(lambda: all(process_gone(worker.pid) for worker in workers))


def test_sigterm_ends_it_as_well() -> None:
    """An operator's or a container's way to end a batch."""
    with Terminal("demo", "--minutes", "5", "--workers", "1") as terminal:
        terminal.wait_for("stop +Ctrl-C")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.wait() == 128 + signal.SIGTERM
        assert "The demo is stopped after" in terminal.shown


@pytest.mark.parametrize(
    ("verb", "status", "words"),
    [("close", 0, "is done, its pool closed"), ("terminate", 1, "ended by PoolTerminatedError")],
)
def test_closed_or_terminated_from_outside(verb: str, status: int, words: str) -> None:
    """Closed, it finishes what it has; terminated, it fails; both with a summary."""
    with Terminal("demo", "--minutes", "5", "--workers", "2") as terminal:
        terminal.wait_for("stop +Ctrl-C")
        more = ["--yes"] if verb == "terminate" else []
        told = obspool(verb, str(terminal.process.pid), *more)
        assert told.returncode == 0, told.stderr
        assert terminal.wait() == status
        assert words in terminal.shown
        assert "Traceback" not in terminal.shown


def test_metrics_are_served_while_it_runs() -> None:
    """The address that is printed answers; the commands that are printed find the pool."""
    with Terminal("demo", "--minutes", "5", "--workers", "1") as terminal:
        terminal.wait_for("stop +Ctrl-C")
        url = re.search(r"metrics +(http://\S+)", terminal.shown)
        assert url is not None
        with urllib.request.urlopen(url[1], timeout=10) as answer:  # noqa: S310 - our own
            assert b'pool="demo"' in answer.read()
        assert "demo  pid" in obspool("top", "demo", "--once").stdout
        terminal.type("\x03")
        assert terminal.wait() == 130


def test_top_on_the_same_terminal(sources: Path) -> None:
    """The dashboard shows the batch; leaving it ends the batch, whose summary is then printed."""
    pytest.importorskip("textual")
    with Terminal("demo", "--top", "--minutes", "5", "--workers", "2") as terminal:
        terminal.wait_for("SLOT")
        batch = psutil.Process(terminal.process.pid).children()
        terminal.type("q")
        assert terminal.wait() == 0
        assert "The demo is stopped after" in terminal.shown
    poll(lambda: all(process_gone(process.pid) for process in batch))


def test_the_batch_ends_with_a_dashboard_that_is_killed() -> None:
    """Its lifeline is cut: nothing runs on unseen."""
    pytest.importorskip("textual")
    with Terminal("demo", "--top", "--minutes", "5", "--workers", "1") as terminal:
        terminal.wait_for("SLOT")
        batch = psutil.Process(terminal.process.pid).children()
        assert batch
        terminal.process.kill()
        terminal.process.wait()
    poll(lambda: all(process_gone(process.pid) for process in batch))
