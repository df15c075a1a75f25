"""`obspool top`: the dashboard, or one reading where nobody could look at it."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

from obspool.cli import Failure, listing, pools, stats

if TYPE_CHECKING:
    from argparse import Namespace

MISSING = (
    "`top` needs textual, which isn't installed here: `pip install 'obspool[top]'`, or on its own "
    "beside all projects `pipx install 'obspool[top]'`; `obspool top --once`, `ls` and `stats` "
    "need nothing more"
)


def run(arguments: Namespace) -> int:
    """Run the dashboard on this terminal, or print a reading."""
    if arguments.json and not arguments.once and is_terminal():
        raise Failure("--json goes with --once", 2)
    if arguments.once or not is_terminal():
        return _once(arguments.pool, as_json=arguments.json)
    check_installed()
    import obspool_dashboard  # noqa: PLC0415 - textual takes a while, and may not be there

    status: int = obspool_dashboard.run(
        arguments.pool,
        interval=arguments.interval,
        read_only=arguments.read_only,
        no_color=arguments.no_color,
        ascii_only=arguments.ascii,
        sort=arguments.sort,
        pattern=arguments.filter,
    )
    return status


def is_terminal() -> bool:
    """Whether there is a terminal to draw on and to read keys from."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def check_installed() -> None:
    """Make sure that the dashboard can be run.

    Raises:
        Failure: textual isn't there; the message says how to get it.
    """
    if not all(importlib.util.find_spec(name) for name in ("textual", "obspool_dashboard")):
        raise Failure(MISSING)


def _once(pool: str | None, *, as_json: bool) -> int:
    if pool is None and not as_json:
        live = [entry for entry in pools.listing().entries if entry.alive]
        if len(live) == 1:
            for line in stats.described(pools.read(live[0])):
                print(line)
            return 0
    if pool is None:
        return listing.show(all_pools=False, as_json=as_json)
    return stats.show(pool, as_json=as_json)
