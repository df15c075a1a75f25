"""The two worked examples: the panels' own queries, on a real Prometheus, give the right advice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.grafana import examples
from tests.grafana.boards import expression, filled

if TYPE_CHECKING:
    from tests.grafana.servers import Prometheus

pytestmark = pytest.mark.xdist_group("grafana")

# As Grafana has them for half an hour on a screen and a scrape each 5 s.
WINDOW, SHOWN = 20, 1800
PERCENT = 0.01
KIB = 1 << 10


class Advice:
    """What a panel shows of one pool, at the examples' end or before it."""

    def __init__(self, prometheus: Prometheus, end: int) -> None:
        self._prometheus = prometheus
        self._end = end

    def __call__(self, title: str, pool: str, *, number: int = 0, before: int = 0) -> float:
        """Return the one number of a panel's query, some seconds before the end."""
        text = filled(
            expression(title, number=number),
            window=WINDOW,
            shown=SHOWN,
            pool=pool,
            job=examples.JOB,
        )
        found = self._prometheus.query(text, at=self._end - before)
        assert len(found) == 1, (title, found)
        return found[0][1]


@pytest.fixture
def advice(prometheus: Prometheus, examples_end: int) -> Advice:
    """What panels show."""
    return Advice(prometheus, examples_end)


def test_chunksize(advice: Advice) -> None:
    """1.2 million items of 2 ms on 64 workers: 4,688 a task, 9.4 s each; 100 is right."""
    assert advice("Time per item", "defaults") == pytest.approx(0.002)
    assert advice("Items per task", "defaults") == pytest.approx(4688, abs=1)
    assert advice("Time per task", "defaults") == pytest.approx(9.4, abs=0.05)
    assert round(advice("chunksize for tasks of 0.2 s", "defaults")) == 100
    # A quarter of the time goes by at the ends of jobs: too large.
    for title in ("Idle, tail", "Tail in the range shown"):
        assert advice(title, "defaults") == pytest.approx(0.25, abs=PERCENT)
    for title in ("Idle, starved", "Starved in the range shown"):
        assert advice(title, "defaults") == pytest.approx(0, abs=PERCENT)


def test_chunksize_when_it_was_changed(advice: Advice) -> None:
    """With chunksize=100 tasks take 0.2 s, workers have no tail, and the advice stays."""
    assert advice("Items per task", "hundred") == pytest.approx(100)
    assert advice("Time per task", "hundred") == pytest.approx(0.2)
    assert round(advice("chunksize for tasks of 0.2 s", "hundred")) == 100
    assert advice("Tail in the range shown", "hundred") < 2 * PERCENT
    assert advice("Overhead", "hundred") == pytest.approx(0, abs=PERCENT)
    assert advice("Utilisation", "hundred") == pytest.approx(0.98, abs=PERCENT)


def test_maxtasksperchild_without_a_limit(advice: Advice) -> None:
    """180 MiB, 0.8 MiB a task, 1 GiB each: 1,055 tasks fit, set 700; seen before it is too late."""
    # After the hour a worker has 5.8 GiB; after five minutes 0.6. What fits is the same.
    for before in (0, 40 * 60, 55 * 60):
        fits = advice("Tasks that fit", "leaky", before=before)
        assert fits == pytest.approx(1055, abs=2)
        assert advice("maxtasksperchild to set", "leaky", before=before) == 700
    growth = advice("Growth per task", "leaky", number=1)
    assert growth == pytest.approx(0.8 * (1 << 20), abs=4 * KIB)


def test_maxtasksperchild_with_the_limit(advice: Advice) -> None:
    """With 700, 0.5 s a task and 1.9 s to start, recycling costs 0.5 %, and the advice stays."""
    cost = advice("Cost of recycling in the range shown", "recycled")
    assert round(cost, 3) == 0.005
    assert advice("Time to start a worker", "recycled") == pytest.approx(1.9)
    assert advice("Tasks that fit", "recycled") == pytest.approx(1055, abs=2)
    assert advice("maxtasksperchild to set", "recycled") == 700
    assert advice("Growth per task", "recycled") == pytest.approx(0.8 * (1 << 20), abs=KIB)
    assert advice("Tasks in a worker's life", "recycled") == pytest.approx(700)
    assert advice("Memory against what a worker may have", "recycled") < 1 << 30
    assert advice("Tasks of a process against the limit", "recycled", number=2) == 700


def test_a_pool_that_does_not_grow_needs_no_limit(advice: Advice) -> None:
    """Without growth there is no number, rather than a wrong one."""
    with pytest.raises(AssertionError, match=r"\[\]"):
        advice("maxtasksperchild to set", "defaults")
