"""From an address as it was written to a bound socket, or to an error that says what to do."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from obspool.errors import MetricsServerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from obspool.exporters.address import Address

SocketAddress: TypeAlias = tuple[object, ...]

_ADVICE = {
    errno.EADDRINUSE: "another socket has this port: stop its owner, or give another port (0 takes "
    "a free one)",
    errno.EACCES: "this port needs rights that the process doesn't have: give one above 1023",
    errno.EADDRNOTAVAIL: "this machine has no such address: give one of its own, or 0.0.0.0",
}
_OTHER_ADVICE = "give another address"

# After these, a name's next address may work: `localhost` is ::1 first, also without IPv6.
_TRY_NEXT = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound to


@dataclass(frozen=True, slots=True)
class Place:
    """What the resolver made of an address: equal places are one server."""

    family: socket.AddressFamily
    address: SocketAddress


def resolve(address: Address) -> list[Place]:
    """Look the host up.

    Raises:
        MetricsServerError: it isn't known.
        ValueError: it can't be a host's name.
    """
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except UnicodeError as error:
        raise ValueError(f"metrics address {str(address)!r} names no host: {error}") from error
    except OSError as error:
        raise failure(address, error) from error
    return [Place(family, sockaddr) for family, _, _, _, sockaddr in found]


def bind(places: Sequence[Place]) -> tuple[Place, socket.socket]:
    """Bind a socket at the first place that this machine has.

    Raises:
        OSError: as the system said for the last place that was tried.
    """
    for place in places[:-1]:
        try:
            return place, _bind(place)
        except OSError as error:
            if error.errno not in _TRY_NEXT:
                raise
    return places[-1], _bind(places[-1])


def _bind(place: Place) -> socket.socket:
    sock = socket.socket(place.family, socket.SOCK_STREAM)
    try:
        # A server that ended leaves connections in TIME_WAIT, which would hold the port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(place.address)
    except BaseException:
        sock.close()
        raise
    return sock


def url_of(sock: socket.socket) -> str:
    """Return the URL by which this machine reaches a bound socket."""
    host, port, *_ = sock.getsockname()
    host = _LOOPBACK.get(host, host)
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}/metrics"


def failure(address: Address, error: OSError) -> MetricsServerError:
    """Return the error for an address which the system refused, with the system's errno."""
    number = error.errno or 0
    # The resolver has its own numbers, below 0, and its own texts.
    reason = os.strerror(number) if number > 0 else error.strerror or str(error)
    advice = _ADVICE.get(number, _OTHER_ADVICE)
    return MetricsServerError(number, f"metrics can't be served at {address}: {reason}; {advice}")
