"""Pools with known faults: what the harness must report about them is known, too."""

from __future__ import annotations

import threading
from multiprocessing import pool as stdlib
from typing import Any


class _FaultyMixin:
    """`map` drops the last result, `starmap` never returns; all else is the stdlib's."""

    def map(self, *args: Any, **kwargs: Any) -> list[Any]:
        results: list[Any] = super().map(*args, **kwargs)  # type: ignore[misc]
        return results[:-1]

    def starmap(self, *_args: Any, **_kwargs: Any) -> list[Any]:
        threading.Event().wait()
        raise AssertionError


class Pool(_FaultyMixin, stdlib.Pool):
    """A process pool with the faults of this module."""


class ThreadPool(_FaultyMixin, stdlib.ThreadPool):
    """A thread pool with the faults of this module."""
