"""The last errors of items: what a worker writes, and what a reader takes."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING

import pytest

from obspool.telemetry import reader
from obspool.telemetry.bank import MARK_BITS, Bank
from obspool.telemetry.layout import ERRORS, ITEM_ERRORS, PARENT, WORKER
from tests.synthetic import make_snapshot
from tests.synthetic_segment import live_segment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obspool.telemetry.segment import Segment
    from obspool.telemetry.snapshot import ItemError


class OddError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.fixture
def segment() -> Iterator[Segment]:
    """A live segment with room for one worker, and the name of one function."""
    empty = dataclasses.replace(make_snapshot(0), jobs=(), events=())
    with live_segment(empty, slots=1) as made:
        yield made


def _bank(segment: Segment, generation: int) -> Bank:
    told = segment.layout.parent_block(0, generation)
    segment.cells[told + PARENT["generation"]] = generation
    bank = Bank(segment.cells, segment.layout, 0, generation)
    own = segment.layout.worker_block(0, generation)
    segment.cells[own + WORKER["mark"]] = 7 << MARK_BITS
    bank.begin(0, time.monotonic_ns())
    return bank


def _errors(segment: Segment) -> tuple[ItemError, ...]:
    (worker,) = reader.read(segment).workers
    return worker.errors


def test_the_newest_are_kept(segment: Segment) -> None:
    """Type and text in one line, when, in which function; the oldest first."""
    bank = _bank(segment, 1)
    before = time.time()
    for number in range(2 * ERRORS + 1):
        bank.failed(ValueError(f"row {number}\n  is bad"), 7)
    found = _errors(segment)
    assert [error.text for error in found] == [
        f"ValueError: row {number} is bad" for number in range(ERRORS + 1, 2 * ERRORS + 1)
    ]
    assert {(error.generation, error.function, error.item) for error in found} == {
        (1, "list_images", "")
    }
    assert all(before - 1 < error.time < time.time() + 1 for error in found)


def test_a_successor_does_not_take_the_place_of_its_predecessor_s(segment: Segment) -> None:
    """Two generations are alive at once; the third goes on in the ring of the first."""
    for generation in (1, 2, 3):
        bank = _bank(segment, generation)
        for number in range(ERRORS - 1):
            bank.failed(KeyError(number), 7)
    found = [(error.generation, error.text) for error in _errors(segment)]
    assert found == [
        (1, "KeyError: 2"),
        *((2, f"KeyError: {number}") for number in range(ERRORS - 1)),
        *((3, f"KeyError: {number}") for number in range(ERRORS - 1)),
    ]


def test_which_item_it_was_where_the_pool_describes_them(segment: Segment) -> None:
    """Only if that is of this very item."""
    bank = _bank(segment, 1)
    bank.describe(contextlib.nullcontext(), 7, "img_4711.png")
    bank.failed(ValueError("a"), 7)
    bank.failed(ValueError("b"), 8)
    assert [error.item for error in _errors(segment)] == ["img_4711.png", ""]


def test_texts_are_bounded_and_never_end_a_worker(segment: Segment) -> None:
    """At most 200 bytes, not cut through a character; without a text the type says enough."""
    bank = _bank(segment, 1)
    bank.failed(ValueError("é" * 1_000_000), 7)
    bank.failed(OddError(), 7)
    bank.failed(KeyboardInterrupt(), 7)
    long, odd, bare = (error.text for error in _errors(segment))
    assert len(long.encode()) in {199, 200}
    assert long.endswith("éé")
    assert odd == "OddError: (its text could not be had)"
    assert bare == "KeyboardInterrupt"


def test_texts_can_be_left_out(segment: Segment, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may hold what no other user of the host should read."""
    monkeypatch.setenv("OBSPOOL_ERRORS", "type")
    _bank(segment, 1).failed(ValueError("secret"), 7)
    assert [error.text for error in _errors(segment)] == ["ValueError"]


def test_one_that_is_being_written_is_left_out(segment: Segment) -> None:
    """Its worker may have been killed there: the next one goes on behind it."""
    bank = _bank(segment, 1)
    for number in range(3):
        bank.failed(ValueError(number), 7)
    base = segment.layout.errors_block(0, 1)
    segment.cells[base + ITEM_ERRORS["number"] + 2] = 0
    segment.cells[base + ITEM_ERRORS["again"] + 1] = 77
    assert [error.text for error in _errors(segment)] == ["ValueError: 0"]
    _bank(segment, 3).failed(ValueError("next"), 7)
    assert _errors(segment)[-1].text == "ValueError: next"
