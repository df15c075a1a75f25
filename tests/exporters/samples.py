"""Reading answers: samples by name and labels, and a client that can misbehave."""

from __future__ import annotations

import gzip
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client.core import Metric

Labels = frozenset[tuple[str, str]]
Series = dict[tuple[str, Labels], float]

CLIENT_SECONDS = 10.0


def key(name: str, labels: Mapping[str, str]) -> tuple[str, Labels]:
    """Return a series' identity."""
    return name, frozenset(labels.items())


def series_of(families: Iterable[Metric]) -> Series:
    """Return all samples by identity; two of one identity are an error."""
    found: Series = {}
    for family in families:
        for sample in family.samples:
            identity = key(sample.name, sample.labels)
            assert identity not in found, f"twice: {identity}"
            found[identity] = float(sample.value)
    return found


@dataclass(frozen=True)
class Answer:
    """A whole HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body, unpacked."""
        packed = self.headers.get("content-encoding") == "gzip"
        return (gzip.decompress(self.body) if packed else self.body).decode()

    @property
    def series(self) -> Series:
        """The body's samples, read by prometheus_client's parser for the answer's format."""
        openmetrics = self.headers["content-type"].startswith("application/openmetrics-text")
        return series_of((read_openmetrics if openmetrics else read_text)(self.text))


def connect(url: str) -> socket.socket:
    """Connect to the server of a URL, and send nothing."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return socket.create_connection((parts.hostname, parts.port), timeout=CLIENT_SECONDS)


def send(url: str, request: bytes) -> Answer:
    """Send these bytes, and read the answer to its end."""
    with connect(url) as client:
        client.sendall(request)
        return receive(client)


def receive(client: socket.socket) -> Answer:
    """Read an answer until the server closes."""
    data = b""
    while chunk := client.recv(65536):
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines)
    }
    return Answer(int(first.split()[1]), headers, body)


def get(url: str, path: str = "/metrics", *, method: str = "GET", **headers: str) -> Answer:
    """Send one request; the keywords are headers, `accept_encoding="gzip"` for example."""
    lines = [f"{method} {path} HTTP/1.1", "Host: test"]
    lines += [f"{name.replace('_', '-').title()}: {value}" for name, value in headers.items()]
    return send(url, "\r\n".join([*lines, "\r\n"]).encode("latin-1"))


def port_of(url: str) -> int:
    """Return a URL's port."""
    port = urlsplit(url).port
    assert port is not None
    return port


def pools_at(url: str) -> set[str]:
    """Return the names of the pools in an answer."""
    return {dict(labels)["pool"] for name, labels in get(url).series if name == "obspool_workers"}


def is_free(port: int) -> bool:
    """Tell whether a new server could have the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
        return True
