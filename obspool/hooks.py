"""Subclasses that override the stdlib Pool's queue-level hooks, as joblib's and torch's do.

These hooks belong to queues and handler threads that this project's pools don't have. Such a
subclass gets the stdlib's machinery, whole: it works as it always did, without telemetry.
"""

from __future__ import annotations

import multiprocessing.pool as mp_pool
import warnings

_HOOKS = frozenset(
    {
        "_get_tasks",
        "_guarded_task_generation",
        "_handle_results",
        "_handle_tasks",
        "_handle_workers",
        "_help_stuff_finish",
        "_maintain_pool",
        "_map_async",
        "_repopulate_pool",
        "_repopulate_pool_static",
        "_setup_queues",
        "_terminate_pool",
    }
)
_MODULES = {"obspool.methods", "obspool.pool"}  # where our classes are
_OF_EVERY_CLASS = frozenset(
    {"__dict__", "__doc__", "__init_subclass__", "__module__", "__weakref__"}
)


def adopt(cls: type[mp_pool.Pool]) -> None:
    """Give the class the stdlib's methods in place of ours, if it overrides one of its hooks.

    Warns once for each such class, with a RuntimeWarning.
    """
    overridden = sorted(_HOOKS & vars(cls).keys())
    if not overridden:
        return
    base = mp_pool.ThreadPool if issubclass(cls, mp_pool.ThreadPool) else mp_pool.Pool
    stdlib = {name: value for kind in reversed(base.__mro__) for name, value in vars(kind).items()}
    kinds = [kind for kind in cls.__mro__ if kind.__module__ in _MODULES]
    for name in (
        {name for kind in kinds for name in vars(kind)} - _OF_EVERY_CLASS - vars(cls).keys()
    ):
        if name in stdlib:
            setattr(cls, name, stdlib[name])
        elif isinstance(getattr(cls, name), property) and name.startswith("_"):
            setattr(cls, name, None)  # the stdlib keeps an attribute of the instance there
    warnings.warn(
        f"{cls.__qualname__} overrides {overridden[0]}, which belongs to the stdlib Pool's own "
        "machinery: it gets that, and no telemetry",
        RuntimeWarning,
        stacklevel=3,
    )
