"""Servers that are closed after each test, and one real Prometheus for all of them."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import pytest
from prometheus_client import REGISTRY

from obspool.exporters.server import Exposure, expose
from tests.helpers import poll

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from obspool.telemetry.snapshot import Snapshot

PROMETHEUS_SECONDS = 30.0

CONFIG = """\
global:
  scrape_interval: 1s
  scrape_timeout: 900ms
scrape_configs:
  - job_name: obspool
    file_sd_configs:
      - files: [{targets}]
        refresh_interval: 1s
"""


class Exposer:
    """Opens exposures for a test and closes them after it."""

    def __init__(self) -> None:
        self.open: list[Exposure] = []

    def __call__(self, source: Callable[[], Snapshot], address: int | str = 0) -> Exposure:
        """Expose a source, by default on a free port."""
        exposure = expose(address, source)
        self.open.append(exposure)
        return exposure


@pytest.fixture
def exposer() -> Iterator[Exposer]:
    """What opens servers; afterwards no thread and no collector of ours may be left."""
    made = Exposer()
    yield made
    for exposure in made.open:
        exposure.close()
    poll(lambda: not server_threads(), message=lambda: f"threads left: {server_threads()}")
    assert not registered()


def server_threads() -> list[threading.Thread]:
    """Return the threads of servers."""
    return [thread for thread in threading.enumerate() if thread.name == "obspool-metrics"]


def registered() -> list[str]:
    """Return our families in prometheus_client's default registry."""
    return [family.name for family in REGISTRY.collect() if family.name.startswith("obspool_")]


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus, and the file that names what it scrapes."""

    url: str
    targets: Path

    def scrape(self, url: str) -> str:
        """Have the server of a URL scraped from now on; return its `instance`."""
        instance = urlsplit(url).netloc
        new = self.targets.with_suffix(".new")
        new.write_text(json.dumps([{"targets": [instance]}]), encoding="utf-8")
        new.rename(self.targets)
        return instance

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return the instant vector of an expression."""
        address = f"{self.url}/api/v1/query?{urlencode({'query': expression})}"
        with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - http, our own
            data: Any = json.load(answer)
        return [(one["metric"], float(one["value"][1])) for one in data["data"]["result"]]


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A real Prometheus on loopback that scrapes each second what a test tells it to."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no `prometheus` on PATH (Debian: apt-get install prometheus)")
    directory = tmp_path_factory.mktemp("prometheus")
    targets = directory / "targets.json"
    targets.write_text("[]", encoding="utf-8")
    (directory / "prometheus.yml").write_text(CONFIG.format(targets=targets), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
            cwd=directory,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        poll(
            lambda: process.poll() is not None or _ready(url),
            deadline=PROMETHEUS_SECONDS,
            message=lambda: (directory / "log").read_text(encoding="utf-8"),
        )
        assert process.poll() is None, (directory / "log").read_text(encoding="utf-8")
        yield Prometheus(url, targets)
    finally:
        process.kill()
        process.wait()


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5):  # noqa: S310
            return True
    except (urllib.error.URLError, OSError):
        return False
