"""A real Prometheus with the project's rules, a real Alertmanager, and a webhook that listens."""

from __future__ import annotations

import contextlib
import json
import queue
import shutil
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.grafana.boards import RULES
from tests.helpers import poll

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

READY_SECONDS = 30.0
PACKAGES = {
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
}

PROMETHEUS_CONFIG = """\
global:
  scrape_interval: 1s
  scrape_timeout: 900ms
  evaluation_interval: 1s
rule_files: {rules}
alerting:
  alertmanagers:
    - file_sd_configs:
        - files: [{alertmanagers}]
          refresh_interval: 1s
scrape_configs:
  - job_name: obspool
    file_sd_configs:
      - files: [{targets}]
        refresh_interval: 1s
"""

ALERTMANAGER_CONFIG = """\
route:
  receiver: test
  group_by: [alertname]
  group_wait: 0s
receivers:
  - name: test
    webhook_configs:
      - url: {url}
        send_resolved: false
"""


def program(name: str) -> str:
    """Return where a program is; without it the test is skipped."""
    path = shutil.which(name)
    if path is None:
        package = PACKAGES.get(name, "prometheus")
        pytest.skip(f"no `{name}` on PATH (Debian: apt-get install {package})")
    return path


def run(name: str, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with all that it says."""
    return subprocess.run(
        [program(name), *arguments],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )


def free_port() -> int:
    """Return a port of the loopback that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus, and the files that name what it scrapes and where its alerts go."""

    url: str
    targets: Path
    alertmanagers: Path

    def scrape(self, *urls: str) -> None:
        """Have these servers scraped from now on, and no other."""
        _point(self.targets, urls)

    def alert(self, *urls: str) -> None:
        """Have alerts sent to these Alertmanagers from now on."""
        _point(self.alertmanagers, urls)

    def query(
        self, expression: str, *, at: float | None = None
    ) -> list[tuple[dict[str, str], float]]:
        """Return the instant vector of an expression; what Prometheus says against it fails."""
        values = {"query": expression} | ({} if at is None else {"time": f"{at:.3f}"})
        request = urllib.request.Request(  # noqa: S310 - http, our own
            f"{self.url}/api/v1/query", data=urlencode(values).encode()
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                data: Any = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from error
        return [(one["metric"], float(one["value"][1])) for one in data["data"]["result"]]

    def query_range(self, expression: str, start: float, end: float) -> list[dict[str, Any]]:
        """Return the series of an expression, a value each second; times in milliseconds."""
        values = {"query": expression, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": "1"}
        return [
            {
                "labels": one["metric"],
                "times": [when * 1000 for when, _ in one["values"]],
                "values": [float(value) for _, value in one["values"]],
            }
            for one in self.get(f"query_range?{urlencode(values)}")["result"]
        ]

    def get(self, path: str) -> Any:
        """Return the data of another answer of its API."""
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}", timeout=10) as answer:  # noqa: S310
            return json.load(answer)["data"]


def _point(file: Path, urls: Sequence[str]) -> None:
    new = file.with_suffix(".new")
    addresses = [urlsplit(url).netloc for url in urls]
    new.write_text(json.dumps([{"targets": addresses}] if addresses else []), encoding="utf-8")
    new.rename(file)


@contextlib.contextmanager
def started(command: list[str], directory: Path, port: int) -> Iterator[str]:
    """Run a server of the Prometheus family until it is ready, and kill it afterwards."""
    url = f"http://127.0.0.1:{port}"
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=directory)
    try:
        poll(
            lambda: process.poll() is not None or _ready(url),
            deadline=READY_SECONDS,
            message=lambda: log.read_text(encoding="utf-8"),
        )
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield url
    finally:
        process.kill()
        process.wait()


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5):  # noqa: S310
            return True
    except (urllib.error.URLError, OSError):
        return False


@contextlib.contextmanager
def prometheus(directory: Path, history: str) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes and evaluates the project's rules each second.

    Args:
        directory: an empty one, for its files.
        history: what it is to know of the past already, as OpenMetrics with times.
    """
    command = program("prometheus")
    (directory / "history").write_text(history, encoding="utf-8")
    data = str(directory / "data")
    done = run(
        "promtool", "tsdb", "create-blocks-from", "openmetrics", str(directory / "history"), data
    )
    assert done.returncode == 0, done.stdout
    made = Prometheus("", directory / "targets.json", directory / "alertmanagers.json")
    made.scrape()
    made.alert()
    config = directory / "prometheus.yml"
    config.write_text(
        PROMETHEUS_CONFIG.format(
            rules=json.dumps([str(path) for path in RULES]),
            targets=made.targets,
            alertmanagers=made.alertmanagers,
        ),
        encoding="utf-8",
    )
    port = free_port()
    arguments = [f"--config.file={config}", f"--storage.tsdb.path={data}"]
    listen = f"--web.listen-address=127.0.0.1:{port}"
    with started([command, *arguments, listen], directory, port) as url:
        yield Prometheus(url, made.targets, made.alertmanagers)


@dataclass
class Webhook:
    """A server that notes the alerts that are sent to it."""

    url: str = ""
    alerts: queue.Queue[dict[str, Any]] = field(default_factory=queue.Queue)


@contextlib.contextmanager
def webhook() -> Iterator[Webhook]:
    """Listen on a free port of the loopback."""
    made = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for alert in json.loads(body)["alerts"]:
                made.alerts.put(alert)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def alertmanager(directory: Path, receiver: str) -> Iterator[str]:
    """Run an Alertmanager that sends everything to a URL at once; yield its own."""
    command = program("prometheus-alertmanager")
    config = directory / "alertmanager.yml"
    config.write_text(ALERTMANAGER_CONFIG.format(url=receiver), encoding="utf-8")
    port = free_port()
    arguments = [
        f"--config.file={config}",
        f"--storage.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with started([command, *arguments], directory, port) as url:
        yield url
