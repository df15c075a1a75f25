"""What a soak does to its pool: callers that check each answer, a killer, and an operator."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import psutil

from obspool import CancelledError, WorkerLostError
from obspool.words import Outcome
from tests.pool import work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from obspool import Pool

LIMIT = 50  # tasks a worker
KILL_EVERY = 0.15  # seconds on average
COMMAND_EVERY = 0.5

# A call that takes longer is taken for hung. The largest takes a second on a loaded machine, and a
# stopped worker goes on within half of one.
PATIENCE = 60.0

LARGEST_PAYLOAD = 8 << 20  # bytes
CHUNKS = (1, 2, 7, 50)


@dataclass
class Tally:
    """What the callers know; each has its own, they are added up.

    Attributes:
        submitted: items.
        seen: items whose outcome was seen, by outcome.
        hidden: items of maps that raised: nobody sees what became of each.
        errors: that were raised, by type.
        wrong: what must not be.
    """

    submitted: int = 0
    seen: Counter[Outcome] = field(default_factory=Counter)
    hidden: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __add__(self, other: Tally) -> Tally:
        # Copies of the counters: a caller may count a new kind while they are gone through.
        return Tally(
            self.submitted + other.submitted,
            self.seen.copy() + other.seen.copy(),
            self.hidden + other.hidden,
            self.errors.copy() + other.errors.copy(),
            self.wrong + other.wrong,
        )

    @property
    def done(self) -> int:
        return self.seen.total() + self.hidden

    def take(self, outcome: work.Outcome, expected: work.Outcome, what: str) -> None:
        """Note one item's outcome; it may also have been lost."""
        if self._is_loss(outcome):
            self.seen[Outcome.LOST] += 1
        elif _same(outcome, expected):
            self.seen[Outcome.OK if outcome[0] == "value" else Outcome.ERROR] += 1
        else:
            self.wrong.append(f"{what} gave {_short(outcome)} instead of {_short(expected)}")
        if outcome[0] == "error":
            self.errors[outcome[1][0]] += 1

    def take_map(self, outcome: work.Outcome, items: Sequence[Any], what: str) -> None:
        """Note what a map of `double` over items gave."""
        expected = [_doubled(item) for item in items]
        errors = [pair for pair in expected if pair[0] == "error"]
        if outcome[0] == "value":
            if errors or outcome[1] != [value for _, value in expected]:
                self.wrong.append(f"{what} over {len(items)} items gave {_short(outcome)}")
            self.seen[Outcome.OK] += len(items)
            return
        self.hidden += len(items)
        self.errors[outcome[1][0]] += 1
        if outcome not in errors and not self._is_loss(outcome):
            self.wrong.append(f"{what} over {len(items)} items raised {_short(outcome)}")

    @staticmethod
    def _is_loss(outcome: work.Outcome) -> bool:
        return outcome[0] == "error" and outcome[1][0] == WorkerLostError.__name__


def _same(one: work.Outcome, other: work.Outcome) -> bool:
    # Large payloads are compared by reference to what was sent: `==` of bytes is a memcmp.
    return one[0] == other[0] and bool(one[1] == other[1])


def _short(outcome: work.Outcome) -> str:
    return repr(outcome)[:300] if not isinstance(outcome[1], bytes) else f"{len(outcome[1])} bytes"


def _doubled(item: int) -> work.Outcome:
    """Return what `work.double` gives."""
    return ("value", 2 * item) if item >= 0 else ("error", ("CustomError", (item,)))


def _note_value(told: list[work.Outcome], value: Any) -> None:
    told.append(("value", value))


def _note_error(told: list[work.Outcome], error: BaseException) -> None:
    told.append(("error", (type(error).__name__, error.args)))


class Caller(threading.Thread):
    """Makes calls of all kinds, and checks what each gives."""

    def __init__(self, pool: Pool, random: Random, number: int) -> None:
        super().__init__(name=f"caller-{number}", daemon=True)
        self._pool = pool
        self._random = random
        self._stop_asked = threading.Event()
        self.tally = Tally()
        self.since = time.monotonic()  # when the call that it is in began
        self._calls: tuple[Callable[[], None], ...] = (
            self._apply,
            self._apply_async,
            self._one_by_one,
            self._map,
            self._imap,
            self._imap_unordered,
            self._slow_map,
            self._large,
            self._cancel,
        )

    def run(self) -> None:
        while not self._stop_asked.is_set():
            self.since = time.monotonic()
            call = self._random.choice(self._calls)
            try:
                call()
            except BaseException as error:
                self.tally.wrong.append(f"{call.__name__} raised {error!r}")

    def stop(self) -> None:
        self._stop_asked.set()

    def _items(self, most: int) -> list[int]:
        """Return items for `double`; in some lists one raises."""
        found = [self._random.randrange(1000) for _ in range(self._random.randint(0, most))]
        if found and self._random.random() < 0.2:
            found[self._random.randrange(len(found))] = -self._random.randint(1, 1000)
        self.tally.submitted += len(found)
        return found

    def _apply(self) -> None:
        for item in self._items(20):
            outcome = work.outcome(partial(self._pool.apply, work.double, (item,)))
            self.tally.take(outcome, _doubled(item), "apply")

    def _apply_async(self) -> None:
        """Each result comes with one callback, which has run before it."""
        calls = []
        for item in self._items(50):
            told: list[work.Outcome] = []
            result = self._pool.apply_async(
                work.double,
                (item,),
                callback=partial(_note_value, told),
                error_callback=partial(_note_error, told),
            )
            calls.append((item, result, told))
        for item, result, told in calls:
            outcome = work.outcome(partial(result.get, PATIENCE))
            self.tally.take(outcome, _doubled(item), "apply_async")
            if told != [outcome]:
                self.tally.wrong.append(f"the callbacks of {outcome} were called with {told}")

    def _one_by_one(self) -> None:
        """Each result is waited for before the next call; now and then in several ways."""
        for item in self._items(20):
            result = self._pool.apply_async(work.double, (item,))
            if self._random.random() < 0.2:
                result.ready()
                result.wait(self._random.uniform(0, 0.0002))
            outcome = work.outcome(partial(result.get, PATIENCE))
            self.tally.take(outcome, _doubled(item), "apply_async and get")

    def _map(self) -> None:
        items = self._items(400)
        chunk = self._random.choice((None, *CHUNKS))
        outcome = work.outcome(partial(self._pool.map, work.double, items, chunk))
        self.tally.take_map(outcome, items, f"map, chunksize {chunk},")

    def _slow_map(self) -> None:
        """Items of unequal length, which idle workers take from busy ones."""
        milliseconds = [self._random.expovariate(1.0) for _ in range(self._random.randint(1, 40))]
        self.tally.submitted += len(milliseconds)
        outcome = work.outcome(partial(self._pool.map, work.work, milliseconds))
        if outcome[0] == "value" and len(outcome[1]) == len(milliseconds):
            self.tally.seen[Outcome.OK] += len(milliseconds)
        else:
            self.tally.take_map(outcome, [0] * len(milliseconds), "map of work")

    def _imap(self) -> None:
        items = self._items(200)
        chunk = self._random.choice(CHUNKS)
        found = work.drain(self._pool.imap(work.double, iter(items), chunk), PATIENCE)
        if len(found) != len(items):
            self.tally.wrong.append(f"imap gave {len(found)} outcomes for {len(items)} items")
        for item, outcome in zip(items, found, strict=False):
            self.tally.take(outcome, _doubled(item), f"imap, chunksize {chunk},")

    def _imap_unordered(self) -> None:
        items = self._items(200)
        chunk = self._random.choice(CHUNKS)
        found = work.drain(self._pool.imap_unordered(work.double, iter(items), chunk), PATIENCE)
        if len(found) != len(items):
            self.tally.wrong.append(
                f"imap_unordered gave {len(found)} outcomes for {len(items)} items"
            )
        left = Counter(_doubled(item) for item in items)
        for outcome in found:
            # One that is lost may be any; one that nobody is waiting for is wrong.
            expected = outcome if left[outcome] > 0 else ("nothing", None)
            left[expected] -= 1
            self.tally.take(outcome, expected, f"imap_unordered, chunksize {chunk},")

    def _large(self) -> None:
        size = self._random.randint(1, LARGEST_PAYLOAD)
        payloads = [self._random.randbytes(64) * (size // 64 + 1)]
        if self._random.random() < 0.5:
            payloads *= 3
        self.tally.submitted += len(payloads)
        found = work.drain(self._pool.imap(work.identity, payloads), PATIENCE)
        if len(found) != len(payloads):
            self.tally.wrong.append(f"imap gave {len(found)} outcomes for {len(payloads)} payloads")
        for payload, outcome in zip(payloads, found, strict=False):
            self.tally.take(outcome, ("value", payload), f"a payload of {len(payload)} bytes")

    def _cancel(self) -> None:
        """Whatever was left out or interrupted: the call ends, and with nothing else."""
        items = self._items(40)
        if self._random.random() < 0.5:
            results: list[Any] = [
                self._pool.map_async(work.double, items, self._random.choice(CHUNKS))
            ]
        else:
            results = [self._pool.apply_async(work.double, (item,)) for item in items]
        running = self._random.random() < 0.5
        for result in results:
            result.cancel(running=running)
        self.tally.hidden += len(items)
        for result in results:
            kind, said = work.outcome(partial(result.get, PATIENCE))
            if kind == "error":
                self.tally.errors[said[0]] += 1
                expected = {"CustomError", CancelledError.__name__, WorkerLostError.__name__}
                if said[0] not in expected:
                    self.tally.wrong.append(f"a cancelled call raised {said}")


class Killer(threading.Thread):
    """Sends random signals to random workers, and lets those that it stopped go on."""

    SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGSTOP)

    def __init__(self, pool: Pool, random: Random) -> None:
        super().__init__(name="killer", daemon=True)
        self._pool = pool
        self._random = random
        self._stop_asked = threading.Event()
        self._stopped: list[psutil.Process] = []
        self.sent: Counter[str] = Counter()

    def run(self) -> None:
        while not self._stop_asked.wait(self._random.expovariate(1 / KILL_EVERY)):
            if self._stopped and self._random.random() < 0.5:
                self._go_on()
            self._strike()
        self._go_on()

    def stop(self) -> None:
        self._stop_asked.set()

    def _strike(self) -> None:
        # As descendants, which psutil tells from other processes with the same pid later.
        pids = {process.pid for process in self._pool._pool}
        workers = [p for p in psutil.Process().children(recursive=True) if p.pid in pids]
        if not workers:
            return
        victim, what = self._random.choice(workers), self._random.choice(self.SIGNALS)
        with suppress(psutil.NoSuchProcess):
            victim.send_signal(what)
            self.sent[what.name] += 1
            if what == signal.SIGSTOP:
                self._stopped.append(victim)

    def _go_on(self) -> None:
        while self._stopped:
            with suppress(psutil.NoSuchProcess):
                self._stopped.pop().send_signal(signal.SIGCONT)


class Operator(threading.Thread):
    """Resizes, pauses, recycles and tunes the pool, as people do; leaves it as it was."""

    def __init__(self, pool: Pool, random: Random) -> None:
        super().__init__(name="operator", daemon=True)
        self._pool = pool
        self._random = random
        self._stop_asked = threading.Event()
        self._size = pool._processes
        self.done: Counter[str] = Counter()

    def run(self) -> None:
        while not self._stop_asked.wait(self._random.expovariate(1 / COMMAND_EVERY)):
            verb = self._random.choice(("resize", "pause", "recycle", "set"))
            self.done[verb] += 1
            if verb == "resize":
                self._pool.resize(self._random.randint(1, 2 * self._size))
            elif verb == "pause":
                self._pool.pause()
                self._stop_asked.wait(self._random.expovariate(20.0))
                self._pool.resume()
            elif verb == "recycle":
                self._pool.recycle()
            else:
                self._pool.set(maxtasksperchild=self._random.choice((10, LIMIT, None)))
        self._pool.resize(self._size)
        self._pool.set(maxtasksperchild=LIMIT)

    def stop(self) -> None:
        self._stop_asked.set()
