"""A pool under a mixed load, steered and with its workers killed at random, for minutes or hours.

    python -m tests.soak --minutes 5 [--seed S] [--processes P] [--start-method fork]

    callers (threads) ── calls of all kinds ──> one pool <── signals ── killer (a thread)
        └─ Tally: what was submitted and what came back   <── commands ── operator (a thread)
    main thread: a line every 10 s; at the end the rules, and exit code 1 if one is broken

All randomness is from the seed; what the scheduling of threads makes of it differs each time.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import gc
import logging
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import forkserver, resource_tracker
from random import Random
from typing import TYPE_CHECKING, Any, cast

import psutil

from obspool import Pool
from obspool.telemetry import locks, place
from obspool.words import ExitReason, Outcome, PoolOutcome, WorkerState
from tests.helpers import ConditionNotMetError, poll, temporary_obspool_dir
from tests.soak_load import LIMIT, PATIENCE, Caller, Killer, Operator, Tally

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from obspool.telemetry.snapshot import Snapshot

CALLERS = 4
LINE_EVERY = 10.0  # seconds
SHARE_OF_WARM_UP = 0.25
LONGEST_WARM_UP = 60.0  # seconds


# The process's memory at rest may be so much larger at the end than after the warm-up (bytes). Free
# memory is given back before each look, but for what lies between live blocks in the arenas that
# glibc makes for threads. A leak of 5 bytes an item is over it within five minutes.
MEMORY_TOLERANCE = 8 << 20

# Blocks from this size on (bytes) are mapped alone, and given back when they are freed. By itself
# glibc raises this to the largest payload, which then leaves holes of megabytes.
MAPPED_ALONE = 1 << 18
M_MMAP_THRESHOLD = -3  # of malloc.h

# And so many descriptors: a worker that is about to be replaced has a successor, with its channel,
# lifeline, claim lock and pidfd.
DESCRIPTOR_TOLERANCE = 8


def broken_laws(stats: Snapshot) -> list[str]:
    """Return what an ended pool's counts contradict: all that was submitted has one outcome."""
    broken = []
    for what, submitted, completed in (
        ("jobs", sum(stats.jobs_submitted.values()), stats.jobs_completed),
        ("tasks", sum(stats.tasks_submitted.values()), stats.tasks_completed),
        ("items", stats.items_submitted, stats.items_completed),
    ):
        if submitted != sum(completed.values()):
            broken.append(f"{submitted} {what} were submitted and completed are {dict(completed)}")
    tasks = stats.tasks
    # Not `result`: results may be taken after the end.
    if tasks.queued or tasks.dispatched or tasks.running:
        broken.append(f"the pool has ended, and there are still {tasks}")
    if stats.jobs_in_progress:
        broken.append(f"the pool has ended with {stats.jobs_in_progress} jobs in progress")
    return broken


class OtherErrors(logging.Handler):
    """Collects what obspool logs, but for the lost workers, which are meant to be."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if " died: " not in text:
            self.found.append(text)


@dataclass(frozen=True)
class Look:
    """What the process holds when nothing runs.

    Attributes:
        memory: its resident memory in bytes.
        descriptors: its own.
        helpers_descriptors: those of its children that are no workers: what forks them.
    """

    memory: int
    descriptors: int
    helpers_descriptors: int


def look(pool: Pool) -> Look:
    """Wait until the pool rests, give free memory back, and look."""
    poll(partial(_rests, pool), deadline=PATIENCE, message=lambda: str(pool.stats())[:2000])
    gc.collect()
    _tell_glibc("malloc_trim", 0)
    this = psutil.Process()
    workers = {process.pid for process in pool._pool}
    helpers = [child for child in this.children() if child.pid not in workers]
    return Look(this.memory_info().rss, this.num_fds(), sum(p.num_fds() for p in helpers))


def _tell_glibc(function: str, *arguments: int) -> None:
    """Call one of its functions, where it is the C library."""
    if there := getattr(ctypes.CDLL(None), function, None):
        there(*arguments)


def _rests(pool: Pool) -> bool:
    stats = pool.stats()
    tasks = stats.tasks
    nothing_runs = not (tasks.queued or tasks.dispatched or tasks.running or tasks.result)
    all_idle = all(worker.state is WorkerState.IDLE for worker in stats.present_workers)
    return nothing_runs and all_idle and len(pool._pool) == stats.workers_configured


@dataclass(frozen=True)
class Options:
    """What to do; see `--help`."""

    minutes: float
    seed: int
    processes: int
    start_method: str


class HungError(Exception):
    """A call has no end."""


class Soak:
    """One pool, and what was found out about it."""

    def __init__(self, options: Options, pool: Pool) -> None:
        self._options = options
        self._pool = pool
        self._random = Random(options.seed)  # noqa: S311 - to be the same each time
        self._began = time.monotonic()
        self._before = Tally()  # of callers that have ended
        self._sent: Counter[str] = Counter()
        self._commands: Counter[str] = Counter()

    def run(self) -> Iterator[str]:
        """Run for the time that was asked for; yield each broken rule."""
        seconds = self._options.minutes * 60
        warm_up = min(LONGEST_WARM_UP, seconds * SHARE_OF_WARM_UP)
        try:
            self._load(warm_up)
            warm = look(self._pool)
            self._say("warm:")
            self._load(seconds - warm_up)
            end = look(self._pool)
            self._say("end: ")
        except HungError as error:
            self._pool.terminate()
            yield str(error)
            return
        yield from self._flatness(warm, end)
        self._pool.close()
        joining = threading.Thread(target=self._pool.join, daemon=True)
        joining.start()
        joining.join(PATIENCE)
        if joining.is_alive():
            yield f"join() has not returned within {PATIENCE:g} s"
            return
        stats = self._pool.stats()
        yield from broken_laws(stats)
        yield from self._agreement(stats)
        print(f"pool: {stats.outcome}; worker exits: {_counts(stats.worker_exits)}")
        print(f"items: {_counts(stats.items_completed)}")
        print(f"signals: {_counts(self._sent)}; commands: {_counts(self._commands)}")
        print(f"memory: {warm.memory >> 10} KiB warm, {end.memory >> 10} KiB at the end")
        print(
            f"descriptors: {warm.descriptors} warm, {end.descriptors} at the end; of helper "
            f"processes {warm.helpers_descriptors} and {end.helpers_descriptors}"
        )

    def _load(self, seconds: float) -> None:
        """Have callers, killer and operator do their worst for so long, and end.

        Raises:
            HungError: a caller waits for ever.
        """
        callers = [
            Caller(self._pool, Random(self._random.random()), number)  # noqa: S311 - as above
            for number in range(CALLERS)
        ]
        killer = Killer(self._pool, Random(self._random.random()))  # noqa: S311 - as above
        end = time.monotonic() + seconds
        operator = Operator(self._pool, Random(self._random.random()))  # noqa: S311 - as above
        for thread in (*callers, killer, operator):
            thread.start()
        while (left := end - time.monotonic()) > 0:
            killer.join(min(left, LINE_EVERY))
            self._say("     ", callers, killer)
            self._see_that_all_go_on(callers)
        for disturber in (killer, operator):
            disturber.stop()
            disturber.join()
        for caller in callers:
            caller.stop()
        for caller in callers:
            while caller.is_alive():
                caller.join(1.0)
                self._see_that_all_go_on(callers)
        self._before = sum((caller.tally for caller in callers), self._before)
        self._sent += killer.sent
        self._commands += operator.done

    def _see_that_all_go_on(self, callers: Sequence[Caller]) -> None:
        for caller in callers:
            since = time.monotonic() - caller.since
            if caller.is_alive() and since > PATIENCE:
                faulthandler.dump_traceback(all_threads=True)
                print(self._pool.stats())
                raise HungError(f"{caller.name} has waited for {since:.0f} s (stacks: see above)")

    def _say(self, what: str, callers: Sequence[Caller] = (), killer: Killer | None = None) -> None:
        tally = sum((caller.tally for caller in callers), self._before)
        sent = self._sent + killer.sent if killer else self._sent
        this = psutil.Process()
        print(
            f"{what} {time.monotonic() - self._began:6.0f} s  {tally.done} items done"
            f"  errors: {_counts(tally.errors)}  signals: {sent.total()}"
            f"  RSS {this.memory_info().rss >> 20} MiB  descriptors {this.num_fds()}"
            f"  threads {threading.active_count()}",
            flush=True,
        )

    @staticmethod
    def _flatness(warm: Look, end: Look) -> Iterator[str]:
        if end.memory > warm.memory + MEMORY_TOLERANCE:
            yield f"memory grew from {warm.memory >> 10} to {end.memory >> 10} KiB"
        if end.descriptors > warm.descriptors + DESCRIPTOR_TOLERANCE:
            yield f"descriptors grew from {warm.descriptors} to {end.descriptors}"
        if end.helpers_descriptors > warm.helpers_descriptors + DESCRIPTOR_TOLERANCE:
            yield (
                f"the helper processes' descriptors grew from {warm.helpers_descriptors} to "
                f"{end.helpers_descriptors}"
            )

    def _agreement(self, stats: Snapshot) -> Iterator[str]:
        """Compare what the callers have seen with what the pool has counted."""
        tally = self._before
        yield from tally.wrong
        if tally.done != tally.submitted:
            yield f"{tally.submitted} items were submitted, and {tally.done} have an outcome"
        if stats.items_submitted != tally.submitted:
            yield f"{tally.submitted} items were submitted, {stats.items_submitted} are counted"
        for outcome in Outcome:
            seen, counted = tally.seen[outcome], stats.items_completed.get(outcome, 0)
            if not seen <= counted <= seen + tally.hidden:
                yield (
                    f"{seen} items (and some of {tally.hidden}) ended as {outcome}, "
                    f"{counted} are counted"
                )
        if stats.tasks.result:
            yield f"all results were taken, and {stats.tasks.result} are said not to be"
        if stats.callback_errors or stats.telemetry_errors:
            yield f"{stats.callback_errors} callback and {stats.telemetry_errors} telemetry errors"
        if stats.outcome is not PoolOutcome.FINISHED:
            yield f"the pool's outcome is {stats.outcome}"
        fatal = self._sent.total() - self._sent[signal.SIGSTOP.name]
        if (lost := stats.worker_exits[ExitReason.LOST]) > fatal:
            yield f"{lost} workers died, of {fatal} deadly signals"


def _counts(counter: Mapping[Any, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.items() if count) or "none"


def _left_over(directory: Path) -> Iterator[str]:
    """Yield what is left of an ended pool that must not be.

    The directory's own lock, an empty file, stays with the directory.
    """
    # Multiprocessing's own helpers stay for the process's life.
    server, tracker = cast("Any", forkserver), cast("Any", resource_tracker)
    helpers = {server._forkserver._forkserver_pid, tracker._resource_tracker._pid}

    def processes() -> list[psutil.Process]:
        found = psutil.Process().children(recursive=True)
        return [process for process in found if process.pid not in helpers]

    with suppress(ConditionNotMetError):
        poll(lambda: not processes())
    for process in processes():
        yield f"a process is left: {process}"
    files = [path for path in directory.rglob("*") if not path.is_dir()]
    segments = [path for path in files if path.suffix == place.SUFFIX]
    if len(segments) != 1:
        yield f"there are {len(segments)} segments instead of one"
    for path in files:
        if path not in segments and path.name != locks._DIRECTORY_LOCK:
            yield f"a file is left: {path}"


def soak(options: Options) -> list[str]:
    """Run it all; return the broken rules."""
    logger, others = logging.getLogger("obspool"), OtherErrors()
    logger.addHandler(others)
    logger.propagate = False
    _tell_glibc("mallopt", M_MMAP_THRESHOLD, MAPPED_ALONE)
    # A worker that gets SIGSEGV would leave a core file.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with temporary_obspool_dir() as directory:
        os.environ["OBSPOOL_DIR"] = str(directory)
        context = multiprocessing.get_context(options.start_method)
        with Pool(options.processes, maxtasksperchild=LIMIT, context=context) as pool:
            broken = list(Soak(options, pool).run())
        del pool
        broken += _left_over(directory)
    return broken + others.found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, required=True, help="how long, warm-up included")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--start-method", default="fork", choices=("fork", "spawn", "forkserver"))
    given = parser.parse_args(arguments)
    print(f"soak: {given}", flush=True)
    broken = soak(Options(given.minutes, given.seed, given.processes, given.start_method))
    for rule in broken:
        print(f"BROKEN: {rule}")
    print(f"{len(broken)} rules broken" if broken else "all rules held")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
