from __future__ import annotations

import gc
import threading
import weakref
from types import SimpleNamespace

from obspool import _fork
from obspool.telemetry.layout import WORD, Layout
from obspool.worker.workbench import Workbench


def test_a_parent_keeps_nothing_of_one_that_it_made() -> None:
    """Its descriptors would be kept too, until a garbage collection."""
    layout = Layout(1)
    segment = SimpleNamespace(
        cells=memoryview(bytearray(layout.words * WORD)).cast("Q"), layout=layout
    )
    channel, other = _fork.Socket.pair()
    lifeline, another = _fork.Socket.pair()
    gc.disable()
    try:
        bench = Workbench(segment, (0, 1), threading.Lock(), channel, lifeline)
        gone = weakref.ref(bench.runner)
        del bench, channel, lifeline
        assert gone() is None
        assert other.recv(1) == another.recv(1) == b""
    finally:
        gc.enable()
