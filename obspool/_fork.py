"""What a forked child must let go of: everything of ours that belongs to its parent.

A child of fork inherits descriptors and objects, but none of the threads behind them. Whoever owns
such things registers itself here; in the child its `after_fork_in_child` closes its descriptors and
marks it unusable. Workers are forked children too: so a worker never keeps another's channel open.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """Something that must be disarmed in a forked child."""

    def after_fork_in_child(self) -> None:
        """Close inherited descriptors without any word to the other side; never raise."""


_owners: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def register(owner: ForkAware) -> None:
    """Have `owner.after_fork_in_child()` called in every forked child, while it is referenced."""
    _owners.add(owner)


def unregister(owner: ForkAware) -> None:
    """Forget the owner: it has nothing left that a child could inherit."""
    _owners.discard(owner)


_thread = threading.local()


def keep(*ends: object) -> None:
    """Say what the child that this thread forks next is to keep: the worker's own descriptors."""
    _thread.kept = ends


def kept() -> tuple[object, ...]:
    """In the child: what the thread that forked said, which is this process's only one."""
    return getattr(_thread, "kept", ())


def _disarm() -> None:
    for owner in list(_owners):
        owner.after_fork_in_child()
    _owners.clear()


os.register_at_fork(after_in_child=_disarm)
