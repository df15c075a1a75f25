"""What people are told of a command: what it will do, and what is lost by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from obspool.control.protocol import Command
from obspool.words import WorkerState

if TYPE_CHECKING:
    from obspool.control.protocol import Request
    from obspool.telemetry.snapshot import JobSnapshot, Snapshot


def accepted(request: Request, before: Snapshot) -> str:
    """Say what a pool will do that has accepted the request.

    Args:
        request: what it was told.
        before: a reading of the pool from just before that.
    """
    who, asked = _who(before), request.arguments
    match request.command:
        case Command.PAUSE:
            return (
                f"{who} pauses: what runs is finished, nothing new begins until `obspool resume`."
            )
        case Command.RESUME:
            return f"{who} goes on with the {_waiting(before)} queued."
        case Command.RESIZE:
            return f"{who} {_resized(before.workers_configured, asked['workers'])}."
        case Command.RECYCLE if asked["slot"] is None:
            return f"{who} replaces its workers, a few at a time, as they finish what they run."
        case Command.RECYCLE:
            return f"{who} replaces the worker of slot {asked['slot']}, once what it runs is done."
        case Command.SET if asked["maxtasksperchild"] is None:
            return f"{who} replaces no worker for the number of its tasks any more."
        case Command.SET:
            return f"{who} replaces a worker after {_things(asked['maxtasksperchild'], 'task')}."
        case Command.STACK:
            return f"{who} has no stack to show of slot {asked['slot']}."
        case Command.CANCEL if asked["running"]:
            return f"{who} cancels {_job(request, before)}: what runs of it is ended."
        case Command.CANCEL:
            return f"{who} cancels {_job(request, before)}: what runs of it is finished."
        case Command.CLOSE:
            return f"{who} closes: {_work(before)} are finished, then its workers end."
        case Command.TERMINATE:
            return f"{who} terminates."


def title(request: Request, before: Snapshot) -> str:
    """Say what is about to be done, for the question before it."""
    what = f"{_job(request, before)} of " if request.command is Command.CANCEL else ""
    return f"{request.command.capitalize()} {what}{_who(before)}"


def lost(request: Request, before: Snapshot) -> str:
    """Say which work is lost by a request that loses some."""
    if request.command is Command.CANCEL:
        return _lost_of_job(request, before)
    workers = sum(worker.state is not WorkerState.GONE for worker in before.workers)
    return f"{_things(workers, 'worker')}, {_work(before)}"


def _lost_of_job(request: Request, before: Snapshot) -> str:
    job = _find_job(request, before)
    if job is None or job.items_total is None:
        left = "what has no result yet"
    else:
        left = f"{_things(job.items_total - job.items_done, 'item')} without a result"
    return f"{left}, {'also' if request.arguments['running'] else 'but for'} what runs"


def _who(snapshot: Snapshot) -> str:
    return f"{snapshot.facts.name} (pid {snapshot.facts.pid})"


def _resized(old: int, new: int) -> str:
    if new < old:
        return f"goes from {_things(old, 'worker')} to {new:,}; busy ones finish what they run"
    return f"goes from {_things(old, 'worker')} to {new:,}"


def _job(request: Request, snapshot: Snapshot) -> str:
    job = _find_job(request, snapshot)
    what = f" ({job.kind} of {job.function})" if job is not None else ""
    return f"job {request.arguments['job']}{what}"


def _find_job(request: Request, snapshot: Snapshot) -> JobSnapshot | None:
    return next((job for job in snapshot.jobs if job.id == request.arguments["job"]), None)


def _work(snapshot: Snapshot) -> str:
    return f"{_things(snapshot.tasks.running, 'running task')} and {_waiting(snapshot)} queued"


def _waiting(snapshot: Snapshot) -> str:
    return f"{snapshot.tasks.queued + snapshot.tasks.dispatched:,}"


def _things(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"
