"""The commands that tell a pool what to do, from `obspool pause` to `obspool terminate`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from obspool.cli import WRONG_USE, Failure, pools, steering
from obspool.control import client
from obspool.control.protocol import Command, Request
from obspool.units import printable

if TYPE_CHECKING:
    from argparse import Namespace

    from obspool.telemetry.snapshot import Snapshot

_YES = frozenset({"y", "yes"})


def run(arguments: Namespace) -> int:
    """Send the command that the arguments name, after a question when it loses work."""
    command = Command(arguments.command)
    entry = pools.the_pool(arguments.pool, running=True)
    snapshot = pools.read(entry)
    asked = {name: getattr(arguments, name) for name in command.takes}
    request = Request(entry.facts.name, command, asked)
    if command.loses_work and not arguments.yes and not _agreed(request, snapshot):
        print("Nothing was done.")
        return 1
    # The target is fixed by now: another pool that took the name has another process.
    text = client.send(entry.facts, command, asked)
    for line in (text or steering.accepted(request, snapshot)).splitlines():
        print(printable(line))
    return 0


def _agreed(request: Request, snapshot: Snapshot) -> bool:
    """Ask on a terminal.

    Raises:
        Failure: there is none to ask on.
    """
    lost = printable(steering.lost(request, snapshot))
    if not sys.stdin.isatty():
        raise Failure(f"{request.command} loses work ({lost}): say --yes", WRONG_USE)
    try:
        answer = input(f"{printable(steering.title(request, snapshot))}? Lost: {lost}. [y/N] ")
    except EOFError:
        print()
        return False
    return answer.strip().lower() in _YES
