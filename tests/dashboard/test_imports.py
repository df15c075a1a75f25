"""The dashboard reads snapshots and speaks to the control client; it knows nothing of the pool."""

from __future__ import annotations

import ast
import subprocess
import sys

from tests.dashboard.terminal import ROOT, environment

ALLOWED = {
    "obspool.control",
    "obspool.control.protocol",
    "obspool.errors",
    "obspool.telemetry",
    "obspool.telemetry.registry",
    "obspool.telemetry.facts",
    "obspool.telemetry.snapshot",
    "obspool.units",
    "obspool.words",
}


def _imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "obspool":
                names |= {f"obspool.{alias.name}" for alias in node.names}
            else:
                names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.split(".")[0] == "obspool"}


def test_what_the_dashboard_imports_of_obspool() -> None:
    """Imports run downward only."""
    files = list((ROOT / "dashboard" / "obspool_dashboard").rglob("*.py"))
    assert len(files) > 10
    for path in files:
        found = _imported(ast.parse(path.read_text(encoding="utf-8")))
        assert found <= ALLOWED, (path.name, found - ALLOWED)


def test_what_the_first_frame_does_not_wait_for() -> None:
    """Dialogs, the list of pools and the way to a socket are imported when they are wanted."""
    code = """
import sys
import obspool_dashboard.app, obspool_dashboard.source, obspool_dashboard.widgets.workers
late = ("screens.confirm", "screens.stack", "screens.pick", "widgets.pools", "recorded", "ending")
print(*(name for name in (
    *(f"obspool_dashboard.{name}" for name in late),
    "obspool.control.client", "obspool.pool", "prometheus_client", "psutil", "cloudpickle",
) if name in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env=environment(),
    )
    assert done.stdout == "\n"
