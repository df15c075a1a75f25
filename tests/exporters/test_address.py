"""Which addresses are taken, and what is said of the others."""

from __future__ import annotations

from typing import Any

import pytest

from obspool.exporters.address import Address, address_from_environment


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (9400, Address("127.0.0.1", 9400)),
        ("9400", Address("127.0.0.1", 9400)),
        (" 9400 ", Address("127.0.0.1", 9400)),
        (0, Address("127.0.0.1", 0)),
        (True, Address("127.0.0.1", 0)),
        ("0.0.0.0:9400", Address("0.0.0.0", 9400)),  # noqa: S104
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:0", Address("::1", 0)),
        ("[fe80::1%eth0]:65535", Address("fe80::1%eth0", 65535)),
    ],
)
def test_an_address_is_read(written: Any, meant: Address) -> None:
    """Ports alone are on the loopback; True asks for a free one."""
    assert Address.parse(written) == meant


@pytest.mark.parametrize(
    "written",
    [
        *(False, -1, 65536, 10**30, "", "x", "-1", "65536", "9" * 5000, "9_400", "٩٤٠٠"),
        *(":9400", "host:", "host:x", "host:65536", "::1:9400", "[::1]", "[::1]:", "[x]:1"),
        *("http://localhost:9400", "http://localhost:9400/metrics", "user@host:1", "a b:1", "\0:1"),
    ],
)
def test_what_is_no_address_is_named(written: Any) -> None:
    """A ValueError names what was given, also when that is nonsense."""
    with pytest.raises(ValueError, match="metrics address") as caught:
        Address.parse(written)
    assert repr(written) in str(caught.value)


@pytest.mark.parametrize("written", [None, 9400.0, b"9400", ("127.0.0.1", 9400)])
def test_a_wrong_type_is_a_type_error(written: Any) -> None:
    """Anything but a number or a string is refused by its type."""
    with pytest.raises(TypeError, match=type(written).__name__):
        Address.parse(written)


@pytest.mark.parametrize("text", ["127.0.0.1:9400", "[::1]:80", "host:0"])
def test_an_address_is_written_as_it_is_read(text: str) -> None:
    """str() gives a form that parse() takes."""
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        *((None, None), ("", None), ("0", None), ("False", None), ("no", None), (" off ", None)),
        *(("1", "127.0.0.1:0"), ("true", "127.0.0.1:0"), ("YES", "127.0.0.1:0")),
        *(("9400", "9400"), (" 0.0.0.0:9400", "0.0.0.0:9400"), ("nonsense", "nonsense")),
    ],
)
def test_the_environment_may_ask(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, address: str | None
) -> None:
    """OBSPOOL_METRICS says yes, no, or where."""
    if variable is None:
        monkeypatch.delenv("OBSPOOL_METRICS", raising=False)
    else:
        monkeypatch.setenv("OBSPOOL_METRICS", variable)
    assert address_from_environment() == address
