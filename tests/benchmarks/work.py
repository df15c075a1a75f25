"""What the workers of a benchmark run; in a module of its own, which they import quickly."""

import os
import time
from typing import TypeVar

T = TypeVar("T")


def no_op(item: int) -> int:
    """Do nothing: what a measurement shows then is the pool's own cost."""
    return item


def spin(rounds: int) -> int:
    """Keep a CPU busy for as many rounds; work rather than time, so being preempted isn't free.

    In one C loop: the interpreter's own takes up to a fifth longer or shorter by where its frames
    happen to lie in a process, whichever pool that is of.
    """
    return sum(range(rounds))


def echo(payload: T) -> T:
    """Send back what came."""
    return payload


def whereabouts(_item: int) -> int:
    """Wait a little, so that every other worker gets an item meanwhile, and tell the process."""
    time.sleep(0.02)
    return os.getpid()
