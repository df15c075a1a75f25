"""What both servers answer: the metrics as they were asked for, or why there are none."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from obspool.exporters import encoding
from obspool.exporters.http_messages import HTML, Response, message

if TYPE_CHECKING:
    from obspool.exporters.http_messages import Request

_METHODS = ("GET", "HEAD")
_VARY = ("Vary", "Accept, Accept-Encoding")
_INDEX = b"<!doctype html>\n<title>obspool</title>\n<a href='/metrics'>/metrics</a>\n"


def refusal(request: Request) -> Response | None:
    """Return the answer to anything but a request for the metrics, None to one for them."""
    if request.method not in _METHODS:
        return message(HTTPStatus.METHOD_NOT_ALLOWED, ("Allow", ", ".join(_METHODS)))
    if request.path == "/":
        return Response(HTTPStatus.OK, HTML, _INDEX)
    return None if request.path == "/metrics" else message(HTTPStatus.NOT_FOUND)


def answer(body: bytes, request: Request, *, openmetrics: bool) -> Response:
    """Return the answer with this text, gzipped for who takes that."""
    kind = encoding.OPENMETRICS_TYPE if openmetrics else encoding.TEXT_TYPE
    packed = encoding.compress(body, request.accept_encoding)
    if packed is None:
        return Response(HTTPStatus.OK, kind, body, (_VARY,))
    return Response(HTTPStatus.OK, kind, packed, (_VARY, ("Content-Encoding", "gzip")))
