"""Puts a pool together: its control socket, its segment, its /metrics, its engine."""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from obspool.announcement import Announcement
from obspool.control import server as control
from obspool.core import Core
from obspool.errors import ControlError
from obspool.loop import Loop
from obspool.telemetry.facts import default_name, facts_of_this_process
from obspool.telemetry.segment import Segment
from obspool.words import PoolOutcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from obspool.control.peer import Peer
    from obspool.control.protocol import Request
    from obspool.engines.protocol import Engine
    from obspool.telemetry.snapshot import Snapshot


class _Remote:
    """What the control server knows of a pool: its socket is needed before the core can be made."""

    def __init__(self) -> None:
        self.core: Core | None = None

    @property
    def name(self) -> str:
        """The pool's name, empty before it has one."""
        return self.core.name if self.core is not None else ""

    def command(self, request: Request, by: Peer) -> str:
        """Pass a command on.

        Raises:
            ControlError: the pool has not begun, or has ended.
        """
        if self.core is None:
            raise ControlError("the pool has not begun yet")
        return self.core.command(request, by)


def assemble(
    make_engine: Callable[[Segment, str], Engine],
    *,
    engine_name: str,
    start_method: str,
    processes: int,
    max_tasks: int | None,
    max_memory: int | Literal["auto"] | None,
    max_age: float | None,
    name: str | None,
    metrics: Any,
    balance: bool,
) -> Core:
    """Make a pool's core, ready to be opened.

    Raises:
        ValueError: the name has nothing usable in it, or `metrics` is no address.
        MetricsServerError: `metrics` names an address that can't be had.
    """
    published = os.environ.get("OBSPOOL_DISABLE") != "1"
    facts = facts_of_this_process(
        default_name() if name is None else name, engine_name, start_method
    )
    remote = _Remote()
    segment = Segment.prepare(facts, processes, publish=published)
    with ExitStack() as at_end:
        at_end.callback(control.withdraw, remote)
        failed = at_end.enter_context(ExitStack())
        failed.callback(segment.close, PoolOutcome.ABANDONED)
        serve = partial(control.serve, remote) if published else None
        announcement = Announcement(segment, serve)
        url = None
        if (
            published
            and metrics is not False
            and (metrics is not None or os.environ.get("OBSPOOL_METRICS"))
        ):
            announcement.make()  # before anything is started: the address may be wrong
            url = _expose(metrics, segment, at_end)
        if published and os.environ.get("OBSPOOL_PUSH"):
            at_end.callback(_push, segment)
        loop = Loop(
            make_engine(segment, segment.facts.name),
            segment,
            processes=processes,
            max_tasks=max_tasks,
            max_memory=max_memory,
            max_age=max_age,
            balance=balance,
            announcement=announcement,
        )
        core = Core(loop)
        core.metrics_url = url
        remote.core = core
        failed.pop_all()
        loop.at_end = at_end.pop_all()
    return core


def _expose(metrics: Any, segment: Segment, at_end: ExitStack) -> str | None:
    """Serve /metrics where the program or OBSPOOL_METRICS says; return the URL."""
    from obspool.exporters import server  # noqa: PLC0415 - prometheus_client, 60 ms

    source = partial(_read, segment)
    if metrics is None:
        exposure = server.expose_from_environment(source)
    else:
        exposure = server.expose(metrics, source)
    if exposure is None:
        return None
    at_end.callback(exposure.close)
    return exposure.url


def _push(segment: Segment) -> None:
    """Push the pool's last values where OBSPOOL_PUSH says."""
    from obspool.exporters import push  # noqa: PLC0415 - the same

    push.push_at_end(partial(_read, segment))


def _read(segment: Segment) -> Snapshot:
    from obspool.telemetry.reader import read  # noqa: PLC0415 - as the two above

    return read(segment, errors=False)
