"""Pools as far as the control server can tell: a name, and commands that are written down."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING

from obspool.control.protocol import Command, Reply, Request
from obspool.telemetry.facts import PoolFacts

if TYPE_CHECKING:
    from obspool.control.peer import Peer


CLOSE = Request("nightly", Command.CLOSE).encode()


class RecordingTarget:
    """Remembers what it was told and by whom; raises, or returns, what it is given."""

    def __init__(
        self, name: str = "nightly", error: Exception | None = None, text: str = ""
    ) -> None:
        self.name = name
        self.error = error
        self.text = text
        self.requests: list[tuple[Request, Peer]] = []

    @property
    def commands(self) -> list[Command]:
        return [request.command for request, _ in self.requests]

    def command(self, request: Request, by: Peer) -> str:
        self.requests.append((request, by))
        if self.error is not None:
            raise self.error
        return self.text


def facts_of(
    control: str | None,
    *,
    pid: int,
    uid: int = os.getuid(),
    name: str = "nightly",
    pid_namespace: int = 0,
) -> PoolFacts:
    return PoolFacts(
        name=name,
        pid=pid,
        uid=uid,
        start_time=0.0,
        engine="processes",
        start_method="fork",
        version="0",
        python="3",
        program="program",
        pid_namespace=pid_namespace,
        control=control,
    )


def dial(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10.0)
    connection.connect(path)
    return connection


def answer(connection: socket.socket) -> Reply:
    """Read the server's line."""
    received = b""
    while not received.endswith(b"\n"):
        data = connection.recv(65536)
        assert data, f"cut short: {received!r}"
        received += data
    return Reply.decode(received)


def ask(path: str, line: bytes) -> Reply:
    with dial(path) as connection:
        connection.sendall(line)
        return answer(connection)


def server_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "obspool-control"]
