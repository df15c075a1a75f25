"""What is out of the ordinary about a pool that is looked at: the text across its screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from obspool import units
from obspool_dashboard.lines import Role
from obspool_dashboard.questions import end_text
from obspool_dashboard.trouble import troubles

if TYPE_CHECKING:
    from obspool_dashboard.frame import Frame

# Without a reading for three intervals, and these seconds, the reader itself is stuck.
LATE_INTERVALS = 3
LATE_SECONDS = 3.0


@dataclass(frozen=True)
class Look:
    """How looking at a pool goes.

    Attributes:
        frame: the newest; None before the first reading.
        failure: of the last attempt to read; None when it went well.
        age: seconds since the last attempt ended.
        interval: seconds from one attempt to the next.
        may_end: whether a key is offered that ends the pool's process.
    """

    frame: Frame | None
    failure: Exception | None
    age: float
    interval: float
    may_end: bool


def condition(look: Look, now: float) -> tuple[str, Role]:
    """Say what must not be missed; an empty text when there is nothing."""
    frame = look.frame
    if frame is not None and frame.ended:
        return end_text(frame, now)
    if look.failure is not None:
        old = "" if frame is None else f" Values {units.span(now - frame.values_time)} old."
        return f"CAN'T BE READ: {look.failure}.{old}", Role.ALARM
    if look.age > max(LATE_SECONDS, LATE_INTERVALS * look.interval):
        return f"NO READING for {units.span(look.age)}: its segment doesn't answer.", Role.ALARM
    worst = next(iter(troubles(frame)), None) if frame is not None else None
    if worst is not None and worst.is_alarm:
        return f"{worst.text}.{' E ends it.' if look.may_end else ''}", Role.ALARM
    return "", Role.NOTICE


def frozen(seconds: float, frame: Frame) -> str:
    """Say that the values stand still."""
    at = units.time_of_day(frame.values_time)
    return f"FROZEN for {units.span(seconds)}, values of {at}. Space goes on."
