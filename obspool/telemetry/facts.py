"""What a pool says of itself and the process it lives in, and the names that pools get."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from obspool._version import __version__
from obspool.telemetry import processes

MAX_NAME = 64
MAX_LABELS = 16
_MAX_LABEL_NAME = 64
_MAX_LABEL_VALUE = 128
_MAX_PROGRAM = 200

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
_LABEL_NAME = re.compile(r"(?!__)[A-Za-z_][A-Za-z0-9_]*")
# The scrape's own labels, and those that pool_info has already.
_RESERVED_LABELS = frozenset(
    {"job", "instance", "pool", "engine", "start_method", "le", "quantile"}
)

_log = logging.getLogger("obspool")


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """What never changes in a pool's life; it stands in the segment's header.

    Attributes:
        name: unique among the live pools of a host.
        pid: of the process that owns the pool, as seen in its own pid namespace.
        pid_namespace: inode of /proc/self/ns/pid, 0 where there is none.
        process_start_ticks: field 22 of /proc/PID/stat, tells a reused pid; 0 where there is none.
        boot_id: of the kernel; empty where there is none.
        program: the command line's base name, cut at 200 characters.
        control: path of the control socket, or None where there is none.
    """

    name: str
    pid: int
    uid: int
    start_time: float
    engine: str
    start_method: str
    version: str
    python: str
    program: str
    boot_id: str = ""
    pid_namespace: int = 0
    process_start_ticks: int = 0
    control: str | None = None
    labels: tuple[tuple[str, str], ...] = ()


def pool_name(text: str) -> str:
    """Return the name as it appears in file names, labels and on the command line.

    At most 64 of the characters A-Z a-z 0-9 _ . - remain; others become `_`, and dots and dashes
    at the start go (hidden files, options).

    Raises:
        TypeError: it isn't a string.
        ValueError: nothing is left.
    """
    if not isinstance(text, str):
        raise TypeError(f"a pool's name must be a string, not {type(text).__name__}")
    name = _UNSAFE.sub("_", text.strip()).lstrip(".-")[:MAX_NAME]
    if not name:
        raise ValueError(f"a pool's name must have at least one letter or digit, not {text!r}")
    return name


def with_suffix(name: str, number: int) -> str:
    """Return the name for the `number`-th pool of one name at a time: nightly, nightly-2, …."""
    if number == 1:
        return name
    suffix = f"-{number}"
    return name[: MAX_NAME - len(suffix)] + suffix


def default_name() -> str:
    """Return the name of a pool that got none.

    The script's or module's base name, `notebook` in Jupyter, `python` interactively.
    """
    if "ipykernel" in sys.modules:
        return "notebook"
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:  # python -m package.module, python -m package
        parts = [part for part in spec.name.split(".") if part != "__main__"]
        text = parts[-1] if parts else ""
    else:
        file = getattr(main, "__file__", None) or ""
        text = "" if file.startswith("<") else Path(file).stem  # <stdin>
    try:
        return pool_name(text)
    except ValueError:
        return "python"


def facts_of_this_process(
    name: str, engine: str, start_method: str, control: str | None = None
) -> PoolFacts:
    """Return the facts of a pool that this process starts now.

    Args:
        name: made safe as `pool_name` says; it gets a suffix when it is taken.
        engine: what its workers are made of.
        start_method: fork, spawn, forkserver; empty for engines without.
        control: path of the control socket, None when there is none.

    Raises:
        ValueError: the name is empty.
    """
    return PoolFacts(
        name=pool_name(name),
        pid=os.getpid(),
        uid=os.geteuid(),
        start_time=time.time(),
        engine=engine,
        start_method=start_method,
        version=__version__,
        python=sys.version.partition(" ")[0],
        program=_program(),
        boot_id=boot_id(),
        pid_namespace=_pid_namespace_of(os.getpid()),
        process_start_ticks=_start_ticks_of(os.getpid()),
        control=control,
        labels=labels(os.environ.get("OBSPOOL_LABELS", "")),
    )


def labels(text: str) -> tuple[tuple[str, str], ...]:
    """Parse OBSPOOL_LABELS: `dag=nightly,slurm_job=4711`.

    At most 16; a name is a label of Prometheus (at most 64 characters, none that metrics use
    already), a value is cut at 128 characters. What is wrong is left out, with one INFO line:
    a label must not keep a job from running.
    """
    found: dict[str, str] = {}
    wrong: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        sound = _LABEL_NAME.fullmatch(name) and len(name) <= _MAX_LABEL_NAME
        if not equals or not sound or name in _RESERVED_LABELS or len(found) == MAX_LABELS:
            wrong.append(part[:_MAX_LABEL_VALUE])
        else:
            found[name] = _clean(value)[:_MAX_LABEL_VALUE]
    if wrong:
        _log.info("OBSPOOL_LABELS: left out %s", ", ".join(map(repr, wrong[:MAX_LABELS])))
    return tuple(found.items())


@cache
def boot_id() -> str:
    """Return the kernel's boot id, empty where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


@cache
def _pid_namespace_of(_this_process: int) -> int:
    return processes.pid_namespace()


@cache
def _start_ticks_of(_this_process: int) -> int:
    return processes.start_ticks()


def _program() -> str:
    argv = getattr(sys, "argv", None) or [""]  # an embedding program may have none
    return _clean(Path(argv[0]).name)[:_MAX_PROGRAM]


def _clean(text: str) -> str:
    """Replace lone surrogates: an argument or variable that was no UTF-8 can't be written out."""
    return text.encode("utf-8", "replace").decode("utf-8")
