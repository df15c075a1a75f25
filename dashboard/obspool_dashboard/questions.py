"""What is asked before something ends, and what is said when a pool has ended.

A question names what is lost, in numbers of the newest reading, and what it means for the program.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from obspool import units
from obspool.words import PoolOutcome
from obspool_dashboard.lines import Role
from obspool_dashboard.source import Command

if TYPE_CHECKING:
    from obspool_dashboard.frame import Frame


@dataclass(frozen=True)
class Question:
    """A question with two answers, of which Cancel is the default.

    Attributes:
        verb: what the other button says.
        loses: whether work is lost.
    """

    title: str
    body: tuple[str, ...]
    verb: str
    loses: bool


def question_for(command: Command, frame: Frame) -> Question:
    """Ask before a pool is closed or terminated."""
    facts, tasks = frame.snapshot.facts, frame.snapshot.tasks
    who = f"{facts.name} (pid {facts.pid})"
    waiting = tasks.queued + tasks.dispatched
    if command is Command.CLOSE:
        still = f"{_things(tasks.running, 'running task')} and {waiting:,} queued"
        return Question(
            title=f"Close {who}?",
            body=(
                f"Nothing is lost: {still} still run, then its workers end.",
                "The program's next call on this pool raises ValueError.",
            ),
            verb="Close",
            loses=False,
        )
    lost = [
        _things(frame.live_workers, "worker"),
        _things(tasks.running, "running task"),
        f"{waiting:,} queued",
    ]
    items = frame.snapshot.items_submitted - frame.done
    return Question(
        title=f"Terminate {who}?",
        body=(
            f"Lost: {', '.join(lost)} ({_things(max(0, items), 'item')} without a result).",
            "The program's waiting calls raise PoolTerminatedError, its next ones ValueError.",
        ),
        verb="Terminate",
        loses=True,
    )


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


def _things(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"
