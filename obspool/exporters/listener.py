"""One thread that accepts, reads, answers and closes: a client that is slow waits alone.

    accept ──> reading ── whole head ──> writing ── all sent ──> lingering ──> closed
                  └──────────── deadline, error, eviction ─────────────────────┘

With TLS the handshake is a part of the reading, and under its deadline. No call of this thread
blocks but its select(), so a client that sends nothing or never reads costs
a table entry until its deadline. When the table is full the one whose deadline is nearest goes: a
new scraper always gets in. Requests that arrive together are answered from one reading.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

from obspool import _fork
from obspool.exporters.http_messages import BadRequestError, Request, head_of, message, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from obspool.exporters.http_messages import Response
    from obspool.exporters.tls import Session

    Respond = Callable[[Sequence[Request]], Sequence[Response]]

MAX_CONNECTIONS = 32

# From being accepted to the end of the request's head: real clients send it in one packet.
READ_SECONDS = 5.0
# For the whole answer: Prometheus gives up after 10 s by default.
WRITE_SECONDS = 10.0
# For the client's own end after the answer. Closing with unread bytes resets the connection, and
# then the client may lose an answer that it has not read yet.
LINGER_SECONDS = 1.0
# Without descriptors left the listening socket stays readable: asking again at once would spin.
PAUSE_SECONDS = 0.5

_BACKLOG = 128
_CHUNK = 16 * 1024

_log = logging.getLogger("obspool")


class _Stage(Enum):
    READING = 1
    WRITING = 2
    LINGERING = 3


class _Connection:
    """A client: its socket, what it sent so far, and what is still to be sent to it."""

    def __init__(
        self, sock: socket.socket, client: str, deadline: float, tls: Session | None
    ) -> None:
        self.sock = sock
        self.client = client
        self.tls = tls
        self.stage = _Stage.READING
        self.deadline = deadline
        self.received = bytearray()
        self.unsent = memoryview(b"")

    def close(self) -> None:
        # shutdown() ends the connection even if a forked child has inherited it.
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


class Listener:
    """Serves HTTP on a bound socket from its own daemon thread, until `close()`."""

    def __init__(
        self, sock: socket.socket, respond: Respond, tls: Callable[[], Session] | None = None
    ) -> None:
        """Start to listen.

        Args:
            sock: bound, not yet listening; the listener's own from now on.
            respond: answers the requests that arrived together; called in the listener's thread,
                and must not raise.
            tls: makes a connection's side of TLS; None: without.

        Raises:
            OSError: the socket can't listen: somebody else does, at the same address.
            RuntimeError: no thread can be started; the socket is closed.
        """
        self._sock = sock = _fork.Socket.of(sock)
        self._respond = respond
        self._tls = tls
        self._connections: dict[socket.socket, _Connection] = {}
        self._calls: deque[Callable[[], None]] = deque()
        self._resume_at: float | None = None
        self._closed = False
        sock.setblocking(False)
        sock.listen(_BACKLOG)
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = _fork.Socket.pair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._selector.register(self._sock, selectors.EVENT_READ)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="obspool-metrics", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._close_all()
            raise

    @property
    def alive(self) -> bool:
        """Whether calls that are handed to the thread will be made."""
        return not self._closed and self._thread.is_alive()

    def in_thread(self) -> bool:
        """Whether the caller is the listener's own thread."""
        return threading.current_thread() is self._thread

    def call(self, function: Callable[[], None]) -> None:
        """Have the thread call `function` soon; may be called from anywhere, a `__del__` too."""
        self._calls.append(function)
        # A full pipe wakes as well as one byte more would; a closed one has nobody to wake.
        with contextlib.suppress(OSError):
            self._wake_writer.send(b"\0")

    def join(self, seconds: float) -> None:
        """Wait for the thread's end, after `close()`."""
        self._thread.join(seconds)

    def close(self) -> None:
        """Give the port back and end all connections, now. Only from the listener's thread."""
        self._closed = True
        self._close_all()

    def after_fork_in_child(self) -> None:
        """Close what the child inherited, or clients of the parent would wait for the child."""
        self._closed = True
        for sock in (self._sock, self._wake_reader, self._wake_writer, *self._connections):
            with contextlib.suppress(OSError):
                sock.close()
        self._connections = {}
        # Closed, never unregistered from: the kernel's table behind it is the parent's as well.
        with contextlib.suppress(OSError):
            self._selector.close()

    def _run(self) -> None:
        try:
            while not self._closed:
                self._turn()
        finally:
            self._closed = True
            self._close_all()

    def _turn(self) -> None:
        """Wait for something to do, and do all of it."""
        requests: list[tuple[_Connection, Request]] = []
        for key, _ in self._selector.select(self._timeout()):
            if key.fileobj is self._sock:
                self._accept()
            elif key.fileobj is self._wake_reader:
                self._drain()
            elif key.data.sock in self._connections:
                request = self._advance(key.data)
                if request is not None:
                    requests.append((key.data, request))
        if requests:
            self._answer(requests)
        self._expire()
        while self._calls and not self._closed:
            self._calls.popleft()()

    def _timeout(self) -> float | None:
        times = [connection.deadline for connection in self._connections.values()]
        if self._resume_at is not None:
            times.append(self._resume_at)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_reader.recv(_CHUNK):
                pass

    def _accept(self) -> None:
        """Take all who wait, so that those who came together are answered together."""
        for _ in range(_BACKLOG):
            try:
                sock, address = self._sock.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                _log.debug("metrics: no connection can be accepted: %s", error)
                self._selector.unregister(self._sock)
                self._resume_at = time.monotonic() + PAUSE_SECONDS
                return
            self._enter(sock, str(address[0]))

    def _enter(self, accepted: socket.socket, client: str) -> None:
        sock = _fork.Socket.of(accepted)
        if len(self._connections) >= MAX_CONNECTIONS:
            self._drop(min(self._connections.values(), key=lambda one: one.deadline))
        tls = None if self._tls is None else self._tls()
        connection = _Connection(sock, client, time.monotonic() + READ_SECONDS, tls)
        self._connections[sock] = connection
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, connection)

    def _advance(self, connection: _Connection) -> Request | None:
        """Read or write what can be; return the request when it is complete."""
        try:
            if connection.stage is _Stage.READING:
                return self._read(connection)
            if connection.stage is _Stage.WRITING:
                self._write(connection)
            elif not connection.sock.recv(_CHUNK):
                self._drop(connection)
        except BlockingIOError:
            pass
        except BadRequestError as error:
            self._send(connection, message(error.status).as_bytes(body=True))
        except OSError:
            self._drop(connection)  # the client is gone: that is its affair
        return None

    def _read(self, connection: _Connection) -> Request | None:
        data = connection.sock.recv(_CHUNK)
        if not data:
            self._drop(connection)
            return None
        if connection.tls is not None:
            data, reply = connection.tls.feed(data)
            # A handshake's few KB go into an empty buffer, whole.
            if reply and connection.sock.send(reply) < len(reply):
                self._drop(connection)
                return None
        connection.received += data
        head = head_of(connection.received)
        return None if head is None else parse(head, connection.client)

    def _answer(self, requests: list[tuple[_Connection, Request]]) -> None:
        responses = self._respond([request for _, request in requests])
        for (connection, request), response in zip(requests, responses, strict=True):
            self._send(connection, response.as_bytes(body=request.method != "HEAD"))

    def _send(self, connection: _Connection, data: bytes) -> None:
        if connection.sock not in self._connections:
            return  # it had to make room in this same turn
        connection.received.clear()
        connection.stage = _Stage.WRITING
        connection.deadline = time.monotonic() + WRITE_SECONDS
        try:
            sealed = data if connection.tls is None else connection.tls.seal(data)
            connection.unsent = memoryview(sealed)
            self._selector.modify(connection.sock, selectors.EVENT_WRITE, connection)
            self._write(connection)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(connection)

    def _write(self, connection: _Connection) -> None:
        sent = connection.sock.send(connection.unsent)
        connection.unsent = connection.unsent[sent:]
        if not connection.unsent:
            connection.sock.shutdown(socket.SHUT_WR)
            connection.stage = _Stage.LINGERING
            connection.deadline = time.monotonic() + LINGER_SECONDS
            self._selector.modify(connection.sock, selectors.EVENT_READ, connection)

    def _drop(self, connection: _Connection) -> None:
        if self._connections.pop(connection.sock, None) is not None:
            self._selector.unregister(connection.sock)
            connection.close()

    def _expire(self) -> None:
        now = time.monotonic()
        for connection in list(self._connections.values()):
            if connection.deadline <= now:
                self._drop(connection)
        if self._resume_at is not None and self._resume_at <= now:
            self._resume_at = None
            self._selector.register(self._sock, selectors.EVENT_READ)

    def _close_all(self) -> None:
        for connection in list(self._connections.values()):
            connection.close()
        self._connections = {}
        # A child forked by C code, which no hook of ours ran in, would keep the port listening.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        for end in (self._sock, self._wake_reader, self._wake_writer):
            end.close()
        self._selector.close()
