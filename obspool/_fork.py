"""What a forked child must let go of: everything of ours that belongs to its parent.

A child of fork inherits descriptors and objects, but none of the threads behind them. Whoever owns
such things registers itself here; in the child its `after_fork_in_child` closes its descriptors and
marks it unusable.

Most children are workers, where each object that is touched costs a copy of its page, and all of
them together as much as the rest of a worker's start. So at once only that is done which others
would notice: the parent's sockets are closed, by number. The rest follows in `settle`, when code in
the child comes back to one of these objects, which few programs ever do.
"""

from __future__ import annotations

import os
import weakref
from threading import get_ident
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import socket


class ForkAware(Protocol):
    """Something that must be disarmed in a forked child."""

    def after_fork_in_child(self) -> None:
        """Close inherited descriptors without any word to the other side; never raise."""


_owners: weakref.WeakSet[ForkAware] = weakref.WeakSet()
_sockets: set[int] = set()
_forking: dict[int, tuple[int, ...]] = {}  # by thread
_kept: tuple[int, ...] = ()
_unsettled = False


def register(owner: ForkAware) -> None:
    """Have `owner.after_fork_in_child()` called in every forked child, while it is referenced."""
    settle()
    _owners.add(owner)


def unregister(owner: ForkAware) -> None:
    """Forget the owner: it has nothing left that a child could inherit."""
    _owners.discard(owner)


def own(*sockets: socket.socket) -> None:
    """Have these closed in every child; they must be closed by `close` here.

    Otherwise the child would close whatever has got their numbers.
    """
    settle()
    _sockets.update([end.fileno() for end in sockets])


def close(*sockets: socket.socket) -> None:
    """Close what is owned."""
    for end in sockets:
        _sockets.discard(end.fileno())
        end.close()


def keep(*descriptors: int) -> None:
    """Say which of our sockets the child that this thread forks next, a worker, is to keep."""
    if descriptors:
        _forking[get_ident()] = descriptors
    else:
        _forking.pop(get_ident(), None)


def settle() -> None:
    """In a child: do now what was put off when it was forked. Elsewhere there is nothing to do."""
    global _unsettled  # noqa: PLW0603 - a process has one parent
    if _unsettled:
        _unsettled = False
        _forking.clear()
        _sockets.intersection_update(_kept)
        for owner in list(_owners):
            owner.after_fork_in_child()
        _owners.clear()


def _after_fork_in_child() -> None:
    global _kept, _unsettled  # noqa: PLW0603
    _unsettled = True
    _kept = _forking.pop(get_ident(), ())
    try:
        _close_sockets()
    except OSError:  # no null device, or no descriptor left for it
        settle()


def _close_sockets() -> None:
    """Close all sockets but the worker's own, and leave nothing in their places.

    "Nothing" is the null device: the socket objects will still close their numbers, which must not
    have become somebody else's.
    """
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in _sockets:
        if descriptor not in _kept:
            os.dup2(null, descriptor, inheritable=False)
    os.close(null)


os.register_at_fork(after_in_child=_after_fork_in_child)
