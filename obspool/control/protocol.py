"""What travels over a control socket: one JSON line each way.

    client                                                     server
      ── {"obspool": 1, "pool": "nightly", "command": "resize", "arguments": {"workers": 8}} ──>
      <── {"obspool": 1, "ok": true, "error": "", "text": ""} ──

A request has at most 4 KiB. So has a reply, but for its text: a stack may have 64 KiB.

A reply means that the pool has accepted the command, not that it has carried it out: how that goes
is told by its segment. Never pickle: whoever reads one runs what another process wrote.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from obspool.control.arguments import Argument, check
from obspool.errors import ControlError

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1
MAX_LINE = 4096  # bytes, with the newline: what a server is willing to hold for a connection
MAX_TEXT = 65_536  # bytes of a reply's text, as it travels
MAX_REPLY = MAX_LINE + MAX_TEXT  # bytes, with the newline: what a client is willing to hold
_MAX_ERROR = 300  # characters: at twelve bytes each (two \uXXXX) the reply still fits its line


class Command(StrEnum):
    """What a pool can be asked to do: its method of that name."""

    PAUSE = "pause"
    RESUME = "resume"
    RESIZE = "resize"
    RECYCLE = "recycle"
    SET = "set"
    STACK = "stack"
    CANCEL = "cancel"
    CLOSE = "close"
    TERMINATE = "terminate"

    @property
    def takes(self) -> Mapping[str, Argument]:
        """The arguments it takes, by name."""
        return _ARGUMENTS.get(self, {})

    @property
    def loses_work(self) -> bool:
        """Whether work that was submitted may never be done: people are asked first."""
        return self in {Command.CANCEL, Command.TERMINATE}


_ARGUMENTS = {
    Command.RESIZE: {"workers": Argument(int, least=1)},
    Command.RECYCLE: {"slot": Argument(int, null="all workers", default=None)},
    Command.SET: {"maxtasksperchild": Argument(int, least=1, null="no limit")},
    Command.STACK: {"slot": Argument(int)},
    Command.CANCEL: {"job": Argument(int, least=1), "running": Argument(bool, default=False)},
}


@dataclass(frozen=True, slots=True)
class Request:
    """A command for one pool of the process that is asked; one that exists is right in itself.

    Attributes:
        pool: the pool's name.
        arguments: all that the command takes, by name; what is left out gets its default.

    Raises:
        ControlError: the command doesn't take these arguments; the message names the wrong one.
    """

    pool: str
    command: Command
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked = check(self.command, self.command.takes, self.arguments)
        object.__setattr__(self, "arguments", checked)

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
        return cls(pool, parse_command(word), arguments)


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a request.

    Attributes:
        ok: the pool has accepted it.
        error: why it has not, for people.
        text: what was asked for; empty but for a stack.
    """

    ok: bool
    error: str = ""
    text: str = ""

    def encode(self) -> bytes:
        """Return the reply as a line; what is too long of it is cut."""
        return _line(
            {
                "obspool": VERSION,
                "ok": self.ok,
                "error": self.error[:_MAX_ERROR],
                "text": _cut(self.text),
            }
        )

    @classmethod
    def decode(cls, line: bytes) -> Reply:
        """Read a line that a server sent.

        Raises:
            ControlError: it isn't a reply.
        """
        message = _message(line)
        ok, error, text = message.get("ok"), message.get("error", ""), message.get("text", "")
        if not isinstance(ok, bool) or not isinstance(error, str) or not isinstance(text, str):
            raise ControlError("a reply needs `ok`, a boolean, and strings: `error` and `text`")
        return cls(ok, error, text)


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


def _cut(text: str) -> str:
    """Return the text if it fits, else as much of its start as does, with a note."""
    start = text[:MAX_TEXT]  # a character takes a byte at least
    if start == text and _length(text) <= MAX_TEXT:
        return text
    note = f"\n… cut here: this is the start of {len(text):,} characters\n"
    room = MAX_TEXT - _length(note)
    too_long = bisect_right(range(len(start)), room, key=lambda end: _length(start[:end]))
    return start[: too_long - 1] + note


def _length(text: str) -> int:
    """Return how many bytes the text takes within a line."""
    return len(json.dumps(text)) - len('""')


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
