from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obspool import wire
from obspool.messages import Batch, FunctionMessage, Kind, Part, Piece
from obspool.serial import Chunks, Packed, dumps, loads

if TYPE_CHECKING:
    from collections.abc import Iterator

# Around the sizes at which the wire changes its way: what is read at once, what stays in place.
_EDGE = wire.READ_BYTES
_SIZES = st.one_of(
    st.integers(0, 40),
    st.sampled_from([_EDGE - 60, _EDGE - 1, _EDGE, _EDGE + 1, 2 * _EDGE + 7]),
)
_NUMBERS = st.integers(0, 1 << 62)
_REST = 100_000


def _bytes(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


_CHUNKS = st.lists(_SIZES.map(_bytes), min_size=2, max_size=3).map(Chunks)
_PAYLOADS = st.one_of(
    _SIZES.map(_bytes),
    _CHUNKS,
    st.builds(
        lambda data, buffers: Packed(data, [bytearray(_bytes(size)) for size in buffers]),
        st.integers(0, 200).map(_bytes) | _CHUNKS,
        st.lists(_SIZES.filter(bool), min_size=1, max_size=3),
    ),
)
_PAYLOAD_LISTS = st.lists(_PAYLOADS, max_size=4)

_PIECES = st.builds(
    lambda numbers, flags, payloads: Piece(
        numbers[0],
        numbers[1],
        chunk=flags[0],
        skip=numbers[2],
        stop_on_error=flags[1],
        first=numbers[3],
        count=numbers[4],
        submitted=numbers[5],
        payloads=payloads,
    ),
    st.tuples(*[_NUMBERS] * 6),
    st.tuples(st.booleans(), st.booleans()),
    _PAYLOAD_LISTS,
)
_FUNCTIONS = st.builds(
    lambda number, kept, payload: FunctionMessage(number, kept=kept, label=3, payload=payload),
    _NUMBERS,
    st.booleans(),
    _PAYLOADS,
)
_BATCHES = st.builds(
    Batch,
    st.lists(_FUNCTIONS, max_size=2),
    st.lists(_NUMBERS, max_size=3),
    st.lists(_PIECES, max_size=3),
)
_PARTS = st.lists(
    st.builds(Part, _NUMBERS, _NUMBERS, st.integers(0, 3), _PAYLOAD_LISTS), max_size=3
)


def _plain(payload: Any) -> Any:
    if isinstance(payload, Packed):
        return _plain(payload.data), [bytes(buffer) for buffer in payload.buffers]
    return b"".join(payload) if isinstance(payload, Chunks) else bytes(payload)


def _fields(message: Any) -> dict[str, Any]:
    found = {name: getattr(message, name) for name in message.__slots__}
    if "payloads" in found:
        found["payloads"] = [_plain(payload) for payload in found["payloads"]]
    if "payload" in found:
        found["payload"] = _plain(found["payload"])
    return found


@contextmanager
def _channel() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def _carry(frames: list[list[Any]], cuts: list[int]) -> list[wire.Received]:
    """Send the frames cut into pieces of these lengths, the rest in large ones; receive them."""
    stream = b"".join(bytes(part) for frame in frames for part in frame)
    received: list[wire.Received] = []
    reader = wire.FrameReader(wire.scratch())
    with _channel() as (ours, theirs):
        theirs.setblocking(False)
        position = step = 0
        while position < len(stream):
            cut = cuts[step] if step < len(cuts) else _REST
            step += 1
            ours.sendall(stream[position : position + cut])
            position += cut
            while True:
                try:
                    received += reader.receive(theirs)
                except BlockingIOError:
                    break
    return received


_CUTS = st.lists(st.sampled_from([5, 19, 20, 21, 300, 4096, 65535, 65536, 90_000]), max_size=12)


@given(st.lists(_BATCHES, min_size=1, max_size=2), _CUTS)
@settings(max_examples=40, deadline=None)
def test_batches_arrive_as_they_were_sent_however_the_stream_is_cut(
    batches: list[Batch], cuts: list[int]
) -> None:
    """Every number and payload of every batch comes through, whatever one read returns."""
    received = _carry([wire.batch_frame(batch) for batch in batches], cuts)
    assert [frame.kind for frame in received] == [wire.Frame.BATCH] * len(batches)
    for sent, frame in zip(batches, received, strict=True):
        got = frame.batch()
        assert got.forget == sent.forget
        assert [_fields(f) for f in got.functions] == [_fields(f) for f in sent.functions]
        assert [_fields(p) for p in got.pieces] == [_fields(p) for p in sent.pieces]


@given(st.lists(_PARTS, min_size=1, max_size=2), _NUMBERS, _CUTS)
@settings(max_examples=40, deadline=None)
def test_results_arrive_as_they_were_sent_however_the_stream_is_cut(
    messages: list[list[Part]], busy: int, cuts: list[int]
) -> None:
    """Every part of results comes through, with the time it took."""
    received = _carry([wire.results_frame(parts, busy, busy + 1) for parts in messages], cuts)
    for sent, frame in zip(messages, received, strict=True):
        got, its_busy, its_end = frame.results()
        assert (its_busy, its_end) == (busy, busy + 1)
        assert [_fields(part) for part in got] == [_fields(part) for part in sent]


def test_a_stream_that_ends_within_a_frame_is_an_end_not_a_frame() -> None:
    """A worker that dies while it sends leaves half a frame, never taken for a whole one."""
    data = b"".join(wire.results_frame([Part(0, 1, Kind.ITEMS, [_bytes(200_000)])], 1, 2))
    reader = wire.FrameReader(wire.scratch())
    with _channel() as (ours, theirs):
        ours.sendall(data[:100_000])
        ours.close()
        with pytest.raises(EOFError):  # noqa: PT012 - after as many reads as it takes
            while True:
                assert reader.receive(theirs) == []


def test_a_sender_on_a_full_socket_keeps_the_rest_and_goes_on_later() -> None:
    """A non-blocking sender takes what the socket takes, and loses and repeats nothing."""
    payloads = [_bytes(300_000), _bytes(10), _bytes(700_000)]
    parts = [Part(0, 3, Kind.ITEMS, list(payloads))]
    sender, reader = wire.Sender(), wire.FrameReader(wire.scratch())
    received: list[wire.Received] = []
    with _channel() as (ours, theirs):
        ours.setblocking(False)
        theirs.setblocking(False)
        sender.add(wire.results_frame(parts, 0, 0))
        sender.send(ours)
        assert sender, "the socket took a megabyte at once: the test shows nothing"
        while not received:
            sender.send(ours)
            received += reader.receive(theirs)
    assert not sender
    assert [_plain(p) for p in received[0].results()[0][0].payloads] == payloads


def test_a_message_of_a_megabyte_takes_few_calls() -> None:
    """On a channel that is wide enough: one to send it, and one read of it in two parts."""
    data = _bytes(900_000)
    with _channel() as (ours, theirs):
        wire.widen(ours)
        if ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) < 2 * len(data):
            pytest.skip("this system allows no such channel")
        ours.setblocking(False)
        theirs.setblocking(False)
        sender = wire.Sender()
        sender.add(wire.results_frame([Part(0, 1, Kind.ITEMS, [dumps(data)])], 0, 0))
        sender.send(ours)
        assert not sender
        (frame,) = wire.FrameReader(wire.scratch()).receive(theirs)
    assert loads(frame.results()[0][0].payloads[0]) == data


@pytest.mark.parametrize("count", [1, 600, 5000])
def test_many_small_frames_in_a_row(count: int) -> None:
    """Thousands of small frames written at once come out one by one; their bytes stay theirs."""
    frames = [wire.results_frame([Part(n, 1, Kind.ITEMS, [b"%d" % n])], n, n) for n in range(count)]
    received = _carry(frames, [1 << 16])
    # Looked at only now: later frames were read into the same memory meanwhile.
    assert [bytes(f.results()[0][0].payloads[0]) for f in received] == [
        b"%d" % n for n in range(count)
    ]


def test_more_buffers_than_one_system_call_takes() -> None:
    """Six hundred arrays in one message: more parts than sendmsg accepts at once."""
    payloads = [dumps(np.full(8192, n, "i8")) for n in range(600)]
    frame = wire.results_frame([Part(0, 600, Kind.ITEMS, list(payloads))], 0, 0)
    assert len(frame) > 600
    with _channel() as (ours, theirs):
        sender = wire.Sender()
        sender.add(frame)
        writer = threading.Thread(target=sender.send, args=(ours,))
        writer.start()
        reader = wire.FrameReader(wire.scratch())
        received: list[wire.Received] = []
        while not received:
            received = reader.receive(theirs)
        writer.join()
    arrays = [loads(payload) for payload in received[0].results()[0][0].payloads]
    assert [(int(a[0]), int(a[-1]), len(a)) for a in arrays] == [(n, n, 8192) for n in range(600)]


def test_buffers_are_received_into_place_and_can_be_written() -> None:
    """An array that came out of band is the worker's own: writable, as after any pickle."""
    payload = dumps(np.arange(100_000))
    assert isinstance(payload, Packed)
    (frame,) = _carry([wire.results_frame([Part(0, 1, Kind.ITEMS, [payload])], 0, 0)], [70_000])
    array = loads(frame.results()[0][0].payloads[0])
    array += 1
    assert array[99_999] == 100_000
