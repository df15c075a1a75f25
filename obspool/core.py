"""What callers do with a pool behind its public face, in whatever thread they are.

    Pool ── calls ──> Core ── inbox ──> Loop, the scheduler's thread ──> engine ──> workers

Whoever calls only appends to the inbox and wakes: that may be a signal handler or a `__del__`.
"""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from obspool import _fork
from obspool.control.protocol import Command
from obspool.errors import (
    CancelledError,
    ControlError,
    ForkedPoolError,
    PoolBrokenError,
    StackUnavailableError,
)
from obspool.feeder import Feeder, Unsendable
from obspool.single_calls import SingleCalls
from obspool.waiting import Flag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from obspool.control.peer import Peer
    from obspool.control.protocol import Request
    from obspool.handle import Handle
    from obspool.jobs import Job
    from obspool.loop import Loop
    from obspool.telemetry.snapshot import Snapshot

# How long `stats` waits for the latest counts (seconds); after that it takes those that are there.
STATS_PATIENCE = 0.5


class Core:
    """A pool's engine room, as callers see it.

    Attributes:
        max_tasks: after how many tasks workers are replaced, None: never.
        metrics_url: where this process serves /metrics for the pool, None where it doesn't.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.engine = loop.engine
        self.segment = loop.segment
        self.supervisor = loop.supervisor
        self.calls = loop.calls
        self.decoder = loop.decoder
        self.ended = loop.ended
        self.singles = SingleCalls(loop)
        self.pid = os.getpid()
        self.max_tasks = loop.supervisor.max_tasks
        self.metrics_url: str | None = None

    def open(self) -> None:
        """Start everything; return when the workers exist.

        Raises:
            Exception: what kept the first workers from being started at all.
        """
        loop = self._loop
        loop.thread.start()
        loop.opened.wait()
        if loop.error is not None:
            loop.ended.wait()
            raise loop.error

    @property
    def workers(self) -> int:
        """How many there are to be."""
        return self.supervisor.wanted

    @property
    def closing(self) -> bool:
        """Whether somebody has closed it, or terminated it."""
        return self._loop.close_asked

    @property
    def terminating(self) -> bool:
        """Whether somebody has terminated it."""
        return self._loop.terminate_asked

    @property
    def name(self) -> str:
        """The pool's name; whoever asks waits until it is final."""
        _fork.settle()
        announcement = self._loop.announcement
        if not announcement.is_made() and not self._is_own_thread():
            self.post(announcement.make)
            announcement.wait()
        return self.segment.facts.name

    def _is_own_thread(self) -> bool:
        return threading.current_thread() is self._loop.thread

    def post(self, action: Callable[..., None], *arguments: Any) -> None:
        """Have the scheduler's thread call `action`."""
        self._loop.post(action, *arguments)

    # -- jobs

    def run(self, job: Job, items: Iterable[Any], *, call: int, copy: bool, here: bool) -> None:
        """Have a job run, and feed it: in this thread, or in one of its own.

        Args:
            job: new.
            items: of the caller; its code runs only where it is fed.
            call: number of the call that it is from.
            copy: whether the caller may change large objects before they are sent.
            here: feed it before this returns.
        """
        self.singles.stream = None  # what comes after this job comes in another stream
        feeder = Feeder(job, items, self.engine)
        job.caller = call
        self.post(self._loop.submit, job)
        try:
            if here:
                feeder.run(copy=copy)
            else:
                name = f"obspool-feeder-{self.segment.facts.name}"
                feed = partial(self.calls.feed, feeder.run_in_thread)
                job.feeder = threading.Thread(target=feed, name=name, daemon=True)
                job.feeder.start()
        except BaseException as error:  # interrupted, or no thread is to be had
            self.post(self._loop.cancel, job, error, False)
            raise

    def fail(self, job: Job, error: BaseException) -> None:
        """Have a job end with an error: it can't be sent at all."""
        self.singles.stream = None
        job.feed_one(Unsendable(error))
        job.flawed = True
        self.post(self._loop.submit, job)

    def cancel(self, job: Job, handle: Handle | None = None, *, running: bool) -> None:
        """Have what has not begun of a job never begin, and what runs be interrupted if `running`.

        `handle`: of the call that is meant, where several share the job.

        Raises:
            ValueError: what runs can't be interrupted here.
        """
        if running and not self.engine.killable:
            raise ValueError("running=True needs processes: a thread can't be interrupted or ended")
        self.post(self._loop.cancel, job, CancelledError("the call was cancelled"), running, handle)

    def check(self) -> None:
        """See that the pool can take work.

        Raises:
            ForkedPoolError: this is a forked child of the pool's process.
            PoolBrokenError: it can't run anything any more.
        """
        _fork.settle()
        if self.pid != os.getpid():
            raise ForkedPoolError(
                f"this pool belongs to process {self.pid}; a forked child (this is {os.getpid()}) "
                "can't use it: make a pool of its own there"
            )
        if self.supervisor.broken is not None:
            broken = self.supervisor.broken
            raise PoolBrokenError(*broken.args) from broken.__cause__

    # -- steering

    def close(self, by: str = "the program") -> None:
        """Take no more work; end when all is done."""
        self._loop.close_asked = True
        self.singles.stream = None
        self.post(self._loop.close, by)

    def terminate(self, by: str = "the program") -> None:
        """End now."""
        self._loop.close_asked = self._loop.terminate_asked = True
        self.singles.stream = None
        self.post(self._loop.terminate, by)

    def pause(self, by: str = "the program") -> None:
        """Begin nothing more until `resume`."""
        self.post(self._loop.pause, by)

    def resume(self, by: str = "the program") -> None:
        """Go on after a pause."""
        self.post(self._loop.resume, by)

    def resize(self, workers: int, by: str = "the program") -> None:
        """Have more workers, or fewer.

        Raises:
            ValueError: so many can't be.
            OSError: there is no room for their telemetry.
        """
        self.segment.grow(workers)
        self.supervisor.wanted = workers  # until the scheduler's thread says so, too
        self.post(self._loop.resize, workers, by)

    def recycle(self, slot: int | None, by: str = "the program") -> None:
        """Have a slot's worker replaced, or all.

        Raises:
            ValueError: there is no such slot.
        """
        if slot is not None and not 0 <= slot < self.workers:
            raise ValueError(f"slot must be from 0 to {self.workers - 1}, not {slot!r}")
        self.post(self._loop.recycle, slot, by)

    def set_max_tasks(self, limit: int | None, by: str = "the program") -> None:
        """Change after how many tasks workers are replaced."""
        self.max_tasks = limit
        self.post(self._loop.set_max_tasks, limit, by)

    def cancel_job(self, number: int, *, running: bool, by: str = "the program") -> None:
        """Cancel a job by its id.

        Raises:
            ValueError: there is none that has not ended, or what runs can't be interrupted here.
        """
        job = self._loop.job(number)
        if job is None:
            raise ValueError(f"pool {self.name} has no job {number} that has not ended")
        self.cancel(job, running=running)
        self.post(self._loop.note, f"cancel job {number} by {by}")

    def command(self, request: Request, by: Peer) -> str:
        """Do what came over the control socket; return the text that was asked for.

        Raises:
            ControlError: the pool has ended, or can't do it.
        """
        if self.ended.is_set():
            raise ControlError(f"pool {self.name} has ended")
        try:
            return self._obey(request.command, request.arguments, f"uid {by.uid}, pid {by.pid}")
        except (ValueError, OSError, StackUnavailableError) as error:
            raise ControlError(f"pool {self.name}: {error}") from error

    def _obey(self, command: Command, asked: Mapping[str, Any], who: str) -> str:
        match command:
            case Command.PAUSE:
                self.pause(who)
            case Command.RESUME:
                self.resume(who)
            case Command.RESIZE:
                self.resize(asked["workers"], who)
            case Command.RECYCLE:
                self.recycle(asked["slot"], who)
            case Command.SET:
                self.set_max_tasks(asked["maxtasksperchild"], who)
            case Command.CANCEL:
                self.cancel_job(asked["job"], running=asked["running"], by=who)
            case Command.STACK:
                return self.stack(asked["slot"])
            case Command.CLOSE:
                self.close(who)
            case Command.TERMINATE:
                self.terminate(who)
        return ""

    # -- seeing

    def stats(self) -> Snapshot:
        """Read the segment, once it is up to date.

        Raises:
            ForkedPoolError: this is a forked child of the pool's process.
        """
        if self.pid != os.getpid():
            raise ForkedPoolError(f"this pool belongs to process {self.pid}")
        if not self.ended.is_set() and not self._is_own_thread():
            synced = Flag()
            self.post(self._loop.announcement.make)
            self.post(self._loop.synced.append, synced)
            synced.wait(STATS_PATIENCE)
        from obspool.telemetry.reader import read  # noqa: PLC0415 - 15 ms that most programs save

        return read(self.segment)

    def stack(self, slot: int) -> str:
        """Return the Python stack of a slot's worker; waits for no thread of the pool.

        Raises:
            ForkedPoolError: this is a forked child of the pool's process.
            ValueError: there is no such slot.
            StackUnavailableError: it can't be had (now); the message says why.
        """
        if self.pid != os.getpid():
            raise ForkedPoolError(f"this pool belongs to process {self.pid}")
        slots = self.supervisor.slots
        size = max(self.workers, len(slots))  # some may only end what they run, after a resize
        if not 0 <= slot < size:
            raise ValueError(f"slot must be from 0 to {size - 1}, not {slot!r}")
        if self.ended.is_set():
            raise StackUnavailableError(f"no stack: pool {self.segment.facts.name} has ended")
        worker = slots[slot].current or slots[slot].leaving if slot < len(slots) else None
        if worker is None:
            raise StackUnavailableError(f"no stack: slot {slot} has no worker now; try again")
        return self.engine.stack(worker.id)

    def join(self) -> None:
        """Wait for the end of the workers and of the callbacks.

        Raises:
            RuntimeError: this thread is in the middle of a call on the pool, which has to end first
                (this is a signal handler that interrupted it, or code that it runs).
        """
        _fork.settle()
        if not (self.terminating or self.ended.is_set()) and self.calls.is_in_one():
            raise RuntimeError(
                "join() would wait for itself: it was called within a call on the same pool, by a "
                "signal handler or by code that the call runs; join later, or terminate"
            )
        self.ended.wait()
        self._loop.callbacks.join()
