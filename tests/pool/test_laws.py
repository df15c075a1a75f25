"""Laws that hold for any program: hypothesis makes up the programs, and the faults."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import multiprocessing.pool as mp_pool
import os
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from obspool import Pool, PoolBrokenError
from obspool.supervisor import START_FAILURES
from obspool.words import PoolOutcome
from tests.helpers import poll
from tests.pool import work
from tests.soak import broken_laws

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.pool.work import Outcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

# From a program's last call to its last answer, on a loaded machine (seconds).
PATIENCE = 20.0

MAPS = ("map", "map_async", "starmap")
IMAPS = ("imap", "imap_unordered")
APPLIES = ("apply", "apply_async")
CANCELLABLE = (*IMAPS, "map_async", "apply_async")
SIZES = (0, 1, 2, 3, 8, 30)
PROCESSES = st.integers(1, 3)
LIMITS = st.sampled_from((None, 1, 3))
CHUNKS = st.sampled_from((None, 1, 2, 7))

# Without shrinking: what depends on the moment fails in one run of a program, and not in the next.
as_in_ci = partial(
    settings,
    phases=(Phase.explicit, Phase.generate),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def _without_a_line_for_each_lost_worker(caplog: pytest.LogCaptureFixture) -> None:
    """Else nobody finds the program in the report of a failure."""
    caplog.set_level(logging.CRITICAL, logger="obspool")


@dataclass(frozen=True)
class Item:
    """What one call of the function does: "return" twice its number, "work" before, or fail."""

    does: str
    number: int

    @property
    def value(self) -> int:
        return 2 * self.number

    @property
    def raises(self) -> Outcome:
        return "error", ("CustomError", (self.number,))


_call_numbers = itertools.count()
_runs = -1  # in workers: where they note what they run


def note_runs_in(path: Path) -> None:
    """Have this worker note each item that it begins, as an initializer."""
    global _runs  # noqa: PLW0603 - for the life of the worker
    _runs = os.open(path, os.O_WRONLY | os.O_APPEND)


def act(does: str, number: int, call: int) -> int:
    if _runs >= 0:
        os.write(_runs, f"item {number} of call {call}\n".encode())
    if does == "raise":
        raise work.CustomError(number)
    if does == "exit":
        os._exit(7)
    if does == "work":
        work.work(1)
    return 2 * number


def act_on(arguments: tuple[str, int, int]) -> int:
    return act(*arguments)


@dataclass(frozen=True)
class Call:
    """One call on a pool.

    Attributes:
        lazy: the iterable is a generator, without a length.
        cancelled: what is cancelled of it at once: nothing, what is "queued", or what is "running"
            as well.
    """

    method: str
    items: tuple[Item, ...]
    chunksize: int | None
    lazy: bool
    cancelled: str = ""

    def doing(self, *what: str) -> list[Item]:
        return [item for item in self.items if item.does in what]

    def start(self, pool: mp_pool.Pool, told: list[Any] | None = None) -> Callable[[], Any]:
        """Make the call, and return what waits for all of its outcomes.

        Args:
            pool: obspool's or the stdlib's.
            told: where callbacks note what they were called with.
        """
        call = next(_call_numbers)
        arguments = [(item.does, item.number, call) for item in self.items]
        if self.method == "apply":
            done = [work.outcome(partial(pool.apply, act, each)) for each in arguments]
            return lambda: done
        callbacks: dict[str, Any] = {}
        if told is not None:
            callbacks = {
                "callback": told.append,
                "error_callback": lambda error: told.append(repr(error)),
            }
        if self.method == "apply_async":
            results = [pool.apply_async(act, each, **callbacks) for each in arguments]
            self._cancel(*results)
            return lambda: [work.outcome(partial(result.get, PATIENCE)) for result in results]
        function: Any = act if self.method == "starmap" else act_on
        iterable = iter(arguments) if self.lazy else arguments
        if self.method in IMAPS:
            made = getattr(pool, self.method)(function, iterable, self.chunksize or 1)
            self._cancel(made)
            return partial(_drain, made)
        if self.method == "map_async":
            later = pool.map_async(function, iterable, self.chunksize, **callbacks)
            self._cancel(later)
            return lambda: work.outcome(partial(later.get, PATIENCE))
        at_once = work.outcome(
            partial(getattr(pool, self.method), function, iterable, self.chunksize)
        )
        return lambda: at_once

    def _cancel(self, *handles: Any) -> None:
        if self.cancelled:
            for handle in handles:
                handle.cancel(running=self.cancelled == "running")


def _drain(iterator: Any) -> list[Outcome]:
    """Return all that an imap gives; the stdlib's is a generator when its chunks aren't single."""
    if not hasattr(iterator, "next"):
        return [("value", value) for value in iterator]
    return work.drain(iterator, PATIENCE)


@st.composite
def items(draw: st.DrawFn, deeds: Sequence[str]) -> tuple[Item, ...]:
    """Draw a size, and where there are items that do something else than to return."""
    size = draw(st.sampled_from(SIZES))
    if not size:
        return ()
    odd = draw(st.dictionaries(st.integers(0, size - 1), st.sampled_from(deeds), max_size=3))
    return tuple(Item(odd.get(number, "return"), number) for number in range(size))


@st.composite
def calls(draw: st.DrawFn, deeds: Sequence[str], cancelled: Sequence[str] = ("",)) -> Call:
    method = draw(st.sampled_from((*MAPS, *IMAPS, *APPLIES)))
    what = draw(st.sampled_from(cancelled)) if method in CANCELLABLE else ""
    return Call(method, draw(items(deeds)), draw(CHUNKS), draw(st.booleans()), what)


# -- programs without faults


def _as_documented(call: Call) -> bool:
    """Leave out what docs/differences.md says is different: an imap's chunk with an error in it."""
    return call.method not in IMAPS or (call.chunksize or 1) == 1 or not call.doing("raise")


def _comparable(call: Call, outcome: Any) -> Any:
    """Return what both pools must agree on."""
    if call.method == "imap_unordered":
        return sorted(outcome)
    if call.method in MAPS and outcome in [item.raises for item in call.doing("raise")]:
        return "the error that arrived first"
    return outcome


def _run(pool: mp_pool.Pool, program: Sequence[Call]) -> list[Any]:
    """Run a program; return what is to be compared, of callbacks too."""
    told: list[list[Any]] = [[] for _ in program]
    try:
        waits = [call.start(pool, notes) for call, notes in zip(program, told, strict=True)]
        found = [_comparable(call, wait()) for call, wait in zip(program, waits, strict=True)]
        pool.close()
        pool.join()
    finally:
        pool.terminate()
    for call, notes in zip(program, told, strict=True):
        notes.sort(key=repr)
        if call.method in MAPS and len(call.doing("raise")) > 1:
            notes[:] = ["one of them" for _ in notes]
    return [found, told]


@as_in_ci(max_examples=60)
@given(
    program=st.lists(calls(("raise", "work")).filter(_as_documented), min_size=1, max_size=8),
    processes=PROCESSES,
    limit=LIMITS,
)
def test_a_program_without_faults_gives_what_it_gives_on_the_stdlibs_pool(
    program: list[Call], processes: int, limit: int | None
) -> None:
    """Any calls in any order: the same values, the same errors, the same callbacks."""
    context = multiprocessing.get_context("fork")
    if limit is not None:
        # The stdlib divides by the number of workers there are, which may be none meanwhile.
        program = [replace(call, chunksize=call.chunksize or 1) for call in program]
    expected = _run(mp_pool.Pool(processes, None, (), limit, context), program)
    with _no_process_stays():
        assert _run(Pool(processes, None, (), limit, context), program) == expected


# -- programs with faults


@dataclass(frozen=True)
class Fault:
    """A signal to one of the workers; SIGCONT follows SIGSTOP when a call has been made."""

    signal: signal.Signals
    worker: int

    def happen(self, pool: Pool) -> list[Answer]:
        workers = [process.pid for process in pool._pool]
        if not workers:
            return []  # the pool has ended
        try:
            victim = psutil.Process(workers[self.worker % len(workers)])
            victim.send_signal(self.signal)
        except psutil.NoSuchProcess:
            return []
        if self.signal != signal.SIGSTOP:
            return []
        answer = _answer(MEANWHILE, pool)
        with suppress(psutil.NoSuchProcess):  # it is gone, by another signal
            victim.send_signal(signal.SIGCONT)
        return [answer]


@dataclass(frozen=True)
class Command:
    """What an operator does: resize, recycle, or pause while a call is made, and resume."""

    verb: str
    number: int

    def happen(self, pool: Pool) -> list[Answer]:
        with suppress(ValueError, PoolBrokenError):  # it has ended, or is broken
            if self.verb == "resize":
                pool.resize(self.number)
            elif self.verb == "recycle":
                pool.recycle()
            else:
                pool.pause()
                answer = _answer(MEANWHILE, pool)
                pool.resume()
                return [answer]
        return []


# A call, and what waits for its outcomes.
Answer = tuple[Call, "Callable[[], Any]"]
Steps = list[Call | Fault | Command]

MEANWHILE = Call("apply_async", (Item("return", 1),), None, lazy=False)
COMMANDS = st.builds(
    Command, st.sampled_from(("resize", "resize", "recycle", "pause")), st.integers(1, 4)
)
FAULTS = st.builds(Fault, st.sampled_from((signal.SIGKILL, signal.SIGSTOP)), st.integers(0, 2))

# How a pool ends: when all answers are there, or when the first calls have just been made.
LATE_ENDS = ("close", "terminate")
EARLY_ENDS = ("close early", "terminate early")

TOO_LATE = {
    "close": {("ValueError", ("Pool not running",))},
    "terminate": {
        ("ValueError", ("Pool not running",)),
        ("PoolTerminatedError", ("the pool was terminated before this result was there",)),
    },
}


def _answer(call: Call, pool: Pool) -> Answer:
    """Make a call; that the pool refuses it is its outcome."""
    made = work.outcome(partial(call.start, pool))
    return (call, made[1]) if made[0] == "value" else (call, lambda: made)


def _follow(pool: Pool, steps: Steps, begun: threading.Event) -> list[tuple[Call, Any]]:
    """Take the steps of one thread; return the calls' outcomes when all are there."""
    answers: list[Answer] = []
    for step in steps:
        answers += [_answer(step, pool)] if isinstance(step, Call) else step.happen(pool)
        begun.set()
    return [(call, wait()) for call, wait in answers]


@dataclass(frozen=True)
class Excuses:
    """What else than its own outcome an item may have.

    Attributes:
        lost: workers died. What they had run and not sent yet is lost, of any call.
        broken: so many may have died before they were ready that the pool gave up.
        too_late: names and arguments of the errors of calls and items that came too late.
        cancelled: the call was.
    """

    lost: bool
    broken: bool
    too_late: set[Any]
    cancelled: bool = False

    def hold_for(self, outcome: Outcome) -> bool:
        kind, error = outcome
        return kind == "error" and (
            (self.lost and error[0] == "WorkerLostError")
            or (self.broken and error[0] == "PoolBrokenError")
            or (self.cancelled and error[0] == "CancelledError")
            or error in self.too_late
        )


def _is_right(item: Item, outcome: Outcome, excuses: Excuses) -> bool:
    if excuses.hold_for(outcome):
        return True
    if item.does == "raise":
        return outcome == item.raises
    return item.does != "exit" and outcome == ("value", item.value)


def _check(call: Call, outcome: Any, excuses: Excuses) -> None:
    """See that an outcome is one that the call may have."""
    excuses = replace(excuses, cancelled=bool(call.cancelled))
    said = f"{call} gave {outcome}"
    if isinstance(outcome, tuple):  # of the call as a whole
        if outcome[0] == "value":
            assert not call.doing("raise", "exit"), said
            assert outcome[1] == [item.value for item in call.items], said
        else:
            raised = [item.raises for item in call.doing("raise")]
            assert outcome in raised or excuses.hold_for(outcome), said
        return
    if call.method == "imap_unordered":
        left = Counter([item.value for item in call.doing("return", "work")])
        left.subtract(value for kind, value in outcome if kind == "value")
        assert min(left.values(), default=0) >= 0, said
        raised = [item.raises for item in call.doing("raise")]
        errors = [found for found in outcome if found[0] == "error"]
        assert all(found in raised or excuses.hold_for(found) for found in errors), said
    else:
        pairs = zip(call.items, outcome, strict=False)
        assert all(_is_right(item, found, excuses) for item, found in pairs), said
    # The rest of an iterable that was never read has one error.
    ended_early = excuses.too_late or excuses.broken or excuses.cancelled
    assert len(outcome) == len(call.items) or ended_early, said


@contextmanager
def _no_process_stays() -> Iterator[None]:
    """See that all processes that were started meanwhile end."""
    before = set(psutil.Process().children(recursive=True))
    yield
    poll(
        lambda: set(psutil.Process().children(recursive=True)) <= before,
        message=lambda: set(psutil.Process().children(recursive=True)) - before,
    )


@as_in_ci(max_examples=100)
@given(
    threads=st.lists(
        st.lists(
            calls(("raise", "work", "exit"), ("", "queued", "running")) | FAULTS | COMMANDS,
            min_size=1,
            max_size=5,
        ),
        min_size=1,
        max_size=3,
    ),
    processes=PROCESSES,
    limit=LIMITS,
    end=st.sampled_from((*LATE_ENDS, *EARLY_ENDS)),
)
def test_under_faults_every_item_has_one_outcome_and_the_counts_agree(
    tmp_path: Path, threads: list[Steps], processes: int, limit: int | None, end: str
) -> None:
    """Nothing waits, is wrong, runs twice, is counted twice or not at all, or stays."""
    how, _, early = end.partition(" ")
    steps = [step for steps in threads for step in steps]
    kills = sum(isinstance(step, Fault) and step.signal == signal.SIGKILL for step in steps)
    exits = any(isinstance(step, Call) and step.doing("exit") for step in steps)
    excuses = Excuses(
        lost=bool(kills or exits),
        broken=kills >= START_FAILURES,
        too_late=TOO_LATE[how] if early else set(),
    )
    begun = threading.Event()
    runs = tmp_path / "runs"
    runs.write_bytes(b"")
    context = multiprocessing.get_context("fork")
    with (
        _no_process_stays(),
        ThreadPoolExecutor(len(threads) + 1) as callers,
        Pool(processes, note_runs_in, (runs,), limit, context) as pool,
    ):
        callings = [callers.submit(_follow, pool, steps, begun) for steps in threads]
        if early:
            assert begun.wait(PATIENCE)
        else:
            wait(callings, PATIENCE)
        getattr(pool, how)()
        callers.submit(pool.join).result(PATIENCE)
        answers = [answer for calling in callings for answer in calling.result(PATIENCE)]
        stats = pool.stats()
    for call, outcome in answers:
        _check(call, outcome, excuses)
    run = Counter(runs.read_text().splitlines())
    assert [item for item, times in run.items() if times > 1] == []
    assert broken_laws(stats) == []
    cancelled = any(call.cancelled for call, _ in answers)
    if not early and not cancelled and stats.outcome is not PoolOutcome.BROKEN:
        assert stats.items_submitted == sum(len(call.items) for call, _ in answers)
        assert stats.tasks.result == 0
