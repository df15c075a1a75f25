"""The header of a segment: what the pool is, and where which field lives.

    word 0   magic          word 4   words of the header
    word 1   byte order     word 5   words of the segment
    word 2   major version  word 6   bytes of the JSON that starts at word 8
    word 3   minor version  word 7   (free)

The first three words are the same in every version. The JSON names each table and its fields, so
that a reader of another minor version takes the fields it knows, ignores the others, and counts
missing ones as 0.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from obspool.errors import SegmentError
from obspool.telemetry import layout as words
from obspool.telemetry.facts import PoolFacts
from obspool.telemetry.layout import PAGE_WORDS, WORD, Layout, Record

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

BYTE_ORDER = 0x0102030405060708
PREFIX = struct.Struct("=8sQQQQQQQ")
_ORDER_AND_MAJOR = struct.Struct("=8sQQ")

# What a reader takes at most, whatever a header says: a foreign file must not cost memory or time.
MAX_HEADER_BYTES = 256 * 1024
MAX_SEGMENT_BYTES = 128 * 1024 * 1024
_MAX_ROWS = {"pool": 1, "functions": 1024, "counters": 1024, "jobs": 4096, "events": 65536}
MAX_SLOTS = 8192
# Tables with a record for each slot and parity. Minor versions 0 and 1 had no errors.
BY_SLOT = ("parent", "worker", "errors")
MAX_RECORD_WORDS = 1 << 16
_MAX_BUCKETS = 256
_COMPACT = (",", ":")
_FACTS = tuple(field.name for field in dataclasses.fields(PoolFacts))
_MAX_TEXT = 1024
_MAX_LABELS = 64
_MAX_SECONDS = 2**40


@dataclass(frozen=True)
class Table:
    """Where the records of one kind are.

    Attributes:
        at: first word of the first record.
        count: how many records there are.
        stride: words from one record to the next.
        bank: words from the first bank of a slot to the second; 0 where there are no banks.
        fields: offset in the record and number of words, by name.
    """

    at: int = 0
    count: int = 0
    stride: int = 0
    bank: int = 0
    fields: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @cached_property
    def extent(self) -> int:
        """How many words of a record the fields reach over."""
        return max((offset + size for offset, size in self.fields.values()), default=0)


@dataclass(frozen=True)
class Header:
    """A header that was read and found sound: all of its tables lie within the segment.

    Attributes:
        words: the whole segment's length.
        latency_bounds: upper bounds of the buckets of histograms of time, in seconds.
        count_bounds: the same of those of how many.
    """

    facts: PoolFacts
    words: int
    latency_bounds: tuple[float, ...]
    count_bounds: tuple[float, ...]
    tables: Mapping[str, Table]

    def table(self, name: str) -> Table:
        """Return a table, an empty one when the writer doesn't know it."""
        return self.tables.get(name, Table())

    def with_slots(self, slots: int) -> Header:
        """Return the header of this segment when it has grown to so many slots."""
        worker = self.table("worker")
        found = {name: self.tables[name] for name in BY_SLOT if name in self.tables}
        tables = {name: dataclasses.replace(table, count=slots) for name, table in found.items()}
        more = (slots - worker.count) * worker.stride
        return dataclasses.replace(self, words=self.words + more, tables={**self.tables, **tables})


def fitting(facts: PoolFacts, slots: int) -> Layout:
    """Return a layout whose header has room for these facts, the longest that may be written."""
    layout = Layout(slots)
    while True:
        missing = PREFIX.size + len(_json(facts, layout)) - layout.header_words * WORD
        if missing <= 0:
            return layout
        pages = -(-missing // (PAGE_WORDS * WORD))
        layout = Layout(slots, layout.header_words + pages * PAGE_WORDS)


def encode(facts: PoolFacts, layout: Layout) -> bytes:
    """Return the header's bytes, no longer than the layout's `header_words`."""
    text = _json(facts, layout)
    prefix = PREFIX.pack(
        words.MAGIC,
        BYTE_ORDER,
        words.MAJOR,
        words.MINOR,
        layout.header_words,
        layout.words,
        len(text),
        0,
    )
    return prefix + text


def _json(facts: PoolFacts, layout: Layout) -> bytes:
    fields = {name: getattr(facts, name) for name in _FACTS}
    own = json.dumps(fields, separators=_COMPACT)
    return f'{{"facts":{own},{_shape(layout.slots, layout.header_words)}'.encode("ascii")


@lru_cache(maxsize=8)
def _shape(slots: int, header_words: int) -> str:
    """Return what follows the facts: the same for all pools of a size."""
    layout = Layout(slots, header_words)

    def table(record: Record, at: int, count: int, stride: int = 0, bank: int = 0) -> Any:
        fields = {name: [item.offset, item.words] for name, item in record.fields.items()}
        described = {"at": at, "count": count, "stride": stride or record.words, "bank": bank}
        return {**described, "fields": fields}

    def banked(record: Record, offset: int, bank: int = words.BANK_WORDS) -> Any:
        at = layout.first_slot + offset
        return table(record, at, layout.slots, words.SLOT_WORDS, bank)

    described = {
        "latency_bounds": words.LATENCY_BOUNDS,
        "count_bounds": words.COUNT_BOUNDS,
        "tables": {
            "pool": table(words.POOL, layout.pool, 1),
            "functions": table(words.FUNCTION, layout.functions, words.FUNCTIONS),
            "counters": table(words.COUNTER, layout.counters, words.COUNTERS),
            "jobs": table(words.JOB, layout.jobs, words.JOBS),
            "events": table(words.EVENT, layout.events, words.EVENTS),
            "parent": banked(words.PARENT, words.PARENT_OFFSET),
            "worker": banked(words.WORKER, words.WORKER_OFFSET),
            "errors": banked(words.ITEM_ERRORS, words.ERRORS_OFFSET, words.ITEM_ERRORS.words),
        },
    }
    return json.dumps(described, separators=_COMPACT).removeprefix("{")


def lengths(prefix: bytes, where: str) -> tuple[int, int]:
    """Check the first bytes of a file; return the bytes of header and JSON that they announce.

    Raises:
        SegmentError: it is no segment, or one that this version can't read.
    """
    if len(prefix) < PREFIX.size:
        raise SegmentError(f"{where}: cut short, {len(prefix)} bytes are no segment")
    magic, order, major = _ORDER_AND_MAJOR.unpack_from(prefix)
    if magic != words.MAGIC:
        raise SegmentError(f"{where}: not a segment of obspool (it starts with {magic!r})")
    if order != BYTE_ORDER:
        raise SegmentError(f"{where}: written by a machine with another byte order")
    if major != words.MAJOR:
        raise SegmentError(
            f"{where}: segment version {major}, and this obspool reads version {words.MAJOR}"
        )
    *_, header_words, total_words, json_bytes, _free = PREFIX.unpack_from(prefix)
    header_bytes = header_words * WORD
    if not PREFIX.size <= header_bytes <= MAX_HEADER_BYTES:
        raise SegmentError(f"{where}: damaged, a header of {header_bytes} bytes")
    if json_bytes > header_bytes - PREFIX.size:
        raise SegmentError(f"{where}: damaged, {json_bytes} bytes of JSON in its header")
    if not header_words <= total_words <= MAX_SEGMENT_BYTES // WORD:
        raise SegmentError(f"{where}: damaged, a length of {total_words} words")
    return header_bytes, json_bytes


def decode(raw: bytes, where: str) -> Header:
    """Read a header, all of whose bytes must be there.

    Raises:
        SegmentError: it is damaged, or of a version that this one can't read.
    """
    header_bytes, json_bytes = lengths(raw, where)
    if len(raw) < header_bytes:
        raise SegmentError(f"{where}: cut short in its header")
    total = PREFIX.unpack_from(raw)[5]
    try:
        return _parsed(raw[PREFIX.size : PREFIX.size + json_bytes], total)
    except SegmentError as error:
        raise SegmentError(f"{where}: {error}") from None


# A header never changes, and who looks at a pool looks again and again.
@lru_cache(maxsize=128)
def _parsed(text: bytes, total: int) -> Header:
    try:
        described = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise SegmentError(f"damaged, its header is no JSON ({error})") from None
    return _Parsing(total).header(described)


class _Parsing:
    """One header's JSON on its way into types; everything in it may be anything."""

    def __init__(self, total: int) -> None:
        self.total = total

    def header(self, described: Any) -> Header:
        top = self._typed(described, dict, "the header")
        tables = self._typed(top.get("tables"), dict, "tables")
        found = {
            name: self._table(name, table)
            for name, table in tables.items()
            if name in _MAX_ROWS or name in BY_SLOT
        }
        if "pool" not in found or not found["pool"].count:
            raise self._damaged("it describes no pool block")
        return Header(
            facts=self._facts(self._typed(top.get("facts"), dict, "facts")),
            words=self.total,
            latency_bounds=self._bounds(top.get("latency_bounds"), "latency_bounds"),
            # Minor version 0 had no such histograms.
            count_bounds=self._bounds(top.get("count_bounds", [1]), "count_bounds"),
            tables=found,
        )

    def _damaged(self, what: str) -> SegmentError:
        return SegmentError(f"damaged, {what}")

    def _typed(self, value: Any, kind: type[T], name: str) -> T:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self._damaged(f"{name} is a {type(value).__name__}, not a {kind.__name__}")
        return value

    def _number(self, value: Any, name: str, low: int = 0, high: int = 2**63 - 1) -> int:
        number = self._typed(value, int, name)
        if not low <= number <= high:
            raise self._damaged(f"{name} is {number if abs(number) < 2**64 else 'absurd'}")
        return number

    def _text(self, value: Any, name: str) -> str:
        text = self._typed(value, str, name)[:_MAX_TEXT]
        # JSON can spell lone surrogates, which no terminal, file or scrape can be given.
        return text.encode("utf-8", "replace").decode("utf-8")

    def _facts(self, raw: dict[str, Any]) -> PoolFacts:
        labels = self._typed(raw.get("labels", []), list, "labels")[:_MAX_LABELS]
        control = raw.get("control")
        start = raw.get("start_time")
        if isinstance(start, bool) or not isinstance(start, int | float):
            raise self._damaged("facts.start_time is no number")
        if not abs(start) < _MAX_SECONDS:  # neither is NaN
            raise self._damaged("facts.start_time is absurd")

        def text(name: str) -> str:
            return self._text(raw.get(name, ""), f"facts.{name}")

        def number(name: str) -> int:
            return self._number(raw.get(name, 0), f"facts.{name}")

        if not text("name"):
            raise self._damaged("the pool has no name")
        return PoolFacts(
            name=text("name"),
            pid=number("pid"),
            uid=number("uid"),
            start_time=float(start),
            engine=text("engine"),
            start_method=text("start_method"),
            version=text("version"),
            python=text("python"),
            program=text("program"),
            boot_id=text("boot_id"),
            pid_namespace=number("pid_namespace"),
            process_start_ticks=number("process_start_ticks"),
            control=None if control is None else self._text(control, "facts.control"),
            labels=tuple(self._label(label) for label in labels),
        )

    def _label(self, pair: Any) -> tuple[str, str]:
        match self._typed(pair, list, "a label"):
            case [name, value]:
                return self._text(name, "a label"), self._text(value, "a label")
        raise self._damaged("a label is no pair")

    def _bounds(self, raw: Any, name: str) -> tuple[float, ...]:
        values = self._typed(raw, list, name)
        if not 0 < len(values) <= _MAX_BUCKETS:
            raise self._damaged(f"{len(values)} bounds of buckets")
        bounds: list[float] = []
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise self._damaged("a bucket's bound is no number")
            if not 0 < value < _MAX_SECONDS or (bounds and value <= bounds[-1]):
                raise self._damaged("the buckets' bounds don't rise")
            bounds.append(float(value))
        return tuple(bounds)

    def _table(self, name: str, raw: Any) -> Table:
        described = self._typed(raw, dict, name)
        high = self.total
        rows = _MAX_ROWS.get(name, MAX_SLOTS)
        count = self._number(described.get("count"), f"{name}.count", 0, rows)
        if count == 0:
            return Table()  # nothing is read from it, wherever it is
        fields: dict[str, tuple[int, int]] = {}
        for key, place in self._typed(described.get("fields"), dict, f"{name}.fields").items():
            match place:
                case [offset, size]:
                    place_name = f"{name}.{key[:40]}"
                    fields[key] = (
                        self._number(offset, place_name, 0, high),
                        self._number(size, place_name, 1, high),
                    )
                case _:
                    raise self._damaged(f"{name}.{key[:40]} is no pair of offset and words")
        table = Table(
            at=self._number(described.get("at"), f"{name}.at", 0, high),
            count=count,
            stride=self._number(described.get("stride"), f"{name}.stride", 1, high),
            bank=self._number(described.get("bank", 0), f"{name}.bank", 0, high),
            fields=fields,
        )
        end = table.at + (table.count - 1) * table.stride + table.bank + table.extent
        if end > self.total:
            raise self._damaged(f"its table {name} ends at word {end} of {self.total}")
        # Records that overlap, or huge ones, would have a reader read the same words for minutes.
        if table.extent > MAX_RECORD_WORDS:
            raise self._damaged(f"a record of {name} has {table.extent} words")
        if table.stride < table.bank + table.extent or 0 < table.bank < table.extent:
            raise self._damaged(f"the records of its table {name} overlap")
        return table
