"""The host exporter under load: many scrapers, bad ones, many pools, large ones, no end of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import psutil
import pytest

from obspool.exporters import listener
from tests.cli.environment import environment
from tests.exporters.hosts import LivePool, exporter, run_pool, shown
from tests.exporters.samples import Answer, connect, get, key, receive
from tests.helpers import poll

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.exporters.hosts import Exporter

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n"

# A scrape has 10 s by default.
SCRAPE_SECONDS = 10.0


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Exporter]:
    """The exporter as a process of its own, which is still well at the end."""
    with exporter(tmp_path / "log") as process:
        assert process.url
        yield process
        assert process.stop() == 0
        assert "Traceback" not in process.log


@pytest.fixture
def pools() -> Iterator[ExitStack]:
    """Ends the pools of a test."""
    with ExitStack() as stack:
        yield stack


def live(pools: ExitStack, name: str, workers: int) -> LivePool:
    pool = LivePool(shown(name, workers))
    pools.callback(pool.end)
    return pool


def at_once(number: int, url: str) -> list[Answer]:
    """Scrape with so many clients at a time."""
    answers: list[Answer] = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(get(url, accept=OPENMETRICS, accept_encoding="gzip"))
        )
        for _ in range(number)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@pytest.mark.slow
def test_two_hundred_pools_are_served(running: Exporter, pools: ExitStack) -> None:
    """All of them, within a scrape's time, to ten scrapers at once."""
    for number in range(200):
        live(pools, f"pool{number}", 2)
    start = time.monotonic()
    answers = at_once(10, running.url)
    assert time.monotonic() - start < SCRAPE_SECONDS
    assert [answer.status for answer in answers] == [200] * 10
    found = answers[0].series
    names = {dict(labels)["pool"] for name, labels in found if name == "obspool_workers"}
    assert len(names) == 200
    assert found[key("obspool_exporter_pools", {"state": "running"})] == 200


@pytest.mark.slow
def test_a_pool_of_1024_slots_is_served(running: Exporter, pools: ExitStack) -> None:
    """With all its workers, live and ended."""
    pool = live(pools, "large", 1024)
    for _ in range(2):
        start = time.monotonic()
        answer = get(running.url, accept=OPENMETRICS, accept_encoding="gzip")
        assert time.monotonic() - start < SCRAPE_SECONDS
        workers = [one for one in answer.series if one[0] == "obspool_worker_items_total"]
        assert len(workers) == 1024
        pool.end()


def test_a_scrape_asks_nothing_of_a_pools_process(running: Exporter) -> None:
    """It is answered as ever, with all there is, while that process is stopped."""
    program = "import obspool, sys\nwith obspool.Pool(2, name='stopped'): sys.stdin.read()"
    counted = key("obspool_workers_configured", {"pool": "stopped"})
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, env=environment()
    ) as process:
        poll(lambda: counted in get(running.url).series, deadline=20)
        process.send_signal(signal.SIGSTOP)
        try:
            os.waitpid(process.pid, os.WUNTRACED)
            assert get(running.url).series[counted] == 2
        finally:
            process.send_signal(signal.SIGCONT)


def test_bad_scrapers_keep_nobody_waiting(running: Exporter, pools: ExitStack) -> None:
    """One that never reads, one that reads a byte now and then, one that never asks."""
    live(pools, "large", 512)
    url = running.url
    with ExitStack() as clients:
        for _ in range(8):
            clients.enter_context(connect(url)).sendall(SCRAPE)
            clients.enter_context(connect(url)).sendall(SCRAPE[:7])
        slow = clients.enter_context(connect(url))
        slow.sendall(SCRAPE)
        assert slow.recv(1) == b"H"
        for _ in range(3):
            start = time.monotonic()
            assert get(url).status == 200
            assert time.monotonic() - start < SCRAPE_SECONDS / 2
            assert len(slow.recv(1)) == 1
        assert b"obspool_worker_items_total" in receive(slow).body
    assert listener.WRITE_SECONDS <= SCRAPE_SECONDS  # then who never reads is let go


@pytest.mark.slow
def test_pools_that_come_and_go_leave_memory_flat(running: Exporter) -> None:
    """Each is counted once, and the three hundredth costs no memory any more."""
    process = psutil.Process(running.process.pid)
    counted = key("obspool_exporter_runs_total", {})

    def has_seen(runs: int) -> bool:
        return get(running.url).series[counted] == runs

    seen = 0
    sizes = []
    for _ in range(3):
        # Faster than fifty a second, but not by more than the hundred that a directory keeps.
        for _ in range(2):
            for number in range(50):
                run_pool(shown(f"job{number % 10}", 1))
            seen += 50
            poll(partial(has_seen, seen))
        sizes.append(process.memory_info().rss)
    assert sizes[-1] - sizes[0] < 4 << 20
    ended = key("obspool_pools_ended_total", {"pool": "job0", "outcome": "finished"})
    assert get(running.url).series[ended] == 30


def test_a_look_takes_nearly_nothing(running: Exporter, pools: ExitStack) -> None:
    """With fifty pools that live; there are two looks a second."""
    for number in range(50):
        live(pools, f"pool{number}", 1)
    count = key("obspool_exporter_look_seconds_count", {})
    took = key("obspool_exporter_look_seconds_sum", {})
    first = get(running.url).series

    def twenty_more() -> bool:
        return get(running.url).series[count] >= first[count] + 20

    poll(twenty_more)
    last = get(running.url).series
    assert (last[took] - first[took]) / (last[count] - first[count]) < 0.05
