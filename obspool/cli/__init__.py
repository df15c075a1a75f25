"""The command line: pools are looked at, and steered, by name or pid.

    ls, stats, top                              look
    pause, resume, resize, recycle, set, stack  steer, and lose nothing
    cancel, close, terminate                    end a job, or the pool
    exporter                                    all pools' metrics, for Prometheus
    demo                                        something to look at

Each command is a module that is imported when it is called for, so that none waits for what another
needs. Exit codes: 0, 1 when it failed, 2 for a wrong use, and 130 after Ctrl-C.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from obspool.cli.arguments import parse
from obspool.errors import ObspoolError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

FAILED = 1
WRONG_USE = 2
INTERRUPTED = 130  # 128 + SIGINT, as a shell has it


class Failure(ObspoolError):  # noqa: N818 - it ends a command, and nobody catches it but main
    """A command can't go on; the message is for the person who called it.

    Attributes:
        status: the exit code.
    """

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; those of the process when none are given.

    Raises:
        SystemExit: the arguments are wrong (2), or ask for help or the version (0).
    """
    _show_what_the_encoding_can()
    try:
        status = _run(parse(arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has seen enough. What is left in the buffer goes nowhere, so that
        # the interpreter's own flush at exit doesn't complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        if arguments is None:  # this process ends now: once more would only show where it was
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        return INTERRUPTED
    return status


def _run(arguments: Namespace) -> int:
    from obspool.units import printable  # noqa: PLC0415 - not needed for --help

    try:
        run = import_module(arguments.module).run
        status: int = run(arguments)
    except Failure as failure:
        return _complain(printable(str(failure)), failure.status)
    except ObspoolError as error:
        return _complain(printable(str(error)), FAILED)
    return status


def _complain(message: str, status: int) -> int:
    sys.stdout.flush()
    print(f"obspool: {message}", file=sys.stderr)
    return status


def _show_what_the_encoding_can() -> None:
    """Have `µ` or a pool's name in another script shown as `?` rather than end in an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
