"""obspool: a process pool that you can see into and steer while it works.

`from obspool import Pool` is all a program changes; `Pool` is a `multiprocessing.pool.Pool`. Names
are loaded on first use (PEP 562), so that a worker, which imports `obspool.worker` only, pays for
nothing else at every recycle.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from obspool._version import __version__

if TYPE_CHECKING:
    from obspool.counters import Counter, counter
    from obspool.errors import (
        CancelledError,
        ControlError,
        ForkedPoolError,
        MetricsServerError,
        ObspoolError,
        PoolBrokenError,
        PoolTerminatedError,
        SegmentError,
        SoftCancelError,
        SoftTimeoutError,
        StackUnavailableError,
        TaskTimeoutError,
        WorkerLostError,
    )
    from obspool.handle import Progress
    from obspool.iterators import IMapIterator
    from obspool.pool import Pool, ThreadPool
    from obspool.results import AsyncResult, MapResult
    from obspool.telemetry.snapshot import Snapshot

__all__ = [
    "AsyncResult",
    "CancelledError",
    "ControlError",
    "Counter",
    "ForkedPoolError",
    "IMapIterator",
    "MapResult",
    "MetricsServerError",
    "ObspoolError",
    "Pool",
    "PoolBrokenError",
    "PoolTerminatedError",
    "Progress",
    "SegmentError",
    "Snapshot",
    "SoftCancelError",
    "SoftTimeoutError",
    "StackUnavailableError",
    "TaskTimeoutError",
    "ThreadPool",
    "WorkerLostError",
    "__version__",
    "counter",
]

_HOMES = {
    "Pool": "obspool.pool",
    "ThreadPool": "obspool.pool",
    "AsyncResult": "obspool.results",
    "Counter": "obspool.counters",
    "counter": "obspool.counters",
    "IMapIterator": "obspool.iterators",
    "MapResult": "obspool.results",
    "Progress": "obspool.handle",
    "Snapshot": "obspool.telemetry.snapshot",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name not in __all__:
        raise AttributeError(f"module 'obspool' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "obspool.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(set(globals()) | set(__all__))
