"""The interpreter's own test classes, in a module that workers can import.

Some tests send a class method to a worker, which pickles a reference to its class: workers started
by spawn and forkserver must find the class in this module, under the same name.
"""

import importlib
from typing import Any

TEST_MODULE = "test._test_multiprocessing"

tests: Any = importlib.import_module(TEST_MODULE)
# This start method is for setUpModule only, which `use` replaces.
tests.install_tests_in_module_dict(globals(), "fork")


def use(start_method: str) -> None:
    """Let this module's setUpModule make `start_method` the default of `multiprocessing`."""
    made: dict[str, Any] = {"__name__": __name__}
    tests.install_tests_in_module_dict(made, start_method)
    for name in ("setUpModule", "tearDownModule"):
        globals()[name] = made[name]
