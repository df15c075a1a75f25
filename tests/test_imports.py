"""What is loaded where: the program, its workers, and who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import obspool
import obspool_dashboard
from obspool import Pool
from tests.cli.environment import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGE = Path(obspool.__file__).parent
_DASHBOARD = Path(obspool_dashboard.__file__).parent

# What a worker by spawn may have of obspool, beyond what its task imports.
WORKER_MODULES = {
    "obspool",
    "obspool._fork",
    "obspool._version",
    "obspool.claim_lock",
    "obspool.counters",
    "obspool.frames",
    "obspool.messages",
    "obspool.serial",
    "obspool.telemetry",
    "obspool.telemetry.bank",
    "obspool.telemetry.cells",
    "obspool.telemetry.layout",
    "obspool.wire",
    "obspool.words",
    "obspool.worker",
    "obspool.worker.codec",
    "obspool.worker.items",
    "obspool.worker.outbox",
    "obspool.worker.process",
    "obspool.worker.workbench",
    "obspool.worker.runner",
    "obspool.worker.stacks",
    "obspool.worker.stopwatch",
}

# Too slow, or too large, to be loaded in each worker at each recycle.
KEPT_OUT = {
    "cloudpickle",
    "dataclasses",
    "inspect",
    "logging",
    "multiprocessing.pool",
    "prometheus_client",
    "psutil",
    "textual",
}

# It imports nothing of obspool where a worker would import it too.
_PROGRAM = """
import multiprocessing, sys

def modules(_):
    return list(sys.modules)

if __name__ == "__main__":
    from obspool import Pool
    with Pool(1, context=multiprocessing.get_context({method!r})) as pool:
        print(*pool.map(modules, [1])[0])
"""


def _modules_after(statement: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys\nprint(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    ["import obspool", "import obspool; obspool.Pool; obspool.ThreadPool", "import obspool.pool"],
)
def test_importing_obspool_loads_neither_the_dashboard_nor_the_exporters(statement: str) -> None:
    """A program that only uses a pool pays for no terminal and no metrics."""
    loaded = _modules_after(statement)
    assert not loaded & {"textual", "rich", "prometheus_client", "tqdm", "numpy"}
    assert not [m for m in loaded if m.startswith(("obspool.exporters", "obspool_dashboard"))]


def test_a_pool_without_metrics_never_loads_prometheus_client() -> None:
    """Neither making a pool nor reading its numbers does."""
    loaded = _modules_after(
        "import obspool\nwith obspool.Pool(1) as pool: pool.map(abs, [1]); pool.stats()"
    )
    assert "prometheus_client" not in loaded
    assert "textual" not in loaded


def test_a_pool_that_nobody_looks_at_loads_nothing_to_look_with() -> None:
    """That is a third of the time of its import; it may find what other pools have left behind."""
    work = "import obspool\nwith obspool.Pool(1) as pool: pool.map(abs, [1]); pool.name"
    _modules_after(work)
    loaded = _modules_after(work)
    assert not loaded & {"obspool.telemetry.snapshot", "obspool.telemetry.reader", "secrets"}


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_worker_loads_little(method: str, tmp_path: Path) -> None:
    """At each recycle a worker imports obspool's worker and the few modules below it."""
    path = tmp_path / "program.py"
    path.write_text(_PROGRAM.format(method=method))
    done = subprocess.run(
        [sys.executable, str(path)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
    )
    loaded = set(done.stdout.split())
    assert {m for m in loaded if m.startswith("obspool")} <= WORKER_MODULES
    # The forkserver itself has what it needed to make processes.
    assert not loaded & (KEPT_OUT - ({"logging"} if method == "forkserver" else set()))


def _imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield what a module imports, and whether only type checkers see it."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in for_types
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            assert not node.level, f"{path}: a relative import"
            yield module, id(node) in for_types
            for alias in node.names:
                yield f"{module}.{alias.name}", id(node) in for_types


def _imported_by(root: Path, folder: str) -> dict[str, set[str]]:
    """Return what the modules below a folder (or one module) import while they run."""
    place = root / folder
    files = [place.with_suffix(".py")] if not place.is_dir() else sorted(place.rglob("*.py"))
    assert files
    return {
        str(path.relative_to(root)): {name for name, typed in _imports(path) if not typed}
        for path in files
    }


UPPER = (
    "obspool.assembly",
    "obspool.balancer",
    "obspool.core",
    "obspool.engines",
    "obspool.feeder",
    "obspool.jobs",
    "obspool.ledger",
    "obspool.pool",
    "obspool.results",
    "obspool.scheduler",
    "obspool.supervisor",
)


@pytest.mark.parametrize(
    ("root", "folder", "forbidden"),
    [
        (_PACKAGE, "worker", (*UPPER, "obspool.control", "obspool.exporters", "obspool.cli")),
        (_PACKAGE, "exporters", UPPER),
        (_PACKAGE, "control", UPPER),
        (_PACKAGE, "telemetry", (*UPPER, "obspool.control", "obspool.exporters", "obspool.worker")),
        (_PACKAGE, "wire", (*UPPER, "obspool.worker", "obspool.telemetry")),
        (_PACKAGE, "serial", (*UPPER, "obspool.worker", "obspool.wire")),
        (
            _PACKAGE,
            "engines",
            ("obspool.pool", "obspool.core", "obspool.scheduler", "obspool.jobs"),
        ),
        (_PACKAGE, "scheduler", ("obspool.pool", "obspool.core", "obspool.engines.processes")),
        (_PACKAGE, "core", ("obspool.pool", "obspool.exporters", "obspool.engines.processes")),
        (_DASHBOARD, ".", UPPER),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_imports_run_downward_only(root: Path, folder: str, forbidden: tuple[str, ...]) -> None:
    """Whoever reads knows snapshots and the control client; a worker knows no scheduler."""
    for module, names in _imported_by(root, folder).items():
        wrong = {
            name
            for name in names
            for prefix in forbidden
            if name == prefix or name.startswith(f"{prefix}.")
        }
        assert not wrong, f"{module} imports {sorted(wrong)}"


def test_a_pool_is_all_a_module_has_to_import() -> None:
    """The public names are there, in dir() too, and others raise AttributeError."""
    assert obspool.Pool is Pool
    for name in obspool.__all__:
        assert getattr(obspool, name) is not None
        assert name in dir(obspool)
    with pytest.raises(AttributeError, match="no attribute 'Pol'"):
        getattr(obspool, "Pol")  # noqa: B009 - it raises
