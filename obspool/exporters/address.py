"""Where /metrics is to be served: what a program or the environment may write, and what it means.

    9400, "9400"          port 9400 of this machine only (127.0.0.1)
    "0.0.0.0:9400"        all IPv4 interfaces: readable by everybody who reaches the machine
    "[::1]:9400"          an IPv6 address, in brackets
    0, "127.0.0.1:0"      a free port, which the log line and `Exposure.url` name
    True                  the same as 0: it never fails because another process was first

The interface is named or it is the loopback: metrics tell the names of functions and pools.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TypeAlias

VARIABLE = "OBSPOOL_METRICS"
DEFAULT_HOST = "127.0.0.1"
HIGHEST_PORT = 65535

AddressLike: TypeAlias = int | str | bool

_OFF = frozenset({"", "0", "false", "no", "off"})
_ON = frozenset({"1", "true", "yes", "on"})

_FORMS = 'a port (9400), "HOST:PORT" ("0.0.0.0:9400", "[::1]:9400") or True for a free port'


@dataclass(frozen=True, slots=True)
class Address:
    """A host, by name or number, and a port; port 0 asks for a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def parse(cls, address: AddressLike) -> Address:
        """Read an address in one of the forms above.

        Raises:
            TypeError: it is neither a number nor a string.
            ValueError: it isn't an address; the message names it.
        """
        if isinstance(address, bool):
            if not address:
                raise ValueError(f"metrics address False: give {_FORMS}")
            return cls(DEFAULT_HOST, 0)
        if isinstance(address, int):
            return cls(DEFAULT_HOST, _port(address, address))
        if not isinstance(address, str):
            raise TypeError(
                f"metrics address must be int, str or bool, not {type(address).__name__}: "
                f"give {_FORMS}"
            )
        host, colon, port = address.strip().rpartition(":")
        if not colon:
            return cls(DEFAULT_HOST, _port(port, address))
        return cls(_host(host, address), _port(port, address))


def address_from_environment() -> str | None:
    """Return the address that OBSPOOL_METRICS asks for, or None when it is unset or says no.

    `1`, `true`, `yes` and `on` ask for a free port; `0`, `false`, `no` and `off` for no server.
    Anything else is handed on as it is: `Address.parse` judges it.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if text.lower() in _OFF:
        return None
    if text.lower() in _ON:
        return f"{DEFAULT_HOST}:0"
    return text


def _port(text: int | str, address: AddressLike) -> int:
    # Not int() alone, which takes "9_400", " 9400" and other scripts' digits.
    if isinstance(text, str) and not (text.isascii() and text.isdecimal()):
        raise ValueError(f"metrics address {address!r} has no port number: give {_FORMS}")
    try:
        port = int(text)
    except ValueError:  # more digits than the interpreter converts
        port = -1
    if not 0 <= port <= HIGHEST_PORT:
        raise ValueError(f"metrics address {address!r}: a port is 0 to {HIGHEST_PORT}")
    return port


def _host(text: str, address: AddressLike) -> str:
    if text.startswith("[") and text.endswith("]"):
        inside = text[1:-1]
        if ":" not in inside:
            raise ValueError(f"metrics address {address!r}: brackets are for IPv6 addresses")
        return inside
    if ":" in text or "/" in text or "@" in text:
        raise ValueError(f"metrics address {address!r}: give {_FORMS}")
    if not text or any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError(
            f"metrics address {address!r} names no interface: write 127.0.0.1 before the port for "
            "this machine only, or 0.0.0.0 for all interfaces"
        )
    return text
