"""One Prometheus for all tests of this folder, which knows the worked examples of the past."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.grafana import examples, servers

if TYPE_CHECKING:
    from collections.abc import Iterator

# Within one block of a Prometheus's two hours, and before all that it scrapes itself.
EXAMPLES_AGO = 4 * 3600


@pytest.fixture(scope="session")
def examples_end() -> int:
    """When the worked examples ended, in seconds of the epoch."""
    return int(time.time()) // 3600 * 3600 - EXAMPLES_AGO


@pytest.fixture(scope="session")
def prometheus(
    examples_end: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Prometheus]:
    """A real Prometheus on loopback, with the project's rules, evaluated each second."""
    directory = tmp_path_factory.mktemp("grafana")
    with servers.prometheus(directory, examples.history(examples_end)) as running:
        yield running
