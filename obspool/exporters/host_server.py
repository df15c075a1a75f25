"""The host exporter's port: one listener, with TLS and a password where they are asked for."""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias

from obspool.errors import MetricsServerError
from obspool.exporters import encoding
from obspool.exporters.answers import answer, refusal
from obspool.exporters.binding import bind, failure, resolve, url_of
from obspool.exporters.collector import Problem
from obspool.exporters.http_messages import message
from obspool.exporters.listener import Listener

if TYPE_CHECKING:
    from collections.abc import Sequence

    from obspool.exporters.address import Address
    from obspool.exporters.credentials import Credentials
    from obspool.exporters.host import Host
    from obspool.exporters.http_messages import Request, Response
    from obspool.exporters.tls import Certificate

CLOSE_SECONDS = 2.0

# An answer that took long is given again for as long as it took to make, at most this: scrapers
# without number take half of one core at most. (A host with ten pools takes 10 ms.)
MAX_REUSE_SECONDS = 1.0

_REALM = ("WWW-Authenticate", 'Basic realm="obspool", charset="UTF-8"')

_Key: TypeAlias = tuple[bool, tuple[str, ...], str]


@dataclass(frozen=True)
class _Kept:
    response: Response
    until: float


class HostServer:
    """Serves a host's pools at an address until `close()`.

    Attributes:
        url: by which this machine reaches it.
    """

    def __init__(
        self,
        host: Host,
        address: Address,
        *,
        certificate: Certificate | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """Start to serve.

        Raises:
            MetricsServerError: the address can't be had.
            ValueError: it isn't one.
        """
        self._host = host
        self._credentials = credentials
        self._kept: dict[_Key, _Kept] = {}
        places = resolve(address)
        try:
            _, sock = bind(places)
            self.url = url_of(sock)
            if certificate is not None:
                self.url = self.url.replace("http:", "https:", 1)
            tls = None if certificate is None else certificate.session
            try:
                self._listener = Listener(sock, self._respond, tls)
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            raise failure(address, error) from error
        except RuntimeError as error:
            raise MetricsServerError(
                errno.EAGAIN, f"metrics can't be served at {address}: {error}"
            ) from error

    @property
    def alive(self) -> bool:
        """Whether it serves: its thread ends only with a fault of ours."""
        return self._listener.alive

    def close(self) -> None:
        """Give the port back."""
        self._listener.call(self._listener.close)
        self._listener.join(CLOSE_SECONDS)

    def _respond(self, requests: Sequence[Request]) -> list[Response]:
        """Answer requests that came together; equal ones have the same answer."""
        return [self._answered(request) for request in requests]

    def _answered(self, request: Request) -> Response:
        if self._credentials is not None and not self._credentials.allow(request.authorization):
            return message(HTTPStatus.UNAUTHORIZED, _REALM)
        refused = refusal(request)
        if refused is not None:
            return refused
        try:
            return self._metrics(request)
        except Exception:  # noqa: BLE001 - counted: the thread must live for the next scrape
            self._host.count(Problem.RESPONSE)
            return message(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _metrics(self, request: Request) -> Response:
        openmetrics = encoding.wants_openmetrics(request.accept)
        scraper = f"{request.client} {request.user_agent[:200]}" if request.is_scrape else None
        key = (openmetrics, request.names, request.accept_encoding)
        begin = time.monotonic()
        self._kept = {key: kept for key, kept in self._kept.items() if kept.until > begin}
        kept = self._kept.get(key)
        # A name that is new to this scraper is new in the kept answer as well.
        if kept is not None and not self._host.is_anything_new_to(scraper):
            return kept.response
        body, is_common = self._host.text(
            openmetrics=openmetrics, names=request.names, scraper=scraper
        )
        made = answer(body, request, openmetrics=openmetrics)
        if is_common:
            end = time.monotonic()
            self._kept[key] = _Kept(made, end + min(end - begin, MAX_REUSE_SECONDS))
        return made
