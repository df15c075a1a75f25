"""Rows that are written while they are read."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from obspool.telemetry import header, reader
from obspool.telemetry.layout import PARENT, WORD, WORKER
from obspool.words import WorkerState
from tests.synthetic import make_snapshot
from tests.synthetic_segment import SECOND, live_segment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obspool.telemetry.segment import Segment


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
        if size == WORD and offset == self._sequence * WORD and self._changes:
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
    table = header.decode(source.read(0, segment.layout.header_words * WORD), "").table("worker")
    before = reader._sequences(source, table)  # type: ignore[arg-type]
    raw = bytearray(source.read(0, source.size))
    found = reader._settle(source, table, raw, before)  # type: ignore[arg-type]
    assert found == ({(0, 1)} if torn else set())
    busy = segment.layout.worker_block(0, 1) + WORKER["busy"]
    read = memoryview(raw).cast("Q")[busy]
    assert torn or read == segment.cells[busy]
