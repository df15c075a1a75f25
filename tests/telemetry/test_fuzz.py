"""Any bytes are a Snapshot or a SegmentError; there is no third."""

from __future__ import annotations

import dataclasses
import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from obspool.errors import SegmentError
from obspool.telemetry import header, reader
from obspool.telemetry.facts import PoolFacts
from obspool.telemetry.head import read_head
from obspool.telemetry.layout import WORD
from obspool.words import PoolOutcome
from tests.synthetic import make_snapshot
from tests.synthetic_segment import write_segment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from obspool.telemetry.snapshot import Snapshot


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A sound segment's bytes."""
    return write_segment(tmp_path_factory.mktemp("sound"), make_snapshot(3)).read_bytes()


@contextmanager
def _file(raw: bytes) -> Iterator[int]:
    fd = os.memfd_create("fuzz")
    try:
        os.write(fd, raw)
        yield fd
    finally:
        os.close(fd)


def _read(raw: bytes) -> Snapshot | None:
    with _file(raw) as fd:
        try:
            head = read_head(fd)
            found = reader.read(fd)
        except SegmentError:
            return None
    assert head.facts == found.facts
    assert found.outcome is not None
    json.dumps(found.as_dict()).encode()
    str(found.as_dict()).encode()  # no lone surrogates
    return found


def _with_header(raw: bytes, described: Any, **prefix: int) -> bytes:
    text = json.dumps(described).encode()
    names = ("magic", "order", "major", "minor", "header_words", "words", "json_bytes", "free")
    values = dict(zip(names, header.PREFIX.unpack_from(raw), strict=True))
    values |= {"json_bytes": len(text), **prefix}
    start = header.PREFIX.pack(*values.values()) + text
    return start + raw[len(start) :]


def _described(raw: bytes) -> dict[str, Any]:
    size = header.PREFIX.unpack_from(raw)[6]
    found: dict[str, Any] = json.loads(raw[header.PREFIX.size : header.PREFIX.size + size])
    return found


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    for key, item in pairs:
        yield from _paths(item, (*path, key))


NUMBERS = st.integers(-(2**70), 2**70) | st.sampled_from([0, 1, 2, 2**16, 2**32, 2**63, 2**64])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@given(st.binary(max_size=300))
@example(b"")
@example(b"OBSPOOL\n")
def test_any_bytes(raw: bytes) -> None:
    """Most are told by their first eight."""
    assert _read(raw) is None


@given(st.lists(NUMBERS.map(lambda n: n % 2**64), min_size=3, max_size=3), st.binary(max_size=300))
def test_any_lengths_behind_a_right_beginning(sizes: list[int], rest: bytes) -> None:
    """A header's sizes are bounded before anything is read by them."""
    prefix = header.PREFIX.pack(b"OBSPOOL\n", header.BYTE_ORDER, 1, 0, *sizes, 0)
    assert _read(prefix + rest) is None


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_header_with_one_thing_changed(sound: bytes, data: st.DataObject) -> None:
    """Whatever it is, and whatever it is changed to."""
    described = _described(sound)
    path = data.draw(st.sampled_from([p for p in _paths(described) if p]), label="path")
    value = data.draw(JSON, label="value")
    parent: Any = described
    for key in path[:-1]:
        parent = parent[key]
    if data.draw(st.booleans(), label="removed") and isinstance(parent, dict):
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    _read(_with_header(sound, described))


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_any_numbers_in_the_cells(sound: bytes, data: st.DataObject) -> None:
    """A sound header and nonsense behind it is a Snapshot."""
    cells = memoryview(bytearray(sound)).cast("Q")
    first = header.PREFIX.unpack_from(sound)[4]
    word = st.integers(first, len(cells) - 1)
    value = st.integers(0, 2**64 - 1)
    for at, number in data.draw(st.lists(st.tuples(word, value), max_size=40)):
        cells[at] = number
    fill = data.draw(st.none() | value, label="everywhere")
    if fill is not None:
        for at in range(first, len(cells)):
            cells[at] = fill
    assert _read(bytes(cells)) is not None


@given(st.integers(0, 10_000_000))
@settings(deadline=None)
def test_cut_short_anywhere(sound: bytes, length: int) -> None:
    """It never reads less than it says."""
    assert (_read(sound[:length]) is None) == (length < len(sound))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"header_words": 2**40}, "a header of"),
        ({"header_words": 1}, "a header of"),
        ({"words": 2**50}, "a length of"),
        ({"json_bytes": 2**33}, "of JSON"),
        ({"major": 2}, "segment version 2"),
        ({"order": 0x0807060504030201}, "another byte order"),
    ],
)
def test_absurd_sizes_are_named(sound: bytes, change: dict[str, int], message: str) -> None:
    """The message says what is wrong and where."""
    raw = _with_header(sound, _described(sound), **change)
    with _file(raw) as fd, pytest.raises(SegmentError, match=f"descriptor {fd}: .*{message}"):
        reader.read(fd)


def test_deep_and_huge_json_is_refused(sound: bytes) -> None:
    """No RecursionError, no seconds of work on a number's digits."""
    for text in (b"[" * 7000, b"9" * 7000, b'{"facts":' * 800 + b"1" + b"}" * 800, b'"\xff"'):
        raw = _with_header(sound, None, json_bytes=len(text))
        start = raw[: header.PREFIX.size] + text
        assert _read(start + raw[len(start) :]) is None


def test_overlapping_and_huge_records_are_refused(sound: bytes) -> None:
    """They would have a reader read the same words again and again."""
    for table, change in (
        ("events", {"stride": 1, "count": 65536}),
        ("worker", {"bank": 1}),
        ("worker", {"stride": 600}),
        ("jobs", {"at": 2**20}),
        ("jobs", {"at": len(sound) // WORD - 9}),
    ):
        described = _described(sound)
        described["tables"][table].update(change)
        assert _read(_with_header(sound, described)) is None


@pytest.mark.parametrize(
    ("table", "field"),
    [("pool", "worker_startup"), ("worker", "task_run"), ("worker", "item_run")],
)
def test_histograms_that_do_not_fit_their_bounds_are_refused(
    sound: bytes, table: str, field: str
) -> None:
    """Their buckets would be read into each other."""
    described = _described(sound)
    described["tables"][table]["fields"][field][1] = 21
    raw = _with_header(sound, described)
    with _file(raw) as fd, pytest.raises(SegmentError, match=f"descriptor {fd}: .*{field}"):
        reader.read(fd)


def test_lone_surrogates_in_names_are_replaced(sound: bytes) -> None:
    """JSON can spell them; a terminal, a file or a scrape can't be given them."""
    described = _described(sound)
    described["facts"]["name"] = "a\ud800b"
    found = _read(_with_header(sound, described))
    assert found is not None
    assert found.facts.name == "a?b"


text = st.text(max_size=40)
number = st.integers(0, 2**63 - 1)
POOL_FACTS = st.builds(
    PoolFacts,
    name=text.filter(bool),
    pid=number,
    uid=number,
    start_time=st.floats(0, 2**32),
    engine=text,
    start_method=text,
    version=text,
    python=text,
    program=text,
    boot_id=text,
    pid_namespace=number,
    process_start_ticks=number,
    control=st.none() | text,
    labels=st.lists(st.tuples(text, text), max_size=5).map(tuple),
)


@given(POOL_FACTS, st.integers(0, 300))
@settings(deadline=None)
def test_facts_come_back(facts: PoolFacts, slots: int) -> None:
    """All that a header says is read as it was written, but for lone surrogates."""
    layout = header.fitting(dataclasses.replace(facts, name="x" * 64), slots)
    raw = header.encode(facts, layout)
    found = header.decode(raw.ljust(layout.header_words * WORD, b"\0"), "")
    clean = json.loads(json.dumps(dataclasses.asdict(facts)).encode("utf-8", "replace"))
    written = dataclasses.asdict(found.facts)
    assert json.loads(json.dumps(written)) == {**clean, **_replaced(clean)}
    assert found.words == layout.words


def _replaced(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_replaced(item) for item in value]
    if isinstance(value, dict):
        return {key: _replaced(item) for key, item in value.items()}
    return value


def test_the_outcome_of_an_ended_segment(tmp_path: Path) -> None:
    """The sound bytes that all of this begins with are those of a pool that died."""
    path = write_segment(tmp_path, make_snapshot(3))
    found = _read(path.read_bytes())
    assert found is not None
    assert found.outcome is PoolOutcome.DIED
