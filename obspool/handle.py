"""What callers can do with a job by what they hold of it: see how far it is, and cancel it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from obspool.jobs import Job


class Progress(NamedTuple):
    """How far a call is.

    Attributes:
        done: items that have an outcome, whatever it is.
        total: all of them; None while an iterable without a length is read.
        failed: how many of those done raised, were lost, timed out, or were cancelled.
    """

    done: int
    total: int | None
    failed: int


class Handle:
    """The base of results and iterators."""

    _pool: Any
    _job: Job | None = None
    _counts: tuple[int, int | None, int] = (0, None, 0)

    def attach(self, job: Job | None) -> None:
        """Take the job, before anybody else has this."""
        self._job = job

    def attached(self) -> Job | None:
        """Return the job; None when it is over."""
        return self._job

    def _detach(self) -> None:
        """Let go of the job, which is over."""
        job = self._job
        if job is not None:
            if not job.shared:
                self._counts = job.counts()
            self._job = None

    def progress(self) -> Progress:
        """Return how far the call is; costs the pool nothing. At most a round of it old."""
        job = self._job
        return Progress(*(self._counts if job is None else job.counts()))

    def cancel(self, *, running: bool = False) -> bool:
        """Have what has not begun of this call never begin; returns at once, from anywhere.

        What runs goes on, and the result is there when it has ended: then `get` raises
        CancelledError if anything was left out, and the value if all was done in time.

        Args:
            running: interrupt what runs, too: a SoftCancelError (no `Exception`) is raised in it,
                in its worker, and what has not ended two seconds later is ended with its worker,
                which is replaced. Other calls' items run on.

        Returns:
            Whether it was asked for in time: False when the call had ended.

        Raises:
            ValueError: `running` in a ThreadPool: a thread can't be interrupted.
        """
        job, pool = self._job, self._pool
        if job is None or pool is None:
            return False
        pool._live().cancel(job, self, running=running)  # noqa: SLF001 - the pool's own object
        return True
