"""What it takes to look at a pool: a scrape of the host's exporter."""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING

from tests.benchmarks.half import timed
from tests.exporters.hosts import LivePool, exporter, shown
from tests.exporters.samples import get

if TYPE_CHECKING:
    from tests.benchmarks.half import MakePool, Scale

SLOTS = 1024
SCRAPES = 9

# As a Prometheus asks.
_OPENMETRICS = "application/openmetrics-text; version=1.0.0"

# An answer is given again for as long as it took to make: longer than that.
_PAUSE = 0.5


def measure_scrape(_make: MakePool, scale: Scale) -> tuple[float, ...]:
    """From the request to the last byte, of a pool of which everything changes in between."""
    slots = scale(SLOTS)
    with tempfile.TemporaryDirectory() as directory:
        os.environ["OBSPOOL_DIR"] = directory  # a process of its own: nobody else's
        pool = LivePool(shown("large", slots))
        others = [shown("large", slots, seed=seed) for seed in (1, 2)]
        taken = []
        with exporter(Path(directory) / "log") as process:
            url = process.url
            for number in range(scale(SCRAPES)):
                pool.show(others[number % 2])
                sleep(_PAUSE)
                taken.append(
                    timed(lambda: get(url, accept=_OPENMETRICS, accept_encoding="gzip").status)
                )
        pool.end()
    return (statistics.median(taken),)
