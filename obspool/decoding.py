"""Decodes results for whoever asks for them, and adds up how long that takes."""

from __future__ import annotations

from collections import deque
from threading import RLock
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from obspool.engines.protocol import Engine


# What takes longer (ns) counts by itself.
QUICK = 10_000


class Decoder:
    """A pool's; for any thread, and for signal handlers.

    Attributes:
        plain: decodes one payload, and takes no time.
    """

    def __init__(self, engine: Engine) -> None:
        self.plain: Callable[[Any], Any] = engine.decode
        self._pickles = engine.pickles
        # Appended to by callers, emptied by the scheduler's thread: nobody waits.
        self._taken: deque[int] = deque()
        self._lock = RLock()
        self._total = 0
        self._store: Callable[[int], None] | None = None

    def __call__(self, payload: Any) -> Any:
        """Decode one payload: see `one`."""
        return self.one(payload)

    def one(self, payload: Any) -> Any:
        """Decode one payload.

        Of quick ones about every sixteenth counts, for all: by the clock's last digits.
        """
        began = monotonic_ns()
        value = self.plain(payload)
        taken = monotonic_ns() - began
        if taken > QUICK:
            self._add(taken)
        elif not began & 15:
            self._add(16 * taken)
        return value

    def timed(self, payload: Any, weight: int) -> tuple[Any, int]:
        """Decode one payload; return it, and the time (ns), which counts so many times."""
        began = monotonic_ns()
        value = self.plain(payload)
        taken = monotonic_ns() - began
        self._add(taken * weight)
        return value, taken

    def many(self, payloads: Sequence[Any]) -> list[Any]:
        """Decode several payloads."""
        began = monotonic_ns()
        values = list(map(self.plain, payloads))
        self._add(monotonic_ns() - began)
        return values

    def _add(self, taken: int) -> None:
        self._taken.append(taken)
        if self._store is not None:
            self._store(self.total())

    def total(self) -> int:
        """Return the time that decoding has taken, ns."""
        with self._lock:
            taken = self._taken
            while taken:
                self._total += taken.popleft()
            return self._total if self._pickles else 0

    def close(self, store: Callable[[int], None]) -> None:
        """Say that nobody asks for the total any more: from now on it is stored by who adds."""
        self._store = store
