"""Telling a pool of another process what to do."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obspool.control import address
from obspool.control.peer import peer_of
from obspool.control.protocol import MAX_REPLY, Command, Reply, Request, parse_command
from obspool.errors import ControlError
from obspool.telemetry.processes import pid_namespace
from obspool.wire import NO_SIGNAL

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from obspool.telemetry.facts import PoolFacts

TIMEOUT = 5.0  # seconds from connecting to the reply


def send(
    facts: PoolFacts,
    command: Command | str,
    arguments: Mapping[str, Any] | None = None,
    *,
    timeout: float = TIMEOUT,
) -> str:
    """Have the pool accept the command; what it then does is told by its snapshots.

    Args:
        facts: which pool, of a snapshot.
        command: what to do.
        arguments: by name, as `Command.takes` has them.
        timeout: seconds to wait for the pool's process, in all.

    Returns:
        The text that was asked for: a worker's stack. Empty for other commands.

    Raises:
        ControlError: it did not accept; the message says what happened, and what to do.
    """
    request = Request(facts.name, parse_command(command), arguments or {})
    who = f"pool {facts.name!r} (pid {facts.pid})"
    if facts.control is None:
        raise ControlError(
            f"{who} has no control socket: it runs with OBSPOOL_CONTROL=0, or found no directory "
            f"for one; signal its process instead"
        )
    try:
        line = _ask(facts, request.encode(), timeout)
    except TimeoutError:
        raise ControlError(
            f"{who} did not answer within {timeout:g} s: its process is stopped or stuck, and may "
            f"still obey when it goes on; `kill -CONT {facts.pid}` wakes a stopped one"
        ) from None
    except OSError as error:
        raise ControlError(f"{who} can't be told `{command}`: {_reason(facts, error)}") from error
    reply = Reply.decode(line)
    if not reply.ok:
        raise ControlError(f"{who} did not obey `{command}`: {reply.error}")
    return reply.text


def _ask(facts: PoolFacts, line: bytes, timeout: float) -> bytes:
    """Exchange the line for the server's."""
    deadline = time.monotonic() + timeout
    with address.connect(Path(facts.control or ""), timeout) as connection:
        _check_server(facts, connection)
        connection.sendall(line, NO_SIGNAL)
        received = bytearray()
        while b"\n" not in received:
            connection.settimeout(_left(deadline))
            data = connection.recv(MAX_REPLY + 1 - len(received))
            received += data
            if not data or len(received) > MAX_REPLY:
                raise OSError(errno.EPROTO, "its answer was cut short or too long")
    return bytes(received)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _check_server(facts: PoolFacts, connection: socket.socket) -> None:
    """Be sure that it is the pool's own process that listens.

    A segment of another user, or one seen through another mount namespace, may name a path where
    something else listens here.
    """
    server = peer_of(connection)
    if server.uid != facts.uid:
        raise PermissionError(
            errno.EACCES, f"at {facts.control} uid {server.uid} listens, not uid {facts.uid}"
        )
    namespace = pid_namespace(server.pid)
    if namespace and facts.pid_namespace not in {0, namespace}:
        raise OSError(
            errno.EXDEV, f"at {facts.control} a process of another container or namespace listens"
        )
    if namespace == pid_namespace(os.getpid()) and server.pid != facts.pid:
        raise OSError(errno.ESRCH, f"at {facts.control} pid {server.pid} listens")


def _reason(facts: PoolFacts, error: OSError) -> str:
    """Say why there was no answer, and what to do."""
    if isinstance(error, PermissionError):
        return f"it belongs to uid {facts.uid}; ask as that user or as root ({_text(error)})"
    if isinstance(error, BlockingIOError):
        return "too many clients wait for its process already; it is stopped or stuck"
    here = pid_namespace(os.getpid())
    if facts.pid_namespace and here and facts.pid_namespace != here:
        return (
            f"it runs in another container or namespace, where its socket {facts.control} is; "
            f"run obspool there ({_text(error)})"
        )
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        if not _runs(facts.pid):
            return "its process is gone"
        return (
            f"nobody listens at {facts.control}; the pool has ended, the file was deleted, or "
            f"its directory is another one here"
        )
    return _text(error)


def _text(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
