"""Debian's servers, each on a port of its own on loopback."""

from __future__ import annotations

import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.helpers import poll

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_SECONDS = 30.0


def free_port() -> int:
    """Return a port that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def fetch(url: str) -> str:
    """Return what a URL has."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - http, our own
        text: bytes = answer.read()
        return text.decode()


@contextmanager
def running(program: str, ready: str, log: Path, *options: str) -> Iterator[str]:
    """Run a server while the `with` lasts; skip the test where the program is missing.

    Args:
        program: its name, which is that of its Debian package as well.
        ready: the path that answers when it is.
        log: a file for what it says.
        options: `{listen}` in them is where it listens.

    Yields:
        Its URL.
    """
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"no `{program}` on PATH (Debian: apt-get install {program})")
    listen = f"127.0.0.1:{free_port()}"
    url = f"http://{listen}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [found, *(option.replace("{listen}", listen) for option in options)],
            stdout=output,
            stderr=output,
            cwd=log.parent,
        )

    def answers() -> bool:
        try:
            fetch(url + ready)
        except (urllib.error.URLError, OSError):
            return False
        return True

    try:
        poll(
            lambda: process.poll() is not None or answers(),
            deadline=START_SECONDS,
            message=lambda: log.read_text(encoding="utf-8"),
        )
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield url
    finally:
        process.kill()
        process.wait()
