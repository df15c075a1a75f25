"""`obspool close` and `obspool terminate`: what a pool is told to do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from obspool.cli import WRONG_USE, Failure, pools
from obspool.control import client
from obspool.control.protocol import Command
from obspool.units import printable
from obspool.words import WorkerState

if TYPE_CHECKING:
    from argparse import Namespace

    from obspool.telemetry.snapshot import Snapshot

_YES = frozenset({"y", "yes"})


def run(arguments: Namespace) -> int:
    """Send the command that the arguments name, after a question when it loses work."""
    command = Command(arguments.command)
    entry = pools.the_pool(arguments.pool, running=True)
    snapshot = pools.read(entry)
    who = printable(f"{entry.facts.name} (pid {entry.facts.pid})")
    if command.loses_work and not arguments.yes and not _agreed(who, command, snapshot):
        print("Nothing was done.")
        return 1
    # The target is fixed by now: another pool that took the name has another process.
    client.send(entry.facts, command)
    print(_ACCEPTED[command].format(who=who, work=_work(snapshot)))
    return 0


_ACCEPTED = {
    Command.CLOSE: "{who} closes: {work} are finished, then its workers end.",
    Command.TERMINATE: "{who} terminates.",
}


def _agreed(who: str, command: Command, snapshot: Snapshot) -> bool:
    """Ask on a terminal.

    Raises:
        Failure: there is none to ask on.
    """
    if not sys.stdin.isatty():
        raise Failure(f"{command} loses work ({_work(snapshot)}): say --yes", WRONG_USE)
    workers = sum(worker.state is not WorkerState.GONE for worker in snapshot.workers)
    lost = f"{_things(workers, 'worker')} and {_work(snapshot)}"
    try:
        answer = input(f"{command.capitalize()} {who}? Lost are {lost}. [y/N] ")
    except EOFError:
        print()
        return False
    return answer.strip().lower() in _YES


def _work(snapshot: Snapshot) -> str:
    waiting = snapshot.tasks.queued + snapshot.tasks.dispatched
    return f"{_things(snapshot.tasks.running, 'running task')} and {waiting:,} queued"


def _things(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"
