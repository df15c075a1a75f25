"""A pool that is served by this process, for the tests of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from obspool.control.server import serve, withdraw
from tests.control.targets import RecordingTarget, server_threads
from tests.helpers import poll

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def target() -> Iterator[RecordingTarget]:
    target = RecordingTarget()
    yield target
    withdraw(target)
    poll(lambda: not server_threads(), message="the server's thread ends with its last pool")


@pytest.fixture
def path(target: RecordingTarget) -> str:
    path = serve(target)
    assert path is not None
    return path
