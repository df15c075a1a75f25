"""What happens when metrics can't be served where they should be."""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from obspool.errors import MetricsServerError, ObspoolError
from obspool.exporters import binding, server
from obspool.exporters.server import expose, expose_from_environment
from tests.exporters.conftest import registered, server_threads
from tests.exporters.samples import get, is_free
from tests.synthetic import make_snapshot

if TYPE_CHECKING:
    from tests.exporters.conftest import Exposer


def test_a_taken_port_is_named() -> None:
    """The error is an OSError with the system's errno, and says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(MetricsServerError, match=f"127.0.0.1:{port}.*another port") as caught:
            expose(port, make_snapshot)
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, ObspoolError)
    assert caught.value.errno == errno.EADDRINUSE
    assert not server_threads()
    assert not registered()


@pytest.mark.parametrize("address", ["192.0.2.1:9400", "no-such-host.invalid:9400"])
def test_an_address_of_nobody_is_named(address: str) -> None:
    """Another machine's address, and a name that isn't known."""
    with pytest.raises(MetricsServerError, match=address.split(":", maxsplit=1)[0]):
        expose(address, make_snapshot)


@pytest.mark.parametrize("address", ["nonsense", 70000, "a" * 64 + ":1"])
def test_a_bad_address_is_a_value_error(address: str | int) -> None:
    """What no resolver takes is no address."""
    with pytest.raises(ValueError, match="metrics address"):
        expose(address, make_snapshot)


def test_a_name_may_have_several_addresses(
    exposer: Exposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first that this machine has is taken (`localhost` is ::1 first, also without IPv6)."""
    places = [
        binding.Place(socket.AF_INET, ("192.0.2.1", 0)),
        binding.Place(socket.AF_INET, ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(server, "resolve", lambda _: places)
    assert urlsplit(exposer(make_snapshot, "localhost:0").url).hostname == "127.0.0.1"


def test_without_a_thread_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ending interpreter starts no thread: the port is given back and the error says so."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(MetricsServerError, match="can't create new thread"):
            expose(port, make_snapshot)
    assert is_free(port)


class TestFromEnvironment:
    """OBSPOOL_METRICS, which all processes below inherit: a failure is a line, never an error."""

    def test_unset(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No server without it."""
        monkeypatch.delenv("OBSPOOL_METRICS", raising=False)
        assert expose_from_environment(make_snapshot) is None

    def test_set(self, exposer: Exposer, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server where it says."""
        monkeypatch.setenv("OBSPOOL_METRICS", "1")
        exposure = expose_from_environment(make_snapshot)
        assert exposure is not None
        exposer.open.append(exposure)
        assert get(exposure.url).status == 200

    def test_taken(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        """A port that another process has: one INFO that names it."""
        with socket.create_server(("127.0.0.1", 0)) as other, caplog.at_level(logging.INFO):
            monkeypatch.setenv("OBSPOOL_METRICS", str(other.getsockname()[1]))
            assert expose_from_environment(make_snapshot) is None
        (record,) = caplog.records
        assert record.levelno == logging.INFO
        assert f"127.0.0.1:{os.environ['OBSPOOL_METRICS']}" in record.getMessage()

    def test_nonsense(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What isn't an address: one WARNING that names it."""
        monkeypatch.setenv("OBSPOOL_METRICS", "nonsense")
        assert expose_from_environment(make_snapshot) is None
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert "'nonsense'" in record.getMessage()
