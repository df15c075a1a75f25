"""`obspool top`: the terminal dashboard. It needs Textual, the extra `top` of obspool."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from obspool.telemetry.registry import PoolEntry
    from obspool_dashboard.source import Source

__all__ = ["run"]

FAILED = 1
UNUSABLE = 2
# Seconds between two looks whether the terminal is still there.
LOOK = 1.0
# So many new objects before the garbage collector looks for cycles. A reading of a thousand workers
# makes ten times the usual 700, none of them in a cycle, and each look takes milliseconds.
COLLECT_EVERY = 20_000


def run(
    target: str | None,
    *,
    interval: float = 1.0,
    read_only: bool = False,
    no_color: bool = False,
    ascii_only: bool = False,
    sort: str = "",
    pattern: str = "",
    source: Source | None = None,
) -> int:
    """Show a pool in the terminal until the user quits.

    Args:
        target: a pool's name, or the pid of the process that owns it; None for the only pool that
            runs, or a list to pick from.
        interval: seconds from one reading to the next.
        read_only: leave out all that changes a pool.
        no_color: as a non-empty NO_COLOR in the environment.
        ascii_only: draw with ASCII characters only.
        sort: the column of workers to sort by, by its title; empty for the slot.
        pattern: show only workers in which this text is found.
        source: of pools and snapshots, instead of this host's.

    Returns:
        The exit code: 0, 1 when there is no such pool, 2 when there is no terminal to draw on.
    """
    if (reason := _unusable()) is not None:
        _say(f"{reason}; `obspool top --once` prints one reading")
        return UNUSABLE
    no_color = no_color or bool(os.environ.get("NO_COLOR"))
    # Textual looks whether it is there; empty means no, by https://no-color.org.
    os.environ.pop("NO_COLOR", None)
    if no_color:
        os.environ["NO_COLOR"] = "1"
    # A size that a shell exported may be of the past; Textual would believe it, not the terminal.
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)
    gc.disable()  # until there is something to collect: imports make none
    from obspool_dashboard.app import TopApp  # noqa: PLC0415 - Textual takes 0.2 s to import
    from obspool_dashboard.source import LiveSource  # noqa: PLC0415 - with what it reads from
    from obspool_dashboard.widgets.workers import COLUMNS  # noqa: PLC0415 - draws with Textual

    columns = [column.title.lower() for column in COLUMNS]
    if sort and sort.lower() not in columns:
        _say(f"no column {sort!r} to sort by; there are {', '.join(columns)}")
        return UNUSABLE
    source = source or LiveSource()
    entry, found = _choose(source, target)
    if target is not None and not found:
        running = [pool.facts.name for pool in source.pools().entries if pool.alive]
        there = f"running: {', '.join(running)}" if running else "none is running"
        _say(f"no pool has the name or pid {target!r}; {there}")
        return FAILED
    app = TopApp(
        source,
        entry=entry,
        target=target,
        interval=interval,
        read_only=read_only,
        no_color=no_color,
        ascii_only=ascii_only,
        sort=sort.lower(),
        pattern=pattern,
    )
    _tune_collector()
    with _watched_terminal():
        app.run()
    if app.end_signal is not None:
        _end_by(app.end_signal)
    return app.return_code or 0


def _tune_collector() -> None:
    """Let the garbage collector begin, seldom, and leave out what stays: the modules."""
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY)
    gc.enable()


def _choose(source: Source, target: str | None) -> tuple[PoolEntry | None, bool]:
    """Return the pool to begin with, None for a list, and whether there was anything to choose."""
    entries: Sequence[PoolEntry]
    entries = source.pools().entries if target is None else source.matching(target)
    live = [entry for entry in entries if entry.alive]
    if len(live) == 1:
        return live[0], True
    if target is not None and len(entries) == 1:
        return entries[0], True
    return None, bool(entries)


def _unusable() -> str | None:
    """Say why there can't be a dashboard here; Textual would run for ever without a terminal."""
    if missing := _streams_without_terminal():
        return f"{missing[0]} is not a terminal"
    if os.environ.get("TERM") == "dumb":
        return "TERM=dumb, a terminal without a cursor to place"
    return None


def _streams_without_terminal() -> list[str]:
    """Textual reads from stdin and draws on stderr; with stdout elsewhere somebody wants text."""
    streams = {"stdin": sys.__stdin__, "stdout": sys.__stdout__, "stderr": sys.__stderr__}
    return [name for name, stream in streams.items() if stream is None or not stream.isatty()]


@contextlib.contextmanager
def _watched_terminal() -> Iterator[None]:
    """End the process when its terminal is gone (a window was closed, an ssh link was cut).

    Textual can't: its writer thread dies of the error, the event loop then waits for it for ever,
    and the thread that reads keys spins. There is nothing left to restore or to tell.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK):
            if _streams_without_terminal():
                os._exit(128 + signal.SIGHUP)

    threading.Thread(target=watch, name="obspool-terminal", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _end_by(number: signal.Signals) -> None:
    """End by the signal that was received: the terminal is as it was, and the shell is told."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _say(text: str) -> None:
    print(f"obspool top: {text}", file=sys.stderr)
