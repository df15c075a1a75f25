"""The control server: one unix socket for all pools of a process, in a daemon thread.

    pool ── serve() ──> host ──> server thread ── select ──> connection ── line ──> pool.command()
                         │            │                                                   │
                         └ weak ──────┴─ holds no pool between commands        reply <────┘

One connection is one request and one reply. Whatever a client does, it costs the process at most
_CONNECTIONS times a line and a few descriptors, for _PATIENCE seconds to send its request and as
many to take its reply; a client too many waits in the socket's backlog. Who asks is checked before
the line is looked at: the peer must be this user or root. `OBSPOOL_CONTROL=0` leaves all of this
out.

A command is carried out in the server's thread, so it must be quick: begin, and return. Only for a
stack it waits a moment, for the worker that writes it.
"""

from __future__ import annotations

import logging
import math
import os
import selectors
import threading
import time
import weakref
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Protocol

from obspool import _fork
from obspool.control import address
from obspool.control.peer import Peer, peer_of
from obspool.control.protocol import MAX_LINE, Reply, Request
from obspool.errors import ControlError
from obspool.wire import NO_SIGNAL

if TYPE_CHECKING:
    import socket

_log = logging.getLogger("obspool")

_CONNECTIONS = 8
_PATIENCE = 2.0  # seconds for a line to go one way, or to wait when accept() finds no descriptor
_SWEEP_AFTER = 0.5  # seconds; starting pools come first
_EXIT_PRIORITY = -10  # after the pools' own finalizers, which withdraw


class Target(Protocol):
    """A pool that can be steered."""

    @property
    def name(self) -> str:
        """The pool's name; looked up at each request, so it may settle after `serve`."""

    def command(self, request: Request, by: Peer) -> str:
        """Begin what is asked for, record an event that says who asked, and return at once.

        Called in the server's thread: while it lasts, no other command is read.

        Returns:
            The text that the client asked for; empty for most commands.

        Raises:
            ControlError: the pool can't do it; the message is what the client is told.
        """


def serve(target: Target) -> str | None:
    """Let this pool be commanded; the first one starts the server.

    The target is held weakly. It need not have its name yet: its socket's path is written into the
    segment that gives it one.

    Returns:
        The socket's path, or None when there is none: OBSPOOL_CONTROL=0, or there is no room or no
        right for it (logged once at INFO: a pool works without).
    """
    if os.environ.get("OBSPOOL_CONTROL") == "0":
        return None
    return _host.serve(target)


def withdraw(target: Target) -> None:
    """Take the pool out of the server's hands, which ends with its last one; may be repeated."""
    _host.withdraw(target)


class _Host:
    """The pools of this process, and the server while there are any."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        # Re-entrant: the garbage collector may end a pool, and so call withdraw, within serve.
        self._lock = threading.RLock()
        self._targets: dict[int, weakref.ref[Target]] = {}
        self._server: _Server | None = None
        self._told = False

    def serve(self, target: Target) -> str | None:
        _fork.register(self)
        key = id(target)
        with self._lock:
            self._targets[key] = weakref.ref(target, partial(self._vanished, key))
            server = self._server
            if server is None:
                server = self._server = self._start()
            if server is None:
                del self._targets[key]
                return None
            return str(server.path)

    def withdraw(self, target: Target) -> None:
        _fork.settle()
        self._targets.pop(id(target), None)
        self.close_if_unused()

    def close_if_unused(self) -> None:
        with self._lock:
            server = self._server
            if server is not None and not self._targets:
                self._server = None
                server.close()

    def execute(self, line: bytes, peer: Peer) -> Reply:
        """Have the pool that the line names begin what the line says."""
        try:
            request = Request.decode(line)
            text = self._find(request.pool).command(request, peer)
        except ControlError as error:
            return Reply(False, str(error))
        except Exception as error:  # noqa: BLE001 - a pool that fails must not end the others' server
            _log.exception("a command over the control socket failed")
            return Reply(False, f"the pool failed to do it: {type(error).__name__}: {error}")
        return Reply(True, text=text)

    def _find(self, name: str) -> Target:
        names = []
        for reference in tuple(self._targets.values()):
            target = reference()
            if target is not None:
                if target.name == name:
                    return target
                names.append(target.name)
        others = ", ".join(names) or "none"
        raise ControlError(f"process {os.getpid()} has no pool {name[:60]!r}; its pools: {others}")

    def after_fork_in_child(self) -> None:
        """Let go of the parent's server; the child may start one of its own."""
        server = self._server
        self._reset()
        if server is not None:
            server.abandon()

    def _start(self) -> _Server | None:
        try:
            server = _Server(self)
            server.start()
        except (OSError, RuntimeError) as error:  # RuntimeError: no thread can be started
            if not self._told:
                self._told = True
                _log.info("pools of this process have no control socket: %s", error)
            return None
        return server

    def _vanished(self, key: int, _reference: weakref.ref[Target]) -> None:
        """Forget a pool that was collected; in any thread, and within any code: take no lock."""
        self._targets.pop(key, None)
        server = self._server
        if server is not None:
            server.wake()


class _Connection:
    """A client: first its line comes, then its reply goes.

    Attributes:
        incoming: what has come of the line.
        outgoing: what is still to go of the reply; empty while there is none.
        deadline: when the line, or the reply, is given up.
    """

    __slots__ = ("deadline", "incoming", "outgoing", "peer", "socket")

    def __init__(self, connection: socket.socket, peer: Peer) -> None:
        self.socket = connection
        self.peer = peer
        self.incoming = bytearray()
        self.outgoing = memoryview(b"")
        self.deadline = time.monotonic() + _PATIENCE


class _Server:
    """The socket and its thread."""

    def __init__(self, host: _Host) -> None:
        self._host = host
        self._connections: dict[int, _Connection] = {}
        with ExitStack() as undo:
            self._waker, self._wakened = _fork.Socket.pair()
            undo.callback(self._waker.close)
            undo.callback(self._wakened.close)
            self._waker.setblocking(False)
            self._wakened.setblocking(False)
            self._selector = selectors.DefaultSelector()
            undo.callback(self._selector.close)
            self._selector.register(self._wakened, selectors.EVENT_READ)
            listener, self.path = address.listen()
            self._listener = _fork.Socket.of(listener)
            undo.pop_all()
        self._listening = False
        self._listen_again = 0.0  # a time before which accept() isn't tried
        self._sweep_at: float | None = time.monotonic() + _SWEEP_AFTER
        self._closing = False
        self._finalizer = Finalize(None, self.close, exitpriority=_EXIT_PRIORITY)
        self._thread = threading.Thread(target=self._run, name="obspool-control", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        try:
            self._thread.start()
        except BaseException:
            self.close()
            self._release()
            raise

    def close(self) -> None:
        """Have the thread end soon, and the socket gone from the file system now."""
        if self._closing:  # the path may be a successor's by now
            return
        self._closing = True
        self._finalizer.cancel()
        # The next server in this directory removes what can't be removed here.
        with suppress(OSError):
            self.path.unlink()
        self.wake()

    def abandon(self) -> None:
        """Close what a forked child inherited; the parent's server goes on."""
        self._finalizer.cancel()
        self._release()

    def wake(self) -> None:
        """Have the thread look round; callable from anywhere."""
        # Full: it will wake anyway. Closed: it has ended.
        with suppress(OSError):
            self._waker.send(b"\0", NO_SIGNAL)

    def _release(self) -> None:
        """Close every descriptor, telling nobody: epoll and connections may be shared by a fork."""
        for connection in self._connections.values():
            connection.socket.close()
        self._connections.clear()
        for owned in (self._listener, self._selector, self._waker, self._wakened):
            owned.close()

    def _run(self) -> None:
        try:
            while not self._closing:
                self._listen()
                events = self._selector.select(self._timeout())
                now = time.monotonic()  # what comes while a command is carried out isn't late
                for key, _events in events:
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.fileobj is self._wakened:
                        self._drain_wakes()
                    else:
                        self._go_on(self._connections[key.fd])
                self._end_late_ones(now)
                self._sweep(now)
        finally:
            self._release()
            self._sweep(math.inf)

    def _sweep(self, now: float) -> None:
        """Once, remove the sockets of processes that were killed."""
        if self._sweep_at is not None and now >= self._sweep_at:
            self._sweep_at = None
            address.sweep(self.path.parent)

    def _drain_wakes(self) -> None:
        with suppress(BlockingIOError):
            while self._wakened.recv(64):
                pass
        self._host.close_if_unused()

    def _listen(self) -> None:
        """Accept connections only while there is room for them; the backlog holds the others."""
        if time.monotonic() >= self._listen_again:
            self._listen_again = 0.0
        wanted = len(self._connections) < _CONNECTIONS and not self._listen_again
        if wanted and not self._listening:
            self._selector.register(self._listener, selectors.EVENT_READ)
        elif self._listening and not wanted:
            self._selector.unregister(self._listener)
        self._listening = wanted

    def _timeout(self) -> float | None:
        deadlines = [connection.deadline for connection in self._connections.values()]
        if self._listen_again:
            deadlines.append(self._listen_again)
        if self._sweep_at is not None:
            deadlines.append(self._sweep_at)
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # no descriptors left: they may come back
            self._listen_again = time.monotonic() + _PATIENCE
            _log.warning("the control socket %s can't accept connections: %s", self.path, error)
            return
        try:
            accepted.setblocking(False)
            peer = peer_of(accepted)
        except OSError:  # it has gone already, or the kernel doesn't know it
            accepted.close()
            return
        connection = _Connection(_fork.Socket.of(accepted), peer)
        self._connections[connection.socket.fileno()] = connection
        self._selector.register(connection.socket, selectors.EVENT_READ)
        if not peer.may_command:
            refusal = f"uid {peer.uid} may not command uid {os.geteuid()}"
            self._reply(connection, Reply(False, refusal))

    def _go_on(self, connection: _Connection) -> None:
        if connection.outgoing:
            self._send(connection)
        else:
            self._receive(connection)

    def _receive(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(MAX_LINE + 1 - len(connection.incoming))
        except BlockingIOError:
            return
        except OSError:  # reset: nobody is left to reply to
            data = b""
        connection.incoming += data
        line, newline, _rest = connection.incoming.partition(b"\n")
        if not newline and data and len(connection.incoming) <= MAX_LINE:
            return
        if newline:
            reply = self._host.execute(bytes(line), connection.peer)
        elif data:
            reply = Reply(False, f"a line may have {MAX_LINE} bytes")
        else:
            reply = Reply(False, "the connection ended before its line did")
        self._reply(connection, reply)

    def _reply(self, connection: _Connection, reply: Reply) -> None:
        """Begin to send the reply; all but a stack fits the empty socket buffer, and is gone."""
        connection.outgoing = memoryview(reply.encode())
        connection.deadline = time.monotonic() + _PATIENCE
        self._selector.modify(connection.socket, selectors.EVENT_WRITE)
        self._send(connection)

    def _send(self, connection: _Connection) -> None:
        """Send what the socket takes now, and end when that was all."""
        try:
            sent = connection.socket.send(connection.outgoing, NO_SIGNAL)
        except BlockingIOError:
            return
        except OSError:  # a client that doesn't wait for its reply misses nothing
            sent = len(connection.outgoing)
        connection.outgoing = connection.outgoing[sent:]
        if not connection.outgoing:
            self._forget(connection)

    def _end_late_ones(self, now: float) -> None:
        for connection in tuple(self._connections.values()):
            if connection.deadline > now:
                continue
            if connection.outgoing:  # it doesn't read
                self._forget(connection)
            else:
                late = Reply(False, f"no line came within {_PATIENCE:g} seconds")
                self._reply(connection, late)

    def _forget(self, connection: _Connection) -> None:
        self._selector.unregister(connection.socket)
        del self._connections[connection.socket.fileno()]
        connection.socket.close()


_host = _Host()
