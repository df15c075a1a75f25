"""The lock that a worker shares with its parent: a descriptor that holds one token.

A semaphore of multiprocessing costs 0.1 ms to make, and 0.4 ms in a process that has just forked,
which is much of a worker's start; and it needs a writable /dev/shm.
"""

from __future__ import annotations

import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_TOKEN = b"\1\0\0\0\0\0\0\0"  # an eventfd counts in 8 bytes


class ClaimLock:
    """A lock between a process and the children that it passes this to, by fork or by pickle.

    Not reentrant. It stays locked if its holder dies.
    """

    def __init__(self, descriptors: Sequence[int] | None = None) -> None:
        """Make an unlocked one: an eventfd, or a pipe where there is none.

        Args:
            descriptors: those of a lock that another process has passed; then it is that lock.

        Raises:
            OSError: no descriptor is left.
        """
        if descriptors is not None:
            self._read, self._write = descriptors[0], descriptors[-1]
        elif hasattr(os, "eventfd"):
            self._read = self._write = os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        else:
            self._read, self._write = os.pipe()
            os.set_blocking(self._read, False)
            self.release()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What to pass to another process: one descriptor, or two."""
        return (self._read,) if self._read == self._write else (self._read, self._write)

    def acquire(self, blocking: bool = True) -> bool:
        """Take the lock; return whether it could be had."""
        while True:
            try:
                os.read(self._read, 8)
            except BlockingIOError:
                if not blocking:
                    return False
                waiting = select.poll()
                waiting.register(self._read, select.POLLIN)
                waiting.poll()
            else:
                return True

    def release(self) -> None:
        """Give the lock back."""
        os.write(self._write, _TOKEN)

    def __enter__(self) -> None:
        """Take the lock."""
        self.acquire()

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self.release()

    def __getstate__(self) -> Any:
        """Pass the descriptors as spawn and forkserver do."""
        from multiprocessing.reduction import DupFd  # noqa: PLC0415 - not in a worker

        return tuple(map(DupFd, self.descriptors))

    def __setstate__(self, state: Any) -> None:
        """Take the descriptors."""
        self.__init__([end.detach() for end in state])  # type: ignore[misc]

    def __del__(self) -> None:
        """Close the descriptors."""
        for end in {getattr(self, "_read", -1), getattr(self, "_write", -1)} - {-1}:
            os.close(end)
