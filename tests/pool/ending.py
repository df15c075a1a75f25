"""The end of a pool in a test: its counts must add up."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obspool import Pool, Snapshot


def ended(pool: Pool) -> Snapshot:
    """Close the pool; return its last snapshot, in which the laws hold."""
    pool.close()
    pool.join()
    stats = pool.stats()
    assert sum(stats.tasks_submitted.values()) == sum(stats.tasks_completed.values())
    assert stats.items_submitted == sum(stats.items_completed.values())
    return stats
