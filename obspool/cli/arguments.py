"""What the command line understands."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from obspool._version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERVAL_BOUNDS = (0.25, 10.0)  # seconds between two frames of `top`
_LONGEST = 7 * 24 * 60.0  # minutes of the demo

_DESCRIPTION = "See into the process pools of this host, and steer them."
_EPILOG = (
    "A program shows up here when its pool is an obspool.Pool. OBSPOOL_DIR names the directory "
    "to look into when it isn't the usual one."
)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments, with `module`: what to import and `run`.

    Raises:
        SystemExit: with 2 when they are wrong, with 0 after help or version.
    """
    parser = argparse.ArgumentParser(prog="obspool", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"obspool {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_ls(commands)
    _add_stats(commands)
    _add_top(commands)
    _add_close(commands)
    _add_terminate(commands)
    _add_demo(commands)
    return parser.parse_args(arguments)


if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - has no public name


def _add(commands: _Commands, name: str, module: str, text: str) -> argparse.ArgumentParser:
    summary = text.partition(".")[0]
    command = commands.add_parser(name, help=summary[0].lower() + summary[1:], description=text)
    command.set_defaults(module=f"obspool.cli.{module}", command=name)
    return command


def _add_ls(commands: _Commands) -> None:
    ls = _add(commands, "ls", "listing", "List the pools that run on this host.")
    ls.add_argument("--all", action="store_true", help="list ended pools too")
    _add_json(ls)


def _add_stats(commands: _Commands) -> None:
    stats = _add(commands, "stats", "stats", "Show all that a pool tells, once. Ended ones too.")
    _add_pool(stats)
    _add_json(stats)


def _add_top(commands: _Commands) -> None:
    top = _add(
        commands,
        "top",
        "top",
        "Watch a pool in the terminal, and steer it. Without a name: the only pool, or a list to "
        "pick from. Output that is no terminal gets one reading, as with --once.",
    )
    top.add_argument("pool", nargs="?", metavar="NAME|PID", help="the pool's name, or its process")
    low, high = INTERVAL_BOUNDS
    top.add_argument(
        "--interval",
        type=_interval,
        default=1.0,
        metavar="S",
        help=f"seconds between two readings, {low:g} to {high:g} (1)",
    )
    top.add_argument("--read-only", action="store_true", help="only look: no command is sent")
    top.add_argument("--once", action="store_true", help="print one reading, and end")
    _add_json(top, "with --once: print JSON (as `stats`; without a pool as `ls`)")
    top.add_argument("--no-color", action="store_true", help="no colours; as NO_COLOR does")
    top.add_argument("--ascii", action="store_true", help="draw with ASCII characters only")


def _add_close(commands: _Commands) -> None:
    close = _add(
        commands,
        "close",
        "control",
        "Close a pool: what was submitted still runs, then its workers end. The program's next "
        "call on the pool raises ValueError.",
    )
    _add_pool(close)


def _add_terminate(commands: _Commands) -> None:
    terminate = _add(
        commands,
        "terminate",
        "control",
        "Terminate a pool: its workers end now. What they run and what is queued is lost, which "
        "the program's waiting calls are told by PoolTerminatedError.",
    )
    _add_pool(terminate)
    terminate.add_argument("--yes", action="store_true", help="don't ask")


def _add_demo(commands: _Commands) -> None:
    demo = _add(
        commands,
        "demo",
        "demo",
        "Run a batch over real files, to look at. Parses, measures and compresses each Python "
        "source file of a directory in a pool, until the time is over.",
    )
    demo.add_argument("--dir", metavar="PATH", help="the files (the interpreter's own library)")
    demo.add_argument("--workers", type=_workers, metavar="N", help="how many (the usable CPUs)")
    demo.add_argument("--minutes", type=_minutes, default=0.5, metavar="M", help="how long (0.5)")
    demo.add_argument("--top", action="store_true", help="show `obspool top` while it runs")
    demo.add_argument(
        "--metrics",
        metavar="ADDRESS",
        help="where to serve /metrics: PORT or HOST:PORT (a free port of this machine only)",
    )
    # With --top the batch runs in a process of its own, which ends when its standard input does.
    demo.add_argument("--lifeline", action="store_true", help=argparse.SUPPRESS)


def _add_pool(command: argparse.ArgumentParser) -> None:
    command.add_argument("pool", metavar="NAME|PID", help="the pool's name, or its process")


def _add_json(command: argparse.ArgumentParser, text: str = "print JSON") -> None:
    command.add_argument("--json", action="store_true", help=text)


def _interval(text: str) -> float:
    low, high = INTERVAL_BOUNDS
    return _number(text, low, high, "seconds")


def _minutes(text: str) -> float:
    return _number(text, 0.0, _LONGEST, "minutes")


def _number(text: str, low: float, high: float, unit: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not low <= number <= high:  # neither is NaN
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of {unit} from {low:g} to {high:g}"
        )
    return number


def _workers(text: str) -> int:
    highest = 1024
    number = int(text) if text.isascii() and text.isdecimal() else 0
    if not 1 <= number <= highest:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of workers from 1 to {highest}")
    return number
