"""The interpreter's own Pool tests, against obspool and, as the control, against the stdlib's Pool.

A test that fails for both tells of this interpreter or this machine, not of obspool.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest

from tests.stdlib import harness
from tests.stdlib.harness import Setup

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTROL = "multiprocessing.pool"
OBSPOOL = "obspool"
SETUPS = [
    Setup(pool, kind, start_method)
    for pool in (CONTROL, OBSPOOL)
    for kind, start_methods in {
        "processes": ("fork", "spawn", "forkserver"),
        "threads": ("fork",),
        "manager": ("fork", "spawn", "forkserver"),
    }.items()
    for start_method in start_methods
]
# A setup makes more pools than that; fewer, and its tests ran with another pool than the one named.
FEWEST_POOLS = 5
# A setup runs whole when its first test asks for it, hangs included.
SETUP_DEADLINE = 240

MISSING = harness.missing_test_package()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(SETUP_DEADLINE, func_only=False),
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]


@functools.cache
def report_of(setup: Setup) -> harness.Report:
    """Run a setup once in this process, for the first test that asks.

    The control once more when one of its tests hung: the stdlib's terminate() does, once in a
    hundred runs on a loaded machine, and says nothing of the harness then.
    """
    report = harness.run(setup)
    if setup.pool == CONTROL and any(r.outcome == "hung" for r in report.results.values()):
        return harness.run(setup)
    return report


def _parameters() -> Iterator[object]:
    if MISSING is not None:
        yield pytest.param(SETUPS[0], "all", id="no-test-package")
        return
    tests = {kind: harness.list_tests(kind) for kind in {setup.kind for setup in SETUPS}}
    for setup in SETUPS:
        # The group keeps a setup's tests in one xdist worker, which runs it once.
        group = pytest.mark.xdist_group(f"stdlib-{setup}")
        for test in tests[setup.kind]:
            yield pytest.param(setup, test, id=f"{setup}-{test}", marks=group)


@pytest.mark.parametrize(("setup", "test"), list(_parameters()))
def test_stdlib(setup: Setup, test: str) -> None:
    """A test of the interpreter's own passes with this pool."""
    result = report_of(setup).result(test)
    if result.outcome == "skipped":
        pytest.skip(result.detail)
    if result.outcome == "not run":
        # Why is said once for all of them.
        pytest.fail(f"not run: see test_run_came_to_its_end[{setup}]", pytrace=False)
    if result.outcome != "passed":
        pytest.fail(
            f"{test} with {setup.pool}, {setup.kind}, {setup.start_method}: {result.outcome} "
            f"after {result.seconds:.1f} s\n{result.detail}",
            pytrace=False,
        )


@pytest.mark.parametrize(
    "setup",
    [
        pytest.param(setup, id=str(setup), marks=pytest.mark.xdist_group(f"stdlib-{setup}"))
        for setup in SETUPS
    ],
)
def test_run_came_to_its_end(setup: Setup) -> None:
    """There was no error around the tests, and they made their pools of the kind under test."""
    report = report_of(setup)
    if report.errors:
        pytest.fail("\n".join(report.errors), pytrace=False)
    if setup.kind != "manager":  # whose pools are made, and not counted, in another process
        assert report.pools >= FEWEST_POOLS


def test_harness_reports_faults_and_hangs() -> None:
    """A wrong result fails, a hang is ended with its stack, and what comes after it still runs."""
    only = ("_TestPool.test_map", "_TestPool.test_starmap", "_TestPool.test_terminate")
    setup = Setup("tests.stdlib.broken", "processes", "fork")
    report = harness.run(setup, only=only, test_deadline=5)
    wrong, hung, fine = (report.result(name) for name in only)
    assert wrong.outcome == "failed"
    assert "AssertionError" in wrong.detail
    assert hung.outcome == "hung"
    assert "in starmap" in hung.detail
    assert "in worker" in hung.detail, "the stacks of workers are shown as well"
    assert fine.outcome == "passed"
