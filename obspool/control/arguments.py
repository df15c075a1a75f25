"""What the arguments of a command may be, and the check that they are so."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from obspool.errors import ControlError

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST = 2**63 - 1  # what a word of the segment holds
_MAX_SHOWN = 60  # characters that are repeated of what isn't right

REQUIRED: Final = object()


@dataclass(frozen=True, slots=True)
class Argument:
    """What one argument of a command may be.

    Attributes:
        type: int or bool, and exactly that: True is no number.
        least: the smallest number.
        null: what null means; empty where it isn't allowed.
        default: what it is when it is left out.
    """

    type: type[int]
    least: int = 0
    null: str = ""
    default: object = REQUIRED

    def allows(self, value: Any) -> bool:
        """Whether it may have this value."""
        if value is None:
            return bool(self.null)
        if type(value) is not self.type:
            return False
        return self.type is bool or self.least <= value <= _MOST

    @property
    def words(self) -> str:
        """What it must be, for people."""
        kind = "true or false" if self.type is bool else f"a whole number of at least {self.least}"
        return f"{kind}, or null for {self.null}" if self.null else kind


def check(
    command: str, takes: Mapping[str, Argument], given: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return the arguments that are given, with the defaults of those that aren't.

    Raises:
        ControlError: one is unknown, missing, of the wrong type or out of range.
    """
    for name in given:
        if name not in takes:
            known = ", ".join(takes) or "none"
            raise ControlError(
                f"the command {command} takes no argument {name[:_MAX_SHOWN]!r}; it takes {known}"
            )
    checked = {}
    for name, argument in takes.items():
        value = given.get(name, argument.default)
        if value is REQUIRED:
            raise ControlError(f"the command {command} needs `{name}`, {argument.words}")
        if not argument.allows(value):
            raise ControlError(
                f"`{name}` of the command {command} must be {argument.words}, "
                f"not {reprlib.repr(value)[:_MAX_SHOWN]}"
            )
        checked[name] = value
    return checked
