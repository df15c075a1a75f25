"""A push at a pool's end."""

from __future__ import annotations

import base64
import http.server
import logging
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families as read_text

import obspool
from obspool.exporters import push
from obspool.words import PoolOutcome
from tests.exporters.samples import series_of
from tests.exporters.servers import fetch, free_port, running
from tests.helpers import poll
from tests.synthetic import make_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def double(number: int) -> int:
    return 2 * number


def run_pool(name: str = "pushed", items: int = 10) -> None:
    with obspool.Pool(1, name=name) as pool:
        pool.map(double, range(items))
        pool.close()
        pool.join()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_pushgateway_has_a_pools_last_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The real one: all counts and the outcome; the next run of the name replaces them."""
    # Debian's keeps what it has in a file of the system, and begins with what is there.
    options = ("--web.listen-address={listen}", "--persistence.file=")
    with running("prometheus-pushgateway", "/-/ready", tmp_path / "log", *options) as url:
        monkeypatch.setenv("OBSPOOL_PUSH", url)
        run_pool(items=10)
        run_pool(items=7)
        run_pool("other", items=3)
        found = series_of(read_text(fetch(f"{url}/metrics")))
    assert warnings(caplog) == []
    instance = socket.gethostname()
    done = {
        labels["pool"]: number
        for (name, pairs), number in found.items()
        if name == "obspool_items_completed_total"
        and (labels := dict(pairs))["outcome"] == "ok"
        and (labels["job"], labels["instance"]) == ("obspool", instance)
    }
    assert done == {"pushed": 7, "other": 3}
    ended = {
        dict(pairs)["outcome"]
        for (name, pairs), number in found.items()
        if name == "obspool_pools_ended_total" and number == 1
    }
    assert ended == {"finished"}


@contextmanager
def silent_server() -> Iterator[str]:
    """A server that accepts and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_gateway_that_says_nothing_holds_no_pool(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The end takes some seconds longer at most, and one line is logged."""
    monkeypatch.setattr(push, "STEP_SECONDS", 0.4)
    monkeypatch.setattr(push, "PUSH_SECONDS", 0.2)
    with silent_server() as url:
        monkeypatch.setenv("OBSPOOL_PUSH", url)
        start = time.monotonic()
        run_pool()
        assert time.monotonic() - start < 5
        poll(lambda: not [t for t in threading.enumerate() if "obspool-push" in t.name])
    (said,) = warnings(caplog)
    assert "pushed" in said
    assert "0.2 s" in said


@pytest.mark.parametrize("url", ["localhost:9091", "ftp://x", "http://", "http://a:b"])
def test_what_is_no_url_is_one_line(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The pool works all the same."""
    monkeypatch.setenv("OBSPOOL_PUSH", url)
    run_pool()
    (said,) = warnings(caplog)
    assert "OBSPOOL_PUSH" in said


def test_a_gateway_that_is_not_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A refused connection, with the gateway's name and without the password."""
    monkeypatch.setenv("OBSPOOL_PUSH", f"http://user:s3cret@127.0.0.1:{free_port()}")
    run_pool()
    (said,) = warnings(caplog)
    assert "127.0.0.1" in said
    assert "s3cret" not in said


class _Recorder(http.server.BaseHTTPRequestHandler):
    requests: list[tuple[str, str | None]]

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.requests.append((self.path, self.headers["Authorization"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the stdlib's name
        pass


def test_a_path_and_a_password_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway behind a proxy: below a path, with basic authentication."""
    requests: list[tuple[str, str | None]] = []
    handler = type("Handler", (_Recorder,), {"requests": requests})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.server_address[1]
        monkeypatch.setenv("OBSPOOL_PUSH", f"http://me:p%40ss@127.0.0.1:{port}/gateway/")
        push.push_at_end(lambda: make_snapshot(outcome=PoolOutcome.FINISHED))
        server.shutdown()
        thread.join()
    ((path, authorization),) = requests
    assert path.startswith("/gateway/metrics/job/obspool/")
    assert "/pool/nightly" in path
    assert authorization == "Basic " + base64.b64encode(b"me:p@ss").decode()


def test_nothing_is_pushed_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor with OBSPOOL_DISABLE, nor by a forked child."""
    pushed: list[object] = []
    monkeypatch.setattr(push, "_push", lambda *args: pushed.append(args))
    run_pool()
    monkeypatch.setenv("OBSPOOL_PUSH", "http://127.0.0.1:9")
    monkeypatch.setenv("OBSPOOL_DISABLE", "1")
    run_pool()
    assert pushed == []
    monkeypatch.delenv("OBSPOOL_DISABLE")
    run_pool()
    assert len(pushed) == 1
