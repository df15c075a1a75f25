from __future__ import annotations

import dataclasses

import pytest

from obspool.cli.stats import described
from obspool.words import PoolOutcome
from tests.synthetic import make_snapshot


def test_a_running_pool() -> None:
    """Each part of a snapshot is there, in words and units of people."""
    text = "\n".join(described(make_snapshot()))
    assert "nightly  pid 41822 · nightly.py · fork · Python 3.11.7" in text
    assert "running for 00:42:17" in text
    assert "182 queued" in text
    assert "each replaced after 700 tasks" in text
    assert "14 tasks, 1 lost" in text
    assert "item of resize_image" in text
    assert "job of map" in text
    assert "job of apply" not in text
    assert "idle       1m 02s no work, 8.2 s starved, 41.0 s tail" in text
    assert "images_skipped 12" in text
    assert "labels     dag=thumbnails slurm_job=4711" in text
    assert "imap_unordered" in text
    assert "SLOT" in text
    assert "gave no sign" not in text


@pytest.mark.parametrize("outcome", PoolOutcome)
def test_an_ended_pool(outcome: PoolOutcome) -> None:
    """How it ended, and how old its values are."""
    text = "\n".join(described(make_snapshot(outcome=outcome)))
    assert f"ended, {outcome}, after 00:41:57; values are 20 s old" in text


def test_a_pool_that_gives_no_sign() -> None:
    """A stopped process holds its lock, so it is alive; its heartbeat is what tells."""
    snapshot = make_snapshot()
    silent = dataclasses.replace(snapshot, heartbeat_time=snapshot.time - 75)
    assert "gave no sign for 1m 15s: stuck or stopped" in "\n".join(described(silent))


def test_a_pool_without_anything() -> None:
    """No workers, jobs, events or items yet."""
    snapshot = dataclasses.replace(
        make_snapshot(workers=0), jobs=(), events=(), item_run={}, items_completed={}
    )
    assert "0 done (-)" in "\n".join(described(snapshot))


def test_names_that_would_steer_the_terminal() -> None:
    """Program, labels, functions and events are texts of other processes."""
    evil = "\x1b[2J\x07"
    snapshot = make_snapshot()
    facts = dataclasses.replace(snapshot.facts, program=evil, labels=((evil, evil),))
    worker = dataclasses.replace(snapshot.workers[0], function=evil)
    event = dataclasses.replace(snapshot.events[-1], text=evil)
    job = dataclasses.replace(snapshot.jobs[0], function=evil)
    poisoned = dataclasses.replace(
        snapshot,
        facts=facts,
        workers=(worker,),
        events=(event,),
        jobs=(job,),
        item_run={evil: snapshot.task_run},
        user_counters={evil: 1},
    )
    text = "\n".join(described(poisoned))
    assert "\x1b" not in text
    assert "\x07" not in text
