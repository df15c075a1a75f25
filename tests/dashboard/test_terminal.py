"""The real thing: `obspool top` in a terminal, on real pools of other processes."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from obspool.engines import stacks
from tests.dashboard.terminal import DEADLINE, Terminal, environment, opened, python
from tests.helpers import poll, process_gone

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux isn't installed")

PROGRAM = """
import signal, sys, time
from obspool import Pool

def resize_image(number):
    time.sleep(0.004)
    return number

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    pool = Pool(3, name=sys.argv[1])
    print("ready", flush=True)
    try:
        while True:
            pool.map(resize_image, range(int(sys.argv[2])), chunksize=5)
    except Exception as error:
        print("ended by", type(error).__name__, flush=True)
    pool.terminate()
    pool.join()
"""
# Each in C code for good: two that hold the GIL, one of them in a call of the system, and one that
# has let go of it. Stacks are taken by signals, which interrupt a call of the system.
IN_C = """
import ctypes, hashlib, re, signal, sys, time
from obspool import Pool

def in_regex(_):
    re.fullmatch("(a+)+", "a" * 40 + "b")

def in_c_sleep(_):
    while True:
        ctypes.PyDLL(None).sleep(600)

def in_hash(_):
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    pool = Pool(1, name=sys.argv[1])
    pool.apply_async(globals()[sys.argv[2]], (0,))
    print("ready", flush=True)
    while True:
        time.sleep(600)
"""
RECORDED = """
from functools import partial
import obspool_dashboard
from obspool_dashboard.recorded import RecordedSource
from tests.dashboard.film import snapshot_at
source = RecordedSource(nightly=partial(snapshot_at, 0))
raise SystemExit(obspool_dashboard.run(None, source=source))
"""
SIZE = (120, 30)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A terminal of the test's own."""
    with opened() as terminal:
        yield terminal


@contextlib.contextmanager
def _pool(
    name: str, items: int | str = 200, *, code: str = PROGRAM
) -> Iterator[subprocess.Popen[str]]:
    """Run a program with a pool, one that maps again and again or another."""
    program = subprocess.Popen(
        [sys.executable, "-c", code, name, str(items)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(),
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        yield program
    finally:
        program.send_signal(signal.SIGCONT)
        program.terminate()
        program.communicate(timeout=10)
        # What a killed pool can't remove itself.
        for socket in Path(os.environ["OBSPOOL_DIR"]).rglob(f"{program.pid}.sock"):
            socket.unlink()


def _top(terminal: Terminal, *arguments: str, **variables: str) -> None:
    terminal.start(python("-m", "obspool", "top", *arguments), SIZE, **variables)


def test_attach_sort_freeze_and_terminate(terminal: Terminal) -> None:
    """From the first frame to the end: Enter cancels, the other button terminates."""
    with _pool("nightly", items=100_000) as program:
        _top(terminal, "nightly", "--interval", "0.25")
        screen = terminal.wait_for("nightly", f"pid {program.pid}", "3 workers", "resize_image")
        assert _slots(screen) == list("012")
        terminal.wait_for("peak")

        terminal.press("I")
        terminal.wait_for("sort: slot ▼")
        poll(lambda: _slots(terminal.text) == list("210"))  # a terminal may be drawn by halves

        terminal.press("Space")
        frozen = terminal.wait_for("FROZEN for")
        done = re.search(r"items/s .*\n +\S+ +(\S+)", frozen)
        assert done
        later = terminal.wait_for("FROZEN for 1 s")
        assert done.group(0) in later
        terminal.press("Space")
        poll(lambda: "FROZEN" not in terminal.text, message="it goes on")

        terminal.press("X")
        terminal.wait_for(f"Terminate nightly (pid {program.pid})?", "Lost: 3 workers")
        terminal.press("Enter")
        poll(lambda: "Lost:" not in terminal.text, message="the dialog closes")
        assert program.poll() is None

        terminal.press("X")
        terminal.wait_for("Lost: 3 workers")
        terminal.press("Tab")
        terminal.press("Enter")
        terminal.wait_for("ENDED: abandoned, terminated with work pending.")
        poll(lambda: "X Terminate" not in terminal.text, message="control is gone")
        assert program.communicate(timeout=10)[0] == "ended by PoolTerminatedError\n"

        terminal.press("q")
        terminal.wait_for("exit=0")


def test_close(terminal: Terminal) -> None:
    """What was submitted is done, and the program's next call raises ValueError."""
    with _pool("nightly") as program:
        _top(terminal, str(program.pid), "--interval", "0.25")
        terminal.wait_for("nightly", "resize_image")
        terminal.press("c")
        terminal.wait_for("Close nightly", "Nothing is lost")
        terminal.press("Tab")
        terminal.press("Enter")
        terminal.wait_for("ENDED: finished, nothing was pending.")
        assert program.communicate(timeout=10)[0] == "ended by ValueError\n"


def test_target_killed(terminal: Terminal) -> None:
    """The last values stay, with how it ended; keys work, and control is gone."""
    with _pool("nightly") as program:
        _top(terminal, "nightly", "--interval", "0.25")
        terminal.wait_for("nightly", "resize_image", "Terminate")
        program.kill()
        terminal.wait_for("ENDED: died, its process is gone without a word.", "Values of")
        poll(lambda: "Terminate" not in terminal.text, message="control is gone")
        terminal.press("I")
        terminal.wait_for("sort: slot ▼")
        terminal.press("Escape")
        terminal.wait_for("0 running, 1 ended", "No pool runs on this host", "died")


def test_target_stopped(terminal: Terminal) -> None:
    """A stopped process can't stall the screen; it is told, and what to do about it."""
    with _pool("nightly") as program:
        _top(terminal, "nightly", "--interval", "0.25")
        terminal.wait_for("nightly", "resize_image")
        program.send_signal(signal.SIGSTOP)
        # Both take five seconds: that it is silent, and that it does not answer.
        terminal.press("c")
        terminal.wait_for("Nothing is lost")
        terminal.press("Tab")
        terminal.press("Enter")
        poll(lambda: "Nothing is lost" not in terminal.text, message="the dialog closes")
        terminal.wait_for("SILENT for", "stopped or stuck")
        terminal.press("I")
        terminal.wait_for("sort: slot ▼")
        terminal.wait_for("did not answer within", f"kill -CONT {program.pid}")


def test_steering(terminal: Terminal) -> None:
    """Stack, details, resize, pause, a filter, a recycle: the real pool does each."""
    with _pool("nightly") as program:
        _top(terminal, "nightly", "--interval", "0.25")
        terminal.wait_for("nightly", "resize_image", "3 workers")
        terminal.press("s")
        # Of an item, or of the wait between two.
        terminal.wait_for("Stack of slot 0 of nightly", "(most recent call first)")
        terminal.press("Escape")
        terminal.wait_for("SLOT")
        terminal.press("j", "Enter")
        terminal.wait_for("Worker, slot 1", "p95 of its function")
        terminal.press("Escape")
        terminal.wait_for("SLOT")
        terminal.press("n")
        terminal.wait_for("It has 3 workers")
        # What is in the field is selected: a digit replaces it.
        terminal.press("4")
        terminal.press("Enter")
        assert " 3 " in terminal.wait_for("4 workers")
        terminal.press("p")
        terminal.wait_for("paused", "p Resume")
        terminal.press("p")
        terminal.wait_for("p Pause", "command: resume by")
        # The cursor stays on slot 1 while its process is replaced.
        pid = re.search(r"^ +1 +(\d+) ", terminal.text, flags=re.MULTILINE)
        assert pid is not None
        terminal.press("R")
        terminal.wait_for("Recycle workers of nightly", "Slot 1")
        terminal.press("Right", "Enter")
        terminal.wait_for("command: recycle slot 1 by", "slot 1     recycled by a command")
        terminal.press("/")
        terminal.wait_for("only rows with this text")
        terminal.press("s", "l", "o", "t", "Space", "1", "Enter")
        terminal.wait_for("filter: slot 1 (1 of 4)")
        poll(lambda: _slots(terminal.text) == ["1"])
        assert pid.group(1) not in terminal.text.splitlines()[5]
        assert program.poll() is None


@pytest.mark.skipif(not stacks.AVAILABLE, reason="no stacks of processes here")
@pytest.mark.parametrize("function", ["in_regex", "in_c_sleep", "in_hash"])
def test_the_stack_of_a_worker_in_c_code(terminal: Terminal, function: str) -> None:
    """It runs no line of Python, and may hold the GIL: the stack is told, on a key told anew."""
    if function == "in_hash" and stacks._DEAF_AFTER_FORK:
        pytest.skip("Python 3.13.0 looks at no signals after a fork: it may be running Python code")
    with _pool("nightly", function, code=IN_C) as program:
        _top(terminal, "nightly", "--interval", "0.25")
        terminal.wait_for("nightly", function, "busy")
        (worker,) = psutil.Process(program.pid).children()
        terminal.press("Enter")
        terminal.wait_for("Worker, slot 0", function)
        terminal.press("s")
        shown = terminal.wait_for("Stack of slot 0", "(most recent call first)", f"  {function}  ")
        taken = re.search(r"at (\d\d:\d\d:\d\d)", shown)
        assert taken is not None

        def taken_anew() -> bool:
            terminal.press("s")
            return taken.group() not in terminal.text and f"  {function}  " in terminal.text

        poll(taken_anew, interval=0.3, deadline=DEADLINE, message="it is taken anew")
        terminal.press("Escape")
        terminal.wait_for("Worker, slot 0")
        assert worker.is_running()
        # Nothing in its process can end it but the kernel: so does a command.
        terminal.press("X")
        terminal.wait_for("Terminate nightly", "1 running task")
        terminal.press("Tab", "Enter")
        terminal.wait_for("ENDED: abandoned")
        poll(partial(process_gone, worker.pid), message="the worker ends")


def test_a_stopped_process_is_ended(terminal: Terminal) -> None:
    """The process that doesn't answer is ended by signals, with its workers, after a question."""
    with _pool("nightly") as program:
        _top(terminal, "nightly", "--interval", "0.25")
        terminal.wait_for("nightly", "resize_image")
        workers = psutil.Process(program.pid).children(recursive=True)
        program.send_signal(signal.SIGSTOP)
        terminal.wait_for("SILENT for", "E ends it.", "E End it")
        terminal.press("E")
        terminal.wait_for(f"End the process of nightly (pid {program.pid})?", "SIGTERM")
        terminal.press("Right", "Enter")
        terminal.wait_for("ENDED: ")
        assert program.wait(timeout=10) is not None
        for worker in workers:
            poll(partial(process_gone, worker.pid), message="its workers are gone")


def test_none_runs_and_then_one_does(terminal: Terminal) -> None:
    """It says how to get one, and attaches when it appears."""
    _top(terminal, "--interval", "0.25")
    terminal.wait_for("No pool runs on this host", "obspool demo")
    with _pool("nightly") as program:
        terminal.wait_for(f"pid {program.pid}", "3 workers")


def test_several_to_pick_from(terminal: Terminal) -> None:
    """The list is live, and Enter attaches."""
    with _pool("alpha"), _pool("beta") as beta:
        _top(terminal, "--interval", "0.25")
        terminal.wait_for("2 running, 0 ended", "alpha", "beta")
        terminal.press("j")
        terminal.press("Enter")
        terminal.wait_for(f"pid {beta.pid}", "resize_image")


def test_no_such_pool(terminal: Terminal) -> None:
    """It says which there are, and ends with 1."""
    with _pool("nightly"):
        _top(terminal, "weekly")
        terminal.wait_for("weekly", "nightly", "exit=1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(terminal: Terminal, number: int) -> None:
    """Echo is on, the cursor shows, the first screen is back; the shell knows the signal."""
    terminal.start(python("-c", RECORDED), SIZE)
    terminal.wait_for("nightly", "resize_image")
    assert terminal.asked("#{alternate_on} #{cursor_flag}") == "1 0"
    os.kill(_child_of(int(terminal.asked("#{pane_pid}"))), number)
    terminal.wait_for(f"exit={128 + number} echo=echo")
    assert terminal.asked("#{alternate_on} #{cursor_flag}") == "0 1"
    assert "Traceback" not in terminal.text


def test_a_closed_terminal_leaves_no_orphan(terminal: Terminal) -> None:
    """The window goes, and the dashboard with it."""
    terminal.start(python("-c", RECORDED), SIZE)
    terminal.wait_for("nightly", "resize_image")
    dashboard = _child_of(int(terminal.asked("#{pane_pid}")))
    terminal.stop()
    poll(lambda: process_gone(dashboard), message="the dashboard ends")


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {}], ids=["NO_COLOR", "colored"])
def test_no_color(terminal: Terminal, variables: dict[str, str]) -> None:
    """No colour is sent; the cursor is told by reverse, the states by their signs."""
    terminal.start(python("-c", RECORDED), SIZE, TERM="tmux-256color", **variables)
    terminal.wait_for("nightly", "● busy", "○ idle", "◐ starting")
    colors = re.findall(r"\x1b\[(?:[0-9;]*;)?(?:3[0-7]|4[0-7]|9[0-7]|[34]8[;:])", terminal.colored)
    assert bool(colors) == (not variables)
    if variables:
        assert re.search(r"\x1b\[[0-9;]*7m[^\n]*41964", terminal.colored)


def test_an_exported_size_is_not_believed(terminal: Terminal) -> None:
    """COLUMNS and LINES of a shell are those from before the window was resized."""
    terminal.start(python("-c", RECORDED), SIZE, COLUMNS="40", LINES="12")
    terminal.wait_for("nightly", "Events", "python 3.11.7")


def _slots(screen: str) -> list[str]:
    """Return the slots from top to bottom."""
    return re.findall(r"^ +(\d+) +\d+ +\d+ +[●○◐◒×] ", screen, flags=re.MULTILINE)


def _child_of(shell: int) -> int:
    (child,) = psutil.Process(shell).children()
    return child.pid
