"""The pool's own process: interrupted anywhere, killed, forked, full of threads."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from obspool import ForkedPoolError, Pool
from obspool.telemetry import registry
from obspool.words import PoolOutcome
from tests.faults import programs
from tests.helpers import poll
from tests.pool import work
from tests.pool.ending import ended

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext
    from pathlib import Path

GET = 20.0
GONE = 2.0  # seconds, at the most

STATES = {
    "idle": "pool.map(work.double, [1, 2], 1); print('there', flush=True)",
    "busy": "pool.map_async(work.tell_and_wait, [directory] * 4, 1)",
    "in C": "pool.map_async(work.tell_and_spin, [directory] * 4, 1)",
    "sending": "pool.map_async(bytes, [64 << 20] * 20, 1); print('there', flush=True)",
    "receiving": (
        "os.kill(pool.apply(os.getpid), 19); pool.map_async(len, [bytes(32 << 20)] * 4, 1);"
        " print('there', flush=True)"
    ),
}


@pytest.mark.parametrize("state", STATES)
def test_a_killed_parents_segment_says_so_and_no_worker_is_left(
    start_method: str, state: str, tmp_path: Path
) -> None:
    """Within two seconds, whatever the workers are at."""
    source = f"""
        pool = Pool(2, context=context, name="killed")
        pool.name  # it can be found
        print(*[process.pid for process in pool._pool], flush=True)
        {STATES[state]}
        threading.Event().wait()
    """
    # Without a control socket, which a killed owner can't take away.
    with programs.running(tmp_path, start_method, source, OBSPOOL_CONTROL="0") as program:
        pids = program.numbers()
        assert len(pids) == 2
        if state in {"busy", "in C"}:
            poll(lambda: len(list(tmp_path.iterdir())) == 2)
        else:
            assert program.line() == "there"
        assert registry.list_pools().entries[0].alive
        program.signal(signal.SIGKILL)
        poll(lambda: programs.all_gone(pids), deadline=GONE)
        poll(lambda: not registry.list_pools().entries[0].alive)
        (entry,) = registry.list_pools().entries
    assert (entry.facts.name, entry.facts.pid) == ("killed", program.pid)
    assert entry.outcome is PoolOutcome.DIED


def test_a_parent_killed_while_its_workers_start(start_method: str, tmp_path: Path) -> None:
    source = """
        pool = Pool(2, work.tell_and_wait, (directory,), context=context)
        print(*[process.pid for process in pool._pool], flush=True)
        threading.Event().wait()
    """
    with programs.running(tmp_path, start_method, source, OBSPOOL_CONTROL="0") as program:
        pids = program.numbers()
        poll(lambda: len(list(tmp_path.iterdir())) == 2)
        program.signal(signal.SIGKILL)
        poll(lambda: programs.all_gone(pids), deadline=GONE)


# Enough for each place in a pool's life to be hit, in a few seconds for each start method.
INTERRUPTS = {"fork": 100, "forkserver": 12, "spawn": 8}

_INTERRUPTED = """
    import gc, random, signal
    import psutil
    warnings.simplefilter("ignore", ResourceWarning)
    # What is raised in a finalizer, the interpreter can only tell of.
    sys.unraisablehook = lambda _: None
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    rng = random.Random(13)
    def live(number):
        with Pool(2, context=context) as pool:
            assert pool.map(work.double, range(20), 1) == list(range(0, 40, 2))
            assert list(pool.imap(work.double, range(20), 3)) == list(range(0, 40, 2))
            assert [pool.apply(work.double, (n,)) for n in range(5)] == [0, 2, 4, 6, 8]
            if number % 2:
                pool.close()
                pool.join()
    began = time.monotonic()
    live(1)
    usual = time.monotonic() - began
    interrupted = 0
    for number in range({rounds}):
        try:
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, usual))
            live(number)
        except KeyboardInterrupt:
            interrupted += 1
        except RuntimeError as error:  # Thread.start, interrupted in its Event's lock
            if "release unlocked lock" not in str(error):
                raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    gc.collect()
    def threads():
        # One that isn't alive waits in its own start for the lock of an Event that was interrupted.
        return [
            t.name for t in threading.enumerate()
            if t.name.startswith("obspool-") and t.is_alive()
        ]
    def workers():
        # Those of multiprocessing stay for the process's life.
        multiprocessing.active_children()
        return [
            p.pid for p in psutil.Process().children(recursive=True)
            if p.status() != "zombie" and not (
                {{"forkserver", "resource_tracker"}} & set(" ".join(p.cmdline()).replace(".", " ")
                .replace(";", " ").split()) and p.ppid() == os.getpid()
            )
        ]
    poll(lambda: gc.collect() >= 0 and not threads(), message=lambda: str(threads()))
    poll(lambda: not workers(), message=lambda: str(workers()))
    print(interrupted)
"""


def test_ctrl_c_at_any_instruction_is_one_interrupt_and_leaves_nothing(
    start_method: str, tmp_path: Path
) -> None:
    """From the making of a pool to its end: each is raised in the caller, and no worker stays."""
    rounds = INTERRUPTS[start_method]
    out = programs.run(tmp_path, start_method, _INTERRUPTED.format(rounds=rounds))
    assert int(out) >= rounds // 10  # the others were over before, on a loaded machine


def test_workers_forked_among_busy_threads(mp_context: BaseContext) -> None:
    """Threads hold locks of all kinds at each fork; workers are replaced all the time."""
    done = threading.Event()
    log = logging.getLogger("tests.faults")

    def churn(pool: Pool, number: int) -> int:
        rounds = 0
        while not done.is_set():
            log.debug("%s", [number] * 100)
            compile("x = 1", "<churn>", "exec")
            assert pool.apply_async(work.double, (number,)).get(GET) == 2 * number
            rounds += 1
        return rounds

    with Pool(2, maxtasksperchild=5, context=mp_context) as pool:
        found: list[int] = []
        threads = [
            threading.Thread(target=lambda n=n: found.append(churn(pool, n))) for n in range(6)
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                assert pool.map(work.double, range(20), 1) == list(range(0, 40, 2))
        finally:
            done.set()
        for thread in threads:
            thread.join(GET)
        assert len(found) == 6
        assert all(found)
        stats = ended(pool)
    assert stats.worker_exits["tasks"] >= 12  # type: ignore[index]


def test_a_forked_child_harms_no_pool_of_its_parent(mp_context: BaseContext) -> None:
    """In the middle of its work: the child's calls are errors, its end and its garbage harmless."""
    fork = multiprocessing.get_context("fork")
    with Pool(2, context=mp_context) as pool:
        result = pool.map_async(work.work, [1.0] * 300, 1)
        results = pool.imap(work.double, range(300))
        assert next(results) == 0
        ours, theirs = fork.Pipe()

        def child() -> None:
            found = []
            calls: list[Any] = [
                lambda: pool.map(work.double, [1]),
                lambda: pool.imap(work.double, [1]),
                pool.stats,
                pool.recycle,
            ]
            for call in calls:
                try:
                    call()
                except Exception as error:
                    found.append(type(error).__name__)
            pool.close()
            pool.terminate()
            pool.join()
            theirs.send(found)

        with ours, theirs:
            process = fork.Process(target=child)
            process.start()
            assert ours.poll(GET)
            assert ours.recv() == [ForkedPoolError.__name__] * 4
            process.join(GET)
            assert process.exitcode == 0
            process.close()
        assert list(results) == list(range(2, 600, 2))
        assert len(result.get(GET)) == 300
        ended(pool)
