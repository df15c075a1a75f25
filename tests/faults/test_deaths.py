"""Workers that die: lost is what ran there, and nothing else, whenever it happens."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from obspool import Pool, PoolBrokenError, WorkerLostError
from obspool.words import ExitReason, Outcome
from tests.faults import deeds, programs
from tests.helpers import poll
from tests.pool import work
from tests.pool.ending import ended

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import BaseContext

GET = 20.0
LARGE = 32 << 20  # bytes, far more than a channel holds


def test_a_segmentation_fault_is_named_and_takes_one_item(mp_context: BaseContext) -> None:
    with Pool(2, context=mp_context) as pool:
        found = pool.map(deeds.segfault, [1, "segfault", 3, 4], 1, return_exceptions=True)
        lost = found.pop(1)
        assert isinstance(lost, WorkerLostError)
        assert lost.exitcode == -signal.SIGSEGV
        assert "killed by SIGSEGV" in str(lost)
        assert found == [1, 3, 4]
        poll(lambda: len(pool._pool) == 2)


def test_an_error_has_all_that_is_known_of_the_death(
    mp_context: BaseContext, tmp_path: Path
) -> None:
    with Pool(1, context=mp_context) as pool:
        (process,) = pool._pool
        result = pool.map_async(_wait_and_die, [str(tmp_path)], 1)
        resident = poll(lambda: pool.stats().workers[0].resident_memory)
        (tmp_path / "go").touch()
        with pytest.raises(WorkerLostError) as caught:
            result.get(GET)
    error = caught.value
    assert (error.slot, error.pid, error.exitcode) == (0, process.pid, -signal.SIGKILL)
    assert (error.function, error.item, list(error.finished)) == ("_wait_and_die", 0, [])
    assert error.seconds is not None
    assert 0.0 < error.seconds < GET
    assert error.memory >= resident // 2
    assert not error.out_of_memory


def _wait_and_die(folder: str) -> None:
    work.until_there(str(Path(folder, "go")))
    deeds.kill_this()


@pytest.fixture(name="memory_limit")
def _memory_cgroup() -> Iterator[Path]:
    """A cgroup whose processes may have 160 MiB; the file to write a pid into."""
    for parent, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        group = parent / f"obspool-test-{os.getpid()}"
        try:
            group.mkdir()
            (group / limit).write_text(str(160 << 20))
        except OSError:
            with suppress(OSError):
                group.rmdir()
        else:
            break
    else:
        pytest.skip("no cgroup with a memory limit can be made here (it takes root)")
    processes = group / "cgroup.procs"
    yield processes
    poll(lambda: not processes.read_text())
    group.rmdir()


def test_a_worker_that_runs_out_of_memory_is_said_to_have(
    start_method: str, tmp_path: Path, memory_limit: Path
) -> None:
    """The kernel's SIGKILL is told from anybody else's, by its counters."""
    source = f"""
        with open({str(memory_limit)!r}, "w") as processes:
            processes.write(str(os.getpid()))
        with Pool(1, context=context) as pool:
            poll(lambda: pool._live().engine._oom_kills)
            for function, argument in ((bytearray, 1 << 30), (work.die, "kill")):
                try:
                    pool.apply(function, (argument,))
                except WorkerLostError as error:
                    print(error.out_of_memory, error)
            print(*[event.text for event in pool.stats().events], sep="\\n")
    """
    out = programs.run(tmp_path, start_method, source, OBSPOOL_CONTROL="0")
    memory, killed, *events = out.splitlines()
    assert memory.startswith("True")
    assert "SIGKILL, probably out of memory, while it ran item 0 of bytearray" in memory
    assert killed.startswith("False")
    assert "memory," not in killed
    assert sum("killed by SIGKILL, probably out of memory" in text for text in events) == 1


@pytest.mark.parametrize("chunk", [1, 3])
def test_a_map_raises_when_all_the_others_have_run(
    mp_context: BaseContext, tmp_path: Path, chunk: int
) -> None:
    items = [(str(tmp_path), number, number == 1) for number in range(7)]
    with Pool(2, context=mp_context) as pool:
        with pytest.raises(WorkerLostError, match="item 1 of touch_or_die"):
            pool.map(deeds.touch_or_die, items, chunk)
        ran = {int(path.name) for path in tmp_path.iterdir()}
        assert ran == {0, 2, 3, 4, 5, 6}


def test_all_idle_workers_killed_at_once_cost_nobody_anything(mp_context: BaseContext) -> None:
    """Also a pool of one, which is then without any."""
    with Pool(1, context=mp_context) as pool:
        for _ in range(2):
            assert pool.map(work.double, [1, 2], 1) == [2, 4]
            (process,) = pool._pool
            os.kill(process.pid, signal.SIGKILL)
        assert pool.map_async(work.double, [3, 4], 1).get(GET) == [6, 8]
        stats = ended(pool)
    assert stats.items_completed[Outcome.LOST] == 0
    assert stats.worker_exits[ExitReason.LOST] == 2


def test_an_argument_half_received_is_run_elsewhere(mp_context: BaseContext) -> None:
    """Its item had not begun, so it isn't lost; nor is what came behind it."""
    with Pool(1, context=mp_context) as pool:
        assert pool.apply(work.double, (1,)) == 2
        (process,) = pool._pool
        os.kill(process.pid, signal.SIGSTOP)
        large = pool.apply_async(len, (bytes(LARGE),))
        small = pool.map_async(work.double, range(5), 1)
        engine: Any = pool._live().engine
        poll(lambda: [one for one in engine._workers.values() if one.writing])
        os.kill(process.pid, signal.SIGKILL)
        assert large.get(GET) == LARGE
        assert small.get(GET) == [0, 2, 4, 6, 8]
        stats = ended(pool)
    assert stats.items_completed[Outcome.LOST] == 0
    assert stats.worker_exits[ExitReason.LOST] == 1


@pytest.mark.parametrize("chunk", [1, 4])
def test_an_argument_that_kills_who_loads_it_is_given_up(
    mp_context: BaseContext, chunk: int
) -> None:
    """It is loaded with its chunk: that may be lost item by item, and nothing else is."""
    items = [0, 1, deeds.Lethal(), *range(3, 12)]
    with Pool(1, context=mp_context) as pool:
        found = pool.map_async(work.identity, items, chunk, return_exceptions=True).get(GET)
        lost = [index for index, value in enumerate(found) if isinstance(value, WorkerLostError)]
        assert 2 in lost
        assert set(lost) <= {0, 1, 2, 3}
        assert found[4:] == list(range(4, 12))
        stats = ended(pool)
    assert stats.items_completed[Outcome.LOST] == len(lost)
    assert 1 <= stats.worker_exits[ExitReason.LOST] <= len(lost)


def test_items_that_kill_again_and_again_take_nothing_with_them(mp_context: BaseContext) -> None:
    """So that a pool which loses each worker at once still does all of its work."""
    items: list[Any] = [0, "kill", 2, "_exit", 4, "exit", "kill", 7]
    with Pool(2, context=mp_context) as pool:
        result = pool.map_async(_slowly, items, 1, return_exceptions=True)
        found = [type(v).__name__ if isinstance(v, Exception) else v for v in result.get(GET)]
        assert found == [v if isinstance(v, int) else "WorkerLostError" for v in items]
        stats = ended(pool)
    assert stats.worker_exits[ExitReason.LOST] == stats.items_completed[Outcome.LOST] == 4


def _slowly(item: Any) -> Any:
    work.work(2)  # so that its result leaves before the next item begins
    return work.die_at(item)


def test_workers_killed_again_and_again_under_load(mp_context: BaseContext) -> None:
    """Every item has one outcome, few are lost, and the pool keeps its size."""
    kills, items = 6, 300
    random = Random(5)  # noqa: S311 - to be the same each time
    with Pool(2, context=mp_context) as pool:
        results = pool.imap_unordered(work.work, [1.0] * items, return_exceptions=True)
        found = []
        for _ in range(kills):
            found += [results.next(GET) for _ in range(items // kills // 2)]
            os.kill(random.choice(pool._pool).pid, signal.SIGKILL)
        found += list(results)
        lost = [value for value in found if isinstance(value, WorkerLostError)]
        assert len(found) == items
        assert len(lost) <= 3 * kills
        assert {type(value) for value in found} <= {int, WorkerLostError}
        poll(lambda: len(pool._pool) == 2)
        stats = ended(pool)
    assert stats.items_completed[Outcome.LOST] == len(lost)
    assert stats.items_completed[Outcome.OK] == items - len(lost)


def test_an_initializer_that_fails_is_tried_a_few_times_and_no_more(
    mp_context: BaseContext, tmp_path: Path
) -> None:
    with Pool(2, deeds.count_start_and_fail, (str(tmp_path),), context=mp_context) as pool:
        with pytest.raises(PoolBrokenError):
            pool.apply_async(work.double, (1,)).get(GET)
        pool.close()
        pool.join()
        starts = len(list(tmp_path.iterdir()))
        assert 3 <= starts <= 6
        assert pool.stats().outcome == "broken"
        assert not pool._pool


@pytest.mark.parametrize(
    "initializer", [deeds.start_with_any_error, deeds.start_with_leaving_error, deeds.kill_this]
)
def test_however_an_initializer_fails_the_pool_says_so(
    mp_context: BaseContext, initializer: Any
) -> None:
    """With what is no Exception, with an error that can't be loaded, by its death."""
    with Pool(1, initializer, context=mp_context) as pool:
        with pytest.raises(PoolBrokenError) as caught:
            pool.apply_async(work.double, (1,)).get(GET)
        assert caught.value.__cause__ is not None
        with pytest.raises(PoolBrokenError):
            pool.map(work.double, [1])
