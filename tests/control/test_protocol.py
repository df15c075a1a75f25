from __future__ import annotations

import json

import pytest

from obspool.control.protocol import MAX_LINE, Command, Reply, Request
from obspool.errors import ControlError


@pytest.mark.parametrize("command", Command)
def test_a_request_arrives_as_it_was_sent(command: Command) -> None:
    """Every command survives its line, with any name."""
    request = Request("naïve 🦆 \x1b[31m", command)
    assert Request.decode(request.encode()) == request


def test_a_reply_always_fits_its_line() -> None:
    """A long error in characters that JSON escapes to twelve bytes each is cut, not refused."""
    line = Reply(False, "🦆" * 5000).encode()
    assert len(line) <= MAX_LINE
    assert Reply.decode(line).error.startswith("🦆")


def test_a_request_that_does_not_fit_is_refused_before_it_is_sent() -> None:
    """The sender learns it, instead of being cut off by the server."""
    with pytest.raises(ControlError, match="4096"):
        Request("x" * MAX_LINE, Command.CLOSE).encode()


def request_with(**changes: object) -> bytes:
    message = {"obspool": 1, "pool": "p", "command": "close", "arguments": {}}
    return json.dumps(message | changes).encode()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"", "not a line of JSON"),
        (b"\xff\xfe\x00", "not a line of JSON"),
        (b"[" * 4000, "not a line of JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "version 1"),
        (request_with(obspool=2), "version 1 .* '2'"),
        (request_with(pool=7), "`pool` and `command`"),
        (request_with(command=None), "`pool` and `command`"),
        (request_with(arguments=[]), "must be an object"),
        (request_with(arguments={"n": 3}), "takes no arguments"),
        (request_with(command="resize"), "no command 'resize' here; there are close, terminate"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(line: bytes, complaint: str) -> None:
    """A message that isn't a request gives a ControlError that says why."""
    with pytest.raises(ControlError, match=complaint):
        Request.decode(line)


@pytest.mark.parametrize("line", [b"HTTP/1.1 400", b'{"obspool":1}', b'{"obspool":1,"ok":"yes"}'])
def test_what_is_no_reply_is_refused(line: bytes) -> None:
    """Something else listens at that path."""
    with pytest.raises(ControlError):
        Reply.decode(line)


def test_only_terminate_loses_work() -> None:
    """People are asked before work is lost; close lets it be done."""
    assert [command for command in Command if command.loses_work] == [Command.TERMINATE]
