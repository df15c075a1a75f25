"""What a worker process works with: made by its parent where that forks it.

In a process that has just forked, each function that runs for the first time and each object that
is made copies pages. There all this would cost 0.3 ms; in the parent it costs 0.05 ms.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from functools import partial

from obspool import _fork, wire
from obspool.counters import WorkerBook
from obspool.messages import Kind
from obspool.telemetry.bank import Bank, Claims
from obspool.worker.codec import PickleCodec
from obspool.worker.outbox import Outbox
from obspool.worker.runner import Runner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from obspool.messages import Part


class Workbench:
    """What one worker works with; picklable while a process is being spawned.

    Attributes:
        channel: its end of it.
        lifeline: a socket whose other end only the parent holds.
        codec: encodes and decodes what is sent.
        reader: of the channel.
        bank: its counters.
        runner: runs its batches.
    """

    def __init__(
        self,
        segment: Any,
        worker: tuple[int, int],
        lock: Any,
        channel: socket.socket,
        lifeline: socket.socket,
    ) -> None:
        """Make it.

        Args:
            segment: the segment's cells and layout.
            worker: slot and generation.
            lock: the claim lock.
            channel: see above.
            lifeline: see above.
        """
        self._segment = segment
        self._worker = worker
        self._lock = lock
        self.channel = channel
        self.lifeline = lifeline
        self.codec = PickleCodec()
        self.reader = wire.FrameReader(wire.scratch())
        self.bank = Bank(segment.cells, segment.layout, *worker)
        claims = Claims(segment.cells, segment.layout, *worker, lock)
        outbox = Outbox(partial(_send_results, channel), self.codec)
        self.runner = Runner(self.bank, claims, outbox, self.codec)
        self._outbox = outbox

    def book(self) -> WorkerBook:
        """Make the book of the program's own counters, in the worker itself."""
        tell = partial(_tell_counter, self._outbox, self.channel)
        return WorkerBook(self._segment, self._worker, tell)

    def __reduce__(self) -> Any:
        """Pass the descriptors as spawn and forkserver do."""
        from multiprocessing.reduction import DupFd  # noqa: PLC0415 - not in a worker

        layout = self._segment.layout
        segment = DupFd(self._segment.fd), layout.slots, layout.header_words
        ends = DupFd(self.channel.fileno()), DupFd(self.lifeline.fileno())
        return _again, (segment, tuple(self._worker), self._lock, *ends)


def _again(
    segment: tuple[Any, int, int], worker: tuple[int, int], lock: Any, channel: Any, lifeline: Any
) -> Workbench:
    """Make it in the worker, of what it was passed."""
    from obspool.telemetry.cells import attach  # noqa: PLC0415 - not under fork

    descriptor, slots, header_words = segment
    fd = descriptor.detach()
    attached = attach(fd, slots, header_words)
    os.close(fd)
    return Workbench(
        attached, worker, lock, *map(worker_end, (channel.detach(), lifeline.detach()))
    )


def worker_end(descriptor: int) -> _fork.Socket:
    """Return the socket of a descriptor, the worker's end of a pair."""
    return _fork.Socket(socket.AF_UNIX, socket.SOCK_STREAM, descriptor)


def send(channel: socket.socket, parts: list[Any]) -> None:
    """Send a frame."""
    if len(parts) == 1:
        channel.sendall(parts[0])
        return
    sender = wire.Sender()
    sender.add(parts)
    sender.send(channel)


def _tell_counter(outbox: Outbox, channel: socket.socket, name: str) -> None:
    """Tell the parent that a counter of this name is in use."""
    frame = wire.plain_frame(wire.Frame.COUNTER, name)
    with suppress(OSError):  # the parent is gone, which the main thread finds out by itself
        outbox.announce(partial(send, channel, frame))


def _send_results(channel: socket.socket, parts: list[Part], busy: int, ended: int) -> None:
    if len(parts) == 1 and parts[0].count == 1:
        part = parts[0]
        if part.payloads and part.kind != Kind.LIST and wire.is_small(part.payloads[0]):
            channel.sendall(wire.result_frame(part.first, part.kind, busy, ended, part.payloads[0]))
            return
    send(channel, wire.results_frame(parts, busy, ended))
