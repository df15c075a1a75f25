"""What only the host exporter tells: a job of a second that lost an item, a pool that died."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.grafana.servers import free_port
from tests.helpers import poll

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.grafana.servers import Prometheus

pytestmark = [
    pytest.mark.xdist_group("grafana"),
    pytest.mark.slow,
    pytest.mark.timeout(150),
]

SCRAPE_SECONDS = 40.0
ALERT_SECONDS = 30.0
EXPORTER = "import sys; from obspool.cli import main; sys.exit(main())"
PROGRAM = """\
import os, sys, time
from obspool import Pool, WorkerLostError

def work(number):
    time.sleep(0.01)

def lose(number):
    os._exit(3)

if __name__ == "__main__":
    with Pool(2, name=sys.argv[1]) as pool:
        pool.map(work, range(20))
        if sys.argv[1] == "short":
            try:
                pool.apply(lose, (1,))
            except WorkerLostError:
                pass
        else:
            print("it runs", flush=True)
            pool.map(work, range(1_000_000))
"""


@pytest.fixture
def environment() -> dict[str, str]:
    """Programs find this clone's obspool, and leave no socket behind when they are killed."""
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": root, "OBSPOOL_CONTROL": "0"}


@pytest.fixture
def scraped(prometheus: Prometheus, environment: dict[str, str]) -> Iterator[Prometheus]:
    """The Prometheus, which scrapes a host's exporter."""
    port = free_port()
    command = [sys.executable, "-c", EXPORTER, "exporter", "--listen", f"127.0.0.1:{port}"]
    process = subprocess.Popen(command, env=environment)
    try:
        prometheus.scrape(f"http://127.0.0.1:{port}/")
        up = f'up{{instance="127.0.0.1:{port}"}} == 1'
        poll(lambda: prometheus.query(up), deadline=SCRAPE_SECONDS)
        yield prometheus
    finally:
        process.terminate()
        process.wait()
        prometheus.scrape()


def test_short_and_killed_pools_are_told_of(
    scraped: Prometheus, environment: dict[str, str], tmp_path: Path
) -> None:
    """ObspoolItemsLost for a job that no scrape saw running, ObspoolPoolDied for a kill."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    subprocess.run([sys.executable, str(program), "short"], env=environment, check=True, timeout=60)
    with subprocess.Popen(
        [sys.executable, str(program), "victim"], env=environment, stdout=subprocess.PIPE
    ) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"it runs\n"
        victim.kill()
    wanted = {("ObspoolItemsLost", "short"), ("ObspoolPoolDied", "victim")}

    def firing() -> set[tuple[str, str]]:
        found = scraped.query('ALERTS{alertstate="firing", pool=~"short|victim"}')
        return {(labels["alertname"], labels["pool"]) for labels, _ in found}

    poll(lambda: firing() >= wanted, deadline=ALERT_SECONDS, message=lambda: str(firing()))
