"""Messages as bytes on a stream socket.

    +--------------------------------+-------+------------------+--------+--------+----
    | header: kind, sizes of what    | table | pickles, one     | buffer | buffer | ...
    | follows, number of buffers     |       | after the other  |        |        |
    +--------------------------------+-------+------------------+--------+--------+----

The table (marshal of plain tuples: both ends are the same interpreter) has for each piece or part
its numbers and the length of each payload, so each payload is pickled, carried and loaded alone.
Buffers out of band are sent from where they are and received into place. A frame of a single item
has a record of four numbers for a table.
"""

from __future__ import annotations

import io
import marshal
import mmap
import socket
import struct
from collections import deque
from contextlib import suppress
from itertools import accumulate, pairwise

from obspool.messages import Batch, FunctionMessage, Part, Piece
from obspool.serial import Chunks, Packed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from obspool.serial import Payload

_HEADER = struct.Struct("<IIQI")
_RECORD = struct.Struct("<QQQQ")
_SINGLE = struct.Struct("<IIQIQQQQ")  # both

_MARSHAL = 2  # without back references: twice as fast

# What is read at once. A frame that doesn't fit gets memory of its own, and is read right into it.
READ_BYTES = 1 << 16

# Payloads of this size stay where they were received; smaller ones are copied out, so that a small
# result doesn't keep the whole frame alive.
IN_PLACE_BYTES = 1 << 16

# A message of this size is taken by a channel at once, where the system allows it; with less, the
# sender waits for the receiver several times in one message.
CHANNEL_BYTES = 1 << 20

# For send(): a program that restored SIGPIPE's default must not die of one that has gone.
NO_SIGNAL: int = getattr(socket, "MSG_NOSIGNAL", 0)

_PLAIN = frozenset({bytes})  # what most payloads are

_IOV = 512  # below every system's IOV_MAX


class Frame:
    """The kinds of frames."""

    BATCH = 1
    STOP = 2
    READY = 3
    RESULTS = 4
    FAILED = 5  # the initializer raised, or the finalizer: the payload is the exception
    COUNTER = 6  # a worker counts on one of the program's own counters: its name
    ITEM = 7  # a batch of one item: its number, when it was submitted, its function, how to call it
    RESULT = 8  # its result: its number, the kind, the time it took, and when it was done


_OF_ONE = frozenset({Frame.ITEM, Frame.RESULT})


def _layout(
    payload_lists: Iterable[Sequence[Payload]],
) -> tuple[list[list[int]], list[tuple[int, int, list[int]]], list[Any], list[Any]]:
    """Return lengths by list, where packed payloads are, pickles, and buffers."""
    lengths: list[list[int]] = []
    packed: list[tuple[int, int, list[int]]] = []
    pickles: list[Any] = []
    buffers: list[Any] = []
    for index, payloads in enumerate(payload_lists):
        if _PLAIN.issuperset(map(type, payloads)):
            plain: Sequence[Any] = payloads
            lengths.append(list(map(len, plain)))
            pickles += plain
            continue
        sizes: list[int] = []
        for position, payload in enumerate(payloads):
            if isinstance(payload, Packed):
                packed.append((index, position, [len(buffer) for buffer in payload.buffers]))
                buffers += payload.buffers
                payload = payload.data  # noqa: PLW2901 - the part of it that stays in band
            if type(payload) is Chunks:
                sizes.append(sum(map(len, payload)))
                pickles += payload
            else:
                sizes.append(len(payload))
                pickles.append(payload)
        lengths.append(sizes)
    return lengths, packed, pickles, buffers


def _frame(kind: int, records: Any, payload_lists: list[Any]) -> list[Any]:
    """Return what to send, in order, as few byte strings as it takes without copying large ones."""
    lengths, packed, pickles, buffers = _layout(payload_lists)
    table = marshal.dumps((records, lengths, packed), _MARSHAL)
    size = sum(map(sum, lengths))
    header = _HEADER.pack(kind, len(table), size, len(buffers))
    if size < IN_PLACE_BYTES:
        return [b"".join((header, table, *pickles)), *buffers]
    parts: list[Any] = [header + table]
    small: list[Any] = []
    for pickled in pickles:
        if len(pickled) < IN_PLACE_BYTES:
            small.append(pickled)
            continue
        if small:
            parts.append(b"".join(small))
            small = []
        parts.append(pickled)
    if small:
        parts.append(b"".join(small))
    return parts + buffers


def batch_frame(batch: Batch) -> list[Any]:
    """Encode a batch."""
    if len(batch.pieces) == 1 and not (batch.functions or batch.forget):
        (p,) = batch.pieces
        if p.count == 1 and not (p.chunk or p.timeout) and is_small(p.payloads[0]):
            return [item_frame(p.first, p.submitted, p.function, p.call, p.payloads[0])]
    functions = [(f.number, f.kept, f.label) for f in batch.functions]
    pieces = [
        (
            *(p.function, p.call, p.chunk, p.skip, p.stop_on_error),
            *(p.first, p.count, p.submitted, p.timeout),
        )
        for p in batch.pieces
    ]
    return _frame(
        Frame.BATCH,
        (functions, batch.forget, pieces),
        [[f.payload for f in batch.functions], *(p.payloads for p in batch.pieces)],
    )


def is_small(payload: Payload) -> bool:
    """Tell whether a payload may go alone in a frame that is one byte string."""
    return type(payload) is bytes and len(payload) < IN_PLACE_BYTES


def item_frame(first: int, submitted: int, function: int, call: int, payload: bytes) -> bytes:
    """Encode a batch of one item, of a function that the worker has, and that may take for ever."""
    numbers = first, submitted, function, call
    return _SINGLE.pack(Frame.ITEM, _RECORD.size, len(payload), 0, *numbers) + payload


def result_frame(first: int, kind: int, busy: int, ended: int, payload: bytes) -> bytes:
    """Encode the result of one item, the time it took and when it was done, in ns."""
    numbers = first, kind, busy, ended
    return _SINGLE.pack(Frame.RESULT, _RECORD.size, len(payload), 0, *numbers) + payload


def outcome_in(data: bytes, number: int) -> tuple[int, int, int, bytes] | None:
    """Decode the result of the item with this number; None if that isn't all of the data.

    Returns:
        Its kind, the time it took and when it was done, in ns, and its payload.
    """
    if len(data) < _SINGLE.size:
        return None
    frame, _, size, _, first, kind, busy, ended = _SINGLE.unpack_from(data)
    payload = data[_SINGLE.size :]
    if frame != Frame.RESULT or first != number or len(payload) != size:
        return None
    return kind, busy, ended, payload


def results_frame(parts: list[Part], busy: int, ended: int) -> list[Any]:
    """Encode results; `busy` is the time they took and `ended` when the last was done, in ns."""
    records = [(part.first, part.count, part.kind) for part in parts]
    return _frame(Frame.RESULTS, (busy, ended, records), [part.payloads for part in parts])


def plain_frame(kind: int, value: Any = None, payloads: Sequence[Payload] = ()) -> list[Any]:
    """Encode any other frame."""
    return _frame(kind, value, [list(payloads)])


class Received:
    """A frame as it came.

    Attributes:
        kind: of the frame.
        records: the table's numbers.
        payloads: by list, as they were given to be sent.
        size: bytes of the payloads.
    """

    __slots__ = ("kind", "payloads", "records", "size")

    def __init__(self, kind: int, records: Any, payloads: list[list[Payload]], size: int) -> None:
        self.kind = kind
        self.records = records
        self.payloads = payloads
        self.size = size

    def batch(self) -> Batch:
        """Return the batch that this frame holds."""
        functions, forget, pieces = self.records
        return Batch(
            [
                FunctionMessage(number, kept=kept, label=label, payload=payload)
                for (number, kept, label), payload in zip(functions, self.payloads[0], strict=True)
            ],
            forget,
            [
                Piece(
                    function,
                    call,
                    chunk=chunk,
                    skip=skip,
                    stop_on_error=stop,
                    first=first,
                    count=count,
                    submitted=submitted,
                    payloads=payloads,
                    timeout=timeout,
                )
                for (
                    *(function, call, chunk, skip, stop, first, count, submitted, timeout),
                ), payloads in zip(pieces, self.payloads[1:], strict=True)
            ],
        )

    def results(self) -> tuple[list[Part], int, int]:
        """Return the parts, the time they took, and when the last was done."""
        if self.kind == Frame.RESULT:
            first, kind, busy, ended = self.records
            return [Part(first, 1, kind, self.payloads[0])], busy, ended
        busy, ended, records = self.records
        parts = [
            Part(first, count, kind, payloads)
            for (first, count, kind), payloads in zip(records, self.payloads, strict=True)
        ]
        return parts, busy, ended


def widen(channel: socket.socket) -> None:
    """Have a channel take as much at once as the system allows."""
    with suppress(OSError):  # macOS refuses more than its limit, Linux gives what it is
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHANNEL_BYTES)


def scratch() -> memoryview:
    """Return memory to read into, of which only what is used costs anything."""
    return memoryview(mmap.mmap(-1, READ_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


class FrameReader:
    """Takes a stream of bytes apart into frames; for blocking and for non-blocking sockets."""

    def __init__(self, memory: memoryview) -> None:
        """Take the `scratch` memory, which any number of readers in one thread may share."""
        self._memory = memory
        self._start = self._end = 0
        self._left = b""  # the beginning of a frame
        # A large frame on its way: its body, then its buffers, each filled in its turn.
        self._body: memoryview | None = None
        self._head = (0, 0, 0, 0)
        self._targets: deque[memoryview] = deque()
        self._opened: tuple[Any, list[Any]] | None = None

    def receive(self, sock: socket.socket) -> list[Received]:
        """Read once or twice from the socket and return the frames that are complete now.

        Raises:
            EOFError: the other side is gone.
            BlockingIOError: nothing is there to read, on a non-blocking socket.
        """
        frames: list[Received] = []
        if self._targets:
            self._receive_more(sock, frames)
            return frames
        memory, left = self._memory, len(self._left)
        count = self._count_read(sock.recv_into(memory[left:]))
        memory[:left] = self._left
        self._start, self._end = 0, left + count
        self._parse(frames)
        self._left = bytes(memory[self._start : self._end])
        if self._targets and not frames:  # mostly the rest is there already
            with suppress(BlockingIOError):
                self._receive_more(sock, frames)
        return frames

    def feed(self, read: list[bytes]) -> list[Received]:
        """Take what somebody else has read, when nothing was left; return the frames."""
        frames: list[Received] = []
        data = b"".join(read)
        self._memory[: len(data)] = data
        self._start, self._end = 0, len(data)
        self._parse(frames)
        self._left = bytes(self._memory[self._start : self._end])
        return frames

    def _receive_more(self, sock: socket.socket, frames: list[Received]) -> None:
        """Read once into what has memory of its own."""
        count = self._count_read(sock.recv_into(self._targets[0]))
        self._targets[0] = self._targets[0][count:]
        self._fill(0, frames)

    @staticmethod
    def _count_read(count: int) -> int:
        if not count:
            raise EOFError("the other side of the channel is closed")
        return count

    def _parse(self, frames: list[Received]) -> None:
        memory = self._memory
        while self._end - self._start >= _HEADER.size:
            head = _HEADER.unpack_from(memory, self._start)
            _, table, size, buffers = head
            body = self._start + _HEADER.size
            if self._end - body < table + size or buffers:
                if buffers or table + size + _HEADER.size > READ_BYTES:
                    self._large(head, body, frames)
                    if self._targets:
                        return
                    continue
                break
            end = body + table + size
            frames.append(_open(head, memory[body:end], [], shared=True))
            self._start = end

    def _large(self, head: tuple[int, int, int, int], body: int, frames: list[Received]) -> None:
        """Give a frame memory of its own, and what has come of it already."""
        self._head = head
        self._body = memoryview(bytearray(head[1] + head[2]))
        self._targets.append(self._body)
        self._start = body
        self._fill(1, frames)

    def _fill(self, from_memory: int, frames: list[Received]) -> None:
        """Fill targets from what was read ahead; take the frame when nothing is missing."""
        while True:
            while self._targets:
                target = self._targets[0]
                if from_memory and target.nbytes:
                    count = min(target.nbytes, self._end - self._start)
                    target[:count] = self._memory[self._start : self._start + count]
                    self._start += count
                    self._targets[0] = target = target[count:]
                if target.nbytes:
                    if from_memory:
                        self._start = self._end = 0
                    return
                self._targets.popleft()
            if self._body is None:
                return
            if self._opened is None and self._head[3]:
                sizes = _buffer_sizes(self._body[: self._head[1]])
                made = [bytearray(size) for size in sizes]
                self._opened = (None, made)
                self._targets.extend(memoryview(buffer) for buffer in made)
                continue
            made = self._opened[1] if self._opened else []
            frames.append(_open(self._head, self._body, made, shared=False))
            self._body = self._opened = None
            return


def _buffer_sizes(table: memoryview) -> list[int]:
    _, _, packed = marshal.loads(table)  # noqa: S302 - from our own worker, over our own socketpair
    return [size for _, _, sizes in packed for size in sizes]


def _open(
    head: tuple[int, int, int, int], body: memoryview, buffers: list[Any], *, shared: bool
) -> Received:
    """Cut a complete frame into payloads; `shared` memory will be overwritten."""
    kind, table, size, _ = head
    if kind in _OF_ONE:
        return Received(kind, _RECORD.unpack_from(body), [[bytes(body[table:])]], size)
    records, lengths, packed = marshal.loads(body[:table])  # noqa: S302 - as above
    data = body[table:]
    payloads: list[list[Any]] = []
    if shared or len(data) < IN_PLACE_BYTES:
        read = io.BytesIO(data).read  # a third of the time that slices take
        payloads += [list(map(read, sizes)) for sizes in lengths]
    else:
        position = 0
        for sizes in lengths:
            ends = list(accumulate(sizes, initial=position))
            position = ends[-1]
            payloads.append(
                [
                    data[a:b] if b - a >= IN_PLACE_BYTES else bytes(data[a:b])
                    for a, b in pairwise(ends)
                ]
            )
    taken = 0
    for index, place, sizes in packed:
        mine = buffers[taken : taken + len(sizes)]
        taken += len(sizes)
        payloads[index][place] = Packed(payloads[index][place], mine)
    return Received(kind, records, payloads, size + sum(map(len, buffers)))


class Sender:
    """What still has to go out on one socket, in order."""

    def __init__(self) -> None:
        self._waiting: deque[memoryview] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, parts: Iterable[Any]) -> None:
        """Queue a frame."""
        self._waiting.extend(memoryview(part) for part in parts if len(part))

    def send(self, sock: socket.socket) -> None:
        """Send as much as the socket takes: all, on a blocking one.

        Raises:
            OSError: the other side is gone.
        """
        waiting = self._waiting
        while waiting:
            try:
                if len(waiting) == 1:
                    sent = sock.send(waiting[0], NO_SIGNAL)
                else:
                    some = [waiting[i] for i in range(min(len(waiting), _IOV))]
                    sent = sock.sendmsg(some, (), NO_SIGNAL)
            except BlockingIOError:
                return
            while sent and waiting:
                size = waiting[0].nbytes
                if sent < size:
                    waiting[0] = waiting[0][sent:]
                    break
                sent -= size
                waiting.popleft()
