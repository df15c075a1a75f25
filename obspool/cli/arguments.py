"""What the command line understands."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from obspool._version import __version__
from obspool.telemetry.layout import MOST_SLOTS

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERVAL_BOUNDS = (0.25, 10.0)  # seconds between two frames of `top`
_LONGEST = 7 * 24 * 60.0  # minutes of the demo
EXPORTER_ADDRESS = "127.0.0.1:9400"
_DAY = 24 * 3600.0
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d|)", re.ASCII)
_UNITS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": _DAY}
_MOST = 2**63 - 1  # what a pool can be told

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
    # The short form also makes argparse leave room for the commands' names.
    parser.add_argument("-V", "--version", action="version", version=f"obspool {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_ls(commands)
    _add_stats(commands)
    _add_top(commands)
    _add_pause(commands)
    _add_resume(commands)
    _add_resize(commands)
    _add_recycle(commands)
    _add_set(commands)
    _add_stack(commands)
    _add_cancel(commands)
    _add_close(commands)
    _add_terminate(commands)
    _add_demo(commands)
    _add_exporter(commands)
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
    top.add_argument("--sort", default="", metavar="COLUMN", help="sort the workers by this column")
    top.add_argument("--filter", default="", metavar="TEXT", help="show only workers with a text")
    top.add_argument("--read-only", action="store_true", help="only look: no command is sent")
    top.add_argument("--once", action="store_true", help="print one reading, and end")
    _add_json(top, "with --once: print JSON (as `stats`; without a pool as `ls`)")
    top.add_argument("--no-color", action="store_true", help="no colours; as NO_COLOR does")
    top.add_argument("--ascii", action="store_true", help="draw with ASCII characters only")


def _add_verb(commands: _Commands, name: str, text: str) -> argparse.ArgumentParser:
    """Add a command that is sent to a pool; its arguments are named as `Command.takes` has them."""
    verb = _add(commands, name, "control", text)
    _add_pool(verb)
    return verb


def _add_pause(commands: _Commands) -> None:
    _add_verb(
        commands,
        "pause",
        "Pause a pool: what runs is finished, nothing new begins. The program notices nothing but "
        "the delay; its calls are queued until `obspool resume`.",
    )


def _add_resume(commands: _Commands) -> None:
    _add_verb(commands, "resume", "Have a paused pool go on with what is queued.")


def _add_resize(commands: _Commands) -> None:
    resize = _add_verb(
        commands,
        "resize",
        "Change how many workers a pool has. Workers that are too many end when they have "
        "finished what they run; nothing is lost.",
    )
    resize.add_argument("workers", type=_workers, metavar="N", help="how many there are to be")


def _add_recycle(commands: _Commands) -> None:
    recycle = _add_verb(
        commands,
        "recycle",
        "Replace workers by new ones, when they have finished what they run. All of them, a few at "
        "a time, or that of one slot; nothing is lost.",
    )
    recycle.add_argument("--slot", type=_slot, metavar="N", help="only this slot's (0 and up)")


def _add_set(commands: _Commands) -> None:
    setting = _add_verb(
        commands,
        "set",
        "Change a setting of a pool while it runs. `maxtasksperchild` is the number of tasks after "
        "which a worker is replaced.",
    )
    setting.add_argument(
        "maxtasksperchild",
        type=_max_tasks,
        metavar="maxtasksperchild=N|none",
        help="the new limit, or none",
    )


def _add_stack(commands: _Commands) -> None:
    stack = _add_verb(
        commands,
        "stack",
        "Print where a worker is: the Python stack of its threads, now.",
    )
    stack.add_argument("slot", type=_slot, metavar="SLOT", help="whose worker (0 and up)")


def _add_cancel(commands: _Commands) -> None:
    cancel = _add_verb(
        commands,
        "cancel",
        "Cancel a job: what hasn't begun of it never will. Other jobs go on; the program's wait "
        "for this one ends with an error.",
    )
    cancel.add_argument("job", type=_job, metavar="JOB", help="its number, as `stats` shows it")
    cancel.add_argument("--running", action="store_true", help="end what runs of it too")
    _add_yes(cancel)


def _add_close(commands: _Commands) -> None:
    _add_verb(
        commands,
        "close",
        "Close a pool: what was submitted still runs, then its workers end. The program's next "
        "call on the pool raises ValueError.",
    )


def _add_terminate(commands: _Commands) -> None:
    terminate = _add_verb(
        commands,
        "terminate",
        "Terminate a pool: its workers end now. What they run and what is queued is lost, which "
        "the program's waiting calls are told by PoolTerminatedError.",
    )
    _add_yes(terminate)


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


def _add_exporter(commands: _Commands) -> None:
    exporter = _add(
        commands,
        "exporter",
        "exporter",
        "Serve the metrics of all pools of this host to Prometheus, from one port. Ended pools "
        "too; what the runs of one name counted is added up, so that jobs which are shorter than a "
        "scrape interval count.",
    )
    exporter.add_argument(
        "--listen",
        metavar="ADDRESS",
        help="PORT (of this machine only) or HOST:PORT "
        f"({EXPORTER_ADDRESS}; with --textfile: none)",
    )
    _add_seconds(
        exporter, "--keep", 300.0, (0.0, _DAY), "how long an ended pool's last state is told"
    )
    _add_seconds(exporter, "--interval", 0.5, (0.05, 60.0), "how often to look for pools")
    exporter.add_argument(
        "--state", type=Path, metavar="FILE", help="where the totals outlive a restart (nowhere)"
    )
    exporter.add_argument(
        "--textfile", type=Path, metavar="DIR", help="write DIR/obspool.prom, for node_exporter"
    )
    _add_seconds(exporter, "--write-interval", 15.0, (0.1, 3600.0), "how often to write it")
    exporter.add_argument(
        "--once", action="store_true", help="write it once, or without --textfile print it, and end"
    )
    exporter.add_argument("--tls-cert", type=Path, metavar="FILE", help="serve with TLS: PEM")
    exporter.add_argument("--tls-key", type=Path, metavar="FILE", help="its key (in the same file)")
    exporter.add_argument(
        "--auth-file",
        type=Path,
        metavar="FILE",
        help="who may scrape (basic authentication): lines NAME:PASSWORD",
    )


def _add_seconds(
    command: argparse.ArgumentParser,
    name: str,
    default: float,
    bounds: tuple[float, float],
    text: str,
) -> None:
    command.add_argument(
        name,
        type=lambda value: _duration(value, *bounds),
        default=default,
        metavar="TIME",
        help=f"{text}: 500ms, 30, 5m ({default:g} s)",
    )


def _add_pool(command: argparse.ArgumentParser) -> None:
    command.add_argument("pool", metavar="NAME|PID", help="the pool's name, or its process")


def _add_yes(command: argparse.ArgumentParser) -> None:
    command.add_argument("--yes", action="store_true", help="don't ask")


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


def _duration(text: str, low: float, high: float) -> float:
    """Return the seconds of `30`, `500ms`, `5m`."""
    found = _DURATION.fullmatch(text)
    seconds = float(found[1]) * _UNITS[found[2]] if found is not None else math.nan
    if not low <= seconds <= high:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time from {low:g} to {high:g} s, as 500ms, 30, 5m or 1h"
        )
    return seconds


def _workers(text: str) -> int:
    number = _whole(text)
    if number is None or not 1 <= number <= MOST_SLOTS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of workers from 1 to {MOST_SLOTS}")
    return number


def _slot(text: str) -> int:
    number = _whole(text)
    if number is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no slot: they are numbered from 0")
    return number


def _job(text: str) -> int:
    number = _whole(text)
    if not number:
        raise argparse.ArgumentTypeError(f"{text!r} is no job: they are numbered from 1")
    return number


def _max_tasks(text: str) -> int | None:
    name, _, value = text.partition("=")
    number = _whole(value)
    if name != "maxtasksperchild" or not (number or value == "none"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no setting: it is maxtasksperchild=N, from 1, or maxtasksperchild=none"
        )
    return number


def _whole(text: str) -> int | None:
    """Return the number, None when the text isn't one that a pool can be told."""
    digits = text.isascii() and text.isdecimal() and len(text) <= len(str(_MOST))
    return int(text) if digits and int(text) <= _MOST else None
