"""What travels over a control socket: one JSON line each way, of at most 4 KiB.

    client                                                     server
      ── {"obspool": 1, "pool": "nightly", "command": "close", "arguments": {}} ──>
      <── {"obspool": 1, "ok": true, "error": ""} ──

A reply means that the pool has accepted the command, not that it has carried it out: how that goes
is told by its segment. Never pickle: whoever reads one runs what another process wrote.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from obspool.errors import ControlError

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1
MAX_LINE = 4096  # bytes, with the newline: what a server is willing to hold for a connection
_MAX_ERROR = 300  # characters: at twelve bytes each (two \uXXXX) the reply still fits its line


class Command(StrEnum):
    """What a pool can be asked to do: its method of that name."""

    CLOSE = "close"
    TERMINATE = "terminate"

    @property
    def loses_work(self) -> bool:
        """Whether work that was submitted may never be done: people are asked first."""
        return self is Command.TERMINATE


@dataclass(frozen=True, slots=True)
class Request:
    """A command for one pool of the process that is asked.

    Attributes:
        pool: the pool's name.
        arguments: by name, of JSON's types; no command takes any yet.
    """

    pool: str
    command: Command
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the request as a line.

        Raises:
            ControlError: it doesn't fit a line.
        """
        line = _line(
            {
                "obspool": VERSION,
                "pool": self.pool,
                "command": self.command.value,
                "arguments": dict(self.arguments),
            }
        )
        if len(line) > MAX_LINE:
            raise ControlError(
                f"the command {self.command} is {len(line)} bytes long, and {MAX_LINE} are the most"
            )
        return line

    @classmethod
    def decode(cls, line: bytes) -> Request:
        """Read a line that a client sent.

        Raises:
            ControlError: it isn't a request; the message says what is wrong with it.
        """
        message = _message(line)
        pool, word = message.get("pool"), message.get("command")
        arguments = message.get("arguments", {})
        if not isinstance(pool, str) or not isinstance(word, str):
            raise ControlError("a request needs `pool` and `command`, both strings")
        if not isinstance(arguments, dict):
            raise ControlError("a request's `arguments` must be an object")
        command = parse_command(word)
        if arguments:
            raise ControlError(f"the command {command} takes no arguments")
        return cls(pool, command, arguments)


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a request.

    Attributes:
        ok: the pool has accepted it.
        error: why it has not, for people.
    """

    ok: bool
    error: str = ""

    def encode(self) -> bytes:
        """Return the reply as a line; a long error is cut."""
        return _line({"obspool": VERSION, "ok": self.ok, "error": self.error[:_MAX_ERROR]})

    @classmethod
    def decode(cls, line: bytes) -> Reply:
        """Read a line that a server sent.

        Raises:
            ControlError: it isn't a reply.
        """
        message = _message(line)
        ok, error = message.get("ok"), message.get("error", "")
        if not isinstance(ok, bool) or not isinstance(error, str):
            raise ControlError("a reply needs `ok`, a boolean, and `error`, a string")
        return cls(ok, error)


def parse_command(word: str) -> Command:
    """Return the command of that name.

    Raises:
        ControlError: there is none; the message lists those there are.
    """
    try:
        return Command(word)
    except ValueError:
        known = ", ".join(Command)
        raise ControlError(f"no command {word[:40]!r} here; there are {known}") from None


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def _message(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise ControlError("not a line of JSON") from None
    if not isinstance(message, dict):
        raise ControlError("not a JSON object")
    if message.get("obspool") != VERSION:
        raise ControlError(
            f"this is version {VERSION} of the control protocol, and the message says "
            f"{str(message.get('obspool'))[:20]!r}"
        )
    return message
