from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from obspool import __version__
from obspool.control.protocol import Command
from obspool.telemetry.snapshot import ItemError
from obspool.words import Outcome, PoolOutcome, PoolState
from tests.cli.environment import environment
from tests.cli.pools import ShamPool, obspool, sham_pool
from tests.cli.terminal import Terminal
from tests.synthetic import make_snapshot
from tests.synthetic_segment import write_segment


def test_ls_lists_running_pools() -> None:
    """A line for each, with its name, pid, and state."""
    with sham_pool("nightly") as pool, sham_pool("hourly"):
        pool.set("tasks_queued", 18_200)
        pool.set("items_completed", 1_240_000)
        listed = obspool("ls")
    assert (listed.returncode, listed.stderr) == (0, "")
    header, *rows = listed.stdout.splitlines()
    assert header.split()[:3] == ["NAME", "PID", "STATE"]
    assert {row.split()[0] for row in rows} == {"nightly", "hourly"}
    row = next(row for row in rows if row.startswith("nightly")).split()
    assert row[:3] == ["nightly", str(os.getpid()), "running"]
    assert "18.2k" in row
    assert "1.24M" in row


def test_ls_tells_ended_pools_apart() -> None:
    """They are listed with --all only, with how they ended."""
    pool = ShamPool("nightly")
    pool.end(PoolOutcome.ABANDONED)
    nothing = obspool("ls")
    assert nothing.returncode == 0
    assert "no pool is running" in nothing.stdout
    assert "1 ended: --all" in nothing.stdout
    assert "abandoned" in obspool("ls", "--all").stdout


def test_ls_json_has_all_for_scripts() -> None:
    """One object: the pools with their numbers, and the files that were skipped."""
    with sham_pool("nightly") as pool:
        pool.set("tasks_queued", 7)
        listed = json.loads(obspool("ls", "--json").stdout)
    assert listed["skipped"] == []
    (found,) = listed["pools"]
    assert (found["name"], found["pid"], found["alive"]) == ("nightly", os.getpid(), True)
    assert found["tasks"]["queued"] == 7
    assert found["outcome"] is None
    assert found["path"] == pool.segment.path


def test_files_that_are_no_segments_are_told_and_the_rest_is_listed(obspool_dir: Path) -> None:
    """Foreign, cut short, of another major version: each a line on stderr."""
    with sham_pool("nightly") as pool:
        assert pool.segment.path is not None
        whole = Path("/proc/self/fd", str(pool.segment.fd)).read_bytes()
        (obspool_dir / "foreign.obspool").write_text("hello\n", encoding="utf-8")
        (obspool_dir / "short.obspool").write_bytes(whole[:100])
        other = whole[:16] + (99).to_bytes(8, sys.byteorder) + whole[24:]
        (obspool_dir / "other.obspool").write_bytes(other)
        pool.segment.hold()
        listed = obspool("ls")
        described = json.loads(obspool("ls", "--json").stdout)
    assert listed.returncode == 0
    assert "nightly" in listed.stdout
    for name in ("foreign", "short", "other"):
        assert f"{name}.obspool: " in listed.stderr
    assert "version 99" in listed.stderr
    assert {Path(skipped["path"]).name for skipped in described["skipped"]} == {
        "foreign.obspool",
        "short.obspool",
        "other.obspool",
    }


def test_escape_sequences_never_reach_the_terminal(obspool_dir: Path) -> None:
    """Names come from other processes: a file's name may hold anything."""
    (obspool_dir / "\x1b]0;owned\x07\x1b[31m.obspool").write_text("hello\n", encoding="utf-8")
    told = obspool("ls").stderr
    assert "owned" in told
    assert "\x1b" not in told
    assert "\x07" not in told


@pytest.mark.parametrize("by", ["name", "pid"])
def test_stats_finds_a_pool(by: str) -> None:
    """By name, or by the pid of its process."""
    with sham_pool("nightly"):
        shown = obspool("stats", "nightly" if by == "name" else str(os.getpid()))
    assert shown.returncode == 0, shown.stderr
    assert f"nightly  pid {os.getpid()}" in shown.stdout
    assert "running for 00:00:0" in shown.stdout


def test_stats_json_is_the_snapshot() -> None:
    """All of it, as `pool.stats().as_dict()`."""
    with sham_pool("nightly") as pool:
        pool.set("items_submitted", 5)
        shown = json.loads(obspool("stats", "nightly", "--json").stdout)
    assert shown["facts"]["name"] == "nightly"
    assert shown["items_submitted"] == 5
    assert shown["items_completed"][Outcome.OK] == 0
    assert shown["state"] == PoolState.RUNNING


def test_stats_of_an_ended_pool() -> None:
    """Its last values, with how it ended and how old they are."""
    ShamPool("nightly").end(PoolOutcome.BROKEN)
    shown = obspool("stats", "nightly")
    assert shown.returncode == 0
    assert "ended, broken" in shown.stdout


def test_a_pid_with_several_pools_lists_them() -> None:
    """The message has the names to choose from."""
    with sham_pool("nightly") as pool, sham_pool("hourly"):
        shown = obspool("close", str(os.getpid()))
        assert pool.commands == []
    assert shown.returncode == 1
    assert "nightly" in shown.stderr
    assert "hourly" in shown.stderr


@pytest.mark.parametrize("command", ["stats", "close", "terminate"])
def test_an_unknown_pool(command: str) -> None:
    """The message lists what runs."""
    with sham_pool("nightly"):
        shown = obspool(command, "weekly")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr.startswith("obspool: no pool has the name or pid 'weekly'")
    assert "nightly" in shown.stderr


def test_close_tells_the_pool_and_what_it_means() -> None:
    """No question: nothing is lost."""
    with sham_pool("nightly") as pool:
        pool.set("tasks_queued", 1204)
        shown = obspool("close", "nightly")
        assert pool.commands == [Command.CLOSE]
    assert shown.returncode == 0
    assert "1,204 queued are finished" in shown.stdout


def test_terminate_without_a_terminal_wants_yes() -> None:
    """A script says that it means it; a wrong use is exit code 2."""
    with sham_pool("nightly") as pool:
        pool.set("tasks_queued", 1204)
        shown = obspool("terminate", "nightly", text="y\n")
        assert pool.commands == []
        assert shown.returncode == 2
        assert "say --yes" in shown.stderr
        assert "1,204 queued" in shown.stderr
        assert obspool("terminate", "nightly", "--yes").returncode == 0
        assert pool.commands == [Command.TERMINATE]


@pytest.mark.parametrize(
    ("answer", "told"),
    [("y\n", True), ("YES\n", True), ("\n", False), ("no\n", False), ("\x04", False)],
)
def test_terminate_asks_on_a_terminal(answer: str, told: bool) -> None:
    """The question names what is lost, and anything but yes means no."""
    with sham_pool("nightly") as pool:
        pool.set("tasks_queued", 1204)
        with Terminal("terminate", "nightly") as terminal:
            terminal.wait_for(r"Terminate nightly \(pid \d+\)\? .*1,204 queued.*\[y/N\]")
            terminal.type(answer)
            status = terminal.wait()
            assert ("Nothing was done" in terminal.shown) is not told
        assert bool(pool.commands) is told
    assert status == (0 if told else 1)


def test_ctrl_c_at_the_question_is_no() -> None:
    """And no traceback."""
    with sham_pool("nightly") as pool:
        with Terminal("terminate", "nightly") as terminal:
            terminal.wait_for("y/N")
            assert terminal.interrupt() == 130
            assert "Traceback" not in terminal.shown
        assert pool.commands == []


def test_a_pool_without_control() -> None:
    """Says why, with exit code 1."""
    with sham_pool("nightly", control=False):
        shown = obspool("close", "nightly")
    assert shown.returncode == 1
    assert "has no control socket" in shown.stderr


def test_closing_an_ended_pool() -> None:
    """It needs no more closing."""
    ShamPool("nightly").end()
    shown = obspool("close", "nightly")
    assert shown.returncode == 1
    assert "has ended already" in shown.stderr


def test_top_without_a_terminal_prints_a_reading() -> None:
    """As --once does: a script or a pipe gets text, never a screen."""
    with sham_pool("nightly"):
        assert "nightly  pid" in obspool("top").stdout
        assert "nightly  pid" in obspool("top", "nightly", "--once").stdout
        assert json.loads(obspool("top", "nightly", "--json").stdout)["facts"]["name"] == "nightly"
        with sham_pool("hourly"):
            assert obspool("top").stdout.splitlines()[0].startswith("NAME")
            assert len(json.loads(obspool("top", "--once", "--json").stdout)["pools"]) == 2
    assert "no pool is running" in obspool("top").stdout


def test_top_without_textual_says_what_to_install() -> None:
    """Also the way that leaves the project's environment alone."""
    program = (
        "import sys; sys.modules['textual'] = None\n"
        "import importlib.util\n"
        "real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda n, *a: None if n == 'textual' else real(n, *a)\n"
        "from obspool.cli import top\n"
        "top.is_terminal = lambda: True\n"
        "from obspool.cli import main\n"
        "sys.exit(main(['top']))\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
        env=environment(),
    )
    assert shown.returncode == 1
    assert "pip install 'obspool[top]'" in shown.stderr
    assert "pipx" in shown.stderr


def test_a_reader_that_leaves_early_is_no_error() -> None:
    """`obspool stats … | head -1` has no traceback."""
    with sham_pool("nightly"):
        process = subprocess.Popen(
            [sys.executable, "-m", "obspool", "stats", "nightly", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        told = process.stderr.read()
        process.stderr.close()
        assert process.wait(20) == 1
    assert told == b""


def test_an_encoding_without_micro_signs_is_no_error() -> None:
    """Characters that a terminal can't show become `?`."""
    with sham_pool("nightly") as pool:
        pool.set("task_result_wait", 5)  # in the first bucket: microseconds
        shown = obspool("stats", "nightly", PYTHONIOENCODING="ascii")
    assert shown.returncode == 0, shown.stderr
    assert "?" in shown.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["explode"],
        ["stats"],
        ["top", "--interval", "0.1"],
        ["top", "--interval", "nan"],
        ["demo", "--workers", "0"],
        ["demo", "--workers", "two"],
        ["demo", "--minutes", "-1"],
        ["demo", "--metrics", "here"],
        ["demo", "--top"],
    ],
)
def test_wrong_use_is_exit_code_2(arguments: list[str]) -> None:
    """With a line that says what is wrong, on stderr."""
    shown = obspool(*arguments)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "Traceback" not in shown.stderr
    assert shown.stderr


def test_the_version() -> None:
    """`obspool --version`, for bug reports."""
    assert obspool("--version").stdout == f"obspool {__version__}\n"


def test_commands_start_without_what_they_do_not_need() -> None:
    """Neither textual nor prometheus_client nor multiprocessing's pool for `ls`."""
    program = (
        "import sys\n"
        "from obspool.cli import main\n"
        "main(['ls'])\n"
        "print(sorted({'textual', 'prometheus_client', 'psutil', 'multiprocessing.pool',"
        " 'cloudpickle'} & set(sys.modules)))\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
        env=environment(),
    )
    assert shown.stdout.splitlines()[-1] == "[]"


def test_a_pool_whose_process_was_killed() -> None:
    """It is an ended pool, which died."""
    program = (
        "import sys\n"
        "from tests.cli.pools import ShamPool\n"
        "pool = ShamPool('nightly'); print(flush=True); sys.stdin.read()\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    assert owner.stdout is not None
    owner.stdout.readline()
    owner.kill()
    owner.communicate(timeout=10)
    shown = obspool("ls", "--all")
    assert "died" in shown.stdout
    assert "has ended already" in obspool("terminate", "nightly", "--yes").stderr
    for socket in Path(os.environ["OBSPOOL_DIR"]).glob("*.sock"):
        socket.unlink()


def test_stats_shows_the_last_errors_of_items(obspool_dir: Path) -> None:
    """Of all workers, the newest last, with the function and the item."""
    made = make_snapshot(2, outcome=PoolOutcome.FINISHED)
    errors = tuple(
        ItemError(made.time - 90 + n, 1, "resize_image", f"img_{n}", f"ValueError: \x1b {n}")
        for n in range(4)
    )
    workers = tuple(
        dataclasses.replace(worker, errors=errors, generation=1) for worker in made.workers
    )
    write_segment(obspool_dir, dataclasses.replace(made, workers=workers))
    told = obspool("stats", "nightly").stdout
    shown = [line for line in told.splitlines() if "ValueError" in line]
    assert len(shown) == 5
    assert shown[-1].endswith("slot 1   ValueError: \ufffd 3  resize_image img_3")
    assert "img_1" in shown[0]
