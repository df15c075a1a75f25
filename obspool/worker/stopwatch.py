"""Takes the time of one item's unpickling and pickling, for all of its slice."""

from __future__ import annotations

from time import monotonic_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from obspool.telemetry.bank import Tally
    from obspool.worker.codec import Codec


# Of items that come alone this many'th is timed, but for large and for slow ones (ns).
SAMPLE_EVERY = 16
SMALL_BYTES = 1024
QUICK = 20_000


class Stopwatch:
    """A runner's; `load` and `dump` are the codec's, and take the time."""

    def __init__(self, codec: Codec) -> None:
        """Take the codec."""
        self._load = codec.load
        self._dump = codec.dump
        self._pickles = codec.pickles
        self._untimed = 0
        self._next = 1  # the very first is timed
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

    def is_due(self, payload: Any) -> int:
        """Tell whether to take the time of an item that comes alone; for how many it counts.

        Of quick ones every sixteenth is timed: the clock takes as long as their pickling.
        """
        if not self._pickles:
            return 0
        self._untimed += 1
        if self._untimed < self._next and type(payload) is bytes and len(payload) < SMALL_BYTES:
            return 0
        counts, self._untimed = self._untimed, 0
        return counts

    def account(self, tally: Tally, items: int) -> None:
        """Count what was timed last for so many items."""
        self._next = SAMPLE_EVERY if self._loading + self._dumping < QUICK else 1
        tally.load += self._loading * items
        tally.dump += self._dumping * items
        self._loading = self._dumping = 0
