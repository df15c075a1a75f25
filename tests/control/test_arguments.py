"""The arguments of commands: what is taken, what is refused, and in which words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from obspool.control.protocol import Command, Request
from obspool.errors import ControlError

RIGHT: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("pause", {}, {}),
    ("resume", {}, {}),
    ("resize", {"workers": 1}, {"workers": 1}),
    ("recycle", {}, {"slot": None}),
    ("recycle", {"slot": None}, {"slot": None}),
    ("recycle", {"slot": 0}, {"slot": 0}),
    ("stack", {"slot": 7}, {"slot": 7}),
    ("cancel", {"job": 12}, {"job": 12, "running": False}),
    ("cancel", {"job": 12, "running": True}, {"job": 12, "running": True}),
    ("set", {"maxtasksperchild": 100}, {"maxtasksperchild": 100}),
    ("set", {"maxtasksperchild": None}, {"maxtasksperchild": None}),
    ("close", {}, {}),
    ("terminate", {}, {}),
]
WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("close", {"n": 3}, "the command close takes no argument 'n'; it takes none"),
    ("cancel", {"task": 3}, "the command cancel takes no argument 'task'; it takes job, running"),
    ("pause", {"x" * 1000: 3}, f"the command pause takes no argument '{'x' * 60}'; it takes none"),
    ("resize", {}, "the command resize needs `workers`, a whole number of at least 1"),
    ("stack", {}, "the command stack needs `slot`, a whole number of at least 0"),
    ("set", {}, "the command set needs `maxtasksperchild`, a whole number of at least 1, or null"),
    ("resize", {"workers": 0}, "`workers` of the command resize must be a whole .* 1, not 0"),
    ("resize", {"workers": 2**63}, "`workers` .* not 9223372036854775808"),
    ("resize", {"workers": True}, "`workers` of the command resize must be a .*, not True"),
    ("resize", {"workers": 4.0}, "`workers` .* not 4.0"),
    ("resize", {"workers": "4"}, "`workers` .* not '4'"),
    ("resize", {"workers": None}, "`workers` .* not None"),
    ("recycle", {"slot": -1}, "`slot` .* of at least 0, or null for all workers, not -1"),
    ("stack", {"slot": None}, "`slot` of the command stack must be .* 0, not None"),
    ("cancel", {"job": 0}, "`job` of the command cancel .* at least 1, not 0"),
    ("cancel", {"job": 1, "running": 1}, "`running` of the command cancel .* true or false, not 1"),
    ("set", {"maxtasksperchild": 0}, "`maxtasksperchild` .* or null for no limit, not 0"),
]

COMMANDS = st.sampled_from(Command)
NAMES = st.sampled_from([name for command in Command for name in command.takes]) | st.text()
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def line(command: str, arguments: object) -> bytes:
    message = {"obspool": 1, "pool": "p", "command": command, "arguments": arguments}
    return json.dumps(message).encode()


@pytest.mark.parametrize(("command", "given", "taken"), RIGHT)
def test_arguments_arrive_complete(
    command: str, given: dict[str, Any], taken: dict[str, Any]
) -> None:
    """What was left out has its default, so the pool looks up every one."""
    request = Request.decode(line(command, given))
    assert request.arguments == taken
    assert Request.decode(request.encode()) == request


def test_every_command_has_an_example() -> None:
    """A new one is added above."""
    assert {command for command, *_ in RIGHT} == set(Command)


@pytest.mark.parametrize(("command", "arguments", "complaint"), WRONG)
def test_what_is_wrong_is_named(command: str, arguments: dict[str, Any], complaint: str) -> None:
    """The command, the argument, what it should be, and what it was; in both processes."""
    with pytest.raises(ControlError, match=complaint):
        Request.decode(line(command, arguments))
    with pytest.raises(ControlError, match=complaint):
        Request("p", Command(command), arguments)


@given(COMMANDS, st.dictionaries(NAMES, VALUES, max_size=3))
@example(Command.RESIZE, {"workers": 2**63})
def test_any_arguments_are_right_or_refused(command: Command, arguments: dict[str, Any]) -> None:
    """Nothing else is raised, and what is taken has exactly the types and ranges of the table."""
    try:
        request = Request.decode(line(command, arguments))
    except ControlError:
        return
    assert set(request.arguments) == set(command.takes)
    for name, value in request.arguments.items():
        assert value == arguments.get(name, value)
        assert value is None or type(value) is command.takes[name].type
        assert value is None or 0 <= value < 2**63
    assert Request.decode(request.encode()) == request


@given(COMMANDS, VALUES)
@example(Command.RESIZE, float("nan"))
def test_any_value_in_the_place_of_the_arguments(command: Command, arguments: Any) -> None:
    """Only an object is looked into."""
    if isinstance(arguments, dict):
        return
    with pytest.raises(ControlError, match="must be an object"):
        Request.decode(line(command, arguments))


@given(st.binary())
@example(line("resize", {"workers": 1})[:-2] + b',"workers":' + b"9" * 5000 + b"}}")
@example(b'{"obspool":1,"pool":"p","command":"stack","arguments":{"slot":' + b"[" * 1900)
@example(b'{"obspool":1,"pool":"p","command":"stack","arguments":{"slot":%b}}' % (b"[]" * 9))
@example(
    b'{"obspool":1,"pool":"p","command":"stack","arguments":{"slot":%b%b}}'
    % (b"[" * 1900, b"]" * 1900)
)
def test_any_bytes_are_refused(octets: bytes) -> None:
    """With a ControlError, however deep or long they are."""
    with pytest.raises(ControlError):
        Request.decode(octets)
