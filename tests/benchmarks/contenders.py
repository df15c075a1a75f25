"""Whose pools are compared: each is a name, and a function that makes one."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from tests.benchmarks.peers import PEERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.benchmarks.half import MakePool


class MakePoolOf(Protocol):
    """A constructor whose start method is still to be said."""

    def __call__(
        self, processes: int, *, start_method: str, maxtasksperchild: int | None = None
    ) -> Any: ...


@dataclass(frozen=True)
class Contender:
    """Whose pools are measured.

    Attributes:
        name: as the table has it.
        make: makes one of them; it imports what that needs.
        environment: of the process that it is measured in, where that is one of its own.
    """

    name: str
    make: MakePoolOf
    environment: Mapping[str, str] = field(default_factory=dict)

    def maker(self, start_method: str) -> MakePool:
        """Return the constructor, bound to a start method."""
        return partial(self.make, start_method=start_method)


def _stdlib(processes: int, *, start_method: str, maxtasksperchild: int | None = None) -> Any:
    context = multiprocessing.get_context(start_method)
    return context.Pool(processes, maxtasksperchild=maxtasksperchild)


def _obspool(processes: int, *, start_method: str, maxtasksperchild: int | None = None) -> Any:
    from obspool import Pool  # noqa: PLC0415 - not in the others' processes

    context = multiprocessing.get_context(start_method)
    return Pool(processes, maxtasksperchild=maxtasksperchild, context=context)


def _bare(processes: int, *, start_method: str, maxtasksperchild: int | None = None) -> Any:
    from tests.benchmarks.bare import strip  # noqa: PLC0415 - it changes the process that imports it

    strip()
    return _obspool(processes, start_method=start_method, maxtasksperchild=maxtasksperchild)


STDLIB = Contender("stdlib", _stdlib)
OBSPOOL = Contender("obspool", _obspool)
# Shown to nobody, and with nothing to show.
SILENT = Contender("disabled", _obspool, {"OBSPOOL_DISABLE": "1"})
BARE = Contender("bare", _bare, {"OBSPOOL_DISABLE": "1"})

OTHERS = {name: Contender(name, peer.make) for name, peer in PEERS.items()}

CONTENDERS = {one.name: one for one in (STDLIB, OBSPOOL, SILENT, BARE, *OTHERS.values())}
