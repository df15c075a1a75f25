"""What a real Prometheus and promtool make of the answers."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from prometheus_client.exposition import generate_latest

from obspool.exporters import encoding
from obspool.exporters.collector import SnapshotCollector
from obspool.words import Outcome, PoolOutcome
from tests.exporters.samples import key, series_of
from tests.helpers import poll
from tests.synthetic import make_snapshot

if TYPE_CHECKING:
    from obspool.telemetry.snapshot import Snapshot
    from tests.exporters.conftest import Exposer, Prometheus

# A new target is scraped 5 to 6 s after its file was written.
SCRAPE_SECONDS = 30.0

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="no `promtool` on PATH (Debian: apt-get install prometheus)",
)


@needs_promtool
@pytest.mark.parametrize("histograms", [False, True])
def test_promtool_has_nothing_to_say(*, histograms: bool) -> None:
    """`promtool check metrics` finds neither errors nor lint in the text of several pools."""
    pools = [make_snapshot(name="a"), make_snapshot(70, name="b", outcome=PoolOutcome.DIED)]
    collector = SnapshotCollector(lambda: pools, worker_histograms=histograms)
    text = encoding.encode(collector.collect(), openmetrics=False)
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@needs_promtool
def test_promtool_would_have_something_to_say() -> None:
    """The control: the same tool, the same way, on a counter without `_total`."""
    text = b"# HELP obspool_x X.\n# TYPE obspool_x counter\nobspool_x 1.0\n"
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False, timeout=30
    )
    assert done.returncode != 0


def test_prometheus_stores_what_the_collector_yields(
    exposer: Exposer, prometheus: Prometheus
) -> None:
    """Each series of two pools is in Prometheus with the same labels and value, and no other.

    But for the times since when they count.
    """
    pools = [make_snapshot(name="nightly", now=time.time()), make_snapshot(3, name="two", seed=7)]
    exposures = [exposer(lambda pool=pool: pool) for pool in pools]  # type: ignore[misc]
    instance = prometheus.scrape(exposures[0].url)
    expected = series_of(SnapshotCollector(lambda: pools).collect())

    def stored() -> list[tuple[dict[str, str], float]]:
        found = prometheus.query(f'{{__name__=~"obspool_.+", instance="{instance}"}}')
        return [one for one in found if not one[0]["__name__"].endswith("_created")]

    poll(lambda: len(stored()) >= len(expected), deadline=SCRAPE_SECONDS)
    found = {}
    for labels, value in stored():
        assert labels.pop("job") == "obspool"
        assert labels.pop("instance") == instance
        found[key(labels.pop("__name__"), labels)] = value
    assert found == expected


def test_prometheus_sees_a_pool_begin_work_and_end(
    exposer: Exposer, prometheus: Prometheus
) -> None:
    """`increase()` sees what a pool did from its first item on, and the counter of ends."""
    full = make_snapshot(name="growing", now=time.time())
    empty = dataclasses.replace(
        full, items_completed=dict.fromkeys(Outcome, 0), tasks_completed={}, last_success_time=None
    )
    now: list[Snapshot] = [empty]
    other = exposer(lambda: make_snapshot(1, name="other"))
    exposure = exposer(lambda: now[0])
    instance = prometheus.scrape(other.url)
    chosen = f'{{pool="growing", instance="{instance}", outcome="%s"}}'

    def value(expression: str) -> float | None:
        return next((value for _, value in prometheus.query(expression)), None)

    items = "obspool_items_completed_total" + chosen % "ok"
    poll(lambda: value(items) == 0, deadline=SCRAPE_SECONDS)
    now[0] = full
    poll(lambda: value(items) == full.items_completed[Outcome.OK], deadline=SCRAPE_SECONDS)
    assert value(f"increase({items[:-1]}}}[1m])")
    now[0] = make_snapshot(name="growing", outcome=PoolOutcome.ABANDONED)
    exposure.close()
    ended = "obspool_pools_ended_total" + chosen % "abandoned"
    poll(lambda: value(ended) == 1, deadline=SCRAPE_SECONDS)
    assert value(f"increase({ended}[1m])")


def test_the_control_text_is_the_clients_own() -> None:
    """The text that promtool checked is what prometheus_client itself would have written."""
    collector = SnapshotCollector(lambda: [make_snapshot()])
    assert encoding.encode(collector.collect(), openmetrics=False) == generate_latest(collector)
