"""How a line is measured: in pairs, one implementation right after the other.

What disturbs a machine for seconds disturbs both halves of a pair, so each pair gives a ratio of
its own, and the median of these is the line's. Which half comes first alternates, as the first may
leave caches warm or the heap larger. Every half has a pool of its own, and nothing else of either
implementation runs meanwhile.
"""

from __future__ import annotations

import functools
import gc
import importlib
import multiprocessing
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.benchmarks.lines import Figure, Line, MakePool, Scale

DEFAULT_START_METHOD = "fork"


@dataclass(frozen=True)
class Contender:
    """One of the two implementations: a name, and the module that has its Pool."""

    name: str
    module: str

    def maker(self, start_method: str) -> MakePool:
        """Return its constructor, bound to a start method."""
        pool: Callable[..., Any] = importlib.import_module(self.module).Pool
        return functools.partial(pool, context=multiprocessing.get_context(start_method))


STDLIB = Contender("stdlib", "multiprocessing.pool")
OBSPOOL = Contender("obspool", "obspool")


@dataclass(frozen=True)
class Measured:
    """One figure of one line: the seconds of each pair's halves."""

    line: str
    figure: Figure
    start_method: str
    baseline: tuple[float, ...]
    contender: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """How many times as fast as the baseline the contender was, pair by pair."""
        return [base / other for base, other in zip(self.baseline, self.contender, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the pairs' ratios."""
        return statistics.median(self.ratios)

    @property
    def reached(self) -> bool:
        """Whether the ratio is at least the target."""
        return self.ratio >= self.figure.target


def measure_line(
    line: Line,
    contenders: tuple[Contender, Contender],
    *,
    pairs: int,
    scale: Scale,
    start_method: str = DEFAULT_START_METHOD,
) -> list[Measured]:
    """Measure a line in as many pairs; one result for each of its figures.

    Args:
        line: what to do.
        contenders: the baseline, and what is compared with it.
        pairs: how many pairs.
        scale: how much work a half of a pair is.
        start_method: how workers are started, unless the line says it itself.
    """
    method = line.start_method or start_method
    makers = [contender.maker(method) for contender in contenders]
    taken: tuple[list[tuple[float, ...]], list[tuple[float, ...]]] = ([], [])
    for pair in range(pairs):
        for half in (0, 1) if pair % 2 == 0 else (1, 0):
            # The collector stays on, as in the programs that use a pool, but starts from nothing:
            # it isn't one half that cleans up after the other.
            gc.collect()
            taken[half].append(line.measure(makers[half], scale))
    return [
        Measured(
            line=line.name,
            figure=figure,
            start_method=method,
            baseline=tuple(seconds[number] for seconds in taken[0]),
            contender=tuple(seconds[number] for seconds in taken[1]),
        )
        for number, figure in enumerate(line.figures)
    ]
