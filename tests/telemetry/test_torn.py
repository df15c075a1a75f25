"""Rows that are written while they are read."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from obspool.telemetry import header, reader
from obspool.telemetry.layout import BANK_WORDS, PARENT, WORD, WORKER
from obspool.words import WorkerState
from tests.synthetic import make_snapshot
from tests.synthetic_segment import SECOND, live_segment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obspool.telemetry.segment import Segment


# Bytes of a look at sequence words: at one, and at those of a slot's two banks.
LOOKS = (WORD, (BANK_WORDS + 1) * WORD)


@pytest.fixture
def segment() -> Iterator[Segment]:
    """A live segment with one worker, which is idle."""
    empty = dataclasses.replace(make_snapshot(0), jobs=(), events=())
    with live_segment(empty, slots=1) as made:
        at = made.layout.parent_block(0, 1)
        made.cells[at + PARENT["generation"]] = 1
        made.cells[at + PARENT["lifecycle"]] = list(WorkerState).index(WorkerState.IDLE)
        yield made


WRITER = """
import os, sys
from obspool.telemetry.cells import attach
from obspool.telemetry.layout import WORKER
slots, header_words, slot, generation = map(int, sys.argv[2:])
attached = attach(int(sys.argv[1]), slots, header_words)
at = attached.layout.worker_block(slot, generation)
attached.cells[at + WORKER["sequence"]] += 1
attached.cells[at + WORKER["busy"]] += 1
print("writing", flush=True)
sys.stdin.read()
"""


def test_a_row_whose_writer_was_killed_in_the_middle_is_marked_torn() -> None:
    """The reader doesn't wait for it, and takes the row as it is."""
    stored = make_snapshot(2)
    with live_segment(stored) as segment:
        generation = stored.workers[1].generation
        numbers = (segment.fd, segment.layout.slots, segment.layout.header_words, 1, generation)
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, *map(str, numbers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[segment.fd],
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        writer.kill()
        writer.communicate()
        assert writer.returncode == -signal.SIGKILL
        found = reader.read(segment)
    assert [worker.torn for worker in found.workers] == [False, True]
    assert found.workers[1].tasks == stored.workers[1].tasks


class _Scripted:
    """A source whose bank changes with each look at its sequence word, a given number of times."""

    def __init__(self, segment: Segment, changes: int) -> None:
        self.where = "a script"
        self.size = segment.layout.words * WORD
        self._segment = segment
        self._changes = changes
        self._sequence = segment.layout.worker_block(0, 1) + WORKER["sequence"]

    def read(self, offset: int, size: int) -> bytes:
        place = self._sequence * WORD
        if size in LOOKS and offset <= place < offset + size and self._changes:
            self._changes -= 1
            self._segment.cells[self._sequence] += 2
            self._segment.cells[self._sequence + WORKER["busy"]] += SECOND
        return bytes(self._segment.cells.cast("B")[offset : offset + size])


@pytest.mark.parametrize(("changes", "torn"), [(0, False), (1, False), (3, False), (9, True)])
def test_a_row_that_changes_while_it_is_read_is_read_again(
    segment: Segment, changes: int, torn: bool
) -> None:
    """A bounded number of times; what is taken is the last."""
    source = _Scripted(segment, changes)
    head = header.decode(source.read(0, segment.layout.header_words * WORD), "")
    raw, found = reader._values(source, head)  # type: ignore[arg-type]
    assert found == ({(0, 1)} if torn else set())
    busy = segment.layout.worker_block(0, 1) + WORKER["busy"]
    read = memoryview(raw).cast("Q")[busy]
    assert torn or read == segment.cells[busy]


class _Counted:
    """A source that counts how often it is read."""

    def __init__(self, segment: Segment) -> None:
        self.where = "counted"
        self.size = segment.layout.words * WORD
        self.reads = 0
        self._bytes = segment.cells.cast("B")

    def read(self, offset: int, size: int) -> bytes:
        self.reads += 1
        return bytes(self._bytes[offset : offset + size])


def test_many_slots_are_read_with_few_calls() -> None:
    """Three for 32 slots, which lie in different groups, and every bank comes as it is."""
    stored = make_snapshot(100)
    with live_segment(stored) as segment:
        source = _Counted(segment)
        head = header.decode(source.read(0, segment.layout.header_words * WORD), "")
        source.reads = 0
        raw, torn = reader._values(source, head)  # type: ignore[arg-type]
        assert source.reads == 1 + 3 * 4
        assert raw == segment.cells.cast("B")[: source.size]
        assert not torn
        # In the second group, and of the other parity than its neighbours may have.
        worker = stored.workers[70]
        at = segment.layout.worker_block(70, worker.generation) + WORKER["sequence"]
        segment.cells[at] += 1
        _, torn = reader._values(source, head)  # type: ignore[arg-type]
        assert torn == {(70, worker.generation & 1)}
