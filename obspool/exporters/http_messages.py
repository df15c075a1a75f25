"""HTTP as far as /metrics needs it: one bounded request head in, one answer out, then the end.

The stdlib's handler takes heads of up to 6 MB, and its time limit starts anew with each byte; here
the bytes are collected by the listener, under its limits, and only looked at in this module. The
connection is closed after each answer, so that no idle client holds one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

# A Prometheus sends some 500 bytes; a browser with its cookies a few thousand.
MAX_HEAD = 16 * 1024

PLAIN = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"

_REQUEST_LINE_WORDS = 3


class BadRequestError(Exception):
    """A request that can't be answered but with this status."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """What of a request is looked at.

    Attributes:
        names: of `name[]` in the query: the only samples that are wanted; empty: all.
        accept: the Accept header's value, or an empty string.
        accept_encoding: the Accept-Encoding header's, the same.
        authorization: the Authorization header's, the same.
        user_agent: the User-Agent header's, the same.
        is_scrape: whether the client says how long it waits, as Prometheus and its kin do: it
            stores what it gets.
        client: the address that it came from.
    """

    method: str
    path: str
    names: tuple[str, ...]
    accept: str
    accept_encoding: str
    authorization: str = ""
    user_agent: str = ""
    is_scrape: bool = False
    client: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; `Content-Length` and `Connection` are added when it is written."""

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = field(default=())

    def as_bytes(self, *, body: bool) -> bytes:
        """Return it as it is sent, without its body for HEAD."""
        lines = [
            f"HTTP/1.1 {self.status.value} {self.status.phrase}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            *(f"{name}: {value}" for name, value in self.headers),
            "Connection: close",
            "\r\n",
        ]
        return "\r\n".join(lines).encode("latin-1") + (self.body if body else b"")


def message(status: HTTPStatus, *headers: tuple[str, str]) -> Response:
    """Return an answer that says its status and no more."""
    return Response(status, PLAIN, f"{status.value} {status.phrase}\n".encode(), headers)


def head_of(received: bytes | bytearray) -> bytes | None:
    """Return the request's head, or None while it isn't complete.

    Raises:
        BadRequestError: it is too large, or doesn't begin like HTTP (a TLS client's hello).
    """
    if received and not bytes(received[:1]).isupper():  # as all methods begin
        raise BadRequestError(HTTPStatus.BAD_REQUEST)
    # By hand with netcat lines end in "\n" alone.
    ends = [end for end in (received.find(b"\r\n\r\n"), received.find(b"\n\n")) if end >= 0]
    if ends and min(ends) <= MAX_HEAD:
        return bytes(received[: min(ends)])
    if len(received) > MAX_HEAD:
        raise BadRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    return None


def parse(head: bytes, client: str = "") -> Request:
    """Read a request's head.

    Args:
        head: as `head_of` gives it.
        client: the address that it came from.

    Raises:
        BadRequestError: it isn't HTTP/1.
    """
    first, *rest = head.decode("latin-1").split("\n")
    words = first.split()
    if len(words) != _REQUEST_LINE_WORDS:
        raise BadRequestError(HTTPStatus.BAD_REQUEST)
    method, target, version = words
    if not version.startswith("HTTP/"):
        raise BadRequestError(HTTPStatus.BAD_REQUEST)
    if not version.startswith("HTTP/1."):
        raise BadRequestError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    try:
        url = urlsplit(target)
        names = parse_qs(url.query).get("name[]", [])
    except ValueError as error:
        raise BadRequestError(HTTPStatus.BAD_REQUEST) from error
    headers: dict[str, list[str]] = {}
    for line in rest:
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), []).append(value.strip())
    return Request(
        method=method,
        path=url.path,
        names=tuple(names),
        accept=",".join(headers.get("accept", ())),
        accept_encoding=",".join(headers.get("accept-encoding", ())),
        authorization=",".join(headers.get("authorization", ())),
        user_agent=",".join(headers.get("user-agent", ())),
        is_scrape="x-prometheus-scrape-timeout-seconds" in headers,
        client=client,
    )
