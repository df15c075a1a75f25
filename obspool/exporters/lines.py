"""A metric's series as lines of text, of which all but the values is kept from scrape to scrape.

A line's name and labels are most of it, and don't change: in a pool of 1,024 slots these are 24,000
lines. So they are written when a series is new, and a scrape fills in the numbers.
"""

from __future__ import annotations

from itertools import accumulate, zip_longest
from math import inf
from typing import TYPE_CHECKING, cast

from prometheus_client.utils import floatToGoString

from obspool.exporters.encoding import PLAIN_INTEGERS, as_label, labels_text, number
from obspool.exporters.family import MetricType
from obspool.telemetry.snapshot import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obspool.exporters.family import PoolMetric, Value
    from obspool.exporters.readings import Series

# Where a value goes. A label has no newline: it can't be mistaken for one.
_TEXT = " %s\n"
_INTEGER = " %d.0\n"


class LabelTexts(dict[tuple[str, ...], str]):
    """Labels as a line has them, by the values of those that differ: each is made once."""

    def __init__(self, names: tuple[str, ...], base: dict[str, str]) -> None:
        """Take the names of those that differ, and the labels that all series have."""
        super().__init__()
        self._names = names
        self._base = base

    def __missing__(self, values: tuple[str, ...]) -> str:
        text = self[values] = self.with_more(values)
        return text

    def with_more(self, values: tuple[str, ...], **more: str) -> str:
        """Return a series' labels with some more, which are not kept."""
        pairs = zip(self._names, map(as_label, values), strict=True)
        return labels_text({**self._base, **dict(pairs), **more}).replace("%", "%%")


class Lines:
    """The lines of one metric of one pool."""

    def __init__(self, metric: PoolMetric, texts: LabelTexts, created: float | None = None) -> None:
        """Begin without any series.

        Args:
            metric: which one.
            texts: of the labels; other metrics that have the same ones may share it.
            created: since when the series count, in seconds of the UNIX epoch; None: not told.
        """
        self._metric = metric
        self._texts = texts
        self._created = created
        self._series: list[tuple[str, ...]] = []
        self._buckets: list[tuple[float, ...] | None] = []
        self._pattern = ""
        self._place = _TEXT

    def filled(self, series: Series) -> str:
        """Return the lines with these values.

        Raises:
            TypeError: a value isn't a number.
            ValueError: the same.
        """
        names, values = list(series), list(series.values())
        buckets: list[tuple[float, ...] | None] = []
        if Histogram in set(map(type, values)):
            buckets = [self._bounds(value) for value in values]
            values = self._flat(values)
        if names != self._series or buckets != self._buckets:
            self._series, self._buckets = names, buckets
            self._pattern, self._place = "".join(self._lines()), _TEXT
        return self._with(cast("list[float]", values))

    def _with(self, values: list[float]) -> str:
        place, told = _TEXT, tuple[float | str, ...](values)
        if set(map(type, values)) == {int} and 0 <= min(values) <= max(values) < PLAIN_INTEGERS:
            place = _INTEGER
        else:
            told = tuple(map(number, values))
        if place != self._place:
            self._pattern, self._place = self._pattern.replace(self._place, place), place
        return self._pattern % told

    def _lines(self) -> Iterator[str]:
        """Yield the lines, with a place for each value."""
        name = self._metric.full_name
        for labels, bounds in zip_longest(self._series, self._buckets):
            text = self._texts[labels]
            if bounds is None:
                yield f"{name}{text}{_TEXT}"
            else:
                for bound in map(floatToGoString, bounds):
                    le = self._texts.with_more(labels, le=bound)
                    yield f"{name}_bucket{le}{_TEXT}"
                yield f"{name}_count{text}{_TEXT}{name}_sum{text}{_TEXT}"
            if self._created is not None:
                yield f"{name.removesuffix('_total')}_created{text} {self._created:.3f}\n"

    def _bounds(self, value: Value) -> tuple[float, ...] | None:
        """Return the bounds of the buckets that are written; None of a plain number."""
        if not isinstance(value, Histogram):
            return None
        return (*value.bounds, inf) if self._metric.type is MetricType.HISTOGRAM else ()

    def _flat(self, values: list[Value]) -> list[Value]:
        """Return the numbers in the order of the lines, those of buckets cumulated."""
        flat: list[Value] = []
        buckets = self._metric.type is MetricType.HISTOGRAM
        for value in values:
            if isinstance(value, Histogram):
                cumulated = list(accumulate(value.counts))
                flat += cumulated if buckets else ()
                flat += cumulated[-1], value.sum
            else:
                flat.append(value)
        return flat
