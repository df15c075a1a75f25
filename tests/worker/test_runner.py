from __future__ import annotations

import threading
import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from obspool.messages import Batch, Call, FunctionMessage, Kind
from obspool.serial import dumps
from obspool.telemetry.layout import LATENCY_BOUNDS
from obspool.words import Outcome
from obspool.worker.runner import SLICE_ITEMS
from tests.helpers import poll
from tests.worker.stage import SKIPPED, Failed, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

# Of the test that runs: its stage, for functions that look at it or act on it while they run.
_now: list[Any] = []


@pytest.fixture
def stage() -> Any:
    """A worker's runner without a process."""
    made = Stage()
    _now[:] = [made]
    yield made
    _now.clear()


def _double(item: int) -> int:
    return 2 * item


def _fail_at_three(item: int) -> int:
    if item == 3:
        raise ValueError(item)
    return item


def _stop_iteration(item: int) -> int:
    if item == 2:
        raise StopIteration(item)
    return item


def _exit_at_two(item: int) -> int:
    if item == 2:
        raise SystemExit(3)
    return item


def _interrupt_at_two(item: int) -> int:
    if item == 2:
        raise KeyboardInterrupt
    return item


def _lock_at_two(item: int) -> Any:
    return threading.Lock() if item == 2 else item


def _begun(item: int) -> int:
    return int(_now[0].claims.begun())


def _revoke_at_five(item: int) -> int:
    if item == 5:
        claims = _now[0].claims
        _now.append(claims.revoke(0, 100))
    return item


def _add(*arguments: int, **named: int) -> int:
    return sum(arguments) + sum(named.values())


ERROR = Failed(ValueError(3))


def test_a_chunk_of_map_stops_at_an_error_and_skips_the_rest(stage: Stage) -> None:
    """As in the stdlib nothing runs after an error in its chunk; what ran before is reported."""
    stage.run(_fail_at_three, stage.chunk(range(8)))
    assert stage.results == [0, 1, 2, ERROR, *[SKIPPED] * 4]
    assert stage.read("items", Outcome.OK) == 3
    assert stage.read("items", Outcome.ERROR) == 1
    assert stage.read("items", Outcome.SKIPPED) == 4
    assert stage.read("tasks", Outcome.ERROR) == 1
    assert stage.read("tasks", Outcome.OK) == 0


def test_a_chunk_of_imap_goes_on_after_an_error(stage: Stage) -> None:
    """An imap's chunk gives every item its outcome."""
    stage.run(_fail_at_three, stage.chunk([3, 1, 3, 2, 3, 3, 4], stop=False))
    assert stage.results == [ERROR, 1, ERROR, 2, ERROR, ERROR, 4]
    assert stage.read("items", Outcome.OK) == 3
    assert stage.read("items", Outcome.ERROR) == 4


def test_an_error_does_not_stop_the_next_chunk(stage: Stage) -> None:
    """An error concerns its own chunk only."""
    stage.run(_fail_at_three, stage.chunk([3, 4]), stage.chunk([5, 6]))
    assert stage.results == [ERROR, SKIPPED, 5, 6]
    assert stage.read("process_tasks") == 2


@pytest.mark.parametrize("chunk", [True, False])
def test_an_item_that_raises_stop_iteration_has_an_error(stage: Stage, chunk: bool) -> None:
    """StopIteration from an item is its error, and ends neither the slice nor the results."""
    items = [1, 2, 3, 2, 4]
    stage.run(_stop_iteration, stage.chunk(items, stop=False) if chunk else stage.singles(items))
    wrong = Failed(StopIteration(2))
    assert stage.results == [1, wrong, 3, wrong, 4]


@pytest.mark.parametrize("chunk", [True, False])
def test_an_interrupt_in_an_item_is_its_error(stage: Stage, chunk: bool) -> None:
    """Whatever an item raises, but SystemExit, is that item's outcome."""
    items = [1, 2, 3]
    stage.run(_interrupt_at_two, stage.chunk(items, stop=False) if chunk else stage.singles(items))
    assert stage.results == [1, Failed(KeyboardInterrupt()), 3]


@pytest.mark.parametrize("chunk", [True, False])
def test_system_exit_ends_the_worker_and_finished_results_go_first(
    stage: Stage, chunk: bool
) -> None:
    """sys.exit in an item ends the worker; what it had finished is sent before."""
    items = [7, 1, 2, 3]
    piece = stage.chunk(items) if chunk else stage.singles(items)
    with pytest.raises(SystemExit):
        stage.run(_exit_at_two, piece)
    assert stage.results == [7, 1]
    # Wherever its slice ended: the item that exited had begun, and none after it.
    assert stage.claims.begun() == 3


@pytest.mark.parametrize("chunk", [True, False])
def test_every_item_is_marked_before_it_runs(stage: Stage, chunk: bool) -> None:
    """The mark counts the running item, whatever the slices' lengths: a death names that item."""
    items = range(200)
    stage.run(_begun, stage.chunk(items) if chunk else stage.singles(items))
    assert stage.results == list(range(1, 201))


@pytest.mark.parametrize("chunk", [True, False])
def test_items_taken_back_in_the_middle_do_not_run(stage: Stage, chunk: bool) -> None:
    """What the parent took back runs elsewhere; the rest is reported, each once."""
    items = range(100)
    stage.run(_revoke_at_five, stage.chunk(items) if chunk else stage.singles(items))
    first = _now[1]
    assert 5 < first <= 5 + SLICE_ITEMS
    assert stage.results == list(range(first))
    stage.run(_double, stage.chunk([1, 2]) if chunk else stage.singles([1, 2]))
    assert stage.results == [*range(first), 2, 4]
    assert stage.read("items", Outcome.OK) == first + 2


def test_items_taken_back_are_not_reported_as_skipped(stage: Stage) -> None:
    """After an error in a chunk whose rest was taken back, only what is still here is skipped."""
    stage.claims.revoke(6, 10)
    stage.run(_fail_at_three, stage.chunk(range(10)))
    assert stage.results == [0, 1, 2, ERROR, SKIPPED, SKIPPED]


def test_a_chunk_taken_back_as_a_whole_is_no_task(stage: Stage) -> None:
    """A worker neither loads, runs, counts nor reports what was taken back in time."""
    piece = stage.chunk(range(5))
    piece.payloads[0] = b"not a pickle"
    stage.claims.revoke(0, 5)
    stage.run(_double, piece)
    assert stage.outcomes == {}
    assert stage.read("process_tasks") == 0


def test_two_pieces_of_one_function(stage: Stage) -> None:
    """A batch may hold single items and chunks of one function; numbers run through."""
    stage.run(_double, stage.singles([1, 2]), stage.chunk([3, 4]), stage.chunk([0, 0, 5], skip=2))
    assert stage.results == [2, 4, 6, 8, 10]
    assert stage.read("process_tasks") == 4


def test_results_of_two_chunks_are_never_one_part(stage: Stage) -> None:
    """The parent joins parts of a chunk, but a part is of one chunk."""
    stage.run(_double, stage.chunk([1, 2]), stage.chunk([3, 4]))
    parts = [part for message in stage.messages for part in message]
    assert [(part.first, part.count, part.kind) for part in parts] == [
        (0, 2, Kind.LIST),
        (2, 2, Kind.LIST),
    ]


@pytest.mark.parametrize(
    ("call", "item", "result"),
    [(Call.ONE, 5, 5), (Call.STAR, (1, 2, 3), 6), (Call.FULL, ((1,), {"a": 10}), 11)],
)
@pytest.mark.parametrize("kept", [True, False])
def test_how_an_item_becomes_arguments(
    stage: Stage, call: int, item: Any, result: int, kept: bool
) -> None:
    """One argument, unpacked ones, and unpacked ones with keywords."""
    stage.run(_add, stage.singles([item], call=call), kept=kept)
    assert stage.results == [result]


class Counter:
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _: int) -> int:
        self.calls += 1
        return self.calls


def test_a_function_with_state_is_loaded_anew_for_each_task(stage: Stage) -> None:
    """No task sees what another one did to the callable; items of one chunk share it, as stdlib."""
    stage.run(Counter(), stage.singles([0] * 3), stage.chunk([0] * 3), kept=False)
    assert stage.results == [1, 1, 1, 1, 2, 3]


def test_a_kept_function_stays_for_later_batches_and_goes_when_told(stage: Stage) -> None:
    """A function is sent once; one that the parent says is over is dropped."""
    stage.run(_double, stage.singles([1]))
    stage.runner.run(Batch([], [], [stage.singles([2])]))
    assert stage.results == [2, 4]
    with pytest.raises(KeyError):
        stage.runner.run(Batch([], [1], [stage.singles([3])]))


def _refuse() -> NoReturn:
    raise ImportError("not here")


class Unloadable:
    """Can be sent, but not loaded."""

    def __reduce__(self) -> tuple[Callable[[], NoReturn], tuple[()]]:
        return _refuse, ()

    def __call__(self, item: int) -> int:
        return item


@pytest.mark.parametrize("chunk", [True, False])
def test_a_function_that_cannot_be_loaded_is_every_items_error(stage: Stage, chunk: bool) -> None:
    """The worker lives on, and says for each item why it could not run."""
    piece = stage.chunk([1, 2], stop=False) if chunk else stage.singles([1, 2])
    stage.run(Unloadable(), piece, kept=False)
    assert stage.results == [Failed(ImportError("not here"))] * 2


def test_an_argument_that_cannot_be_loaded_fails_alone(stage: Stage) -> None:
    """Payloads are loaded one by one, so a bad one is its own item's error."""
    stage.run(_fail_at_three, stage.singles([1, Unloadable(), 2]))
    assert stage.results == [1, Failed(ImportError("not here")), 2]


def test_a_result_that_cannot_be_pickled_fails_alone_and_is_counted_as_error(stage: Stage) -> None:
    """Also within a chunk; the worker's row says the same as the parent's counts will."""
    stage.run(_lock_at_two, stage.chunk([1, 2, 3], stop=False))
    assert stage.results[0] == 1
    assert type(stage.results[1].error).__name__ == "MaybeEncodingError"
    assert stage.results[2] == 3
    assert stage.read("items", Outcome.ERROR) == 1
    assert stage.read("items", Outcome.OK) == 2
    assert stage.read("tasks", Outcome.ERROR) == 1


def _wait_until_first_is_sent(item: int) -> int:
    if item == 1:
        made: Stage = _now[0]
        poll(lambda: 0 in made.outcomes, message="the first result was not sent meanwhile")
    return item


@pytest.mark.parametrize("chunk", [True, False])
def test_no_result_waits_for_an_item_that_takes_long(stage: Stage, chunk: bool) -> None:
    """What is finished is sent while the next item runs, which may wait for just that."""
    stage.run(_wait_until_first_is_sent, stage.chunk([0, 1]) if chunk else stage.singles([0, 1]))
    assert stage.results == [0, 1]


def test_quick_chunks_are_written_down_together(stage: Stage) -> None:
    before = stage.read("sequence")
    stage.run(_double, *[stage.chunk([1, 2]) for _ in range(640)])
    assert stage.results == [2, 4] * 640
    assert stage.read("process_tasks") == stage.read("tasks", Outcome.OK) == 640
    assert stage.read("items", Outcome.OK) == 1280
    assert (stage.read("sequence") - before) // 2 < 100


def _now_and_then_slow(item: int) -> int:
    if item == 3:
        time.sleep(0.03)
    return item


def test_a_slow_chunk_among_quick_ones_is_not_taken_for_their_mean(stage: Stage) -> None:
    quick = [stage.chunk([1, 2]) for _ in range(20)]
    slow = stage.chunk([1, 2, 3])
    stage.run(_now_and_then_slow, *quick, slow, *[stage.chunk([1, 2]) for _ in range(20)])
    counts = [stage.read_at("task_run", place) for place in range(len(LATENCY_BOUNDS) + 1)]
    assert sum(counts) == 41
    assert sum(counts[bisect_left(LATENCY_BOUNDS, 0.01) :]) == 1


def test_chunks_are_reported_while_others_of_their_batch_run(stage: Stage) -> None:
    """So the parent can send more before the worker has nothing left."""
    stage.run(_sleep_a_little, *[stage.chunk([1, 2]) for _ in range(40)])
    assert stage.results == [1, 2] * 40
    assert len(stage.messages) > 2


def _sleep_a_little(item: int) -> int:
    time.sleep(0.0003)
    return item


def test_what_ran_before_an_exit_is_written_down(stage: Stage) -> None:
    with pytest.raises(SystemExit):
        stage.run(_exit_at_two, *[stage.chunk([1, 1]) for _ in range(5)], stage.chunk([1, 2]))
    assert stage.read("process_tasks") == 5


def test_nothing_is_shown_as_running_after_a_batch(stage: Stage) -> None:
    """An idle worker's row names no function and no time."""
    message = FunctionMessage(1, kept=True, label=4, payload=dumps(_double))
    stage.runner.run(Batch([message], [], [stage.singles([1])]))
    assert stage.read("function") == 0
    assert stage.read("task_start") == 0
    assert stage.read("sequence") % 2 == 0


def test_a_batch_that_comes_a_second_time_does_not_run(stage: Stage) -> None:
    """The scheduler sends again what a caller was interrupted at sending."""
    again, later = stage.singles([1]), stage.singles([2])
    stage.run(_double, again)
    stage.run(_double, again)
    stage.run(_double, later)
    stage.run(_double, again)
    assert stage.results == [2, 4]
