"""The committed dashboards: made by the script, and whole."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.builder.__main__ import main
from tests.grafana.boards import DASHBOARDS, FOLDER, panels, read, targets

if TYPE_CHECKING:
    from pathlib import Path

each_dashboard = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)

WINDOWS = re.compile(r"\[([^\]]+)\]")
WIDTH = 24


def test_there_are_two_dashboards() -> None:
    """One of a pool, and one of a host with many."""
    assert [path.stem for path in DASHBOARDS] == ["obspool-host", "obspool-pool"]


def test_the_script_makes_what_is_committed(capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m grafana.builder --check` names no file that is out of date."""
    assert main(["--check"]) == 0
    assert capsys.readouterr().out == ""


def test_the_script_says_what_it_does_not_know() -> None:
    """A wrong argument ends with status 2 and the usage, and writes nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "grafana.builder", "--chekc"],
        cwd=FOLDER.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert "--check" in done.stderr


@each_dashboard
def test_grafanas_own_classes_know_each_field(path: Path) -> None:
    """Read into Grafana's typed classes and written again, nothing is lost: no misspelt field."""
    register_default_plugins()
    board = read(path)
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(board)))
    assert again == board


def test_grafanas_own_classes_would_find_a_misspelt_field() -> None:
    """The control: the same way with an option that doesn't exist."""
    register_default_plugins()
    board = read(DASHBOARDS[0])
    panels(board)[0]["options"]["colourMode"] = "value"
    assert json.loads(JSONEncoder().encode(Dashboard.from_json(board))) != board


@each_dashboard
def test_each_panel_says_what_it_shows(path: Path) -> None:
    """Each has a title of its own and a description; all but texts a unit and the data source."""
    shown = panels(read(path))
    titles = [panel["title"] for panel in shown]
    assert len(set(titles)) == len(titles)
    for panel in shown:
        assert len(panel["description"]) > 20, panel["title"]
        if panel["type"] == "text":
            continue
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]
            assert target["legendFormat"], panel["title"]


@each_dashboard
def test_panels_have_places_of_their_own(path: Path) -> None:
    """Ids are unique, and no panel lies on another or beyond the screen's edge."""
    board = read(path)
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    taken: dict[tuple[int, int], str] = {}
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= WIDTH
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, (panel["title"], taken.get((x, y)))
                taken[x, y] = panel["title"]


@each_dashboard
def test_variables_are_chosen_one_from_the_other(path: Path) -> None:
    """Data source, job, instance and pool; each list is of what the ones before it leave."""
    variables: dict[str, dict[str, Any]] = {
        variable["name"]: variable for variable in read(path)["templating"]["list"]
    }
    names = list(variables)
    assert names[:4] == ["datasource", "job", "instance", "pool"]
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == (
        "datasource",
        "prometheus",
    )
    for place, name in enumerate(names[1:4], start=1):
        query = variables[name]["query"]["query"]
        assert query.startswith("label_values(obspool_pool_info")
        assert query.endswith(f", {name})")
        assert re.findall(r"\$(\w+)", query) == names[1:place]
        assert variables[name]["datasource"]["uid"] == "${datasource}"


@each_dashboard
def test_each_query_asks_for_the_chosen_pools(path: Path) -> None:
    """All selectors have the three variables, each variable is used, windows are Grafana's."""
    board = read(path)
    used = set()
    for target in targets():
        if target.board != path.stem:
            continue
        selectors = re.findall(r"\{([^{}]*)\}", target.expression)
        for selector in selectors:
            for name in ("job", "instance", "pool"):
                assert f'{name}=~"${name}"' in selector, target
        assert selectors or target.expression == "vector($memory)", target
        assert set(WINDOWS.findall(target.expression)) <= {"$__rate_interval", "$__range"}, target
        used |= set(re.findall(r"\$(\w+)", target.expression))
    variables = {variable["name"] for variable in board["templating"]["list"]}
    assert variables - used == {"datasource"}


def test_tuning_panels_say_what_to_change() -> None:
    """Each panel of the tuning rows says what high and low mean."""
    board = read(FOLDER / "dashboards" / "obspool-pool.json")
    row, told = "", 0
    for panel in board["panels"]:
        row = panel["title"] if panel["type"] == "row" else row
        if not row.startswith("Choosing") or panel["type"] in {"row", "text"}:
            continue
        told += 1
        said = panel["description"].lower()
        assert re.search(r"\bhigh\b", said), panel["title"]
        assert re.search(r"\blow\b", said), panel["title"]
    assert told >= 20


def test_the_host_leads_to_the_pool() -> None:
    """The table of pools links to the pool's dashboard by the uid that it has."""
    host, pool = (read(path) for path in DASHBOARDS)
    (table,) = (panel for panel in panels(host) if panel["type"] == "table")
    (links,) = (
        found["value"]
        for override in table["fieldConfig"]["overrides"]
        for found in override["properties"]
        if found["id"] == "links"
    )
    assert f"/d/{pool['uid']}?" in links[0]["url"]
    for name in re.findall(r"var-(\w+)=", links[0]["url"]):
        assert name in {variable["name"] for variable in pool["templating"]["list"]}
