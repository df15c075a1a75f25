"""Forked children: workers are some, and they must hold nothing of the server."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from prometheus_client import REGISTRY

from obspool.exporters.server import expose
from tests.exporters.samples import connect, get, is_free, key, pools_at, port_of
from tests.helpers import poll
from tests.synthetic import make_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.exporters.conftest import Exposer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@contextlib.contextmanager
def forked(work: Callable[[], str] = str) -> Iterator[str]:
    """Fork a child that lives as long as the block; give what `work` returned in it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            try:
                said = work() or "ready"
            except BaseException as error:
                said = f"failed: {error!r}"
            os.write(writer, said.encode())
            os.close(writer)
            signal.pause()
        finally:
            os._exit(0)
    os.close(writer)
    try:
        with os.fdopen(reader, encoding="utf-8") as pipe:
            yield pipe.read()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def sockets_at(port: int) -> str:
    """Name this process's sockets that have the port at either end."""
    found = []
    for number in range(256):
        try:
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
        except OSError:
            continue
        with socket.socket(fileno=os.dup(number)) as one:
            ends = [one.getsockname()]
            with contextlib.suppress(OSError):
                ends.append(one.getpeername())
        if any(isinstance(end, tuple) and end[1] == port for end in ends):
            found.append(str(number))
    return ",".join(found)


def test_the_port_is_free_while_a_child_lives(exposer: Exposer) -> None:
    """Scrapes work beside the child; after close() they don't hang, and the port can be bound."""
    exposure = exposer(make_snapshot)
    port = port_of(exposure.url)
    with forked():
        assert get(exposure.url).status == 200
        exposure.close()
        with pytest.raises(ConnectionRefusedError):
            connect(exposure.url)
        assert is_free(port)
        again = exposer(lambda: make_snapshot(1, name="again"), port)
        assert pools_at(again.url) == {"again"}


def test_a_child_holds_no_socket_of_the_server(exposer: Exposer) -> None:
    """Neither the listening one nor a client's connection."""
    exposure = exposer(make_snapshot)
    port = port_of(exposure.url)
    with connect(exposure.url) as client:
        get(exposure.url)  # so that the connection before it was accepted
        mine = {str(client.fileno())}
        assert set(sockets_at(port).split(",")) > mine
        with forked(lambda: sockets_at(port)) as held:
            assert held == str(client.fileno())  # the test's own end


def test_a_client_sees_the_end_while_a_child_lives(exposer: Exposer) -> None:
    """A connection that was open at the fork ends when the server ends it."""
    exposure = exposer(make_snapshot)
    with connect(exposure.url) as client:
        get(exposure.url)
        with forked():
            exposure.close()
            assert client.recv(1) == b""


def test_without_the_hooks_all_ends_all_the_same(
    exposer: Exposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child forked by C code runs no hook: sockets are shut down, not only closed."""
    exposure = exposer(make_snapshot)
    port = port_of(exposure.url)
    with connect(exposure.url) as client:
        get(exposure.url)
        # The listener and both ends of `client`: the server may be about to close another's.
        poll(lambda: len(sockets_at(port).split(",")) == 3)
        monkeypatch.setattr("obspool._fork._close_sockets", lambda: None)
        with forked(lambda: sockets_at(port)) as held:
            assert len(held.split(",")) == 3
            exposure.close()
            assert client.recv(1) == b""
            with pytest.raises(ConnectionRefusedError):
                connect(exposure.url)
            assert is_free(port)


def test_a_child_s_close_leaves_the_parent_alone(exposer: Exposer) -> None:
    """A pool of the parent, ended in the child, ends nothing of the parent's."""
    exposure = exposer(make_snapshot)

    def close() -> str:
        exposure.close()
        return "closed"

    with forked(close) as said:
        assert said == "closed"
        assert get(exposure.url).status == 200


def test_a_child_s_registry_has_no_pools_of_the_parent(exposer: Exposer) -> None:
    """A server of the child's own program doesn't repeat them."""
    exposer(make_snapshot)

    def look() -> str:
        pools = {
            sample.labels["pool"]
            for family in REGISTRY.collect()
            for sample in family.samples
            if "pool" in sample.labels and family.name.startswith("obspool_")
        }
        return repr(sorted(pools))

    with forked(look) as said:
        assert said == "[]"


def test_a_child_may_serve_its_own_pools(exposer: Exposer) -> None:
    """At its own address, in its registry; the parent's server goes on beside it."""
    exposure = exposer(lambda: make_snapshot(1, name="parent"))

    def serve() -> str:
        own = expose(0, lambda: make_snapshot(1, name="child"))
        names = [family.name for family in REGISTRY.collect()]
        assert names.count("obspool_workers") == 1
        return own.url

    with forked(serve) as url:
        assert urlsplit(url).netloc != urlsplit(exposure.url).netloc
        assert pools_at(url) == {"child"}
        assert pools_at(exposure.url) == {"parent"}


def test_scrapes_while_children_come_and_go(exposer: Exposer) -> None:
    """As in a pool that recycles its workers all the time."""
    exposure = exposer(make_snapshot)
    configured = key("obspool_workers_configured", {"pool": "nightly"})
    for _ in range(20):
        with forked():
            assert get(exposure.url).series[configured] == 8
