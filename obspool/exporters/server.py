"""/metrics from the process itself: one server for all its pools that ask for one address.

    pool ── expose() ──> Exposure ──┐
    pool ── expose() ──> Exposure ──┴── _Server (an address, a listener's thread) ──> /metrics
                                  └──── _Hub ──> prometheus_client's REGISTRY

A server lives until its last exposure is closed. A pool that ended before that is kept in the
answers for some minutes with its last snapshot, or what it did since the last scrape would never
be seen. What outlives the process is the host exporter's affair.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
import time
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, CollectorRegistry

from obspool import _fork
from obspool.errors import MetricsServerError
from obspool.exporters import encoding
from obspool.exporters.address import VARIABLE, Address, address_from_environment
from obspool.exporters.answers import answer, refusal
from obspool.exporters.binding import Place, SocketAddress, bind, failure, resolve, url_of
from obspool.exporters.collector import Problem, SnapshotCollector, start_times
from obspool.exporters.http_messages import message
from obspool.exporters.listener import Listener

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from obspool.exporters.address import AddressLike
    from obspool.exporters.http_messages import Request, Response
    from obspool.telemetry.snapshot import Snapshot

    Source = Callable[[], Snapshot]

# At least two scrapes at the intervals in use (15 s to 2 min).
KEEP_ENDED_SECONDS = 300.0
# A process may make a thousand short pools beside a long one.
KEEP_ENDED = 16

# How long close() waits for the port to be free. Longer than an answer takes; the bound is for a
# server's thread that can't go on because of a lock which the caller's own thread holds (a pool
# collected as garbage in the midst of anything).
CLOSE_SECONDS = 2.0

_log = logging.getLogger("obspool")


class Exposure:
    """One pool's place on a server; `close()` gives it up."""

    def __init__(self, server: _Server, source: Source) -> None:
        self.url = server.url
        self.source = source
        self.left = threading.Event()
        self._server = server
        self._closed = False

    def close(self) -> None:
        """Leave the server, which ends with its last exposure; the port is free on return.

        The source is read once more before, so its segment must still be there. May be called more
        than once and from anywhere; in a forked child it does nothing.
        """
        if not self._closed:
            self._closed = True
            self._server.leave(self)


def expose(address: AddressLike, source: Source) -> Exposure:
    """Serve a pool's metrics at an address, for as long as the exposure isn't closed.

    The first exposure of the process also registers a collector with prometheus_client's default
    registry, so that a program which serves that one has the pools' metrics in it.

    Args:
        address: in one of the forms of `obspool.exporters.address`.
        source: reads the pool's snapshot; called at each scrape, in the server's thread. It must
            not keep the pool alive.

    Raises:
        MetricsServerError: the address can't be served; `errno` is the system's.
        TypeError, ValueError: it isn't an address.
    """
    return _hub.expose(Address.parse(address), source)


def expose_from_environment(source: Source) -> Exposure | None:
    """Serve a pool's metrics where OBSPOOL_METRICS says; None when it doesn't, or that failed.

    A failure is logged and no more: the variable is inherited by every process below, and the
    second that finds its port taken must work all the same.
    """
    text = address_from_environment()
    if text is None:
        return None
    try:
        return expose(text, source)
    except ValueError as error:
        _log.warning("%s is ignored: %s", VARIABLE, error)
    except MetricsServerError as error:
        _log.info("no metrics are served from this process (%s): %s", VARIABLE, error)
    return None


class _Server:
    """An address, the exposures there, and the listener that answers for them."""

    def __init__(self, hub: _Hub, place: Place, sock: socket.socket) -> None:
        bound: SocketAddress = sock.getsockname()
        self.places = (place, Place(place.family, bound))
        self.url = url_of(sock)
        self.exposures: tuple[Exposure, ...] = ()
        self._hub = hub
        self._ended: deque[tuple[float, Snapshot]] = deque(maxlen=KEEP_ENDED)
        self._collector = SnapshotCollector(lambda: self.snapshots(self._collector.count))
        self._registry = CollectorRegistry()
        self._registry.register(self._collector)
        self.listener = Listener(sock, self._respond)

    def snapshots(self, count: Callable[[Problem], None]) -> Iterator[Snapshot]:
        """Yield what all pools of this server say now, then the last of those that ended."""
        names = set()
        for exposure in self.exposures:
            try:
                snapshot = exposure.source()
                names.add(snapshot.facts.name)
            except Exception:  # noqa: BLE001 - counted: one pool must not take the others away
                count(Problem.SOURCE)
                _log.debug("metrics: a pool's telemetry could not be read", exc_info=True)
            else:
                yield snapshot
        oldest = time.monotonic() - KEEP_ENDED_SECONDS
        # The newest first, as a name may have been used several times.
        for since, snapshot in reversed(tuple(self._ended)):
            if since >= oldest and snapshot.facts.name not in names:
                names.add(snapshot.facts.name)
                yield snapshot

    def leave(self, exposure: Exposure) -> None:
        """Have the listener's thread forget an exposure, and wait for it within bounds."""
        if not self.listener.alive:
            return
        self.listener.call(lambda: self._forget(exposure))
        if self.listener.in_thread():
            return
        if not exposure.left.wait(CLOSE_SECONDS):
            _log.info("metrics at %s are still being closed", self.url)
        elif not self.exposures:
            self.listener.join(CLOSE_SECONDS)

    def _forget(self, exposure: Exposure) -> None:
        try:
            if len(self.exposures) > 1:
                self._keep(exposure)
            self._hub.forget(self, exposure)
        finally:
            exposure.left.set()

    def _keep(self, exposure: Exposure) -> None:
        try:
            self._ended.append((time.monotonic(), exposure.source()))
        except Exception:  # noqa: BLE001 - counted: an end must not fail for its metrics
            self._collector.count(Problem.SOURCE)
            _log.debug("metrics: a pool's last state could not be read", exc_info=True)

    def _respond(self, requests: Sequence[Request]) -> list[Response]:
        """Answer requests that came together; equal ones have the same answer."""
        answers: dict[tuple[object, ...], Response] = {}
        responses = []
        for request in requests:
            response = refusal(request)
            if response is None:
                openmetrics = encoding.wants_openmetrics(request.accept)
                key = (openmetrics, request.names, request.accept_encoding)
                response = answers.get(key)
                if response is None:
                    response = answers[key] = self._metrics(request, openmetrics=openmetrics)
            responses.append(response)
        return responses

    def _metrics(self, request: Request, *, openmetrics: bool) -> Response:
        try:
            return self._read(request, openmetrics=openmetrics)
        except Exception:  # noqa: BLE001 - counted: the thread must live for the next scrape
            self._collector.count(Problem.RESPONSE)
            _log.debug("metrics: an answer failed", exc_info=True)
            return message(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _read(self, request: Request, *, openmetrics: bool) -> Response:
        registry = self._registry
        chosen = registry.restricted_registry(request.names) if request.names else registry
        families = list(chosen.collect())
        starts = start_times(families)
        body = encoding.encode(families, openmetrics=openmetrics, since=starts)
        return answer(body, request, openmetrics=openmetrics)


class _Hub:
    """All servers of the process, and its collector in prometheus_client's default registry."""

    def __init__(self) -> None:
        self._servers: tuple[_Server, ...] = ()
        self._collector = SnapshotCollector(self._snapshots)
        self._registered = False
        # Reentrant: garbage collected while it is held may close an exposure in the same thread.
        self._lock = threading.RLock()

    def expose(self, address: Address, source: Source) -> Exposure:
        """Find the server for an address, or open it, and add an exposure there."""
        places = resolve(address)  # may ask a name server: not under the lock
        _fork.register(self)
        with self._lock:
            server = self._find(places)
            opened = server is None
            if server is None:
                server = self._open(address, places)
                self._servers += (server,)
            exposure = Exposure(server, source)
            server.exposures += (exposure,)
            self._register()
        if opened:
            _log.info("metrics of this process's pools are served at %s", server.url)
        return exposure

    def forget(self, server: _Server, exposure: Exposure) -> None:
        """Take an exposure away, the server with its last one; in the listener's thread."""
        with self._lock:
            server.exposures = tuple(one for one in server.exposures if one is not exposure)
            if server.exposures:
                return
            self._servers = tuple(one for one in self._servers if one is not server)
            server.listener.close()
            if self._servers or not self._registered:
                return
            self._registered = False
            # A program (or its tests) may have emptied the registry itself.
            with contextlib.suppress(KeyError):
                REGISTRY.unregister(self._collector)

    def after_fork_in_child(self) -> None:
        """Let go of the parent's servers; the registry keeps a collector that finds no pools.

        To unregister it the registry's lock would be needed, which a thread may have held.
        """
        for server in self._servers:
            server.listener.after_fork_in_child()
        self._servers = ()
        self._lock = threading.RLock()
        self._collector.after_fork_in_child()

    def _snapshots(self) -> Iterable[Snapshot]:
        for server in self._servers:
            yield from server.snapshots(self._collector.count)

    def _find(self, places: Sequence[Place]) -> _Server | None:
        for server in self._servers:
            if not set(server.places).isdisjoint(places):
                return server
        return None

    def _open(self, address: Address, places: Sequence[Place]) -> _Server:
        try:
            place, sock = bind(places)
            try:
                return _Server(self, place, sock)
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            raise failure(address, error) from error
        except RuntimeError as error:  # no thread: the interpreter is ending
            raise MetricsServerError(
                errno.EAGAIN, f"metrics can't be served at {address}: {error}"
            ) from error

    def _register(self) -> None:
        if self._registered:
            return
        try:
            REGISTRY.register(self._collector)
            self._registered = True
        except ValueError as error:
            _log.info("metrics are not in prometheus_client's default registry: %s", error)


_hub = _Hub()
