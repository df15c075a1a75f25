"""Numbers as people read them: three significant digits, the unit that fits, a steady width.

Every function takes None for "not known" and gives NOTHING for it, so that a missing value and a
zero never look the same. Texts of other processes are made safe to print here too.
"""

from __future__ import annotations

import time
import unicodedata

NOTHING = "-"

_THOUSAND = 1000.0
_MAGNITUDES = ("", "k", "M", "G", "T", "P")
_KIB = 1024.0
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_MINUTE = 60
_HOUR = 3600
_DAY = 86400
_HUNDRED = 100.0
_TEN = 10.0


def count(value: float | None) -> str:
    """Write a number of things in at most five characters: 999, 1.24k, 98.0k, 18.2M."""
    if value is None:
        return NOTHING
    return "".join(_scaled(value, _THOUSAND, _MAGNITUDES))


def rate(value: float | None) -> str:
    """Write how many a second, without "/s", in at most five characters: 0.25, 7.9, 551, 4.41k."""
    if value is None:
        return NOTHING
    if value == 0:
        return "0"
    if value < 1:
        return f"{value:.2f}"
    if value < _TEN:
        return f"{value:.1f}"
    return count(value)


def size(value: float | None) -> str:
    """Write a number of bytes in at most eight characters: 212 MiB, 1.90 GiB."""
    if value is None:
        return NOTHING
    digits, unit = _scaled(float(abs(value)), _KIB, _SIZES)
    return f"{'-' if value < 0 else ''}{digits} {unit}"


def percent(share: float | None) -> str:
    """Write a share of 1 in at most five characters, with a space as the standards ask: 96 %."""
    return NOTHING if share is None else f"{_HUNDRED * share:.0f} %"


def duration(seconds: float | None, micro: str = "µs") -> str:
    """Write a length of time in at most seven characters: 850 µs, 3.1 ms, 41.2 s, 4m 08s."""
    if seconds is None:
        return NOTHING
    milli = max(0.0, seconds) * _THOUSAND
    if milli > 0 and round(milli * _THOUSAND) < _THOUSAND:
        return f"{milli * _THOUSAND:.0f} {micro}"
    if milli < _HUNDRED and f"{milli:.1f}" != "100.0":
        return f"{milli:.1f} ms"
    if round(milli) < _THOUSAND:
        return f"{milli:.0f} ms"
    if seconds < _MINUTE and f"{seconds:.1f}" != "60.0":
        return f"{seconds:.1f} s"
    return span(seconds)


def span(seconds: float | None) -> str:
    """Write a time whose fractions of a second nobody needs: 12 s, 4m 08s, 2h 05m, 3d 04h."""
    if seconds is None:
        return NOTHING
    whole = round(max(0.0, seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m {whole % _MINUTE:02d}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h {whole % _HOUR // _MINUTE:02d}m"
    return f"{whole // _DAY}d {whole % _DAY // _HOUR:02d}h"


def uptime(seconds: float) -> str:
    """Write a running time as a clock: 00:42:17, 3d 04:12:07."""
    whole = int(max(0.0, seconds))
    clock = f"{whole % _DAY // _HOUR:02d}:{whole % _HOUR // _MINUTE:02d}:{whole % _MINUTE:02d}"
    days = whole // _DAY
    return f"{days}d {clock}" if days else clock


def time_of_day(epoch: float) -> str:
    """Write a moment in the viewer's own time zone: 14:02:11."""
    return time.strftime("%H:%M:%S", time.localtime(epoch))


def printable(text: str, unknown: str = "�") -> str:
    """Make text of others safe to print: `unknown` for what could steer the terminal.

    An escape sequence in a pool's, program's or function's name would act on the terminal; a
    bidirectional override would turn the line round.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_printable(character, unknown) for character in text)


def _printable(character: str, unknown: str) -> str:
    if character.isspace():
        return " "
    # C: control, format (bidirectional overrides), surrogates, private use, unassigned.
    return unknown if unicodedata.category(character).startswith("C") else character


def _three_digits(value: float) -> str:
    """Write 0 ≤ value < 1000 with three significant digits."""
    if round(value, 2) < _TEN:
        return f"{value:.2f}"
    if round(value, 1) < _HUNDRED:
        return f"{value:.1f}"
    return f"{value:.0f}"


def _scaled(value: float, base: float, units: tuple[str, ...]) -> tuple[str, str]:
    """Divide by `base` until three digits hold the value; also when rounding brings it to 1000."""
    unit = 0
    while unit + 1 < len(units) and round(value) >= _THOUSAND:
        value /= base
        unit += 1
    digits = f"{value:.0f}" if unit == 0 else _three_digits(value)
    return digits, units[unit]
