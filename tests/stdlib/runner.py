"""Runs the interpreter's own Pool tests against a given implementation, and reports line by line.

    python -m tests.stdlib.runner --pool obspool --start-method spawn --kind processes

`--pool` names a module with `Pool` and `ThreadPool` (`multiprocessing.pool` is the control). Each
line on stdout is a JSON object, flushed at once, so that a reader knows at a hang which test it is:

    {"event": "start", "test": "_TestPool.test_map"}
    {"event": "end", "test": "_TestPool.test_map", "outcome": "passed", "seconds": 0.1, …}
    {"event": "done", "pools": 21}

With `--list` it only names the tests. What the tests themselves print goes to stderr.

The module is also the `__main__` of workers started by spawn and forkserver: importing it does
nothing.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import json
import multiprocessing
import multiprocessing.context
import os
import resource
import signal
import sys
import time
import traceback
import unittest
from typing import TYPE_CHECKING, Any, Literal, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

Kind = Literal["processes", "threads", "manager"]

# The stdlib's class, the kinds of pools it is written for (its ALLOWED_TYPES), and which of its
# tests are about a pool: None for all. The class is a mixin where it begins with an underscore.
TESTS: tuple[tuple[str, tuple[Kind, ...], tuple[str, ...] | None], ...] = (
    ("_TestPool", ("processes", "threads", "manager"), None),
    ("_TestPoolWorkerErrors", ("processes",), None),
    ("_TestPoolWorkerLifetime", ("processes",), None),
    # Its other test, test_manager_initializer, makes no pool.
    ("TestInitializers", ("processes",), ("test_pool_initializer",)),
)


class Reporter:
    """Writes events as JSON lines to a stream that the tests can't reach."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def emit(self, event: str, **fields: object) -> None:
        """Write one event and flush it: the process may be killed at any time."""
        self._stream.write(json.dumps({"event": event, **fields}) + "\n")
        self._stream.flush()


class ReportingResult(unittest.TestResult):
    """Turns what unittest calls into events, one start and one end a test."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self._reporter = reporter
        self._began = 0.0
        self._outcome = "passed"
        self._detail = ""

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's name
        super().startTest(test)
        self._outcome, self._detail = "passed", ""
        self._began = time.monotonic()
        self._reporter.emit("start", test=_name(test))

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().stopTest(test)
        seconds = round(time.monotonic() - self._began, 3)
        self._reporter.emit(
            "end", test=_name(test), outcome=self._outcome, seconds=seconds, detail=self._detail
        )

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        super().addSkip(test, reason)
        self._outcome, self._detail = "skipped", reason

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addFailure(test, err)
        self._outcome, self._detail = "failed", _format(err)

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addError(test, err)
        if isinstance(test, unittest.TestCase):
            self._outcome, self._detail = "failed", _format(err)
        else:
            # setUpClass, tearDownModule and the like: unittest passes a stand-in for a test.
            self._reporter.emit("error", where=str(test), detail=_format(err))

    def addSubTest(  # noqa: N802
        self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any
    ) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._outcome, self._detail = "failed", f"{subtest}\n{_format(err)}"


def _format(err: Any) -> str:
    return "".join(traceback.format_exception(*err))


def _name(test: unittest.TestCase) -> str:
    """Name a test as the stdlib's source does, without the kind in its class's name."""
    cls, _, method = test.id().removeprefix(f"{type(test).__module__}.").partition(".")
    for kind in ("Processes", "Threads", "Manager"):
        if cls.startswith(f"With{kind}"):
            cls = "_" + cls.removeprefix(f"With{kind}")
    return f"{cls}.{method}"


class Implementation:
    """The pools under test, put where the interpreter's tests look a pool up; counts those made."""

    def __init__(self, module_name: str) -> None:
        module = importlib.import_module(module_name)
        self._pool: Callable[..., Any] = module.Pool
        self._thread_pool: Callable[..., Any] = module.ThreadPool
        self._module_name = module_name
        self.pools_made = 0

    def install(self, tests: ModuleType) -> None:
        """Let `tests`, the interpreter's module, make its pools here.

        `multiprocessing.pool.Pool` stays as it is: none of these tests looks a pool up there, and
        the stdlib's own ThreadPool does, as the name of its base class.
        """

        def pool(*args: Any, **kwargs: Any) -> Any:
            return self._make(self._pool, *args, context=multiprocessing.get_context(), **kwargs)

        def context_pool(
            context: multiprocessing.context.BaseContext, *args: Any, **kwargs: Any
        ) -> Any:
            return self._make(self._pool, *args, context=context.get_context(), **kwargs)

        def thread_pool(*args: Any, **kwargs: Any) -> Any:
            return self._make(self._thread_pool, *args, **kwargs)

        multiprocessing.context.BaseContext.Pool = context_pool  # type: ignore[method-assign, assignment]
        multiprocessing.Pool = pool
        tests.ProcessesMixin.Pool = staticmethod(pool)
        tests.ThreadsMixin.Pool = staticmethod(thread_pool)
        # A manager's server process makes the pool. It is registered by the class itself, which
        # spawn can pickle; such pools aren't counted here.
        managers = importlib.import_module("multiprocessing.managers")
        managers.SyncManager.register("Pool", self._pool, managers.PoolProxy)
        self._install_in_scripts()

    def _make(self, factory: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        made = factory(*args, **kwargs)
        self.pools_made += 1
        return made

    def _install_in_scripts(self) -> None:
        """Let the script that one test runs in a fresh, isolated interpreter import this pool."""
        looked_up = "from multiprocessing import Pool"
        replaced = f"import sys; sys.path[:] = {sys.path!r}; from {self._module_name} import Pool"
        helper: Any = importlib.import_module("test.support.script_helper")
        original = helper.assert_python_ok

        def assert_python_ok(*args: str, **kwargs: Any) -> Any:
            if not any(looked_up in arg for arg in args):
                message = f"this script doesn't import the Pool as expected: {args!r}"
                raise AssertionError(message)
            return original(*(arg.replace(looked_up, replaced) for arg in args), **kwargs)

        helper.assert_python_ok = assert_python_ok


def build_suite(kind: Kind) -> unittest.TestSuite:
    """Return the tests of one kind of pool, that is, of the classes with that mixin."""
    cases = importlib.import_module("tests.stdlib.cases")
    suite = unittest.TestSuite()
    for base, kinds, chosen in TESTS:
        if kind not in kinds:
            continue
        cls = getattr(cases, f"With{kind.capitalize()}{base[1:]}" if base[0] == "_" else base)
        names = unittest.defaultTestLoader.getTestCaseNames(cls) if chosen is None else chosen
        suite.addTests(cls(name) for name in names)
    return suite


def _flatten(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from _flatten(test)
        else:
            yield test


def _private_stdout() -> TextIO:
    """Keep the real stdout for events; what tests and their workers print goes to stderr."""
    private = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return private


def main(argv: list[str] | None = None) -> int:
    """Run or list the tests; the exit status is 0 when the run came to its end, whatever failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pool", default="multiprocessing.pool", help="a module with Pool")
    parser.add_argument("--start-method", default="fork")
    parser.add_argument("--kind", choices=["processes", "threads", "manager"], default="processes")
    parser.add_argument("--list", action="store_true", help="name the tests, run none")
    parser.add_argument("--skip", action="append", default=[], help="leave this test out")
    options = parser.parse_args(argv)
    reporter = Reporter(_private_stdout())

    suite = build_suite(options.kind)
    chosen = unittest.TestSuite(t for t in _flatten(suite) if _name(t) not in options.skip)
    if options.list:
        for test in _flatten(chosen):
            reporter.emit("test", test=_name(test))
        return 0

    # The harness asks a hung run for stacks: its workers by SIGABRT, whose cores would fill the
    # disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    implementation = Implementation(options.pool)
    cases = importlib.import_module("tests.stdlib.cases")
    cases.use(options.start_method)
    implementation.install(cases.tests)
    unpicklable = importlib.import_module("tests.stdlib.unpicklable")
    cases.tests.unpickleable_result = unpicklable.return_lock
    chosen.run(ReportingResult(reporter))
    reporter.emit("done", pools=implementation.pools_made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
