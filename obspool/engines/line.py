"""A worker's channel while a caller's thread has it: one item there, and its outcome back."""

from __future__ import annotations

import select
from itertools import repeat
from typing import TYPE_CHECKING, Any

from obspool import wire

if TYPE_CHECKING:
    import socket

    from obspool.engines.protocol import Answer

# A longer answer is left to the engine.
_READ_BYTES = 8192


class ChannelLine:
    """The parent's end of a channel, which is not blocking.

    Attributes:
        read: what was read and not taken.
    """

    def __init__(self, channel: socket.socket) -> None:
        """Take the channel, which stays open as long as this is referred to."""
        self._channel = channel
        self._receive = channel.recv
        self._waiting = select.poll()
        self._waiting.register(channel, select.POLLIN)
        # Emptied by `stop`: what is about to be done is done for each of them, without any bytecode
        # between the look and the deed.
        self._flags = [wire.NO_SIGNAL]
        self._sizes = [_READ_BYTES]
        self.read: list[bytes] = []

    def ask(self, function: int, call: int, first: int, submitted: int, payload: Any) -> bool:
        """Send one small item; an empty channel takes all of it or nothing."""
        frame = wire.item_frame(first, submitted, function, call, payload)
        try:
            return bool(list(map(self._channel.send, repeat(frame), self._flags)))
        except OSError:  # the worker is gone: its end is on its way
            return False

    def answer(self, first: int, patience: float) -> Answer | None:
        """Wait so long (seconds) for the outcome of the item with this number."""
        if not self.read:
            try:
                if not self._waiting.poll(patience * 1000):
                    return None
                # No exception comes between the two: what was read is there, whatever happens.
                self.read.extend(map(self._receive, self._sizes))
            except OSError:
                return None
        return wire.outcome_in(self.read[0], first) if self.read else None

    def forget(self) -> None:
        """Drop what was read: it was an answer, and is told."""
        self.read.clear()

    def take(self) -> list[bytes]:
        """Take what was read, for `reclaim`: a caller that comes back forgets nothing of it."""
        read, self.read = self.read, []
        return read

    def stop(self) -> None:
        """Neither send nor read any more."""
        self._flags.clear()
        self._sizes.clear()
