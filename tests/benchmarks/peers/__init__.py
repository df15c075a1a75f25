"""Other pools for Python: each behind the stdlib's methods, as far as it has the like.

None of them is needed for anything but `--against`, so no extra of the project installs them: what
is missing is named there. What a peer hasn't got raises UnableError, and its place in the table
stays empty. Where a peer has no default chunksize but 1, a `map` without one gets the stdlib's: 1
would be much slower at all that is measured.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.benchmarks.peers import executors, parallel, pebbles, pools, worker_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@dataclass(frozen=True)
class Peer:
    """One of them.

    Attributes:
        make: makes a pool of it.
        package: what to import and to install; None: it is in the stdlib.
    """

    make: Callable[..., Any]
    package: str | None = None


PEERS = {
    "ProcessPoolExecutor": Peer(executors.stdlib),
    "loky": Peer(executors.loky, "loky"),
    "joblib": Peer(parallel.ParallelPool, "joblib"),
    "mpire": Peer(worker_pool.MpirePool, "mpire"),
    "pebble": Peer(pebbles.PebblePool, "pebble"),
    "billiard": Peer(pools.billiard, "billiard"),
    "multiprocess": Peer(pools.multiprocess, "multiprocess"),
}


def missing(names: Iterable[str]) -> list[str]:
    """Return the packages that have to be installed before these can run."""
    packages = (PEERS[name].package for name in names)
    return [one for one in packages if one is not None and importlib.util.find_spec(one) is None]
