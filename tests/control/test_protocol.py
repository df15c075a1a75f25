from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from obspool.control.protocol import MAX_LINE, MAX_REPLY, MAX_TEXT, Command, Reply, Request
from obspool.errors import ControlError


def test_a_request_arrives_as_it_was_sent() -> None:
    """It survives its line, with any name."""
    request = Request("naïve 🦆 \x1b[31m", Command.RESIZE, {"workers": 3})
    assert Request.decode(request.encode()) == request


def test_a_reply_always_fits_its_line() -> None:
    """A long error in characters that JSON escapes to twelve bytes each is cut, not refused."""
    line = Reply(False, "🦆" * 5000).encode()
    assert len(line) <= MAX_LINE
    assert Reply.decode(line).error.startswith("🦆")


@pytest.mark.parametrize("text", ["", "a stack\n", "x" * MAX_TEXT, "🦆" * (MAX_TEXT // 12)])
def test_a_text_that_fits_arrives_whole(text: str) -> None:
    """64 KiB of it, as it travels."""
    assert Reply.decode(Reply(True, text=text).encode()).text == text


@pytest.mark.parametrize("letter", ["x", "\n", "é", "🦆", "\ud800"])
def test_a_longer_text_is_cut_with_a_note(letter: str) -> None:
    """As much of its start as fits, and how long it was."""
    line = Reply(False, "🦆" * 5000, letter * 100_000).encode()
    assert MAX_TEXT < len(line) <= MAX_REPLY
    start, note, end = Reply.decode(line).text.rpartition("\n… cut here: ")
    assert note
    assert set(start) == {letter}
    assert "100,000 characters" in end


@given(st.booleans(), st.text(), st.text(), st.integers(1, 100_000))
@example(False, "🦆", "🦆x", 30_000)
def test_any_reply_can_be_sent(ok: bool, error: str, text: str, times: int) -> None:
    """Whatever an exception or a function's name holds."""
    text *= times if len(text) < 10 else 1
    line = Reply(ok, error, text).encode()
    assert len(line) <= MAX_REPLY
    reply = Reply.decode(line)
    assert reply.ok is ok
    assert error.startswith(reply.error)
    assert text.startswith(reply.text.rpartition("\n… cut here")[0])


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
        (request_with(arguments={"n": 3}), "takes no argument 'n'"),
        (request_with(command="explode"), "no command 'explode' here; .* close, terminate"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(line: bytes, complaint: str) -> None:
    """A message that isn't a request gives a ControlError that says why."""
    with pytest.raises(ControlError, match=complaint):
        Request.decode(line)


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 400",
        b'{"obspool":1}',
        b'{"obspool":1,"ok":"yes"}',
        b'{"obspool":1,"ok":true,"text":7}',
    ],
)
def test_what_is_no_reply_is_refused(line: bytes) -> None:
    """Something else listens at that path."""
    with pytest.raises(ControlError):
        Reply.decode(line)


def test_which_commands_lose_work() -> None:
    """People are asked before it is lost; close lets it be done, busy workers are waited for."""
    losing = {command for command in Command if command.loses_work}
    assert losing == {Command.CANCEL, Command.TERMINATE}
