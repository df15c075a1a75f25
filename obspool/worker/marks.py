"""What the runner tells the outbox about a payload."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class TimedOut:
    """Marks a payload as the error of an item whose time was over."""

    __slots__ = ("payload",)

    def __init__(self, payload: Any) -> None:
        self.payload = payload
