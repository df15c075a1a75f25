"""obspool with its telemetry cut out, to see what it costs; fit for nothing else.

Nothing is timed, counted or stored for anybody to see. What is left in the segment is how parent
and worker agree on who runs what: claims and marks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from obspool.decoding import Decoder
from obspool.feeder import Stopwatch as FeederStopwatch
from obspool.telemetry.bank import Bank
from obspool.telemetry.recorder import Recorder
from obspool.worker.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obspool.telemetry.bank import Tally


def _nothing(*_args: Any, **_values: Any) -> None:
    """Do nothing."""


def _clear(_bank: Bank, _lock: Any, tally: Tally, _now: int) -> None:
    """Keep of `account` what the runner's own decisions need."""
    tally.busy = tally.items = tally.errors = tally.skipped = 0
    tally.tasks = tally.failed = tally.task_run = tally.load = tally.dump = 0


class _NoStopwatch:
    """Stands for a worker's stopwatch."""

    def __init__(self, codec: Any) -> None:
        self.load, self.dump = codec.load, codec.dump

    account = _nothing

    def is_due(self, _: Any) -> int:
        return 0


def _untimed(watch: FeederStopwatch) -> Iterator[Any]:
    while True:
        yield watch._encode


def _decode_many(decoder: Decoder, payloads: Any) -> list[Any]:
    return list(map(decoder.plain, payloads))


def strip() -> None:
    """Take the telemetry out of this process's pools and, by fork, of their workers."""
    for name in ("open", "begin", "idle", "tick", "end", "ready", "leave"):
        setattr(Bank, name, _nothing)
    setattr(Bank, "account", _clear)  # noqa: B010 - mypy is right about the other way
    for name in ("flush", "observe", "worker", "count_tasks", "_store_progress"):
        setattr(Recorder, name, _nothing)
    setattr(FeederStopwatch, "encoders", _untimed)  # noqa: B010
    setattr(FeederStopwatch, "stop", _nothing)  # noqa: B010
    setattr(Decoder, "many", _decode_many)  # noqa: B010
    setattr(Decoder, "__call__", lambda decoder, payload: decoder.plain(payload))  # noqa: B010
    setattr(Decoder, "_add", _nothing)  # noqa: B010
    Runner.__init__.__globals__["Stopwatch"] = _NoStopwatch
