"""The thread that reads: back-pressure, errors, and a target that never answers."""

from __future__ import annotations

import threading
from itertools import count

from obspool_dashboard.reader import Reader, Reading, in_background
from tests.helpers import poll

NEVER = 3600.0


def test_answers_do_not_pile_up() -> None:
    """While nobody takes them there is one answer, the newest, and one notice of it."""
    numbers = count()
    delivered: list[None] = []
    reader = Reader(lambda: next(numbers), lambda: delivered.append(None), interval=0.001)
    reader.start()
    poll(lambda: (reading := reader._latest) and reading.value and reading.value > 20)
    reader.stop()
    reader._thread.join(5)
    assert len(delivered) == 1
    reading = reader.take()
    assert reading is not None
    assert reading.value is not None
    assert reading.value > 20
    assert reader.take() is None


def test_an_error_is_delivered_and_reading_goes_on() -> None:
    """A segment that can't be read for a moment comes back."""
    attempts = count(1)

    def read() -> int:
        attempt = next(attempts)
        if attempt == 1:
            raise OSError("no such file")
        return attempt

    ready = threading.Event()
    reader = Reader(read, ready.set, interval=NEVER)
    reader.start()
    assert ready.wait(5)
    reading = reader.take()
    assert reading is not None
    assert str(reading.error) == "no such file"
    ready.clear()
    reader.now()
    assert ready.wait(5)
    reading = reader.take()
    assert reading is not None
    assert reading.value == 2
    reader.stop()


def test_a_stuck_read_holds_nobody() -> None:
    """`stop` returns at once, and what the read brings later is dropped."""
    begun, go_on = threading.Event(), threading.Event()
    delivered: list[None] = []

    def read() -> None:
        begun.set()
        go_on.wait(10)

    reader = Reader(read, lambda: delivered.append(None), interval=0.001)
    reader.start()
    assert begun.wait(5)
    assert reader._thread.daemon
    reader.stop()
    go_on.set()
    reader._thread.join(5)
    assert not reader._thread.is_alive()
    assert delivered == []


def test_a_background_call_tells_its_error() -> None:
    """Nothing that a command raises is lost in its thread."""
    told: list[Reading[None]] = []

    def refuse() -> None:
        raise ValueError("no")

    in_background(refuse, told.append)
    in_background(lambda: None, told.append)
    poll(lambda: len(told) == 2)
    assert sorted(str(reading.error) for reading in told) == ["None", "no"]
