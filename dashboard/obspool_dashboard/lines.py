"""Lines made of parts with a role, and the base of the widgets that draw them.

What a line says is decided without Textual (a part is a text and a role); what a role looks like is
the style sheet's affair. Textual's markup is never used: texts of users may hold brackets.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.app import App
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from obspool_dashboard.glyphs import ASCII, UNICODE, Glyphs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Role(StrEnum):
    """What a text means; top.tcss says how that looks."""

    TEXT = "text"
    STRONG = "strong"
    MUTED = "muted"
    FAINT = "faint"
    NAME = "name"
    GOOD = "good"
    INFO = "info"
    WARN = "warn"
    BAD = "bad"
    HEADING = "heading"
    SORTED = "sorted"
    CURSOR = "cursor"
    NOTICE = "notice"
    ALARM = "alarm"
    FADED = "faded"

    # As the text's: an enumeration's own is a call of Python, for each part of each line.
    __hash__ = str.__hash__


class Part(NamedTuple):
    """A run of text with one meaning."""

    text: str
    role: Role = Role.TEXT


Line = tuple[Part, ...]
EMPTY: Line = ()


def width_of(parts: Iterable[Part]) -> int:
    """Count the cells that the parts take."""
    return sum(cell_len(part.text) for part in parts)


def gap(width: int) -> Part:
    """Return empty space."""
    return Part(" " * max(0, width))


def spread(left: Sequence[Part], right: Sequence[Part], width: int) -> Line:
    """Put `left` at the left edge and `right` at the right; `right` goes when both don't fit."""
    room = width - width_of(left) - width_of(right)
    return (*left, gap(room), *right) if room > 0 else tuple(left)


def joined(parts: Iterable[Line], separator: Part) -> Line:
    """Join groups of parts with a separator between them."""
    line: list[Part] = []
    for group in parts:
        if line:
            line.append(separator)
        line.extend(group)
    return tuple(line)


class Palette(App[int]):
    """An application that knows how roles look, for all of its widgets.

    Textual would have each widget look up each of its component classes in the style sheet, which
    for ten widgets took a sixth of the time until the first frame.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"role--{role}" for role in Role}

    _role_styles: dict[Role, Style] | None = None
    _glyphs: Glyphs | None = None

    @property
    def role_styles(self) -> Mapping[Role, Style]:
        """How roles are drawn now, on the screen's own ground."""
        if self._role_styles is None:
            self._role_styles = {
                each: self.get_component_styles(f"role--{each}").rich_style for each in Role
            }
        return self._role_styles

    @property
    def glyphs(self) -> Glyphs:
        """The signs to draw with."""
        if self._glyphs is None:
            self._glyphs = ASCII if self.has_class("-ascii") else UNICODE
        return self._glyphs

    def notify_style_update(self) -> None:
        """Forget what things look like: a theme or a class has changed it."""
        super().notify_style_update()
        self._role_styles = self._glyphs = None


class Painter(Widget):
    """A widget that turns lines into strips with the styles of its roles."""

    ALLOW_SELECT = False

    app: Palette
    faded = False
    """Whether the values are of the past: everything is drawn in one quiet style."""

    @property
    def glyphs(self) -> Glyphs:
        """The signs to draw with."""
        return self.app.glyphs

    @property
    def role_styles(self) -> Mapping[Role, Style]:
        """How roles are drawn now."""
        return self.app.role_styles

    def paint(self, line: Line, width: int, under: Role | None = None) -> Strip:
        """Draw a line, cut or filled to `width`; `under` gives its background to all parts."""
        styles = self.role_styles
        if self.faded:
            line = tuple(
                part if part.role in _NEVER_FADED else Part(part.text, Role.FADED) for part in line
            )
        if under is None:
            ground = styles[Role.TEXT]
            segments = [Segment(text, styles[role]) for text, role in line]
        else:
            ground = styles[Role.TEXT] + styles[under]
            own = Style(bgcolor=styles[under].bgcolor, reverse=styles[under].reverse)
            segments = [
                Segment(text, styles[role] if role in OWN_GROUND else styles[role] + own)
                for text, role in line
            ]
        return Strip(segments).adjust_cell_length(width, ground).simplify()


# Drawn on a ground of their own, also in the row of the cursor.
OWN_GROUND = frozenset({Role.NOTICE, Role.ALARM})
_NEVER_FADED = frozenset({Role.NAME, Role.HEADING, Role.SORTED, Role.NOTICE, Role.ALARM})


class LineWidget(Painter):
    """A widget of fixed lines; only those that changed are drawn again."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._drawn: list[Strip] = []
        self._drawn_width = -1

    def lines(self, width: int, height: int) -> Sequence[Line]:
        """Say what stands in the widget now."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Draw again the lines that differ from what is on the screen."""
        width, height = self.size
        if width != self._drawn_width or len(self._drawn) != height:
            self._drawn_width = -1
            self.refresh()
            return
        new = self._strips()
        changed = [y for y, (a, b) in enumerate(zip(new, self._drawn, strict=True)) if a != b]
        self._drawn = new
        if changed:
            self.refresh(*(Region(0, y, width, 1) for y in changed))

    def notify_style_update(self) -> None:
        """Forget what was drawn: a theme or a class has changed the styles."""
        super().notify_style_update()
        self._drawn_width = -1

    def render_line(self, y: int) -> Strip:
        """Return one line as drawn last, or draw all when the size is a new one."""
        if self._drawn_width != self.size.width or len(self._drawn) != self.size.height:
            self._drawn = self._strips()
            self._drawn_width = self.size.width
        return self._drawn[y] if y < len(self._drawn) else Strip.blank(self.size.width)

    def _strips(self) -> list[Strip]:
        width, height = self.size
        lines = list(self.lines(width, height))[:height]
        lines += [EMPTY] * (height - len(lines))
        return [self.paint(line, width) for line in lines]
