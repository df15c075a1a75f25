"""Runs programs as a user would: a script in a file, `python -c`, or typed into an interpreter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

from tests.cli.environment import environment

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 30.0

# Before each program: `context` is that of the start method under test.
_HEAD = "import multiprocessing, sys\nfrom obspool import Pool\n"
_CONTEXT = "context = multiprocessing.get_context({method!r})\n"


def _run(
    arguments: list[str], text: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**variables),
        start_new_session=True,
    )
    try:
        out, err = process.communicate(text, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"the program hung; it said:\n{out}\n{err}") from None
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def script(directory: Path, method: str, source: str, **variables: str) -> str:
    """Run a script in a file, and return what it printed; it must end well."""
    path = directory / "program.py"
    path.write_text(_HEAD + _CONTEXT.format(method=method) + textwrap.dedent(source))
    done = _run([str(path)], **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


def command(method: str, source: str) -> str:
    """Run `python -c`."""
    done = _run(["-c", _HEAD + _CONTEXT.format(method=method) + textwrap.dedent(source)])
    assert done.returncode == 0, done.stderr
    return done.stdout


def typed(method: str, source: str) -> list[str]:
    """Type into `python -i`; return the lines it printed. A blank line ends each definition."""
    text = _HEAD + _CONTEXT.format(method=method) + textwrap.dedent(source)
    done = _run(["-i", "-q", "-u"], text)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.splitlines()
