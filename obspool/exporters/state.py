"""The totals in a file, so that they go on after the exporter was started again.

Without it a restart is what it is for every counter: a reset, after which segments that are still
there are added anew.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from obspool.counters import is_name
from obspool.errors import ObspoolError
from obspool.exporters.readings import is_total, weight
from obspool.exporters.replacing import replace
from obspool.exporters.table import user_metric
from obspool.exporters.totals import LASTING, PoolTotals
from obspool.telemetry.snapshot import Histogram

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from obspool.exporters.family import PoolMetric, Value
    from obspool.exporters.host import Host
    from obspool.exporters.readings import Series
    from obspool.exporters.totals import Totals
    from obspool.telemetry.watch import RunKey

VERSION = 1
_OWNER_ONLY = 0o600
MAX_BYTES = 64 * 1024 * 1024
_TYPES = (int, str, int, int, float, str)  # of a RunKey


class StateError(ObspoolError, OSError):
    """The file of the totals can't be read or written; the message says why."""


def load(path: Path, host: Host) -> None:
    """Have a host go on from what was saved; a file that isn't there is a beginning.

    Raises:
        StateError: it can't be read, or isn't such a file.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StateError(f"{path} can't be read: {error.strerror or error}") from error
    try:
        pools, done = _parsed(raw, host.totals)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StateError(
            f"{path} isn't a file of the exporter's totals ({error!r}): remove it to begin anew"
        ) from error
    host.restore(pools, done)


def save(path: Path, host: Host) -> None:
    """Write the totals; the file is replaced as a whole.

    Raises:
        StateError: it can't be written.
    """
    with host.lock:
        pools = [_saved(pool) for pool in host.totals.pools.values() if any(pool.base.values())]
        text = json.dumps({"version": VERSION, "pools": pools, "done": host.watch.done})
    try:
        replace(path, text.encode(), _OWNER_ONLY)
    except OSError as error:
        raise StateError(f"{path} can't be written: {error.strerror or error}") from error


def _parsed(raw: bytes, totals: Totals) -> tuple[list[PoolTotals], list[RunKey]]:
    if len(raw) > MAX_BYTES:
        raise ValueError(f"longer than {MAX_BYTES} bytes")
    saved = json.loads(raw)
    if saved["version"] != VERSION:
        raise ValueError(f"version {saved['version']!r}")
    for one in saved["pools"]:
        # Programs' own counters: known by their names alone.
        own = [name.removeprefix("user_").removesuffix("_total") for name in one["base"]]
        totals.learn(
            metric
            for metric in map(user_metric, filter(is_name, own))
            if metric.name in one["base"]
        )
    pools = [_pool(one, totals.metrics) for one in saved["pools"]]
    return pools, [_key(one) for one in saved["done"]]


def _saved(pool: PoolTotals) -> dict[str, Any]:
    return {
        "name": pool.name,
        "uid": pool.uid,
        "created": pool.created,
        "base": {name: _plain(series) for name, series in pool.base.items()},
        "lasting": {name: _plain(series) for name, series in pool.lasting.items()},
    }


def _plain(series: Series) -> list[Any]:
    return [
        [labels, [value.bounds, value.counts, value.sum] if isinstance(value, Histogram) else value]
        for labels, value in series.items()
    ]


def _pool(saved: dict[str, Any], metrics: Mapping[str, PoolMetric]) -> PoolTotals:
    # Names that this version doesn't know are left out.
    base = {
        name: _series(series, metrics[name])
        for name, series in saved["base"].items()
        if name in metrics and is_total(metrics[name])
    }
    lasting = {
        name: _series(series, metrics[name])
        for name, series in saved["lasting"].items()
        if name in LASTING and name in metrics
    }
    name, uid, created = saved["name"], saved["uid"], saved["created"]
    if not isinstance(name, str) or not isinstance(uid, int) or not isinstance(created, float):
        raise TypeError("a pool's name, uid or time")
    pool = PoolTotals(name, uid, created, 0.0, is_fresh=False, base=base, lasting=lasting)
    # Its last state is over, and nobody knows when: it is the first to be given up.
    pool.ended, pool.weight = time.monotonic() - 7 * 86_400, sum(map(weight, base.values()))
    return pool


def _series(saved: list[Any], metric: PoolMetric) -> Series:
    series: Series = {}
    for labels, value in saved:
        key = tuple(str(label) for label in labels)
        if len(key) != len(metric.labels):
            continue  # of a version with other labels
        series[key] = _value(value)
    return series


def _value(saved: Any) -> Value:
    if isinstance(saved, list):
        bounds, counts, total = saved
        if len(counts) != len(bounds) + 1:
            raise ValueError("a histogram")
        return Histogram(tuple(map(float, bounds)), tuple(map(int, counts)), float(total))
    if not isinstance(saved, int | float):
        raise TypeError("a value")
    return saved


def _key(saved: list[Any]) -> RunKey:
    uid, boot, namespace, pid, start, name = saved
    key = (uid, boot, namespace, pid, float(start), name)
    if not all(isinstance(value, kind) for value, kind in zip(key, _TYPES, strict=True)):
        raise TypeError("a run")
    return key
