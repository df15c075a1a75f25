"""Functions by value, and the namespace that they find in a worker.

cloudpickle gives a function by value a dict of globals of its own. In a pool that would hide what
the initializer set with `global`. Here such a function gets the namespace of its module in the
worker; for `__main__`, which a worker may not have or may have an older version of, the globals
that the function refers to travel with it, and are set where the worker itself has not changed them
since.
"""

from __future__ import annotations

import io
import sys
from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING, Any

import cloudpickle

from obspool.serial import PROTOCOL, with_reducers
from obspool.worker.process import main_before, main_namespace

if TYPE_CHECKING:
    from collections.abc import Callable

    from obspool.serial import Payload

_MISSING = object()

# What a worker's __main__ had before the initializer (or when this was first needed, where there is
# none), and what came by value since.
_baseline: dict[str, Any] = main_before or dict(main_namespace())


class _Namespace:
    """Stands in a pickle for the globals of a module."""

    def __init__(self, module: str) -> None:
        self.module = module

    def __reduce__(self) -> tuple[Callable[[str], dict[str, Any]], tuple[str]]:
        return _namespace, (self.module,)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, with a function's globals as a reference to its module's."""

    def reducer_override(self, obj: Any) -> Any:
        """Reduce a function by value: cloudpickle's way, but for the globals."""
        reduced = super().reducer_override(obj)
        if type(obj) is not FunctionType or not isinstance(reduced, tuple) or len(reduced) != 6:  # noqa: PLR2004 - a full reduce value
            return reduced
        module = obj.__globals__.get("__name__")
        if module == "__mp_main__":
            module = "__main__"
        if module not in sys.modules or vars(sys.modules[module]) is not obj.__globals__:
            return reduced
        make, (code, _, *rest), (attributes, slots), _, _, setstate = reduced
        own = slots["__globals__"] if module == "__main__" else {}
        state = (attributes, {**slots, "__globals__": {}}, own, setstate)
        return make, (code, _Namespace(module), *rest), state, None, None, _set_state


def dumps_by_value(function: Any) -> Payload:
    """Pickle a function or class with cloudpickle, bound to its module's namespace."""
    stream = io.BytesIO()
    with_reducers(_Pickler)(stream, PROTOCOL).dump(function)
    return stream.getvalue()


def _namespace(module: str) -> dict[str, Any]:
    """Return the namespace of a module of this process."""
    if module == "__main__":
        return main_namespace()
    try:
        return vars(import_module(module))
    except ImportError:  # a module made at run time: its functions have to do with what they bring
        return {"__name__": module, "__builtins__": __builtins__}


def _set_state(function: Any, state: tuple[Any, Any, dict[str, Any], Callable[..., Any]]) -> None:
    attributes, slots, values, setstate = state
    namespace = function.__globals__
    setstate(function, (attributes, slots))
    for name, value in values.items():
        if namespace.get(name, _MISSING) is _baseline.get(name, _MISSING):
            namespace[name] = value
            _baseline[name] = value
