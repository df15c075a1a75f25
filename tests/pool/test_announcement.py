"""A pool can be found a little after its start, at once for whoever asks for its name."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from obspool import Pool
from obspool.telemetry import locks, registry
from tests.helpers import poll
from tests.pool import work

if TYPE_CHECKING:
    from pathlib import Path


def _names() -> set[str]:
    return {entry.facts.name for entry in registry.list_pools().entries}


def test_a_pool_is_found_soon_and_before_its_name_is_known() -> None:
    with Pool(1, name="soon") as pool:
        poll(lambda: "soon" in _names())
        assert pool.name == "soon"


def test_whoever_knows_its_name_finds_it() -> None:
    for _ in range(5):
        with Pool(1, name="known") as pool:
            assert pool.name in _names()


def test_names_follow_the_order_of_making() -> None:
    with Pool(1, name="same") as first, Pool(1, name="same") as second:
        assert second.name == "same-2"
        assert first.name == "same"


def test_a_pool_that_was_quicker_than_that_is_found_too(obspool_dir: Path) -> None:
    """Its end and its last counts are kept as every other pool's."""
    with Pool(1, name="quick") as pool:
        assert pool.apply(work.double, (1,)) == 2
        pool.close()
        pool.join()
    assert [path.name.split(".")[0] for path in obspool_dir.glob("*.obspool")] == ["quick"]


def test_a_locked_directory_delays_no_work(obspool_dir: Path) -> None:
    """Somebody may be stopped while he holds it."""
    with ExitStack() as held, ExitStack() as pools:
        held.enter_context(locks.directory(obspool_dir))
        pool = pools.enter_context(Pool(1, name="waits"))
        began = time.monotonic()
        while time.monotonic() - began < 0.3:
            before = time.monotonic()
            assert pool.apply(work.double, (1,)) == 2
            assert time.monotonic() - before < 0.25
        assert not list(obspool_dir.glob("*.obspool"))
        held.close()
        poll(lambda: "waits" in _names())
