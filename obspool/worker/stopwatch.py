"""Takes the time of one item's unpickling and pickling, for all of its slice."""

from __future__ import annotations

from time import monotonic_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from obspool.telemetry.bank import Tally
    from obspool.worker.codec import Codec


class Stopwatch:
    """A runner's; `load` and `dump` are the codec's, and take the time."""

    def __init__(self, codec: Codec) -> None:
        """Take the codec."""
        self._load = codec.load
        self._dump = codec.dump
        self._loading = self._dumping = 0

    def load(self, payload: Any) -> Any:
        """Make an object again."""
        began = monotonic_ns()
        value = self._load(payload)
        self._loading = monotonic_ns() - began
        return value

    def dump(self, value: Any) -> Any:
        """Encode a result."""
        began = monotonic_ns()
        payload = self._dump(value)
        self._dumping = monotonic_ns() - began
        return payload

    def account(self, tally: Tally, items: int) -> None:
        """Count what was timed last for so many items."""
        tally.load += self._loading * items
        tally.dump += self._dumping * items
        self._loading = self._dumping = 0
