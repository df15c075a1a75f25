"""Starts runner.py, watches it for hangs, and reads its report.

A hung test ends its process, so the rest runs in a new one. Before the process and its workers are
killed faulthandler prints the stacks of all their threads.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil

from tests.helpers import ConditionNotMetError, poll, process_gone, temporary_obspool_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[2]

# The slowest of these tests takes 2 s here with the stdlib's Pool. Shorter, and a loaded machine
# looks like a hang; longer, and a pool that hangs in many tests takes many minutes to say so.
TEST_DEADLINE = 25.0
# After so many hangs the pool is broken as a whole, and the rest isn't run.
MAX_HANGS = 3
# How long faulthandler may take to print the stacks of one process.
STACKS_DEADLINE = 1.0
# How long multiprocessing's resource tracker may take to clean up after a killed run.
TRACKER_DEADLINE = 3.0
# Upon this the runner prints its stacks and lives on (workers do upon SIGABRT, and don't) …
STACKS_SIGNAL = signal.SIGUSR1
# … of which the last line has this.
OUTERMOST_FUNCTION = "in _run_module_as_main"
# At most this much of what a run printed is shown with a failure.
OUTPUT_LINES = 200

Outcome = Literal["passed", "failed", "skipped", "hung", "not run"]


@dataclass(frozen=True)
class Setup:
    """What is run: which pool, made how."""

    pool: str
    kind: str
    start_method: str

    def __str__(self) -> str:
        return f"{self.pool}-{self.kind}-{self.start_method}"


@dataclass(frozen=True)
class Result:
    """How one test ended; `detail` is a traceback, a reason, or the stacks at a hang."""

    outcome: Outcome
    seconds: float
    detail: str


@dataclass
class Report:
    """The results of one setup by the tests' names, and how many pools were made for them."""

    results: dict[str, Result] = field(default_factory=dict)
    # Errors of setUpClass and the like.
    errors: list[str] = field(default_factory=list)
    pools: int = 0

    def result(self, test: str) -> Result:
        """Return the result of a test; without one it was not run, for the report's errors."""
        return self.results.get(test, Result("not run", 0.0, ""))


def missing_test_package() -> str | None:
    """Return why the interpreter's own tests can't be run, None when they can."""
    code = "import test._test_multiprocessing"
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60
    )
    if done.returncode == 0:
        return None
    last_line = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return (
        "this interpreter has no usable `test` package (Debian: apt-get install "
        f"libpython{sys.version_info.major}.{sys.version_info.minor}-testsuite): {last_line}"
    )


def list_tests(kind: str) -> list[str]:
    """Return the names of the tests there are for one kind of pool."""
    command = [*_runner("--kind", kind), "--list"]
    done = subprocess.run(
        command, cwd=REPOSITORY, check=True, capture_output=True, text=True, timeout=60
    )
    return [json.loads(line)["test"] for line in done.stdout.splitlines()]


def run(
    setup: Setup, *, only: tuple[str, ...] = (), test_deadline: float = TEST_DEADLINE
) -> Report:
    """Run the tests of one setup, in as many processes as hangs make necessary.

    Args:
        setup: which pool, made how.
        only: names of the tests to run; all, if empty.
        test_deadline: seconds after which a test counts as hung.
    """
    wanted = list_tests(setup.kind)
    left_out = [name for name in wanted if only and name not in only]
    report = Report()
    for _ in range(MAX_HANGS):
        hung = _run_once(setup, [*left_out, *report.results], report, test_deadline)
        if not hung:
            return report
    report.errors.append(f"{MAX_HANGS} tests hung, so the rest was not run")
    return report


def _runner(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.stdlib.runner", *arguments]


def _run_once(setup: Setup, skip: list[str], report: Report, test_deadline: float) -> bool:
    """Run what isn't in `skip` until the end or a hang; True after a hang."""
    arguments = ["--pool", setup.pool, "--kind", setup.kind, "--start-method", setup.start_method]
    arguments += [argument for name in skip for argument in ("--skip", name)]
    with _started(arguments) as (process, output):
        running, began = "", time.monotonic()
        try:
            for event in _events(process, test_deadline):
                if event["event"] == "start":
                    running, began = event["test"], time.monotonic()
                elif event["event"] == "end":
                    detail = event["detail"]
                    report.results[running] = Result(event["outcome"], event["seconds"], detail)
                    running = ""
                elif event["event"] == "error":
                    report.errors.append(f"{event['where']}:\n{event['detail']}")
                elif event["event"] == "done":
                    report.pools += event["pools"]
        except TimeoutError as error:
            stacks = _stacks(process, output)
            if running:
                seconds = time.monotonic() - began
                report.results[running] = Result("hung", seconds, f"{error}\n{stacks}")
                return True
            report.errors.append(f"hung outside of a test, {error}\n{stacks}")
            return False
        status = process.wait()
        if status:
            ended = f"the run's process ended with status {status}\n{_tail(output)}"
            if running:
                report.results[running] = Result("failed", time.monotonic() - began, ended)
                return True
            report.errors.append(ended)
    return False


@contextlib.contextmanager
def _started(arguments: list[str]) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Start a runner in a session of its own, all of which is killed in the end."""
    with (
        tempfile.TemporaryDirectory(prefix="obspool-stdlib-") as directory,
        temporary_obspool_dir() as obspool_dir,
    ):
        output = Path(directory, "output")
        environment = {
            **os.environ,
            "OBSPOOL_DIR": str(obspool_dir),
            "PYTHONFAULTHANDLER": "1",  # in workers as well
        }
        with (
            output.open("ab") as sink,
            subprocess.Popen(
                _runner(*arguments),
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=sink,
                text=True,
                start_new_session=True,
            ) as process,
        ):
            try:
                yield process, output
            finally:
                _end_session(process.pid)


def _events(process: subprocess.Popen[str], silence: float) -> Iterator[dict[str, Any]]:
    """Yield what the runner reports; TimeoutError after so many seconds without any report."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, name="stdlib-report", daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=silence)
        except queue.Empty:
            message = f"nothing happened for {silence:g} s"
            raise TimeoutError(message) from None
        if line is None:
            return
        event: dict[str, Any] = json.loads(line)
        yield event
        if event["event"] == "done":
            # The process itself may hang at its exit, with nothing more to report.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(silence)
                return
            message = f"the tests are done, and the process didn't exit within {silence:g} s"
            raise TimeoutError(message)


def _stacks(process: subprocess.Popen[str], output: Path) -> str:
    """Make all processes of the run print their stacks, one after another, and return the output.

    The runner comes first, while its threads stand still: faulthandler may crash on running ones.
    It survives, and is stopped then, as it would see its workers die and start others.
    """
    children = psutil.Process(process.pid).children(recursive=True)
    workers = [child for child in children if not _is_resource_tracker(child)]
    _write(output, f"--- stacks of the runner, {process.pid}")
    _signal(process.pid, STACKS_SIGNAL)
    with contextlib.suppress(ConditionNotMetError):
        poll(lambda: OUTERMOST_FUNCTION in output.read_text("utf-8", "replace"), deadline=1)
    _signal(process.pid, signal.SIGSTOP)
    for worker in workers:
        _write(output, f"--- stacks of a worker, {worker.pid}")
        _signal(worker.pid, signal.SIGABRT)
        with contextlib.suppress(ConditionNotMetError):
            poll(functools.partial(process_gone, worker.pid), deadline=STACKS_DEADLINE)
    return _tail(output)


def _write(output: Path, line: str) -> None:
    with output.open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _end_session(session: int) -> None:
    """Kill what is left of a run, and let its resource tracker remove the semaphores it left.

    The tracker does that by itself once all processes that use it are gone.
    """
    processes = [process for process in psutil.process_iter() if _session_of(process) == session]
    trackers = [process for process in processes if _is_resource_tracker(process)]
    for process in processes:
        if process not in trackers:
            _signal(process.pid, signal.SIGKILL)
    psutil.wait_procs(trackers, timeout=TRACKER_DEADLINE)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(session, signal.SIGKILL)


def _session_of(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except OSError:
        return None


def _is_resource_tracker(process: psutil.Process) -> bool:
    try:
        return any("multiprocessing.resource_tracker" in word for word in process.cmdline())
    except psutil.Error:
        return False


def _tail(output: Path) -> str:
    lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
    shown = lines[-OUTPUT_LINES:]
    if len(lines) > len(shown):
        shown.insert(0, f"[{len(lines) - len(shown)} lines before these]")
    return "\n".join(["--- output of the run ---", *shown])
