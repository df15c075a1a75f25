"""A push at a pool's end, for those whom nobody can scrape: OBSPOOL_PUSH=http://host:9091.

prometheus_client does it, in a thread of its own: looking up a name has no time limit, and a pool's
end must not wait for somebody else's gateway.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import basic_auth_handler, default_handler, push_to_gateway
from prometheus_client.registry import Collector

from obspool.exporters.collector import SnapshotCollector
from obspool.exporters.table import EXPORTER_ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.core import Metric

    from obspool.telemetry.snapshot import Snapshot

VARIABLE = "OBSPOOL_PUSH"
JOB = "obspool"

# For one step of the transfer; and for all of it, which is how long a pool's end may take longer.
STEP_SECONDS = 2.0
PUSH_SECONDS = 3.0

_log = logging.getLogger("obspool")


class _Last(Collector):
    """One snapshot as a registry has it, without what an exporter says of itself."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._collector = SnapshotCollector(lambda: [snapshot])

    def collect(self) -> Iterator[Metric]:
        """Yield the pool's families."""
        own = EXPORTER_ERRORS.full_name.removesuffix("_total")
        return (family for family in self._collector.collect() if family.name != own)


def push_at_end(source: Callable[[], Snapshot]) -> None:
    """Push what a pool says last to where OBSPOOL_PUSH says; never raises.

    What goes wrong, or takes longer than PUSH_SECONDS, is one WARNING.
    """
    url = os.environ.get(VARIABLE, "").strip()
    if not url:
        return
    try:
        gateway, user, password = _parsed(url)
        snapshot = source()
    except Exception as error:  # noqa: BLE001 - a pool's end must not fail for its metrics
        _log.warning("metrics were not pushed (%s): %s", VARIABLE, error)
        return
    name = snapshot.facts.name
    given_up = threading.Event()

    def push() -> None:
        try:
            _push(gateway, user, password, snapshot)
        except Exception as error:  # noqa: BLE001 - the same
            if not given_up.is_set():
                _log.warning("pool %s: its metrics were not pushed to %s: %s", name, gateway, error)

    thread = threading.Thread(target=push, name=f"obspool-push-{name}", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is ending
        push()
        return
    thread.join(PUSH_SECONDS)
    if thread.is_alive():
        given_up.set()
        _log.warning(
            "pool %s: its metrics are not pushed to %s after %g s, which isn't waited for",
            name,
            gateway,
            PUSH_SECONDS,
        )


def _parsed(url: str) -> tuple[str, str, str]:
    """Return the gateway's URL without what is secret in it, and the user and password.

    Raises:
        ValueError: it isn't the URL of a gateway.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("it must be http://HOST:PORT, or with a path in front of /metrics")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    place = host if parts.port is None else f"{host}:{parts.port}"
    gateway = urlunsplit((parts.scheme, place, parts.path.rstrip("/"), "", ""))
    return gateway, unquote(parts.username or ""), unquote(parts.password or "")


def _push(gateway: str, user: str, password: str, snapshot: Snapshot) -> None:
    def handler(
        url: str, method: str, timeout: float | None, headers: list[tuple[str, str]], data: bytes
    ) -> Callable[[], None]:
        if user:
            return basic_auth_handler(url, method, timeout, headers, data, user, password)
        return default_handler(url, method, timeout, headers, data)

    registry = CollectorRegistry()
    registry.register(_Last(snapshot))
    # A group for each pool of each host: the next run replaces what the one before has left.
    group = {"instance": socket.gethostname(), "pool": snapshot.facts.name}
    push_to_gateway(
        gateway, JOB, registry, grouping_key=group, timeout=STEP_SECONDS, handler=handler
    )
