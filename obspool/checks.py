"""What arguments must be."""

from __future__ import annotations


def check_seconds(name: str, value: object) -> None:
    """Refuse what is no time.

    Raises:
        TypeError: it isn't a number.
        ValueError: it isn't above 0.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not value > 0:
        raise ValueError(f"{name} must be above 0, not {value!r}")


def check_count(name: str, value: object, least: int) -> None:
    """Refuse what is no number, or too small.

    Raises:
        TypeError: it isn't an int.
        ValueError: it is below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")


def check_callable(name: str, value: object) -> None:
    """Refuse what can't be called; None may stand for nothing.

    Raises:
        TypeError: it can't be.
    """
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a callable")


def check_max_tasks(value: object) -> None:
    """Refuse what is no number of tasks, as the stdlib does; None is without limit.

    Raises:
        ValueError: it isn't a positive integer.
    """
    if value is not None and not (isinstance(value, int) and value > 0):
        raise ValueError("maxtasksperchild must be a positive int or None")
