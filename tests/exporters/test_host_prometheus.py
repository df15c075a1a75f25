"""What a real Prometheus makes of short jobs that the host exporter has seen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from obspool import Pool
from tests.exporters.hosts import exporter
from tests.helpers import poll

if TYPE_CHECKING:
    from pathlib import Path

    from tests.exporters.conftest import Prometheus

# A new target is scraped 5 to 6 s after its file was written.
SCRAPE_SECONDS = 30.0
ITEMS = 100


def run_job() -> None:
    """Do what a short batch job does: all of it between two scrapes."""
    with Pool(2, name="short") as pool:
        pool.map(abs, range(ITEMS))


@pytest.mark.slow
def test_a_job_shorter_than_a_scrape_interval_counts(
    prometheus: Prometheus, tmp_path: Path
) -> None:
    """In `increase()`, its first run as well as the next; the total never falls."""
    with exporter(tmp_path / "log") as process:
        instance = prometheus.scrape(process.url)
        chosen = f'pool="short", instance="{instance}"'
        items = f'obspool_items_completed_total{{{chosen}, outcome="ok"}}'
        ended = f'obspool_pools_ended_total{{{chosen}, outcome="finished"}}'

        def is_now(expression: str, wanted: float) -> bool:
            return [value for _, value in prometheus.query(expression)] == [wanted]

        poll(lambda: is_now(f'up{{instance="{instance}"}}', 1), deadline=SCRAPE_SECONDS)
        begin = time.time()
        window = ""
        for runs in (1, 2):
            run_job()
            poll(lambda runs=runs: is_now(ended, runs), deadline=SCRAPE_SECONDS)  # type: ignore[misc]
            poll(lambda runs=runs: is_now(items, runs * ITEMS), deadline=SCRAPE_SECONDS)  # type: ignore[misc]
            window = f"[{round(time.time() - begin) + 5}s]"
            ((_, grown),) = prometheus.query(f"increase({items}{window})")
            assert grown >= runs * ITEMS * 0.9  # it extrapolates, never below what it saw
            assert is_now(f"min_over_time({items}{window})", 0)
            assert is_now(f"resets({items}{window})", 0)
        quantile = (
            "histogram_quantile(0.5, increase(obspool_task_run_duration_seconds_bucket"
            f"{{{chosen}}}{window}))"
        )
        assert prometheus.query(quantile)
        # The last state is there as well: how the job's last run ended, and when it succeeded.
        assert is_now(f'obspool_pool_state{{{chosen}, state="ended"}}', 1)
        success = f"time() - obspool_pool_last_success_timestamp_seconds{{{chosen}}} < 60"
        assert prometheus.query(success)
