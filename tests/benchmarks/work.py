"""What the workers of a benchmark run; in a module of its own, which they import quickly."""

from typing import TypeVar

T = TypeVar("T")


def no_op(item: int) -> int:
    """Do nothing: what a measurement shows then is the pool's own cost."""
    return item


def spin(rounds: int) -> int:
    """Keep a CPU busy for as many rounds; work rather than time, so being preempted isn't free."""
    total = 0
    for number in range(rounds):
        total += number
    return total


def echo(payload: T) -> T:
    """Send back what came."""
    return payload
