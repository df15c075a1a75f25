"""How a line is measured: in rounds, one contender right after the other.

What disturbs a machine for seconds disturbs all of a round, so each round gives a ratio of its own,
and the median of these is the line's. Who comes first changes from round to round, as the first may
leave caches warm or the heap larger. Each has a pool of its own, and nothing else of any contender
runs meanwhile.
"""

from __future__ import annotations

import gc
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.benchmarks import alone
from tests.benchmarks.peers.peer import UnableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.contenders import Contender
    from tests.benchmarks.figures import Figure
    from tests.benchmarks.half import Scale
    from tests.benchmarks.lines import Line

    Values = tuple[float, ...]

DEFAULT_START_METHOD = "fork"


@dataclass(frozen=True)
class Measured:
    """One figure of one line: each contender's values by its name, none where it can't do it."""

    line: str
    figure: Figure
    start_method: str
    values: dict[str, Values]

    def scores(self, baseline: str, contender: str) -> list[float]:
        """Return what is held against the target, round by round."""
        return self.figure.scores(self.values[baseline], self.values[contender])

    def score(self, baseline: str, contender: str) -> float:
        """Return their median."""
        return self.figure.score(self.values[baseline], self.values[contender])

    def reached(self, baseline: str, contender: str) -> bool:
        """Tell whether the contender is as good as it should be."""
        return self.figure.reached(self.score(baseline, contender))


def measure_line(
    line: Line,
    contenders: Sequence[Contender],
    *,
    rounds: int,
    scale: Scale,
    start_method: str = DEFAULT_START_METHOD,
    limit: float | None = None,
) -> list[Measured]:
    """Measure a line in as many rounds; one result for each of its figures.

    Args:
        line: what to do.
        contenders: who does it; one may be there twice.
        rounds: how often each does.
        scale: how much work that is.
        start_method: how workers are started, unless the line says it itself.
        limit: seconds after which one is given up that has not ended; then each is done by a
            process of its own. None: none hangs.
    """
    method = line.start_method or start_method
    found: list[list[Values]] = [[] for _ in contenders]
    order = deque(range(len(contenders)))
    for _ in range(min(rounds, line.pairs or rounds)):
        for place in order:
            # The collector stays on, as in the programs that use a pool, but starts from nothing:
            # it isn't one contender that cleans up after another.
            gc.collect()
            measured = _measure(line, contenders[place], method, scale, limit)
            if measured is not None:
                found[place].append(measured)
        order.rotate()
    return [
        Measured(
            line.name,
            figure,
            method,
            {
                _name(contenders, place): tuple(values[number] for values in found[place])
                for place in range(len(contenders))
            },
        )
        for number, figure in enumerate(line.figures)
    ]


def _name(contenders: Sequence[Contender], place: int) -> str:
    name = contenders[place].name
    return name if name not in {one.name for one in contenders[:place]} else f"{name} again"


def _measure(
    line: Line, contender: Contender, method: str, scale: Scale, limit: float | None
) -> Values | None:
    if line.alone or limit is not None:
        return alone.measure(line, contender, method, scale, limit)
    try:
        return line.measure(contender.maker(method), scale)
    except UnableError:
        return None
