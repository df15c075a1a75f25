"""`pool.stack`: what a worker does, also one that is stuck; and that looking harms nobody."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from obspool import ForkedPoolError, Pool, StackUnavailableError, ThreadPool, WorkerLostError
from obspool.engines import stacks
from obspool.telemetry import registry
from obspool.words import ExitReason, WorkerState
from tests.helpers import poll
from tests.pool import work
from tests.pool.ending import ended

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext

pytestmark = [
    pytest.mark.skipif(not stacks.AVAILABLE, reason="no pidfd here: no stacks of processes"),
    pytest.mark.timeout(45),
]

FORK = multiprocessing.get_context("fork")

SPAWN = multiprocessing.get_context("spawn")


def test_its_file_is_taken_for_nobodys_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has not set OBSPOOL_DIR looks for segments among all processes' descriptors."""
    monkeypatch.delenv("OBSPOOL_DIR")
    with Pool(1, context=FORK) as pool:
        pids = [os.getpid(), *[process.pid for process in pool._pool]]
        assert pool.name
        skipped = registry.list_pools().skipped
        assert not [
            one for one in skipped if one.path.startswith(tuple(f"/proc/{p}/" for p in pids))
        ]


def _skip_if_deaf(context: BaseContext) -> None:
    """See `_DEAF_AFTER_FORK` in `obspool.engines.stacks`: what runs is not told of there."""
    if stacks._DEAF_AFTER_FORK and context.get_start_method() == "fork":
        pytest.skip("Python 3.13.0 looks at no signals after a fork")


def _begin(path: str) -> None:
    Path(path, f"begun-{os.getpid()}").touch()


def spin(path: str) -> int:
    """Run Python code until a file is there."""
    _begin(path)
    rounds = 0
    while rounds % 64 or not Path(path, "go").exists():
        rounds += 1
        innermost(rounds)
    return 42


def innermost(number: int) -> list[int]:
    return [one for one in range(number % 5)]  # noqa: C416 - frames, also within a comprehension


def hold_gil(path: str) -> int:
    _begin(path)
    return sum(range(10**12))


def hold_gil_in_regex(path: str) -> Any:
    _begin(path)
    return re.match(r"(a+)+b", "a" * 40)


def wait_in_kernel(path: str) -> int:
    """Wait in a call that a signal doesn't end."""
    reading, _writing = os.pipe()
    _begin(path)
    return len(os.read(reading, 1))


def sleep(path: str) -> int:
    _begin(path)
    while not Path(path, "go").exists():
        time.sleep(0.05)
    return 42


def spin_with_threads(path: str) -> int:
    """Have more threads than faulthandler would show, and some that run."""
    stop = threading.Event()

    def helper() -> None:
        stop.wait()

    def busy_helper() -> None:
        while not stop.is_set():
            innermost(3)

    targets = [helper] * 120 + [busy_helper] * 2
    threads = [
        threading.Thread(target=target, name=f"helper-{index}")
        for index, target in enumerate(targets)
    ]
    for thread in threads:
        thread.start()
    result = sleep(path)
    stop.set()
    for thread in threads:
        thread.join()
    return result


def count_or_wait(item: int) -> int:
    """Spend time in Python, in C and in the kernel by turns."""
    total = 0
    for turn in range(40):
        total += len(innermost(turn)) + sum(range(20_000 * (turn % 4)))
        exec(compile(f"def made():\n    return {turn}\nmade()", "<made>", "exec"), {})  # noqa: S102
        if not turn % 20:
            time.sleep(0.001)
    return item if total else -1


def _begun(path: Path, count: int = 1) -> list[int]:
    """Wait until so many items have begun; return their processes."""
    poll(lambda: len(list(path.glob("begun-*"))) >= count)
    found = list(path.glob("begun-*"))
    return [int(one.name.removeprefix("begun-")) for one in found]


def _stack(pool: Pool, slot: int, function: str) -> str:
    """Ask until the item's function is in the answer: it may not have begun."""
    return _until_in(f" in {function}\n", lambda: pool.stack(slot))


def _until_in(part: str, ask: Callable[[], str]) -> str:
    return poll(lambda: text if part in (text := ask()) else "")


@pytest.mark.parametrize(
    "function",
    [spin, hold_gil, hold_gil_in_regex, wait_in_kernel, sleep],
)
def test_a_busy_worker_shows_what_it_runs(
    function: Any, mp_context: BaseContext, tmp_path: Path
) -> None:
    """In Python, in C with the GIL held, in the kernel, and asleep; and of ours nothing."""
    if function in {spin, hold_gil}:
        _skip_if_deaf(mp_context)
    with Pool(1, context=mp_context) as pool:
        pool.apply_async(function, (str(tmp_path),))
        _begun(tmp_path)
        text = _stack(pool, 0, function.__name__)
        assert text.startswith("Main thread")
        assert f'  File "{__file__}", line ' in text
        assert "obspool/worker" not in text
        assert "multiprocessing" not in text


def test_an_idle_worker_waits_for_work(mp_context: BaseContext) -> None:
    with Pool(1, context=mp_context) as pool:
        assert pool.apply(work.double, (2,)) == 4
        text = _stack(pool, 0, "_loop")
        assert "multiprocessing" not in text
        assert pool.apply(work.double, (2,)) == 4


@pytest.mark.parametrize("function", [spin, sleep])
def test_a_worker_goes_on(function: Any, mp_context: BaseContext, tmp_path: Path) -> None:
    """After fifty looks its result is right."""
    if function is spin:
        _skip_if_deaf(mp_context)
    with Pool(1, context=mp_context) as pool:
        result = pool.apply_async(function, (str(tmp_path),))
        _begun(tmp_path)
        for _ in range(50):
            assert pool.stack(0)
        Path(tmp_path, "go").touch()
        assert result.get(20) == 42
        assert not ended(pool).worker_exits[ExitReason.LOST]


@pytest.mark.slow
def test_workers_that_are_looked_at_all_the_time_lose_nothing(mp_context: BaseContext) -> None:
    """Whatever they do at that moment; several threads look at once."""
    _skip_if_deaf(mp_context)
    looks = 0
    with Pool(2, context=mp_context) as pool:
        poll(lambda: all(w.state is WorkerState.IDLE for w in pool.stats().workers))
        result = pool.map_async(count_or_wait, range(150), 5)

        def look(slot: int) -> None:
            nonlocal looks
            while not result.ready():
                assert pool.stack(slot)
                looks += 1

        with ThreadPoolExecutor(3) as lookers:
            for outcome in [lookers.submit(look, slot) for slot in (0, 1, 0)]:
                outcome.result()
        assert result.get() == list(range(150))
        assert not ended(pool).worker_exits[ExitReason.LOST]
    assert looks > 20


def test_all_threads_of_a_worker_are_shown_the_main_one_first(
    mp_context: BaseContext, tmp_path: Path
) -> None:
    with Pool(1, context=mp_context) as pool:
        result = pool.apply_async(spin_with_threads, (str(tmp_path),))
        _begun(tmp_path)
        text = _until_in("Thread helper-119 ", lambda: pool.stack(0))
        assert text.startswith("Main thread (most recent call first):\n")
        assert " in sleep\n" in text.split("\n\n")[0]
        assert " in spin_with_threads.<locals>.busy_helper\n" in text
        assert "obspool/worker" not in text
        assert len(text) <= 1 << 16
        Path(tmp_path, "go").touch()
        assert result.get(20) == 42


def test_an_answer_may_be_cut_between_two_threads() -> None:
    """Of many threads there are more than an answer holds."""
    text = 'Main thread (most recent call first):\n  File "/user.py", line 1 in work\n'
    assert stacks.tidy(f"{text}\n") == text


def test_a_starting_worker_shows_its_initializer(mp_context: BaseContext, tmp_path: Path) -> None:
    """It is what often hangs."""
    with Pool(1, sleep, (str(tmp_path),), context=mp_context) as pool:
        (pid,) = _begun(tmp_path)
        assert " in sleep\n" in pool.stack(0)
        Path(tmp_path, "go").touch()
        assert pool.apply(work.where, (1,)) == (pid, 1)


class SlowProcess(FORK.Process):  # type: ignore[misc,name-defined]
    """A process that is long not a worker yet."""

    path = ""

    def run(self) -> None:
        sleep(self.path)
        super().run()


class SlowPool(Pool):
    """A pool whose processes take their time."""

    @staticmethod
    def Process(_context: Any, **arguments: Any) -> SlowProcess:  # type: ignore[override] # noqa: N802
        return SlowProcess(**arguments)


def test_a_worker_that_is_not_ready_for_it_is_not_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The signal would end it."""
    monkeypatch.setattr(SlowProcess, "path", str(tmp_path))
    with SlowPool(1, context=FORK) as pool:
        (pid,) = _begun(tmp_path)
        with pytest.raises(StackUnavailableError, match=rf"slot 0 \(pid {pid}\): it is still star"):
            pool.stack(0)
        Path(tmp_path, "go").touch()
        assert pool.apply(work.where, (1,)) == (pid, 1)


def test_a_stopped_worker_is_told_of_as_such(mp_context: BaseContext, tmp_path: Path) -> None:
    """And lives on; what it was asked before does no harm."""
    with Pool(1, context=mp_context) as pool:
        result = pool.apply_async(sleep, (str(tmp_path),))
        (pid,) = _begun(tmp_path)
        psutil.Process(pid).suspend()
        poll(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
        with pytest.raises(StackUnavailableError, match=f"it is stopped.*kill -CONT {pid}"):
            pool.stack(0)
        psutil.Process(pid).resume()
        assert " in sleep\n" in _stack(pool, 0, "sleep")
        Path(tmp_path, "go").touch()
        assert result.get(20) == 42


def block_signals(path: str) -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    return sleep(path)


def test_a_worker_that_blocks_signals_is_told_of_as_such(tmp_path: Path) -> None:
    with Pool(1, context=FORK) as pool:
        result = pool.apply_async(block_signals, (str(tmp_path),))
        _begun(tmp_path)
        with pytest.raises(StackUnavailableError, match="blocks signals"):
            pool.stack(0)
        Path(tmp_path, "go").touch()
        assert result.get(20) == 42


def test_a_worker_that_dies_meanwhile_is_told_of_as_such(tmp_path: Path) -> None:
    """Whenever it does."""
    with Pool(1, context=FORK) as pool:
        for turn in range(10):
            path = tmp_path / str(turn)
            path.mkdir()
            result = pool.apply_async(hold_gil, (str(path),))
            (pid,) = _begun(path)
            killer = threading.Timer(turn * 0.007, os.kill, (pid, signal.SIGKILL))
            killer.start()
            try:
                assert pool.stack(0)
            except StackUnavailableError as error:
                assert re.search("has ended|has no|still starting", str(error))  # noqa: PT017
            killer.join()
            with pytest.raises(WorkerLostError):
                result.get(20)
        assert pool.apply(work.double, (2,)) == 4


def test_two_who_ask_at_once_get_their_own_answers(tmp_path: Path) -> None:
    with Pool(2, context=SPAWN) as pool, ThreadPoolExecutor(2) as both:
        pool.apply_async(sleep, (str(tmp_path),))
        (sleeping,) = _begun(tmp_path)
        pool.apply_async(hold_gil, (str(tmp_path),))
        _begun(tmp_path, 2)
        functions = [
            " in sleep\n" if worker.pid == sleeping else " in hold_gil\n"
            for worker in sorted(pool.stats().workers, key=lambda worker: worker.slot)
        ]
        for slot in (0, 1):
            _stack(pool, slot, functions[slot].split()[1])
        for _ in range(10):
            answers = both.map(pool.stack, (0, 1))
            for slot, text in enumerate(answers):
                assert functions[slot] in text
                assert functions[1 - slot] not in text


def test_workers_of_a_template_tell(tmp_path: Path) -> None:
    """As the pool's first ones do, and successors that one alone made."""
    with Pool(9, maxtasksperchild=2, context=FORK) as pool:
        for turn in ("first", "later"):
            path = tmp_path / turn
            path.mkdir()
            results = [pool.apply_async(hold_gil_or_sleep, (str(path),)) for _ in range(9)]
            _begun(path, 9)
            for slot in range(9):
                assert " in hold_gil_or_sleep\n" in _stack(pool, slot, "hold_gil_or_sleep")
            (path / "go").touch()
            assert [result.get(20) for result in results] == [42] * 9
            pool.map(work.double, range(40), 1)
            assert pool._live().engine._template is not None  # type: ignore[attr-defined]
        assert not ended(pool).worker_exits[ExitReason.LOST]


def hold_gil_or_sleep(path: str) -> int:
    total = sum(range(3_000_000))
    return sleep(path) if total else 0


def test_a_recycled_slot_shows_its_new_worker(mp_context: BaseContext, tmp_path: Path) -> None:
    with Pool(1, context=mp_context) as pool:
        first = pool.apply(work.where, (1,))[0]
        pool.recycle(0)
        poll(lambda: pool.apply(work.where, (1,))[0] != first)
        result = pool.apply_async(sleep, (str(tmp_path),))
        _begun(tmp_path)
        assert _stack(pool, 0, "sleep")
        Path(tmp_path, "go").touch()
        assert result.get(20) == 42


def test_it_needs_no_thread_of_the_pool(tmp_path: Path) -> None:
    """So what keeps the scheduler can be seen, too."""
    held = threading.Event()
    with Pool(1, context=FORK) as pool:
        pool.apply_async(sleep, (str(tmp_path),))
        _begun(tmp_path)

        def hold() -> None:
            held.wait(30.0)

        pool._live().post(hold)
        assert " in sleep\n" in pool.stack(0)
        held.set()


def test_it_works_until_the_end(tmp_path: Path) -> None:
    with Pool(1, context=FORK) as pool:
        result = pool.apply_async(sleep, (str(tmp_path),))
        _begun(tmp_path)
        pool.close()
        assert " in sleep\n" in pool.stack(0)
        Path(tmp_path, "go").touch()
        pool.join()
        assert result.get(1) == 42
        with pytest.raises(StackUnavailableError, match="has ended"):
            pool.stack(0)


def test_without_a_word_to_the_main_thread_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Before Linux 6.9 the whole process gets the signal."""
    monkeypatch.setattr(stacks, "_TO_MAIN_THREAD", 1 << 30)
    with Pool(1, context=SPAWN) as pool:
        pool.apply_async(hold_gil, (str(tmp_path),))
        _begun(tmp_path)
        assert " in hold_gil\n" in _stack(pool, 0, "hold_gil")


@pytest.mark.parametrize("make", [Pool, ThreadPool])
@pytest.mark.parametrize("slot", [-1, 2])
def test_a_slot_that_does_not_exist(make: Any, slot: int) -> None:
    with make(2) as pool, pytest.raises(ValueError, match=f"from 0 to 1, not {slot}"):
        pool.stack(slot)


def test_a_thread_shows_what_it_runs(tmp_path: Path) -> None:
    with ThreadPool(1) as pool:
        result = pool.apply_async(sleep, (str(tmp_path),))
        _begun(tmp_path)
        text = pool.stack(0)
        assert text.startswith("Thread obspool-")
        assert " in sleep\n" in text
        assert "obspool/worker" not in text
        Path(tmp_path, "go").touch()
        assert result.get(20) == 42
        assert "sleep" not in _until_in(" in ThreadEngine._run\n", lambda: pool.stack(0))
        ended(pool)
        with pytest.raises(StackUnavailableError, match="has ended"):
            pool.stack(0)


def test_a_forked_child_is_refused() -> None:
    with Pool(1, context=FORK) as pool:
        child = FORK.Process(target=_exit_by_error, args=(pool,))
        child.start()
        child.join(20)
        assert child.exitcode == 5


def _exit_by_error(pool: Pool) -> None:
    try:
        pool.stack(0)
    except ForkedPoolError:
        os._exit(5)
