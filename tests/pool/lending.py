"""Pools whose idle workers are lent to callers, and what then happens."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.helpers import poll
from tests.pool import work

if TYPE_CHECKING:
    import pytest

    from obspool import Pool
    from obspool.core import Core
    from obspool.loans import Loan
    from obspool.messages import Batch


_runs: Counter[int] = Counter()


def count(item: int) -> int:
    """Note in its worker that an item ran."""
    _runs[item] += 1
    return item


def counts() -> dict[int, int]:
    """Return how often each item ran in this worker."""
    return dict(_runs)


def write_line(path: str) -> int:
    with Path(path).open("a") as file:
        file.write("ran\n")
    return os.getpid()


def ready(pool: Pool) -> Core:
    """Have every worker know the functions, and be lent; return the pool's core."""
    core = pool._live()
    for function, argument in ((work.identity, 1), (write_line, os.devnull)):
        pool.map(function, [argument] * 64, 1)
    pool.apply(work.identity, (0,))  # from now on somebody would like to have one
    poll(lambda: set(core._loop.loans.lent()) == core.supervisor.workers.keys())
    return core


def only_loan(pool: Pool) -> Loan:
    """Return the loan of the pool's only worker."""
    (loan,) = pool._live()._loop.loans._open
    return loan


def sends(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that will hold what the scheduler sends."""
    sent: list[Any] = []
    send = pool._live().engine.send

    def noted(worker: Any, batch: Batch) -> None:
        sent.append(batch)
        send(worker, batch)

    monkeypatch.setattr(pool._live().engine, "send", noted)
    return sent
