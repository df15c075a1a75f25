"""Servers: who shares one, when it ends, what it answers."""

from __future__ import annotations

import dataclasses
import gc
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from prometheus_client import REGISTRY
from prometheus_client.exposition import generate_latest

from obspool.errors import MetricsServerError
from obspool.exporters import encoding, server
from obspool.exporters.server import expose
from obspool.words import PoolOutcome
from tests.exporters.conftest import registered, server_threads
from tests.exporters.samples import connect, get, is_free, key, pools_at, port_of
from tests.helpers import poll
from tests.synthetic import make_snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from obspool.exporters.server import Exposure
    from obspool.telemetry.snapshot import Snapshot
    from tests.exporters.conftest import Exposer


def test_a_pool_is_served(exposer: Exposer) -> None:
    """The URL answers with the pool's metrics, read anew at each scrape."""
    now = [make_snapshot(2)]
    exposure = exposer(lambda: now[0])
    queued = key("obspool_tasks", {"pool": "nightly", "state": "queued"})
    assert get(exposure.url).series[queued] == 182
    now[0] = dataclasses.replace(now[0], tasks=dataclasses.replace(now[0].tasks, queued=7))
    assert get(exposure.url).series[queued] == 7


def test_only_the_loopback_is_listened_on(exposer: Exposer) -> None:
    """A port alone never means all interfaces: 127.0.0.2 is another address of this machine."""
    exposure = exposer(make_snapshot)
    assert urlsplit(exposure.url).hostname == "127.0.0.1"
    if sys.platform != "linux":
        pytest.skip("only Linux has all of 127/8 on the loopback interface")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port_of(exposure.url)), timeout=5)


def test_all_interfaces_are_listened_on_when_asked(exposer: Exposer) -> None:
    """0.0.0.0 has a URL that this machine can use."""
    exposure = exposer(make_snapshot, "0.0.0.0:0")
    assert urlsplit(exposure.url).hostname == "127.0.0.1"
    assert get(exposure.url).status == 200
    with socket.create_connection(("127.0.0.2", port_of(exposure.url)), timeout=5):
        pass


def test_ipv6_is_served(exposer: Exposer) -> None:
    """An address in brackets is served, and its URL has them."""
    try:
        exposure = exposer(make_snapshot, "[::1]:0")
    except MetricsServerError as error:
        pytest.skip(f"no IPv6 here: {error}")
    assert exposure.url.startswith("http://[::1]:")
    assert get(exposure.url).status == 200


def test_pools_share_the_server_of_an_address(
    exposer: Exposer, caplog: pytest.LogCaptureFixture
) -> None:
    """The same address in another spelling is the same server; its URL is logged once."""
    with caplog.at_level(logging.INFO, logger="obspool"):
        first = exposer(lambda: make_snapshot(1, name="a"), True)
        port = port_of(first.url)
        others = [
            exposer(lambda: make_snapshot(1, name="b"), "127.0.0.1:0"),
            exposer(lambda: make_snapshot(1, name="c"), port),
            exposer(lambda: make_snapshot(1, name="d"), f"127.0.0.1:{port}"),
        ]
    assert {exposure.url for exposure in others} == {first.url}
    assert pools_at(first.url) == {"a", "b", "c", "d"}
    assert len(server_threads()) == 1
    messages = [record.getMessage() for record in caplog.records if record.name == "obspool"]
    assert messages == [f"metrics of this process's pools are served at {first.url}"]


def test_each_address_has_its_server(exposer: Exposer) -> None:
    """Pools that asked for different addresses are apart, and together in the registry."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    a = exposer(lambda: make_snapshot(1, name="a"))
    b = exposer(lambda: make_snapshot(1, name="b"), port)
    assert (pools_at(a.url), pools_at(b.url)) == ({"a"}, {"b"})
    text = generate_latest(REGISTRY).decode()
    assert 'obspool_workers_configured{pool="a"} 1.0' in text
    assert 'obspool_workers_configured{pool="b"} 1.0' in text


def test_the_server_ends_with_its_last_pool(exposer: Exposer) -> None:
    """The port is free when close() returns, and may be had again at once."""
    a = exposer(lambda: make_snapshot(1, name="a"))
    b = exposer(lambda: make_snapshot(1, name="b"))
    port = port_of(a.url)
    a.close()
    assert get(b.url).status == 200
    b.close()
    assert is_free(port)
    assert not server_threads()
    again = exposer(lambda: make_snapshot(1, name="c"), port)
    assert pools_at(again.url) == {"c"}


def test_closing_is_quick_and_may_be_repeated(exposer: Exposer) -> None:
    """No half a second as the stdlib's server takes, also with clients connected."""
    exposure = exposer(make_snapshot)
    with connect(exposure.url), connect(exposure.url):
        get(exposure.url)
        start = time.perf_counter()
        exposure.close()
        assert time.perf_counter() - start < 0.25
        exposure.close()


def test_connections_end_with_the_server(exposer: Exposer) -> None:
    """An idle client isn't left hanging."""
    exposure = exposer(make_snapshot)
    with connect(exposure.url) as client:
        get(exposure.url)  # so that the connection before it was accepted
        exposure.close()
        assert client.recv(1) == b""


def test_a_pool_that_ended_stays_while_others_are_served(exposer: Exposer) -> None:
    """Its last values are seen, read once more when it was closed; then its time is over."""
    now: list[Snapshot] = [make_snapshot(1, name="short")]
    stays = exposer(lambda: make_snapshot(1, name="long"))
    short = exposer(lambda: now[0])
    now[0] = make_snapshot(1, name="short", outcome=PoolOutcome.FINISHED)
    short.close()
    ended = key("obspool_pools_ended_total", {"pool": "short", "outcome": "finished"})
    assert get(stays.url).series[ended] == 1


def test_an_ended_pool_gives_way_to_the_next_of_its_name(exposer: Exposer) -> None:
    """No series twice, and the live pool is the one that is served."""
    stays = exposer(lambda: make_snapshot(1, name="long"))
    for workers in (2, 3):
        exposer(lambda workers=workers: make_snapshot(workers, name="short")).close()  # type: ignore[misc]
    configured = key("obspool_workers_configured", {"pool": "short"})
    assert get(stays.url).series[configured] == 3
    exposer(lambda: make_snapshot(4, name="short"))
    answer = get(stays.url)
    assert answer.series[configured] == 4
    assert answer.series[key("obspool_exporter_errors_total", {"reason": "duplicate"})] == 0


def test_ended_pools_are_bounded(exposer: Exposer, monkeypatch: pytest.MonkeyPatch) -> None:
    """In number, and in time."""
    stays = exposer(lambda: make_snapshot(0, name="long"))
    for number in range(server.KEEP_ENDED + 5):
        exposer(lambda name=f"n{number}": make_snapshot(0, name=name)).close()  # type: ignore[misc]
    assert len(pools_at(stays.url)) == server.KEEP_ENDED + 1
    monkeypatch.setattr(server, "KEEP_ENDED_SECONDS", 0.0)
    assert pools_at(stays.url) == {"long"}


def test_the_default_registry_has_the_pools_once(exposer: Exposer) -> None:
    """However many servers and pools there are; with the last of them it is left."""
    assert not registered()
    first = exposer(lambda: make_snapshot(1, name="a"))
    second = exposer(lambda: make_snapshot(1, name="b"))
    names = registered()
    assert len(set(names)) == len(names)
    first.close()
    assert registered()
    second.close()
    assert not registered()


def test_a_registry_that_is_taken_is_no_failure(
    exposer: Exposer, caplog: pytest.LogCaptureFixture
) -> None:
    """A program that has metrics of our names keeps them; the pool is served all the same."""
    from prometheus_client import Gauge  # noqa: PLC0415 - registers itself

    gauge = Gauge("obspool_workers", "The program's own.", ["own"])
    try:
        with caplog.at_level(logging.INFO, logger="obspool"):
            exposure = exposer(make_snapshot)
        assert get(exposure.url).status == 200
        assert "default registry" in caplog.text
        exposure.close()
    finally:
        REGISTRY.unregister(gauge)


def test_a_registry_that_was_emptied_is_no_failure(exposer: Exposer) -> None:
    """A program (its tests) may unregister everything; closing goes on."""
    exposure = exposer(make_snapshot)
    collector = REGISTRY._names_to_collectors["obspool_workers"]
    REGISTRY.unregister(collector)
    exposure.close()
    assert not server_threads()


def test_a_source_that_raises_is_counted(
    exposer: Exposer, capfd: pytest.CaptureFixture[str]
) -> None:
    """No 500, nothing on stderr, and the other pools are served."""

    def broken() -> Snapshot:
        raise OSError("the segment is gone")

    exposer(broken)
    exposure = exposer(lambda: make_snapshot(1, name="good"))
    errors = key("obspool_exporter_errors_total", {"reason": "source"})
    for count in (1, 2):
        answer = get(exposure.url)
        assert answer.status == 200
        assert answer.series[errors] == count
    assert pools_at(exposure.url) == {"good"}
    exposer.open[0].close()  # reads the source a last time
    assert get(exposure.url).series[errors] == 4
    assert capfd.readouterr() == ("", "")


def test_an_answer_that_fails_is_a_500_and_counted(
    exposer: Exposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server lives on for the next scrape."""
    exposure = exposer(make_snapshot)
    with monkeypatch.context() as patch:
        patch.setattr(encoding, "encode", lambda *_, **__: 1 // 0)
        assert get(exposure.url).status == 500
    errors = key("obspool_exporter_errors_total", {"reason": "response"})
    assert get(exposure.url).series[errors] == 1


def test_an_exposure_may_be_closed_by_the_server_s_own_thread(exposer: Exposer) -> None:
    """Garbage is collected in any thread: a pool's end in this one can't wait for itself."""
    closing: list[Exposure] = []

    def source() -> Snapshot:
        for exposure in closing:
            exposure.close()
        return make_snapshot(1)

    exposure = exposer(source)
    closing.append(exposure)
    start = time.perf_counter()
    get(exposure.url)
    poll(lambda: not server_threads())
    assert time.perf_counter() - start < server.CLOSE_SECONDS
    assert is_free(port_of(exposure.url))


def test_many_threads_may_come_and_go(exposer: Exposer) -> None:
    """Opening and closing at one address, from several threads at once, leaves nothing behind."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    failures: list[BaseException] = []

    def visit(name: str) -> None:
        try:
            for _ in range(25):
                exposure = expose(port, lambda: make_snapshot(0, name=name))
                assert name in pools_at(exposure.url)
                exposure.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=visit, args=(f"t{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert is_free(port)


def test_an_exposure_keeps_no_pool_alive_after_its_end(exposer: Exposer) -> None:
    """What the source refers to is let go of with the exposure."""

    class Pool:
        def read(self) -> Snapshot:
            return make_snapshot(0)

    pool = Pool()
    exposure = exposer(pool.read)
    exposer.open.clear()
    exposure.close()
    del exposure
    gc.collect()
    assert [one for one in gc.get_referrers(pool) if one is not locals()] == []


def test_the_clients_multiprocess_mode_leaves_no_files(tmp_path: Path) -> None:
    """With PROMETHEUS_MULTIPROC_DIR set, as under gunicorn, nothing of ours is written there."""
    code = (
        "from obspool.exporters.server import expose;"
        "from tests.synthetic import make_snapshot;"
        "import urllib.request;"
        "exposure = expose(0, make_snapshot);"
        "urllib.request.urlopen(exposure.url).read();"
        "exposure.close()"
    )
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=30)
    assert not list(tmp_path.iterdir())


def test_a_process_ends_with_its_server_open() -> None:
    """A server that nobody closed doesn't keep the interpreter, nor trouble its end."""
    code = (
        "from obspool.exporters.server import expose;"
        "from tests.synthetic import make_snapshot;"
        "expose(0, make_snapshot)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
