"""Pictures of the screen that load nothing from other hosts."""

from __future__ import annotations

import re

FONTS = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def self_contained(svg: str) -> str:
    """Take the fonts of a foreign host out: a picture in a README can't load them anyway."""
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("font-family: Fira Code, monospace", f"font-family: {FONTS}")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"
