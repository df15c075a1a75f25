"""What is asked before something is done to a pool, and what is said when it has ended.

A question names what is lost, in numbers of the newest reading, and what it means for the program.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from obspool import units
from obspool.words import PoolOutcome, WorkerState
from obspool_dashboard.lines import Role
from obspool_dashboard.source import Command, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from obspool.telemetry.snapshot import JobSnapshot, Snapshot
    from obspool_dashboard.frame import Frame


# Seconds from SIGTERM to SIGKILL: time for handlers to save what they have.
TERM_PATIENCE = 5.0


@dataclass(frozen=True)
class BySignals:
    """Ending the pool's process and its workers without asking it."""

    workers: tuple[int, ...]


Deed = Request | BySignals


@dataclass(frozen=True)
class Answer:
    """One way to answer: what the button says, and what is then done."""

    verb: str
    deed: Deed


@dataclass(frozen=True)
class Question:
    """A question with an answer or two, and a way out, which is the default.

    Attributes:
        loses: whether work is lost.
        keep: what the way out says.
    """

    title: str
    body: tuple[str, ...]
    answers: tuple[Answer, ...]
    loses: bool = False
    keep: str = "Cancel"


@dataclass(frozen=True)
class NumberQuestion:
    """A question for a number.

    Attributes:
        value: what stands in the field at first.
        make: turns what was typed into the command; raises ValueError with what is wrong.
    """

    title: str
    body: tuple[str, ...]
    value: str
    verb: str
    make: Callable[[str], Request]


def close(snapshot: Snapshot) -> Question:
    """Ask before a pool is closed: nothing is lost, but the program's next call fails."""
    still = f"{things(snapshot.tasks.running, 'running task')} and {_waiting(snapshot)} queued"
    return Question(
        title=f"Close {_who(snapshot)}?",
        body=(
            f"Nothing is lost: {still} still run, then its workers end.",
            "The program's next call on this pool raises ValueError.",
        ),
        answers=(Answer("Close", _request(snapshot, Command.CLOSE)),),
    )


def terminate(frame: Frame) -> Question:
    """Ask before a pool is terminated."""
    return Question(
        title=f"Terminate {_who(frame.snapshot)}?",
        body=(
            f"Lost: {_lost(frame)}.",
            "The program's waiting calls raise PoolTerminatedError, its next ones ValueError.",
        ),
        answers=(Answer("Terminate", _request(frame.snapshot, Command.TERMINATE)),),
        loses=True,
    )


def end_processes(frame: Frame) -> Question:
    """Ask before the process of a pool that doesn't answer is ended by signals."""
    snapshot = frame.snapshot
    pids = tuple(w.pid for w in snapshot.workers if w.state is not WorkerState.GONE)
    return Question(
        title=f"End the process of {_who(snapshot)}?",
        body=(
            f"It gave no sign for {units.span(frame.silent_for)}: it is stopped or stuck.",
            f"It gets SIGTERM and, if it is there after {TERM_PATIENCE:g} s still, SIGKILL.",
            f"This ends the whole program {snapshot.facts.program}, not only its pool.",
            f"Lost: {_lost(frame)}.",
        ),
        answers=(Answer("End it", BySignals(pids)),),
        loses=True,
    )


def recycle(snapshot: Snapshot, slot: int | None) -> Question:
    """Ask which workers get a successor: that of `slot`, or all."""
    all_ = Answer(f"All {snapshot.workers_configured}", _recycle(snapshot, None))
    one = (Answer(f"Slot {slot}", _recycle(snapshot, slot)),) if slot is not None else ()
    return Question(
        title=f"Recycle workers of {_who(snapshot)}?",
        body=(
            "Nothing is lost: a worker first finishes what it runs.",
            "All are replaced a few at a time, each with its successor ready.",
        ),
        answers=(*one, all_),
    )


def cancel(snapshot: Snapshot, job: JobSnapshot) -> Question:
    """Ask before a job is cancelled."""
    request = _request(snapshot, Command.CANCEL, job=job.id)
    also = _request(snapshot, Command.CANCEL, job=job.id, running=True)
    if job.items_total is None:
        left = "what has no result yet"
    else:
        left = f"{things(max(0, job.items_total - job.items_done), 'item')} without a result"
    return Question(
        title=f"Cancel job {job.id}, {job.kind} of {job.function}, of {_who(snapshot)}?",
        body=(
            f"Lost: {left}. What runs of it is finished, or ended too; other jobs go on.",
            "The program's wait for this job ends with CancelledError.",
        ),
        answers=(Answer("Drop queued", request), Answer("Running too", also)),
        loses=True,
        keep="Keep it",
    )


def resize(snapshot: Snapshot) -> NumberQuestion:
    """Ask how many workers there are to be."""
    now = snapshot.workers_configured

    def make(text: str) -> Request:
        return _request(snapshot, Command.RESIZE, workers=_number(text, "workers"))

    return NumberQuestion(
        title=f"Resize {_who(snapshot)}",
        body=(
            f"It has {things(now, 'worker')}.",
            "Nothing is lost: those that are too many finish what they run.",
        ),
        value=str(now),
        verb="Resize",
        make=make,
    )


def max_tasks(snapshot: Snapshot) -> NumberQuestion:
    """Ask after how many tasks a worker is to be replaced."""
    limit = snapshot.max_tasks_per_child

    def make(text: str) -> Request:
        empty = not text.strip()
        number = None if empty else _number(text, "tasks", "; leave it empty for no limit")
        return _request(snapshot, Command.SET, maxtasksperchild=number)

    return NumberQuestion(
        title=f"Change maxtasksperchild of {_who(snapshot)}",
        body=(
            f"A worker is replaced after so many tasks; now {f'{limit:,}' if limit else 'never'}.",
            "Empty: no limit. Nothing is lost: a worker first finishes what it runs.",
        ),
        value=str(limit or ""),
        verb="Change",
        make=make,
    )


def stack_of(snapshot: Snapshot, slot: int) -> Request:
    """Return the request for a worker's stack."""
    return _request(snapshot, Command.STACK, slot=slot)


def pause(snapshot: Snapshot, *, resume: bool) -> Request:
    """Return the request to begin nothing more, or to go on."""
    return _request(snapshot, Command.RESUME if resume else Command.PAUSE)


def told(request: Request) -> str:
    """Say what a pool was told to do: resize to 16, recycle slot 3."""
    asked = request.arguments
    match request.command:
        case Command.RESIZE:
            return f"resize to {things(asked['workers'], 'worker')}"
        case Command.RECYCLE:
            slot = asked["slot"]
            return "recycle all workers" if slot is None else f"recycle slot {slot}"
        case Command.SET:
            return f"set maxtasksperchild to {asked['maxtasksperchild'] or 'no limit'}"
        case Command.CANCEL:
            return f"cancel job {asked['job']}"
        case command:
            return str(command)


def end_text(frame: Frame, now: float) -> tuple[str, Role]:
    """Say how a pool ended, and how old its last values are."""
    how, role = _ENDS[frame.outcome]
    at = units.time_of_day(frame.values_time)
    age = units.span(now - frame.values_time)
    return f"ENDED: {how}. Values of {at}, {age} old.", role


_ENDS = {
    PoolOutcome.FINISHED: ("finished, nothing was pending", Role.NOTICE),
    PoolOutcome.ABANDONED: ("abandoned, terminated with work pending", Role.ALARM),
    PoolOutcome.BROKEN: ("broken, it could no longer run work", Role.ALARM),
    PoolOutcome.DIED: ("died, its process is gone without a word", Role.ALARM),
}


def things(number: int, name: str) -> str:
    """Count things in words: 1 worker, 1,204 workers."""
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def _who(snapshot: Snapshot) -> str:
    return f"{snapshot.facts.name} (pid {snapshot.facts.pid})"


def _waiting(snapshot: Snapshot) -> str:
    return f"{snapshot.tasks.queued + snapshot.tasks.dispatched:,}"


def _lost(frame: Frame) -> str:
    items = max(0, frame.snapshot.items_submitted - frame.done)
    lost = [
        things(frame.live_workers, "worker"),
        things(frame.snapshot.tasks.running, "running task"),
        f"{_waiting(frame.snapshot)} queued",
    ]
    return f"{', '.join(lost)} ({things(items, 'item')} without a result)"


def _request(snapshot: Snapshot, command: Command, **arguments: int | None) -> Request:
    return Request(snapshot.facts.name, command, arguments)


def _recycle(snapshot: Snapshot, slot: int | None) -> Request:
    return _request(snapshot, Command.RECYCLE, slot=slot)


def _number(text: str, name: str, more: str = "") -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 10 and int(digits)):  # noqa: PLR2004 - no pool has a thousand million of anything
        raise ValueError(f"a whole number of {name}, from 1{more}")
    return int(digits)
