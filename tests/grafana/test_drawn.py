"""The panels drawn by Grafana's own packages in a headless Chromium.

It needs a folder for some 600 MB of npm packages, so it is run when one is named:

    OBSPOOL_GRAFANA_UI=~/.cache/obspool-grafana-ui tests/run -- tests/grafana/test_drawn.py

The pictures are then in that folder, one a dashboard, to be looked at. Heatmaps are not in these
packages.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.grafana.boards import DASHBOARDS, filled, read, targets
from tests.grafana.load import mixed_pool
from tests.helpers import poll

if TYPE_CHECKING:
    from tests.grafana.servers import Prometheus

VARIABLE = "OBSPOOL_GRAFANA_UI"
SOURCES = Path(__file__).parent / "ui"
PACKAGE = "package.json"

pytestmark = [
    pytest.mark.xdist_group("grafana"),
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(VARIABLE not in os.environ, reason=f"no {VARIABLE}: a folder for npm"),
    *(
        pytest.mark.skipif(
            shutil.which(name) is None,
            reason=f"no `{name}` on PATH (Debian: apt-get install {name})",
        )
        for name in ("chromium", "npm")
    ),
]

WINDOW, SHOWN = 10, 30
NAME = "drawn"
LOADERS = ("--loader:.svg=dataurl", "--loader:.woff2=dataurl", "--loader:.ttf=dataurl")
PAGE = """\
<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="page.css">
<style>body {{ margin: 0; font: 14px sans-serif }} .markdown {{ overflow: auto }}</style>
<div id="root" style="position: relative; height: {height}px"></div>
<script>window.PANELS = {panels};</script><script src="page.js"></script>
"""


@pytest.fixture(scope="module")
def folder() -> Path:
    """Where the packages are, and the bundled page."""
    made = Path(os.environ[VARIABLE]).expanduser().resolve()
    made.mkdir(parents=True, exist_ok=True)
    package = (SOURCES / PACKAGE).read_text(encoding="utf-8")
    known = made / PACKAGE
    if not known.exists() or known.read_text(encoding="utf-8") != package:
        known.unlink(missing_ok=True)
        (made / "new").mkdir(exist_ok=True)
        shutil.copy(SOURCES / PACKAGE, made / "new" / PACKAGE)
        _done(["npm", "install", "--no-audit", "--no-fund", "--legacy-peer-deps"], made / "new")
        shutil.rmtree(made / "node_modules", ignore_errors=True)
        (made / "new" / "node_modules").rename(made / "node_modules")
        shutil.rmtree(made / "new")
        known.write_text(package, encoding="utf-8")
    for source in ("page.tsx", "scrollbars.js"):
        shutil.copy(SOURCES / source, made / source)
    # No map and no minifying: it is read once, from the disk.
    bundler = made / "node_modules" / ".bin" / "esbuild"
    defines = ["--define:process.env.NODE_ENV='production'", "--define:global=window"]
    options = ["--bundle", "--outfile=page.js", "--format=iife", "--log-level=error"]
    options.append("--alias:react-custom-scrollbars-2=./scrollbars.js")
    _done([str(bundler), "page.tsx", *options, *LOADERS, *defines], made)
    return made


def _done(command: list[str], directory: Path) -> str:
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, (command[:2], done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


@pytest.fixture(scope="module")
def answers(prometheus: Prometheus) -> dict[str, dict[str, Any]]:
    """What half a minute of a pool's work answers to the queries of each dashboard."""
    ready = f'count_over_time(obspool_workers_configured{{pool="{NAME}"}}[1m]) > {SHOWN}'
    found: dict[str, dict[str, Any]] = {}
    with mixed_pool(NAME, until=lambda pool: prometheus.scrape(pool.metrics_url)):
        poll(lambda: prometheus.query(ready), deadline=120.0, interval=0.5)
        end = time.time()
        for path in DASHBOARDS:
            shown = [_answered(prometheus, panel, end) for panel in read(path)["panels"]]
            times = {"from": (end - SHOWN) * 1000, "to": end * 1000}
            found[path.stem] = {"panels": shown, **times}
    prometheus.scrape()
    return found


def _answered(prometheus: Prometheus, panel: dict[str, Any], end: float) -> dict[str, Any]:
    answered = []
    for target in panel.get("targets", []):
        query = filled(target["expr"], window=WINDOW, shown=SHOWN, pool=NAME, job="obspool")
        if target["instant"]:
            series = [
                {"labels": labels, "times": [end * 1000], "values": [value]}
                for labels, value in prometheus.query(query, at=end)
            ]
        else:
            series = prometheus.query_range(query, end - SHOWN, end)
        answered.append(series)
    return {"panel": panel, "answers": answered}


class _Drawn(HTMLParser):
    """Which panels are on a page, what text and how many canvases each has, and what failed."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[str, list[str]] = {}
        self.canvases: dict[str, int] = {}
        self.failures: list[str] = []
        self._panel = ""
        self._skip = self._failed = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self._skip = tag in {"script", "style"}
        self._failed = values.get("class") == "failed"
        if title := values.get("data-panel"):
            self._panel = title
            self.texts[title], self.canvases[title] = [], 0
        if tag == "canvas" and self._panel:
            self.canvases[self._panel] += 1

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 - its name there
        self._skip = self._failed = False

    def handle_data(self, data: str) -> None:
        if self._failed:
            self.failures.append(f"{self._panel}: {data}")
        elif self._panel and not self._skip and data.strip():
            self.texts[self._panel].append(data.strip())


@pytest.mark.parametrize("board", [path.stem for path in DASHBOARDS])
def test_panels_are_drawn(board: str, folder: Path, answers: dict[str, dict[str, Any]]) -> None:
    """No panel fails; numbers have their unit, lines their legend, tables their columns."""
    shown = answers[board]["panels"]
    places = [one["panel"]["gridPos"] for one in shown]
    height = int(max(place["y"] + place["h"] for place in places) * 36) + 40
    page = folder / f"{board}.html"
    panels = re.sub(r"\bNaN\b|\b-?Infinity\b", "null", json.dumps(answers[board]))
    page.write_text(
        PAGE.format(height=height, panels=panels.replace("</", "<\\/")), encoding="utf-8"
    )
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    options += [f"--window-size=1210,{height}", "--virtual-time-budget=8000"]
    profile = f"--user-data-dir={folder / 'profile'}"
    picture = f"--screenshot={folder / f'{board}.png'}"
    _done(["chromium", *options, profile, picture, page.as_uri()], folder)
    drawn = _Drawn()
    drawn.feed(_done(["chromium", *options, profile, "--dump-dom", page.as_uri()], folder))
    assert not drawn.failures
    for one in shown:
        if one["panel"]["type"] != "row":
            _check(one, drawn)


def _check(one: dict[str, Any], drawn: _Drawn) -> None:
    panel, title = one["panel"], one["panel"]["title"]
    said = " ".join(drawn.texts[title])
    assert said.startswith(title)
    if panel["type"] == "stat":
        assert re.search(r"\d|ago", said.removeprefix(title)), said
        if panel["fieldConfig"]["defaults"]["unit"] == "percentunit":
            assert "%" in said, said
    elif panel["type"] == "timeseries":
        assert drawn.canvases[title], title
        for target, answer in zip(panel["targets"], one["answers"], strict=True):
            for series in answer:
                line = target["legendFormat"]
                for name, value in series["labels"].items():
                    line = line.replace(f"{{{{{name}}}}}", value)
                assert line in said, (title, line, said)
    elif panel["type"] == "table":
        for target in targets():
            if target.panel["title"] == title:
                assert target.legend in said, (target.legend, said)


def test_a_panel_that_fails_is_found() -> None:
    """The control of the reading: a panel with an error in it."""
    drawn = _Drawn()
    drawn.feed('<div data-panel="A"><h2>A</h2><pre class="failed">Error: no unit x</pre></div>')
    assert drawn.failures == ["A: Error: no unit x"]
