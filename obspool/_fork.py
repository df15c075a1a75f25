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
import socket
import sys
import weakref
from threading import get_ident
from typing import Protocol


class ForkAware(Protocol):
    """Something that must be disarmed in a forked child."""

    def after_fork_in_child(self) -> None:
        """Close inherited descriptors without any word to the other side; never raise."""


_owners: weakref.WeakSet[ForkAware] = weakref.WeakSet()
_sockets: set[int] = set()
_forking: dict[int, tuple[int, ...]] = {}  # by thread
_kept: tuple[int, ...] = ()
_stdin: object = None
_unsettled = False

# How many forks there are between this process and the one in which this was imported.
forks = 0


def register(owner: ForkAware) -> None:
    """Have `owner.after_fork_in_child()` called in every forked child, while it is referenced."""
    settle()
    _owners.add(owner)


def unregister(owner: ForkAware) -> None:
    """Forget the owner: it has nothing left that a child could inherit."""
    _owners.discard(owner)


class Socket(socket.socket):
    """A socket that forked children don't keep, but for those named to `keep`."""

    def __init__(self, family: int, kind: int, fileno: int) -> None:
        """Take over a descriptor."""
        super().__init__(family, kind, 0, fileno)
        _sockets.add(fileno)

    @classmethod
    def of(cls, other: socket.socket) -> Socket:
        """Take over another socket, which has no descriptor afterwards."""
        family, kind, timeout = other.family, other.type, other.gettimeout()
        found = cls(family, kind, other.detach())
        found.settimeout(timeout)
        return found

    @classmethod
    def pair(cls, kind: int = socket.SOCK_STREAM) -> tuple[Socket, Socket]:
        """Make two that are connected."""
        one, other = socket.socketpair(socket.AF_UNIX, kind)
        return cls(socket.AF_UNIX, kind, one.detach()), cls(socket.AF_UNIX, kind, other.detach())

    def close(self) -> None:
        """Close it."""
        _sockets.discard(self.fileno())  # before the number can be somebody else's
        super().close()

    def __del__(self) -> None:
        """Close it, without a warning: nobody refers to it any more."""
        self.close()


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
        for owner in list(_owners):
            owner.after_fork_in_child()
        _owners.clear()


def _after_fork_in_child() -> None:
    global _kept, _stdin, _unsettled, forks  # noqa: PLW0603
    _unsettled = True
    forks += 1
    _kept = _forking.pop(get_ident(), ())
    if _kept:
        # A worker: multiprocessing would close the parent's input here, and wait for ever if one of
        # the parent's threads was reading it. So it is put aside, and never closed.
        sys.stdin, _stdin = None, sys.stdin
    _close_sockets()


def _close_sockets() -> None:
    """Close all sockets but the worker's own, and leave nothing in their places.

    "Nothing" is a descriptor of no use: the socket objects will still close their numbers, which
    must not have become somebody else's.
    """
    doomed = [descriptor for descriptor in _sockets if descriptor not in _kept]
    _sockets.intersection_update(_kept)
    if not doomed:
        return
    try:
        nothing = _nothing()
    except OSError:  # no descriptor is left: take one of these
        os.close(doomed[0])
        nothing = _nothing()
    for descriptor in doomed:
        if descriptor != nothing:
            os.dup2(nothing, descriptor, inheritable=False)
    if nothing not in doomed:
        os.close(nothing)


def _nothing() -> int:
    if hasattr(os, "eventfd"):  # which needs no file
        return os.eventfd(0, os.EFD_CLOEXEC)
    return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)


os.register_at_fork(after_in_child=_after_fork_in_child)
