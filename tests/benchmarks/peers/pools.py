"""Pools that come from the stdlib's: billiard's (Celery's) and multiprocess' (pathos')."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def billiard(processes: int, *, start_method: str, maxtasksperchild: int | None = None) -> Any:
    """Make a billiard.Pool."""
    return _pool("billiard", processes, start_method, maxtasksperchild)


def multiprocess(processes: int, *, start_method: str, maxtasksperchild: int | None = None) -> Any:
    """Make a multiprocess.Pool."""
    return _pool("multiprocess", processes, start_method, maxtasksperchild)


def _pool(module: str, processes: int, start_method: str, limit: int | None) -> Any:
    context = import_module(module).get_context(start_method)
    return context.Pool(processes, maxtasksperchild=limit)
