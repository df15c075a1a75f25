"""Totals that outlive the exporter."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest

from obspool.exporters import state
from obspool.exporters.host import Host
from obspool.exporters.state import StateError
from tests.exporters.hosts import LivePool, run_pool, series, shown, value

if TYPE_CHECKING:
    from pathlib import Path

    from tests.exporters.samples import Series


def told_after_restart(path: Path) -> Series:
    """Return what an exporter tells that goes on from a file."""
    host = Host(3600.0)
    state.load(path, host)
    told = series(host)
    state.save(path, host)
    host.close()
    return told


def totals(told: Series) -> Series:
    kinds = ("_total", "_count", "_bucket", "_sum")
    ours = ("obspool_exporter_", "process_")
    return {
        one: number
        for one, number in told.items()
        if one[0].endswith(kinds) and not one[0].startswith(ours)
    }


def test_totals_go_on_after_a_restart(tmp_path: Path) -> None:
    """Ended runs whose segments are still there aren't added again; what lives goes on."""
    path = tmp_path / "state.json"
    host = Host(3600.0)
    state.load(path, host)
    run_pool(shown(seed=1))
    run_pool(shown(seed=2))
    live = LivePool(shown("live"))
    before = totals(series(host))
    state.save(path, host)
    host.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert totals(told_after_restart(path)) == before
    live.end()
    run_pool(shown(seed=3))
    after = totals(told_after_restart(path))
    assert all(after[one] >= number for one, number in before.items())
    assert totals(told_after_restart(path)) == after
    name = "obspool_pools_ended_total"
    assert value(after, name, pool="nightly", outcome="finished") == 3


def test_the_last_success_goes_on_too(tmp_path: Path) -> None:
    """An alert asks for it all day."""
    path = tmp_path / "state.json"
    host = Host(0.0)
    run = run_pool()
    host.look()
    state.save(path, host)
    host.close()
    told = told_after_restart(path)
    success = value(told, "obspool_pool_last_success_timestamp_seconds", pool="nightly")
    assert success == pytest.approx(run.last_success_time)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        '{"version": 2}',
        '{"version": 1, "pools": [{}], "done": []}',
        '{"version": 1, "pools": [], "done": [["a"]]}',
        '{"version": 1, "pools": [], "done": [["a", 1, 2, 3, 4, 5]]}',
        '{"version": 1, "done": [], "pools": [{"name": "a", "uid": "x", "created": 1.0}]}',
    ],
)
def test_what_is_no_such_file_is_told(tmp_path: Path, text: str) -> None:
    """With what to do; nothing is taken from it."""
    path = tmp_path / "state.json"
    path.write_text(text)
    host = Host(1.0)
    with pytest.raises(StateError, match="remove it to begin anew"):
        state.load(path, host)
    assert host.totals.pools == {}


def test_metrics_of_another_version_are_left_out(tmp_path: Path) -> None:
    """A file of a version with other metrics, or other labels, is no error."""
    path = tmp_path / "state.json"
    base = {"gone_total": [[[], 7]], "items_submitted_total": [[["new label"], 7], [[], 8]]}
    pool = {"name": "a", "uid": 1, "created": 1.0, "base": base, "lasting": {}}
    path.write_text(json.dumps({"version": 1, "pools": [pool], "done": []}))
    told = told_after_restart(path)
    assert value(told, "obspool_items_submitted_total", pool="a") == 8
    assert not [name for name, _ in told if "gone" in name]


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    """And nothing is left behind."""
    host = Host(1.0)
    with pytest.raises(StateError, match="can't be written"):
        state.save(tmp_path / "nowhere" / "state.json", host)
    directory = tmp_path / "directory"
    directory.mkdir()
    with pytest.raises(StateError, match="can't be written"):
        state.save(directory, host)
    with pytest.raises(StateError, match="can't be read"):
        state.load(directory, host)
