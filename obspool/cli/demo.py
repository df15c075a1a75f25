"""`obspool demo`: a real batch over real files, in a pool that is there to be looked at.

    files ── jobs of a few seconds ──> pool ── results as they come ──> tally ──> summary

A job takes as many files as the workers did in the last seconds, and the next one is submitted when
a job nears its end: no worker waits between jobs, and all are done soon after the time is over.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager
from multiprocessing import TimeoutError as NotYet
from pathlib import Path
from typing import TYPE_CHECKING

from obspool import units
from obspool.cli import FAILED, WRONG_USE, Failure
from obspool.cli.demo_files import source_files
from obspool.cli.demo_result import Tally, pool_lines
from obspool.cli.demo_work import measure, prepare_worker
from obspool.cli.progress import Progress, Silent, progress
from obspool.errors import ObspoolError, WorkerLostError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from obspool import IMapIterator, Pool
    from obspool.cli.demo_files import SourceFiles
    from obspool.cli.demo_work import FileReport

_NAME = "demo"
_TASKS_PER_WORKER = 200  # a worker lives a few seconds: recycling is there to be seen
_FIRST_JOB = 16  # files for each worker, until it is known how fast they are
_JOB_SECONDS = 5.0
_SHORTEST_JOB = 0.5
_LOW_WATER = 4  # items for each worker under way when the next job is submitted
_POLL = 0.2  # seconds within which Ctrl-C is obeyed
_SIGNAL_STATUS = 128
_STDIN = 0


def run(arguments: Namespace) -> int:
    """Run the demo, and return 0, or 128 + the signal that ended it."""
    if arguments.top:
        from obspool.cli import demo_top  # noqa: PLC0415 - a process that only watches

        return demo_top.run(arguments)
    _check_metrics(arguments.metrics)
    files = source_files(arguments.dir)
    with _stopped_by_signals() as stop:
        if arguments.lifeline:
            _follow_lifeline()
        return _run(arguments, files, stop)


def _run(arguments: Namespace, files: SourceFiles, stop: _Stop) -> int:
    pool = _start_pool(arguments)
    began = time.monotonic()
    batch = _Batch(pool, files.paths, began + 60 * arguments.minutes, stop)
    tally = Tally(files.root)
    try:
        _announce(pool, files, arguments.minutes)
        shown: Progress = Silent() if arguments.lifeline else progress(len(files.paths))
        try:
            for result in batch.results():
                shown.advance()
                if isinstance(result, Exception):
                    tally.add_error(result)
                else:
                    tally.add(result)
        finally:
            shown.close()
        if batch.complete:
            pool.close()
    finally:
        if not batch.complete:
            pool.terminate()
        pool.join()
    _conclude(pool, batch, tally, time.monotonic() - began)
    if stop.signal is not None:
        return _SIGNAL_STATUS + stop.signal
    return FAILED if batch.ended_by else 0


class _Stop:
    """Whether a signal has asked the demo to end."""

    signal: int | None = None


@contextmanager
def _stopped_by_signals() -> Iterator[_Stop]:
    """Have SIGINT and SIGTERM end the batch in good order; a second one ends the process."""
    stop = _Stop()
    owner = os.getpid()

    def ask(number: int, _frame: object) -> None:
        restore()
        if os.getpid() == owner:
            stop.signal = number
        else:  # a worker that was forked with this handler, and isn't prepared yet
            signal.raise_signal(number)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        restore()


def _follow_lifeline() -> None:
    """End as by Ctrl-C when standard input ends: whoever started this process has gone."""

    def wait() -> None:
        # Not through sys.stdin, whose lock the interpreter wants when it ends.
        while os.read(_STDIN, 1):
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, name="obspool-demo-lifeline", daemon=True).start()


def _start_pool(arguments: Namespace) -> Pool:
    from obspool import Pool  # noqa: PLC0415 - only when all else is well

    # Until a worker is prepared, a Ctrl-C would be its own: inherited, the mask keeps it off.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return Pool(
            arguments.workers,
            prepare_worker,
            maxtasksperchild=_TASKS_PER_WORKER,
            name=_NAME,
            metrics=0 if arguments.metrics is None else arguments.metrics,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Batch:
    """The jobs of the demo, and their results as one stream.

    Attributes:
        complete: nothing is pending: all that was submitted has come back.
        closed: the pool was closed from outside before the time was over.
        ended_by: the pool's error that ended it.
    """

    def __init__(self, pool: Pool, files: list[str], deadline: float, stop: _Stop) -> None:
        self.complete = False
        self.closed = False
        self.ended_by: ObspoolError | None = None
        self._pool = pool
        self._files = files
        self._deadline = deadline
        self._stop = stop
        self._workers: int = pool.stats().workers_configured
        self._next = 0  # the file that the next job begins with
        self._jobs: deque[IMapIterator] = deque()
        self._submitted = 0
        self._received = 0
        self._began = time.monotonic()

    def results(self) -> Iterator[FileReport | Exception]:
        """Yield the items' results and errors as they come, until the batch is over."""
        while self._stop.signal is None and self.ended_by is None:
            if self._submitted - self._received <= _LOW_WATER * self._workers:
                self._submit()
            if not self._jobs:
                self.complete = True
                return
            try:
                result: FileReport | Exception = self._jobs[0].next(_POLL)
            except StopIteration:
                self._jobs.popleft()
                continue
            except NotYet:
                continue
            except WorkerLostError as error:
                result = error
            except ObspoolError as error:  # the pool is terminated or broken
                self.ended_by = error
                return
            except Exception as error:  # noqa: BLE001 - the file's, as its worker raised it
                result = error
            self._received += 1
            yield result

    def _submit(self) -> None:
        """Submit the next job, unless the time is over."""
        if self.closed or (self._submitted and time.monotonic() >= self._deadline):
            return
        files = self._files[self._next : self._next + self._size()]
        try:
            job = self._pool.imap_unordered(measure, files)
        except ValueError:  # somebody has closed the pool: what it has is still done
            self.closed = True
            return
        self._jobs.append(job)
        self._submitted += len(files)
        self._next = (self._next + len(files)) % len(self._files)

    def _size(self) -> int:
        """Return how many files the next job takes; it ends with the round."""
        now = time.monotonic()
        if not self._received:
            return _FIRST_JOB * self._workers
        seconds = min(_JOB_SECONDS, max(_SHORTEST_JOB, self._deadline - now))
        return max(self._workers, int(seconds * self._received / (now - self._began)))


def _check_metrics(address: str | None) -> None:
    from obspool.exporters.address import Address  # noqa: PLC0415 - only with a pool

    try:
        if address is not None:
            Address.parse(address)
    except ValueError as error:
        raise Failure(str(error), WRONG_USE) from error


def _announce(pool: Pool, files: SourceFiles, minutes: float) -> None:
    facts = pool.stats().facts
    workers = pool.stats().workers_configured
    more = "the first " if files.cut else ""
    print(
        f"obspool demo: {more}{len(files.paths):,} Python files of "
        f"{units.printable(str(files.root))}, {workers} workers, {units.duration(60 * minutes)}"
    )
    for unreadable in files.unreadable:
        print(f"  left out  {units.printable(unreadable)}")
    print(f"  metrics   {pool.metrics_url or 'not served: OBSPOOL_DISABLE=1'}")
    print(f"  watch     {_command()} top {facts.name}")
    print("  stop      Ctrl-C", flush=True)


def _command() -> str:
    """Return what to type into another terminal for `obspool`."""
    script = Path(sys.argv[0])
    if script.name == "obspool" and script.exists():
        found = shutil.which("obspool")
        known = found is not None and Path(found).samefile(script)
        command = "obspool" if known else shlex.quote(str(script.absolute()))
    else:
        command = f"{shlex.quote(sys.executable)} -m obspool"
    directory = os.environ.get("OBSPOOL_DIR")
    return f"OBSPOOL_DIR={shlex.quote(directory)} {command}" if directory else command


def _conclude(pool: Pool, batch: _Batch, tally: Tally, elapsed: float) -> None:
    if batch.ended_by is not None:
        how = f"ended by {type(batch.ended_by).__name__} ({batch.ended_by})"
    else:
        how = "done" if batch.complete else "stopped"
        how += ", its pool closed from outside," if batch.closed else ""
    print(f"The demo is {how} after {units.duration(elapsed)}.")
    for line in pool_lines(pool.stats(), elapsed):
        print(line)
    print("What it computed:")
    for line in tally.lines():
        print(line)
