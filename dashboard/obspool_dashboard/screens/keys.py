"""The keys of a pool's screen; the footer, the help and the palette are made of them.

The footer shows them in this order and cuts off what doesn't fit. A key that can do nothing now is
nowhere to be seen; two actions on one key are never both possible.
"""

from __future__ import annotations

from textual.binding import Binding

SORT = Binding.Group("Sort", compact=True)
INTERVAL = Binding.Group("Interval", compact=True)
PANEL = Binding.Group("Panel", compact=True)

_MOVEMENTS = frozenset({"move", "page", "edge", "scroll", "dismiss"})

LOOK = (
    Binding("question_mark,f1", "help", "Help", tooltip="Help: keys and columns"),
    Binding("q", "app.quit", "Quit"),
    Binding("escape", "back", "Back", tooltip="Back; then all pools", key_display="Esc"),
    Binding("enter", "details", "Details", tooltip="A worker's page", key_display="↵"),
    Binding("space", "freeze", "Freeze", tooltip="Freeze, or go on", key_display="Spc"),
    Binding("slash", "filter", "Filter", tooltip="Show only rows with a text", key_display="/"),
)
CONTROL = (
    Binding("E", "end", "End it", tooltip="End a process that doesn't answer (asks first)"),
    Binding("s", "command('stack')", "Stack", tooltip="Where the worker is: its stack"),
    Binding("p", "command('pause')", "Pause", tooltip="Begin nothing new"),
    Binding("p", "command('resume')", "Resume", tooltip="Go on after a pause"),
    Binding("n", "command('resize')", "Resize", tooltip="Change the number of workers"),
    Binding("R", "command('recycle')", "Recycle", tooltip="New workers: this one's, or all"),
    Binding("m", "command('set')", "Max tasks", tooltip="Change maxtasksperchild", show=False),
    Binding("K", "command('cancel')", "Cancel job", tooltip="Cancel a job (asks first)"),
    Binding("c", "command('close')", "Close", tooltip="Close the pool (asks first)"),
    Binding("X", "command('terminate')", "Terminate", tooltip="Terminate it (asks first)"),
)
VIEW = (
    Binding("1", "panel('workers')", "Workers", tooltip="Workers", group=PANEL),
    Binding("2", "panel('jobs')", "Jobs", tooltip="Jobs", group=PANEL),
    Binding("3", "panel('events')", "Events", tooltip="Events", group=PANEL),
    Binding("4", "panel('tuning')", "Tuning", tooltip="Tuning: chunksize, limits", group=PANEL),
    Binding("5", "panel('worker')", "Worker", tooltip="The worker under the cursor", group=PANEL),
    Binding("e", "maximise", "Maximise", tooltip="This panel alone, or all again"),
    Binding("<", "sort(-1)", "Sort", tooltip="Sort by the column before", group=SORT),
    Binding(">", "sort(1)", "Sort", tooltip="Sort by the next column", group=SORT),
    Binding("I", "invert", "Invert", tooltip="Turn the order round", group=SORT),
    Binding("+", "interval(1)", "Slower", tooltip="Read less often", group=INTERVAL),
    Binding("-", "interval(-1)", "Faster", tooltip="Read more often", group=INTERVAL),
    Binding("y", "copy", "Copy", tooltip="Copy the line under the cursor, or the page"),
)


def is_movement(binding: Binding) -> bool:
    """Whether it only moves about, which no palette needs to list."""
    return binding.action.partition("(")[0] in _MOVEMENTS
