"""Who runs an item: its worker, or, once it was taken back, another. Never both, never neither."""

from __future__ import annotations

import multiprocessing
import threading
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from obspool.telemetry.bank import MARK_BITS, Claims
from obspool.telemetry.layout import WORD, Layout

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

_LAYOUT = Layout(1)


def _claims(lock: Any = None, memory: Any = None) -> Claims:
    memory = bytearray(_LAYOUT.words * WORD) if memory is None else memory
    cells = memoryview(memory).cast("B").cast("Q")
    claims = Claims(cells, _LAYOUT, 0, 1, threading.Lock() if lock is None else lock)
    if lock is None:
        claims.reset()
    return claims


class _Both:
    """A worker and its parent, one step of either at a time."""

    def __init__(self) -> None:
        self.claims = _claims()
        self.position = self.sent = 0
        self.taken: list[int] = []
        self.back: set[int] = set()

    def send(self, count: int) -> None:
        self.sent += count

    def take(self, wanted: int) -> None:
        """Claim as a worker does: what it was sent, from where it is."""
        if self.position >= self.sent:
            return
        wanted = min(wanted, self.sent - self.position)
        first, count = self.claims.take(self.position, wanted)
        assert first >= self.position
        self.taken += range(first, first + count)
        self.position = first + count

    def revoke(self, items: int) -> None:
        """Take back as the parent does: some of the last that it sent."""
        first = self.claims.revoke(max(0, self.sent - items), self.sent)
        if first is not None:
            self.back |= set(range(first, self.sent))


_STEPS = st.lists(
    st.tuples(st.sampled_from(["send", "take", "take", "revoke"]), st.integers(1, 40)), max_size=60
)


@given(_STEPS)
@settings(max_examples=400, deadline=None)
def test_every_item_is_either_taken_or_given_back(steps: list[tuple[str, int]]) -> None:
    """Any order of sending, claiming and revoking shares out all items without overlap."""
    both = _Both()
    for name, number in steps:
        getattr(both, name)(number)
    while both.position < both.sent:
        both.take(7)
    assert len(both.taken) == len(set(both.taken))
    assert not both.back & set(both.taken)
    assert both.back | set(both.taken) == set(range(both.sent))


@given(_STEPS)
@settings(max_examples=200, deadline=None)
def test_the_mark_never_counts_what_was_not_begun(steps: list[tuple[str, int]]) -> None:
    """After a death: items from `begun()` on have not begun, and may run elsewhere."""
    both = _Both()
    for name, number in steps:
        before = len(both.taken)
        getattr(both, name)(number)
        if len(both.taken) > before:
            assert both.claims.begun() == both.taken[before]  # nothing of the new slice yet
            done = both.taken[-1] + 1
            cells, mark = both.claims.cells, both.claims.mark
            cells[mark] += done - (cells[mark] >> MARK_BITS)  # all of the slice has begun
            assert both.claims.begun() == done
    assert both.claims.begun() <= both.sent


def test_the_parent_never_waits_for_the_lock() -> None:
    """While the worker holds it, or died holding it, the parent gets None and goes on."""
    claims = _claims()
    with claims.lock:
        assert claims.revoke(0, 10) is None
    assert claims.revoke(0, 10) == 0


def test_nothing_is_left_to_take_back_from_what_is_claimed() -> None:
    """Claimed items stay with the worker, also those of the slice that it has not begun."""
    claims = _claims()
    assert claims.take(0, 32) == (0, 32)
    assert claims.revoke(0, 32) == 32
    assert claims.revoke(0, 40) == 32
    assert claims.take(32, 8) == (40, 0)


def test_a_new_generation_begins_with_nothing_revoked() -> None:
    """Numbers begin at 0 again with each generation: what the last one had must not count."""
    claims = _claims()
    claims.take(0, 5)
    claims.revoke(5, 100)
    claims.reset()
    assert claims.begun() == 0
    assert claims.take(0, 50) == (0, 50)


def _worker(claims: Claims, items: int) -> list[int]:
    taken: list[int] = []
    position = 0
    while position < items:
        position, count = claims.take(position, 1 + position % 5)
        taken += range(position, position + count)
        position += count
    return taken


def _parent(claims: Claims, items: int, done: Any) -> set[int]:
    """Take back more and more from the end."""
    back: set[int] = set()
    want = 1
    while not done() and len(back) < items:
        first = claims.revoke(max(0, items - want), items)
        if first is not None:
            back |= set(range(first, items))
            want += 3
    return back


def test_two_threads_never_run_the_same_item() -> None:
    """A thread claims while another takes back, for real."""
    for _ in range(20):
        claims, items = _claims(), 4000
        ended = threading.Event()
        taken: list[int] = []

        def work(claims: Claims = claims, taken: list[int] = taken, end: Any = ended) -> None:
            taken += _worker(claims, 4000)
            end.set()

        thread = threading.Thread(target=work)
        thread.start()
        back = _parent(claims, items, ended.is_set)
        thread.join()
        assert len(taken) == len(set(taken))
        assert not back & set(taken)
        assert back | set(taken) == set(range(items))


def _child(memory: Any, lock: Any, items: int, pipe: Any) -> None:
    pipe.send(_worker(_claims(lock, memory), items))


def test_two_processes_never_run_the_same_item(mp_context: BaseContext) -> None:
    """The words are shared memory and the lock multiprocessing's, as between parent and worker."""
    items = 20_000
    memory = multiprocessing.RawArray("B", _LAYOUT.words * WORD)
    lock = mp_context.Lock()
    claims = _claims(lock, memory)
    ours, theirs = mp_context.Pipe()
    with ours, theirs:
        process = mp_context.Process(  # type: ignore[attr-defined]
            target=_child, args=(memory, lock, items, theirs)
        )
        process.start()
        back = _parent(claims, items, ours.poll)
        got = ours.recv()
        process.join()
        process.close()
    taken = set(got)
    assert len(taken) == len(got)
    assert not back & taken
    assert back | taken == set(range(items))
