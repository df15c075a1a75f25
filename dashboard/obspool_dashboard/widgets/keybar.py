"""The last line: the keys that work now, as many as fit.

Textual's Footer makes a widget for each key, anew at each change of the focus; this is one line.
"""

from __future__ import annotations

from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from obspool_dashboard.lines import Line, LineWidget, Part, Role, gap, width_of
from obspool_dashboard.widgets.columns import NARROW, NARROW_GAP, WIDE_GAP

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.style import Style
    from textual import events
    from textual.binding import ActiveBinding
    from textual.dom import DOMNode
    from textual.screen import Screen


class _Key(NamedTuple):
    """One key on the line: its parts, and what a click on it does."""

    parts: Line
    action: str
    node: DOMNode | None


class KeyBar(LineWidget):
    """Keys in the order of the bindings; a group of them shares one word."""

    # It has a ground of its own.
    ROLES = (Role.TEXT, Role.NAME, Role.MUTED)
    COMPONENT_CLASSES: ClassVar[set[str]] = {"role--text", "role--name", "role--muted"}

    @property
    def role_styles(self) -> Mapping[Role, Style]:
        """How roles are drawn here."""
        return {role: self.get_component_rich_style(f"role--{role}") for role in self.ROLES}

    def on_mount(self) -> None:
        """Follow the bindings."""
        self.screen.bindings_updated_signal.subscribe(self, self._bindings_changed)

    def _bindings_changed(self, _: Screen[object]) -> None:
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        """Return the line."""
        del height
        line: list[Part] = []
        for start, key in self._placed(width):
            line += [gap(start - width_of(line)), *key.parts]
        return [tuple(line)]

    async def on_click(self, event: events.Click) -> None:
        """Do what the key under the mouse does."""
        event.stop()
        for start, key in self._placed(self.size.width):
            if start <= event.x < start + width_of(key.parts) and key.action:
                await self.app.run_action(key.action, key.node)

    def _placed(self, width: int) -> Iterator[tuple[int, _Key]]:
        """Say where the keys stand; the first word that doesn't fit ends the line."""
        at = 1
        space = NARROW_GAP if width < NARROW else WIDE_GAP
        for group in self._groups():
            cells = sum(width_of(key.parts) for key in group)
            if at + cells > width:
                return
            for key in group:
                yield at, key
                at += width_of(key.parts)
            at += space

    def _groups(self) -> Iterator[list[_Key]]:
        """Yield what belongs together: a key with its word, or several that share one."""
        shown: dict[str, ActiveBinding] = {}
        for active in self.screen.active_bindings.values():
            if active.binding.show and active.enabled:
                shown.setdefault(active.binding.action, active)
        same = partial(groupby, key=lambda active: active.binding.group)
        for group, several in same(shown.values()):
            members = list(several)
            if group is None or len(members) == 1:
                yield from ([self._key(active, active.binding.description)] for active in members)
            else:
                keys = [self._key(active, "") for active in members]
                yield [*keys, _Key((Part(f" {group.description}", Role.MUTED),), "", None)]

    def _key(self, active: ActiveBinding, word: str) -> _Key:
        name = Part(self.app.get_key_display(active.binding), Role.NAME)
        parts = (name, Part(f" {word}", Role.MUTED)) if word else (name,)
        return _Key(parts, active.binding.action, active.node)
