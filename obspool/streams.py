"""Calls of `apply` and `apply_async` that share a job: of one function, on the same terms.

    caller ── append ──> pending ── taken, numbered ──> waiting ── outcome ──> told

A job of its own for each call would cost more than the call does. One append is all that a caller
does: so any number of threads may, and an interrupt leaves nothing half done. Whoever finds
afterwards that the stream has ended meanwhile hands it in again.
"""

from __future__ import annotations

from itertools import count, repeat, starmap
from typing import TYPE_CHECKING, Any

from obspool.jobs import Job
from obspool.results import asked, submissions, tell_all
from obspool.words import JobKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from obspool.callbacks import Callbacks
    from obspool.functions import Function
    from obspool.results import AsyncResult


class _Nobody:
    """Takes nothing: each call of a stream has a result of its own."""

    def receive(self, first: int, count: int, kind: int, payloads: list[Any]) -> None:
        """Do nothing."""

    def tell(self) -> None:
        """Do nothing."""

    def finish(self, callbacks: Callbacks) -> None:
        """Do nothing."""


_NOBODY = _Nobody()


class Stream(Job):
    """A job whose items are calls; it is `fed` when it is no longer the one to append to.

    Attributes:
        func: what is called.
        module: where it is, if it can be shared: the same as long as it is there under its name.
        name: see `module`.
        size: gives the bytes of a payload.
        one_by_one: of late each call was waited for before the next one was made.
        encode_time: how long one of the calls took to pickle, ns: a sample for all.
        waiting: calls by their item's number, from when they are taken.
    """

    __slots__ = (
        "_told",
        "_waited_at",
        "encode_time",
        "func",
        "module",
        "name",
        "one_by_one",
        "size",
        "waiting",
    )

    shared = True

    def __init__(
        self,
        func: Callable[..., Any],
        function: Function,
        call: int,
        *,
        size: Callable[[Any], int],
        retries: int = 0,
        timeout: float = 0.0,
    ) -> None:
        """Make one that is open."""
        super().__init__(
            JobKind.APPLY, function, call, 1, _NOBODY, retries=retries, timeout=timeout
        )
        self.func = func
        self.module: Any = None
        self.name = ""
        self.one_by_one = False
        self._waited_at = 0  # how many calls there were then
        self.encode_time = 0
        self.waiting: dict[int, AsyncResult] = {}
        self.size = size
        self._told: list[tuple[list[AsyncResult], int, list[Any]]] = []

    @property
    def done(self) -> bool:
        """Whether it has ended, and every call has its outcome."""
        return (self.fed or self.dropped is not None) and self.idle

    @property
    def idle(self) -> bool:
        """Whether every call so far has its outcome."""
        return not self.pending and self.items_done == self.items_taken

    def counts(self) -> tuple[int, int | None, int]:
        """Return what holds for each of the calls that have no outcome yet."""
        return 0, 1, 0

    def waited_for(self) -> None:
        """See that somebody waits for one of the calls."""
        calls = self.items_taken + len(self.pending)
        self.one_by_one = calls == self._waited_at + 1
        self._waited_at = calls

    def not_collected(self) -> None:
        """See that a call was sent at once, and that nobody has come for its answer."""
        self.one_by_one = False
        self._waited_at = -1

    def oldest(self) -> int:
        """Return when the first of those pending was submitted, ns."""
        return submissions([self.pending[0]])[0]

    def task_bytes(self) -> int:
        """Return the mean size of a call's payload, at least 1."""
        if not self.items_taken:
            return self.size(asked([self.pending[0]])[0]) + 1
        return self.bytes_fed // self.items_taken + 1

    def look(self) -> None:
        """See how many calls there are now."""
        fed = self.items_taken + len(self.pending)
        self.dump_time += self.encode_time * (fed - self.items_fed)
        self.items_fed = self.tasks_fed = fed

    def take(self, number: int) -> tuple[list[Any], int]:
        """Take so many calls; return their payloads, and when the first of them was submitted."""
        results: list[AsyncResult] = list(starmap(self.pending.popleft, repeat((), number)))
        self.waiting.update(zip(count(self.items_taken), results, strict=False))
        payloads = asked(results)
        self.bytes_fed += sum(map(self.size, payloads))
        return payloads, submissions(results[:1])[0]

    def settle(self, first: int, number: int, kind: int, payloads: list[Any]) -> list[int]:
        """Take the outcome of calls; return when they were submitted, ns."""
        results = list(map(self.waiting.pop, range(first, first + number)))
        self.items_done += number
        self._told.append((results, kind, payloads))
        return submissions(results)

    def part(self, result: AsyncResult) -> tuple[bool, int | None]:
        """Let a call go, and tell whether it had no outcome yet; return its item's number, too.

        That is None if it was not taken. It is looked for from both ends: many are cancelled in the
        order of their calls, or against it.
        """
        pending, waiting = self.pending, self.waiting
        last = len(pending) - 1  # others append meanwhile
        for step in range(last + 1):
            for place in (step, last - step):
                if pending[place] is result:
                    del pending[place]
                    self.taken(1, 1)
                    self.items_done += 1
                    return True, None
        for ends in zip(waiting.items(), reversed(waiting.items()), strict=True):
            for index, other in ends:
                if other is result:
                    self.items_done += 1
                    del waiting[index]
                    return True, index
        return False, None

    def apart(self, size: Callable[[Any], int]) -> Stream:
        """Return another one, for calls that don't come after those of this one."""
        return Stream(
            *(self.func, self.function, self.call),
            size=size,
            retries=self.retries,
            timeout=self.timeout,
        )

    def finish(self, callbacks: Callbacks) -> None:
        """Say that results are there."""
        told, self._told = self._told, []
        for results, kind, payloads in told:
            tell_all(results, kind, payloads, callbacks)

    def refuse(self, error: BaseException) -> None:
        """Give all that is pending an error, for any thread: nobody will take it."""
        while self.pending:
            try:
                result: AsyncResult = self.pending.popleft()
            except IndexError:  # another thread took the last one
                return
            result.refuse(error)
