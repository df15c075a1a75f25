"""The colours: one set for dark terminals, which is the first choice, and one for light ones."""

from __future__ import annotations

from textual.theme import Theme

# Calm: one green for work, amber and red only for what wants a person.
DARK = Theme(
    name="obspool-dark",
    primary="#7aa2c8",
    secondary="#5f87a8",
    accent="#7aa2c8",
    foreground="#c3cad3",
    background="#10151b",
    surface="#161d25",
    panel="#1d2630",
    success="#7fb685",
    warning="#d9a95b",
    error="#e06c75",
    dark=True,
    variables={
        "strong": "#e6ebf0",
        "muted": "#8b97a5",
        "faint": "#566473",
        "cursor-line": "#263443",
        "on-colour": "#10151b",
        "scrollbar": "#2b3743",
        "scrollbar-hover": "#3a4856",
        "scrollbar-active": "#4a5a6a",
        "scrollbar-background": "#10151b",
        "scrollbar-background-hover": "#10151b",
        "scrollbar-background-active": "#10151b",
    },
)

LIGHT = Theme(
    name="obspool-light",
    primary="#2b6196",
    secondary="#41719b",
    accent="#2b6196",
    foreground="#2c343c",
    background="#fafbfc",
    surface="#eef1f4",
    panel="#e6eaee",
    success="#3c7d45",
    warning="#96660f",
    error="#b8323c",
    dark=False,
    variables={
        "strong": "#10161c",
        "muted": "#5c6873",
        "faint": "#8a96a1",
        "cursor-line": "#d5e2ee",
        "on-colour": "#ffffff",
        "scrollbar": "#c5ced6",
        "scrollbar-hover": "#b0bbc5",
        "scrollbar-active": "#98a6b2",
        "scrollbar-background": "#fafbfc",
        "scrollbar-background-hover": "#fafbfc",
        "scrollbar-background-active": "#fafbfc",
    },
)

THEMES = (DARK, LIGHT)
