"""What one number of the table is, and what is asked of it. Of every number less is better.

Faster ── at least so many times as good as the baseline ── ratios, pair by pair
AtMost ── no more than so much, whatever the baseline has ── obspool's own values
Cost ──── no more than such a share above the baseline ──── shares, pair by pair
"""

from __future__ import annotations

import statistics
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MEGABYTE = 1_000_000


def _seconds(value: float) -> str:
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


class Unit(Enum):
    """What a value is counted in."""

    SECONDS = "s"
    BYTES = "bytes"
    NONE = ""

    def show(self, value: float) -> str:
        """Write a value as the table has it."""
        return _WRITERS[self](value)


_WRITERS: dict[Unit, Callable[[float], str]] = {
    Unit.SECONDS: _seconds,
    Unit.BYTES: lambda value: f"{value / _MEGABYTE:.1f} MB",
    Unit.NONE: lambda value: f"{value:.3g}",
}


@dataclass(frozen=True)
class Figure(ABC):
    """One number of a line.

    Attributes:
        label: what the table calls it.
        target: what is asked of it.
        unit: of the values that are measured.
    """

    label: str
    target: float
    unit: Unit = Unit.SECONDS

    @abstractmethod
    def scores(self, baseline: Sequence[float], contender: Sequence[float]) -> list[float]:
        """Return what is held against the target, pair by pair."""

    @abstractmethod
    def reached(self, score: float) -> bool:
        """Tell whether it is what was asked for."""

    @property
    @abstractmethod
    def asked(self) -> str:
        """The target as the table has it."""

    @abstractmethod
    def show(self, score: float) -> str:
        """Write a score."""

    def score(self, baseline: Sequence[float], contender: Sequence[float]) -> float:
        """Return the median of the pairs' scores."""
        return statistics.median(self.scores(baseline, contender))


class Faster(Figure):
    """How many times as good as the baseline it is."""

    def scores(self, baseline: Sequence[float], contender: Sequence[float]) -> list[float]:
        """Return the ratios."""
        return ratios(baseline, contender)

    def reached(self, score: float) -> bool:
        """Tell whether the ratio is large enough."""
        return score >= self.target

    @property
    def asked(self) -> str:
        """The least ratio."""
        return f">= {self.target:g}"

    def show(self, score: float) -> str:
        """Write a ratio."""
        return f"{score:.2f}"


class AtMost(Figure):
    """What it takes itself; the baseline only stands beside it."""

    def scores(self, baseline: Sequence[float], contender: Sequence[float]) -> list[float]:  # noqa: ARG002
        """Return its values."""
        return list(contender)

    def reached(self, score: float) -> bool:
        """Tell whether the value is small enough."""
        return score <= self.target

    @property
    def asked(self) -> str:
        """The largest value."""
        return f"<= {self.show(self.target)}"

    def show(self, score: float) -> str:
        """Write a value."""
        return self.unit.show(score)


class Cost(Figure):
    """How much more than the baseline it takes, as a share of that."""

    def scores(self, baseline: Sequence[float], contender: Sequence[float]) -> list[float]:
        """Return the shares; below 0 it took less."""
        return [1 / ratio - 1 for ratio in ratios(baseline, contender)]

    def reached(self, score: float) -> bool:
        """Tell whether the share is small enough."""
        return score <= self.target

    @property
    def asked(self) -> str:
        """The largest share."""
        return f"<= {self.target:.0%}"

    def show(self, score: float) -> str:
        """Write a share."""
        return f"{score:+.1%}"


def ratios(baseline: Sequence[float], contender: Sequence[float]) -> list[float]:
    """Return how many times as good as the baseline the contender was, pair by pair."""
    return [base / other for base, other in zip(baseline, contender, strict=True)]
