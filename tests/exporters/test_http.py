"""The server against clients of all kinds: right, wrong, slow, many."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obspool.exporters import answers, listener, server
from obspool.exporters.http_messages import MAX_HEAD, BadRequestError, Request, head_of, parse
from tests.exporters.samples import Answer, connect, get, receive, send
from tests.helpers import poll
from tests.synthetic import make_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from obspool.telemetry.snapshot import Snapshot
    from tests.exporters.conftest import Exposer

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


@pytest.fixture
def url(exposer: Exposer) -> str:
    """A server with one small pool."""
    return exposer(lambda: make_snapshot(2)).url


@pytest.mark.parametrize("encoding", ["", "gzip", "br, gzip;q=0.5"])
@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ],
)
def test_the_answer_is_as_was_asked_for(url: str, accept: str, kind: str, encoding: str) -> None:
    """Both formats, packed or not, with the right headers; all have the same series.

    OpenMetrics also has the times since when they count.
    """
    answer = get(url, accept=accept, accept_encoding=encoding)
    assert answer.status == 200
    assert answer.headers["content-type"] == kind
    assert answer.headers.get("content-encoding") == ("gzip" if "gzip" in encoding else None)
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert answer.text.endswith("# EOF\n") == bool(accept)
    told = {one: value for one, value in answer.series.items() if not one[0].endswith("_created")}
    assert told == get(url).series
    assert (len(told) < len(answer.series)) == bool(accept)


def test_an_accept_header_of_nonsense_gets_the_plain_text(url: str) -> None:
    """And it isn't repeated in the answer."""
    answer = get(url, accept="application/openmetrics-text; version=9.9\rX-Evil: 1")
    assert (answer.status, "x-evil" in answer.headers) == (200, False)
    assert "9.9" not in answer.headers["content-type"]


def test_only_the_named_samples_are_served_when_asked(url: str) -> None:
    """`name[]` is prometheus_client's query for it."""
    answer = get(url, "/metrics?name[]=obspool_workers&name[]=obspool_tasks_stolen_total")
    names = {name for name, _ in answer.series}
    assert names == {"obspool_workers", "obspool_tasks_stolen_total"}
    assert get(url, "/metrics?name[]=nothing").body == b""


def test_head_has_the_headers_alone(url: str) -> None:
    """HEAD is GET without a body."""
    answer = get(url, method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 1000


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *(("GET", "/", 200), ("HEAD", "/", 200), ("GET", "http://x/metrics?a=b", 200)),
        *(("GET", "/favicon.ico", 404), ("GET", "/metrics/x", 404), ("GET", "//metrics", 404)),
        *(("POST", "/metrics", 405), ("DELETE", "/", 405), ("PUT", "/x", 405)),
        *(("OPTIONS", "*", 405), ("CONNECT", "a:1", 405), ("GET", "http://[x/metrics", 400)),
    ],
)
def test_there_is_nothing_else(url: str, method: str, path: str, status: int) -> None:
    """A page that leads to the metrics; 404 for other paths, 405 for other methods."""
    answer = get(url, path, method=method)
    assert answer.status == status
    assert answer.headers["connection"] == "close"
    assert answer.headers.get("allow") == ("GET, HEAD" if status == 405 else None)


def test_the_first_page_leads_to_the_metrics(url: str) -> None:
    """For those who open the port in a browser."""
    assert "/metrics" in get(url, "/").text


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /metrics HTTP/1.0\n\n", 200),
        (b"GET /metrics HTTP/1.1\r\nA: b\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n", 200),
        (b"GET /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 200),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET  HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics FTP/1.1\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"\r\n\r\n", 400),
        (b"\0" * 100, 400),
        (b"G" + b"\xff" * 100 + b"\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\n\xff\xfe: \x00\r\nno colon\r\n: \r\n\r\n", 200),
        (b"GET /" + b"a" * MAX_HEAD + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * MAX_HEAD, 431),
    ],
)
def test_garbage_is_answered_and_harms_nothing(url: str, request_bytes: bytes, status: int) -> None:
    """What isn't a request gets its status; the next scrape is as if nothing had been."""
    assert send(url, request_bytes).status == status
    assert get(url).status == 200


def status_of(data: bytes) -> int:
    """Return the status that these bytes, as the begin of a request, lead to; 0: none yet."""
    try:
        head = head_of(data)
        if head is None:
            return 0
        assert isinstance(parse(head), Request)
        return 200
    except BadRequestError as error:
        return error.status


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_a_bad_one_or_the_begin_of_one(data: bytes) -> None:
    """Reading a head never fails in another way, however the bytes are cut."""
    statuses = {status_of(data[:end]) for end in range(len(data) + 1)}
    assert statuses <= {0, 200, 400, 431, 505}


@given(st.text(max_size=50), st.text(max_size=50))
def test_any_words_are_a_request_or_a_bad_one(target: str, header: str) -> None:
    """The same for what looks like HTTP."""
    text = f"GET {target} HTTP/1.1\r\nAccept: {header}\r\n\r\n"
    assert status_of(text.encode("latin-1", "replace")) in {200, 400}


def test_a_request_may_come_in_pieces(url: str) -> None:
    """Each byte in its own packet."""
    with connect(url) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n":
            client.send(bytes([byte]))
        assert receive(client).status == 200


def test_a_client_that_ends_its_side_is_answered(url: str) -> None:
    """As `nc -N` does after its request."""
    with connect(url) as client:
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        assert receive(client).status == 200


def test_half_a_request_ends_at_the_deadline(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is for the whole request: a byte now and then doesn't extend it."""
    monkeypatch.setattr(listener, "READ_SECONDS", 0.3)
    with connect(url) as silent, connect(url) as half, connect(url) as slow:
        half.sendall(b"GET /metrics HTTP/1.1\r\nHost:")
        start = time.monotonic()
        slow.settimeout(0.05)
        ended = False
        while not ended and time.monotonic() < start + 5:
            try:
                slow.send(b"G")
                ended = slow.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                ended = True
        assert ended
        assert 0.2 < time.monotonic() - start < 2
        assert silent.recv(1) == b""
        assert half.recv(1) == b""
    assert get(url).status == 200


def test_a_client_that_never_reads_blocks_nobody(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer waits for it alone, and not for ever; others are served meanwhile."""
    monkeypatch.setattr(listener, "WRITE_SECONDS", 1.0)
    # More than the kernel buffers for a client, which is some megabytes.
    monkeypatch.setattr(answers, "_INDEX", bytes(64 << 20))
    (serving,) = server._hub._servers
    with connect(url) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        poll(lambda: any(one.unsent for one in serving.listener._connections.values()))
        for _ in range(3):
            assert get(url).status == 200
        assert any(one.unsent for one in serving.listener._connections.values())
        poll(lambda: not serving.listener._connections)
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while chunk := client.recv(1 << 20):
                received += len(chunk)
        assert received < 64 << 20


def test_a_slow_reader_gets_all_of_it(exposer: Exposer) -> None:
    """A small window, and others who are served between its reads."""
    large = make_snapshot(256)
    server_url = exposer(lambda: large).url
    with connect(server_url) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        data = b""
        while chunk := client.recv(1 << 14):
            data += chunk
            assert get(server_url, "/").status == 200
    head, _, body = data.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head


def test_a_client_that_resets_harms_nothing(url: str) -> None:
    """An RST before, or instead of, reading the answer."""
    for _ in range(20):
        with connect(url) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
    assert get(url).status == 200


def _at_once(number: int, call: Callable[[], Answer]) -> list[Answer]:
    answers: list[Answer] = []
    ready = threading.Barrier(number)

    def run() -> None:
        ready.wait()
        answers.append(call())

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_ten_scrapers_at_once_are_served(exposer: Exposer) -> None:
    """All have whole answers, and those who came together share the reading."""
    read: list[None] = []
    large = make_snapshot(512)

    def source() -> Snapshot:
        read.append(None)
        return large

    server_url = exposer(source).url
    start = time.monotonic()
    received = _at_once(10, lambda: get(server_url, accept=OPENMETRICS, accept_encoding="gzip"))
    assert time.monotonic() - start < 5
    assert [answer.status for answer in received] == [200] * 10
    assert len({answer.text for answer in received}) == 1
    assert 1 <= len(read) <= 10


def test_idle_clients_keep_nobody_out(url: str) -> None:
    """When the table is full the oldest gives way."""
    idle = [connect(url) for _ in range(3 * listener.MAX_CONNECTIONS)]
    try:
        start = time.monotonic()
        assert get(url).status == 200
        assert idle[0].recv(1) == b""
        assert time.monotonic() - start < 2  # before any deadline
    finally:
        for client in idle:
            client.close()


def test_without_descriptors_the_server_waits(url: str) -> None:
    """EMFILE in accept(): no spinning, no end, and service again when there are some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    host, port = connect_address(url)
    fillers: list[int] = []
    with socket.socket() as client:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        try:
            while True:
                try:
                    fillers.append(os.dup(0))
                except OSError:
                    break
            client.settimeout(0.3)
            client.connect((host, port))
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            before = time.process_time()
            with pytest.raises(TimeoutError):
                client.recv(1)
            assert time.process_time() - before < 0.15
        finally:
            for filler in fillers:
                os.close(filler)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        client.settimeout(10)
        assert receive(client).status == 200


def connect_address(url: str) -> tuple[str, int]:
    """Return the address behind a URL."""
    with connect(url) as probe:
        host, port = probe.getpeername()[:2]
    return host, port


def test_the_thread_sleeps_when_there_is_nothing_to_do(exposer: Exposer) -> None:
    """No polling: after a scrape and a pool's end it waits in select() without a timeout."""
    exposure = exposer(make_snapshot)
    exposer(lambda: make_snapshot(1, name="short")).close()
    get(exposure.url)
    poll(lambda: _cpu_of_thread_is_still("obspool-metrics"))


def _cpu_of_thread_is_still(name: str) -> bool:
    thread = next(thread for thread in threading.enumerate() if thread.name == name)
    switches = f"/proc/self/task/{thread.native_id}/status"
    if not os.path.exists(switches):  # noqa: PTH110
        pytest.skip("no /proc here")

    def read() -> list[str]:
        with open(switches, encoding="ascii") as status:  # noqa: PTH123
            return [line for line in status if "ctxt_switches" in line]

    before = read()
    threading.Event().wait(0.3)  # the time in which a polling thread would have been switched to
    return read() == before
