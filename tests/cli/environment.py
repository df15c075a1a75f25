"""The environment of the programs that these tests start."""

from __future__ import annotations

import os
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def environment(**variables: str) -> dict[str, str]:
    """Return this process's, in which a checkout's packages are found without being installed."""
    found = [str(_ROOT), str(_ROOT / "dashboard"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, found))} | variables
