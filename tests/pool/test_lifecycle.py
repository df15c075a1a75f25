from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from obspool import (
    ForkedPoolError,
    Pool,
    PoolBrokenError,
    PoolTerminatedError,
    ThreadPool,
)
from tests.cli.environment import environment
from tests.helpers import poll, process_gone
from tests.pool import scripts, work

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext
    from pathlib import Path

GET = 20.0


def _threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name.startswith("obspool-")}


def _close(pool: Pool) -> None:
    pool.close()
    pool.join()


def _terminate(pool: Pool) -> None:
    pool.terminate()
    pool.join()


def _leave(pool: Pool) -> None:
    with pool:
        pass


ENDS: dict[str, Callable[[Pool], None]] = {
    "close": _close,
    "terminate": _terminate,
    "with": _leave,
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("used", [True, False])
def test_an_ended_pool_leaves_no_process_no_thread_and_no_descriptor(
    mp_context: BaseContext, end: str, used: bool
) -> None:
    """After its end nothing of a pool is left in this process, nor outside."""
    Pool(1, context=mp_context).terminate()  # helpers of multiprocessing start at the first one
    gc.collect()
    threads = _threads()
    descriptors = psutil.Process().num_fds()
    pool = Pool(2, context=mp_context)
    pids = [process.pid for process in pool._pool]
    if used:
        pool.map(work.double, range(10))
        list(pool.imap(work.double, iter(range(10))))
        pool.apply_async(work.double, (1,), callback=lambda _: None).get(GET)
    ENDS[end](pool)
    poll(lambda: all(process_gone(pid) for pid in pids))
    poll(lambda: _threads() <= threads, message=lambda: str(_threads() - threads))
    del pool
    gc.collect()
    poll(lambda: psutil.Process().num_fds() <= descriptors)


def test_a_pool_nobody_refers_to_ends(mp_context: BaseContext) -> None:
    """The garbage collector ends it, with a ResourceWarning, as in the stdlib."""
    threads = _threads()
    pool = Pool(2, context=mp_context)
    pool.map(work.double, range(10))
    pids = [process.pid for process in pool._pool]
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):  # noqa: PT031
        del pool
        gc.collect()
    gc.collect()  # the recorded warning referred to the pool
    poll(lambda: all(process_gone(pid) for pid in pids))
    poll(lambda: _threads() <= threads)


def test_a_pool_lives_as_long_as_its_results_are_waited_for() -> None:
    """`Pool(2).map_async(...)` works without a name for the pool."""
    import warnings  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        result = Pool(1).map_async(work.double, range(50), 1)
        gc.collect()
        assert result.get(GET) == [2 * i for i in range(50)]
        del result
        gc.collect()


def test_close_finishes_what_is_there_and_refuses_more() -> None:
    """Calls made before close have their results; later ones raise the stdlib's ValueError."""
    with Pool(2) as pool:
        result = pool.map_async(work.double, range(200), 1)
        iterator = pool.imap(work.double, iter(range(200)))
        pool.close()
        for call in (
            lambda: pool.map(work.double, [1]),
            lambda: pool.apply_async(work.double, (1,)),
            lambda: pool.imap(work.double, [1]),
        ):
            with pytest.raises(ValueError, match="Pool not running"):
                call()
        pool.join()
        assert result.get(0) == list(iterator) == [2 * i for i in range(200)]


def test_join_on_a_running_pool_is_refused() -> None:
    """As in the stdlib."""
    with Pool(1) as pool, pytest.raises(ValueError, match="Pool is still running"):
        pool.join()


def test_terminate_gives_every_pending_call_an_error(
    mp_context: BaseContext, tmp_path: Path
) -> None:
    """Whoever waits gets a PoolTerminatedError, where the stdlib would let it wait for ever."""
    never = str(tmp_path / "never")
    with Pool(1, context=mp_context) as pool:
        results: list[Any] = [
            pool.apply_async(work.until_there, (never,)),
            pool.map_async(work.until_there, [never] * 5, 2),
            pool.apply_async(work.double, (1,)),
        ]
        iterator = pool.imap(work.until_there, [never] * 3)
        errors: list[BaseException] = []

        def wait() -> None:
            try:
                pool.map(work.until_there, [never])
            except PoolTerminatedError as error:
                errors.append(error)

        waiter = threading.Thread(target=wait)
        waiter.start()
        poll(lambda: pool.stats().tasks.running == 1)
        poll(lambda: pool.stats().jobs_in_progress == 5)
        pool.terminate()
        for result in results:
            with pytest.raises(PoolTerminatedError):
                result.get(GET)
        found = work.drain(iterator)
        assert [value[0] for _, value in found] == ["PoolTerminatedError"] * 3
        waiter.join(GET)
        assert len(errors) == 1


def test_terminate_with_an_iterable_that_never_goes_on() -> None:
    """A feeder that is in the caller's generator for ever keeps no one waiting."""
    stuck = threading.Event()

    def items() -> Any:
        yield 1
        stuck.wait()

    with Pool(1) as pool:
        iterator = pool.imap(work.double, items())
        assert iterator.next(GET) == 2
        pool.terminate()
        assert [value[0] for _, value in work.drain(iterator)] == ["PoolTerminatedError"]
        stuck.set()
        pool.join()


def test_terminate_from_a_callback() -> None:
    """A callback may end the pool it belongs to, and wait for its end."""
    ended = threading.Event()
    with Pool(2) as pool:

        def end(_: Any) -> None:
            pool.terminate()
            pool.join()
            ended.set()

        pool.apply_async(work.double, (1,), callback=end).wait(GET)
        assert ended.wait(GET)


@pytest.mark.parametrize("make", [Pool, ThreadPool])
def test_callbacks_run_before_get_returns(make: type[Pool]) -> None:
    """What a callback did is there when get() returns; error callbacks too."""
    seen: list[Any] = []
    with make(2) as pool:
        for n in range(50):
            pool.apply_async(work.double, (n,), callback=seen.append).get(GET)
            assert seen[-1] == 2 * n
        result = pool.map_async(work.double, [1, -1], error_callback=seen.append)
        with pytest.raises(work.CustomError):
            result.get(GET)
        assert isinstance(seen[-1], work.CustomError)
        assert pool.map_async(work.double, [1, 2], callback=seen.append).get(GET) == seen[-1]


def test_a_callback_that_raises_is_the_results_error_and_is_counted() -> None:
    """No thread dies of it, as the stdlib's does, and later calls work."""

    def fail(_: Any) -> None:
        raise work.CustomError("callback")

    with Pool(1) as pool:
        for _ in range(2):
            with pytest.raises(work.CustomError, match="callback"):
                pool.apply_async(work.double, (1,), callback=fail).get(GET)
        with pytest.raises(work.CustomError, match="callback"):
            pool.apply_async(work.double, (-1,), error_callback=fail).get(GET)
        assert pool.apply(work.double, (2,)) == 4
        pool.close()
        pool.join()
        assert pool.stats().callback_errors == 3


def test_a_callback_may_call_the_pool() -> None:
    """Nothing is locked while user code runs."""
    with Pool(1) as pool:
        results: list[Any] = []

        def again(value: int) -> None:
            results.append(pool.apply_async(work.double, (value,)))
            results.append(pool.map(work.double, [value]))

        pool.apply_async(work.double, (1,), callback=again).wait(GET)
        assert results[0].get(GET) == 4
        assert results[1] == [4]


def test_an_initializer_that_raises_breaks_the_pool(mp_context: BaseContext) -> None:
    """Calls raise PoolBrokenError with the initializer's own error as cause, at once."""
    with Pool(2, work.fail_at_start, (7,), context=mp_context) as pool:
        with pytest.raises(PoolBrokenError) as caught:
            pool.map_async(work.double, range(5)).get(GET)
        assert type(caught.value.__cause__) is work.CustomError
        assert caught.value.__cause__.args == ("no model", 7)
        with pytest.raises(PoolBrokenError, match="no model"):
            pool.map(work.double, [1])
        pool.terminate()
        pool.join()
        assert pool.stats().outcome == "broken"


def test_an_initializer_that_exits_breaks_the_pool(mp_context: BaseContext) -> None:
    """sys.exit and death in an initializer too."""
    with (
        Pool(1, work.die, ("_exit",), context=mp_context) as pool,
        pytest.raises(PoolBrokenError, match="exit code 7"),
    ):
        pool.map_async(work.double, range(5)).get(GET)


def test_a_forked_child_cannot_use_the_pool_and_does_it_no_harm() -> None:
    """In the child every call is a ForkedPoolError; its end and garbage leave the pool alone."""
    context = multiprocessing.get_context("fork")
    with Pool(2, context=context) as pool:
        pool.map(work.double, range(10))
        ours, theirs = context.Pipe()

        def child() -> None:
            found = []
            for call in (
                lambda: pool.map(work.double, [1]),
                lambda: pool.apply_async(work.double, (1,)),
                lambda: pool.imap(work.double, [1]),
                pool.stats,
            ):
                try:
                    call()
                except ForkedPoolError:
                    found.append("ForkedPoolError")
                except BaseException as error:
                    found.append(repr(error))
            pool.terminate()
            theirs.send(found)

        with ours, theirs:
            process = context.Process(target=child)
            process.start()
            assert ours.poll(GET)
            assert ours.recv() == ["ForkedPoolError"] * 4
            process.join(GET)
            assert process.exitcode == 0
            process.close()
        assert pool.map(work.double, range(10)) == [2 * i for i in range(10)]


def _pool_of_its_own(method: str) -> list[int]:
    with Pool(2, context=multiprocessing.get_context(method)) as pool:
        return pool.map(work.double, range(5))


def test_a_pool_works_within_a_daemonic_process(start_method: str) -> None:
    """A worker is daemonic: in it, a pool of its own works, where the stdlib refuses."""
    # The outer pool's worker by the same method: a forked child can't use its parent's forkserver.
    with Pool(1, context=multiprocessing.get_context(start_method)) as pool:
        result = pool.apply_async(_pool_of_its_own, (start_method,))
        assert result.get(GET) == [0, 2, 4, 6, 8]


def test_a_worker_killed_with_a_pool_of_its_own_takes_that_with_it(tmp_path: Path) -> None:
    """Nobody outlives the parent, over two generations."""
    with Pool(1) as pool:
        pool.apply_async(_nested, (str(tmp_path),))
        inner = poll(lambda: [int(path.name) for path in tmp_path.iterdir()])
    poll(lambda: all(process_gone(pid) for pid in inner))


def _nested(path: str) -> None:
    os.environ["OBSPOOL_DISABLE"] = "1"  # a killed owner can't take its socket away
    with Pool(1) as pool:
        pool.apply(work.tell_and_wait, (path,))


BUSY = {
    "idle": "pool.map(work.double, [1, 2], 1); print('ready', flush=True); time.sleep(60)",
    "busy": "pool.map_async(work.tell_and_wait, [directory] * 4, 1); time.sleep(60)",
    "in C": "pool.map_async(work.tell_and_spin, [directory] * 4, 1); time.sleep(60)",
}


@pytest.mark.parametrize("state", BUSY)
def test_no_worker_outlives_a_killed_parent(start_method: str, state: str, tmp_path: Path) -> None:
    """Within two seconds of a SIGKILL every worker is gone, also one that holds the GIL in C."""
    source = f"""
import multiprocessing, sys, time
from obspool import Pool
from tests.pool import work
directory = {str(tmp_path)!r}
if __name__ == "__main__":
    pool = Pool(2, context=multiprocessing.get_context({start_method!r}))
    print(*[process.pid for process in pool._pool], flush=True)
    {BUSY[state]}
"""
    path = tmp_path.with_suffix(".py")
    path.write_text(source)
    with subprocess.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(OBSPOOL_DISABLE="1"),  # a killed owner can't take its socket away
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        if state == "idle":
            parent.stdout.readline()
        else:
            poll(lambda: len(list(tmp_path.iterdir())) == 2)
        parent.kill()
        poll(lambda: all(process_gone(pid) for pid in pids), deadline=2.0)


def test_ctrl_c_is_one_interrupt_and_leaves_nothing(start_method: str, tmp_path: Path) -> None:
    """SIGINT to all processes of the terminal: the program has one traceback, workers have none."""
    source = f"""
import multiprocessing
from obspool import Pool
from tests.pool import work
if __name__ == "__main__":
    with Pool(2, context=multiprocessing.get_context({start_method!r})) as pool:
        print(*[process.pid for process in pool._pool], flush=True)
        pool.map(work.tell_and_wait, [{str(tmp_path)!r}] * 2, 1)
"""
    path = tmp_path.with_suffix(".py")
    path.write_text(source)
    with subprocess.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    ) as parent:
        try:
            assert parent.stdout is not None
            pids = [int(word) for word in parent.stdout.readline().split()]
            poll(lambda: len(list(tmp_path.iterdir())) == 2)
            os.killpg(parent.pid, signal.SIGINT)
            _, err = parent.communicate(timeout=GET)
        finally:
            if parent.poll() is None:
                os.killpg(parent.pid, signal.SIGKILL)
    assert parent.returncode == -signal.SIGINT
    assert err.count("Traceback") == 1, err
    assert err.rstrip().endswith("KeyboardInterrupt")
    poll(lambda: all(process_gone(pid) for pid in pids))


@pytest.mark.parametrize("end", ["pass", "pool.close()", "raise SystemExit(0)"])
def test_a_program_that_ends_without_a_word_ends(
    start_method: str, tmp_path: Path, end: str
) -> None:
    """At the interpreter's end a pool is terminated, whatever it does, and the program exits."""
    source = f"""
        import threading, warnings
        warnings.simplefilter("ignore", ResourceWarning)
        if __name__ == "__main__":
            pool = Pool(2, context=context)
            print(pool.map(len, ["a"]), flush=True)
            {end}
    """
    assert scripts.script(tmp_path, start_method, source) == "[1]\n"


def test_a_thread_pool_ends_without_waiting_for_what_runs(tmp_path: Path) -> None:
    """Threads can't be killed: terminate drops what has not begun, and gives all an error."""
    go = tmp_path / "go"
    with ThreadPool(1) as pool:
        results = [pool.apply_async(work.until_there, (str(go),)) for _ in range(3)]
        poll(lambda: pool.stats().tasks.running == 1)
        pool.terminate()
        for result in results:
            with pytest.raises(PoolTerminatedError):
                result.get(GET)
    go.touch()
    pool.join()


def test_signal_handlers_may_call_the_pool() -> None:
    """A handler that interrupts a caller anywhere in the pool's code may call the pool itself."""
    with Pool(1) as pool:
        made: list[Any] = []

        def handler(*_: Any) -> None:
            made.append(pool.apply_async(work.double, (3,)))

        before = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        try:
            for _ in range(40):
                assert pool.map(work.double, range(40), 1) == [2 * i for i in range(40)]
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert made
        assert {result.get(GET) for result in made} == {6}


@pytest.mark.parametrize("call", ["map", "apply", "imap"])
def test_a_signal_that_does_not_wake_who_waits_is_noticed(call: str, tmp_path: Path) -> None:
    """It came just before the wait or, as here, to another thread: the handler runs soon."""

    class InterruptedHereError(Exception):
        pass

    def handler(*_: object) -> None:
        raise InterruptedHereError

    def interrupt() -> None:
        poll(lambda: list(tmp_path.iterdir()))
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    calls: dict[str, Callable[[Pool], object]] = {
        "map": lambda pool: pool.map(work.tell_and_wait, [str(tmp_path)], 1),
        "apply": lambda pool: pool.apply(work.tell_and_wait, (str(tmp_path),)),
        "imap": lambda pool: next(pool.imap(work.tell_and_wait, [str(tmp_path)])),
    }
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with Pool(1) as pool:
            interrupter = threading.Thread(target=interrupt)
            interrupter.start()
            with pytest.raises(InterruptedHereError):
                calls[call](pool)
            interrupter.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
