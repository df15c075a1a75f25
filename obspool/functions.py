"""How functions travel to workers: by reference where that is right, else by value.

Only a function that travels by reference is kept by a worker for its life. Everything else (bound
methods, callables with state, closures, lambdas) is pickled for each job and loaded for each task:
a cache by equality would give wrong results.

Functions of `__main__` are by reference only where a worker's `__main__` has the same one. That
isn't so interactively (a worker that was forked before a cell was run again has the old one), for
what was defined after the fork, and under spawn for what a script defines below `if __name__ ==
"__main__"`. A function by value runs in the namespace of its own module in the worker, so that it
sees the globals that the initializer set: see `obspool.namespaces`.
"""

from __future__ import annotations

import ast
import functools
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from obspool.serial import dumps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from obspool.serial import Payload

# A program has a few functions; one that makes them without end must not fill its workers.
KEPT_FUNCTIONS = 256

NAME_LENGTH = 120


@dataclass(frozen=True, slots=True)
class Function:
    """A function ready to travel.

    Attributes:
        number: names it in messages; unique in its pool.
        payload: what an engine sends.
        kept: by reference: a worker loads it once and keeps it.
        name: for people and for metrics, at most 120 characters.
    """

    number: int
    payload: Any
    kept: bool
    name: str


def name_of(function: object) -> str:
    """Return the name by which people know a callable; runs no code of its own."""
    inner: Any = function
    while type(inner) in {functools.partial, MethodType}:  # never isinstance: __class__ may be code
        inner = inner.func if type(inner) is functools.partial else inner.__func__
    named = type(inner) in {FunctionType, BuiltinFunctionType, type}
    return str(inner.__qualname__ if named else type(inner).__qualname__)[:NAME_LENGTH]


class Functions:
    """The functions that a pool of processes has sent, and how."""

    def __init__(self, start_method: str, numbers: Iterator[int] | None = None) -> None:
        """Remember what `__main__` defines now: what workers forked from here on have too."""
        self._numbers = numbers or itertools.count(1)
        self._kept: dict[Any, Function] = {}
        self._forks = start_method == "fork"
        main = sys.modules.get("__main__")
        self._main_before = {
            name: value
            for name, value in (vars(main).items() if main and self._forks else ())
            if isinstance(value, FunctionType) or type(value) is type
        }

    def encode(self, function: Callable[..., Any]) -> Function:
        """Pickle a function for a job; runs user code (`__reduce__`).

        Raises:
            Exception: what pickle raised, when cloudpickle couldn't pickle it either.
        """
        if type(function) is FunctionType:
            known = self._kept.get(function)
            module = sys.modules.get(function.__module__)
            if known is not None and getattr(module, function.__qualname__, None) is function:
                return known
        if not self._by_reference(function):
            payload = _by_value(function) if self._needs_value(function) else dumps(function)
            return Function(next(self._numbers), payload, kept=False, name=name_of(function))
        known = self._kept.get(function)
        if known is None:
            if len(self._kept) >= KEPT_FUNCTIONS:
                self._kept.clear()
            known = Function(
                next(self._numbers), dumps(function), kept=True, name=name_of(function)
            )
            self._kept[function] = known
        return known

    def _needs_value(self, function: Any) -> bool:
        """Tell whether a callable is, or is made with, what a worker's `__main__` may not have."""
        kind = type(function)
        if kind is functools.partial:
            return self._needs_value(function.func)
        if kind is MethodType:
            return self._needs_value(type(function.__self__)) or self._needs_value(
                function.__func__
            )
        if kind not in {FunctionType, type}:
            return kind.__module__ == "__main__" and not self._by_reference(kind)
        return not self._by_reference(function)

    def _by_reference(self, function: Any) -> bool:
        kind = type(function)
        if kind is BuiltinFunctionType:
            owner = function.__self__
            return owner is None or type(owner) is ModuleType
        if kind is not FunctionType and kind is not type:
            return False
        module_name, qualname = function.__module__, function.__qualname__
        if type(module_name) is not str:
            return False
        module = sys.modules.get(module_name)
        found: Any = module
        for part in qualname.split("."):
            found = getattr(found, part, None) if type(found) in {ModuleType, type} else None
        if found is not function or module is None:
            return False
        if module_name != "__main__":
            return True
        root = qualname.partition(".")[0]
        if self._forks:
            script = getattr(module, "__file__", None) is not None
            return script and self._main_before.get(root) is getattr(module, root)
        lines = _lines_on_import(getattr(module, "__file__", None))
        if kind is FunctionType and root == qualname:
            return bool(function.__code__.co_firstlineno == lines.get(root))
        return root in lines


def _by_value(function: Any) -> Payload:
    from obspool.namespaces import dumps_by_value  # noqa: PLC0415 - loads cloudpickle

    return dumps_by_value(function)


@functools.cache
def _lines_on_import(path: str | None) -> dict[str, int]:
    """Return what a script defines at top level when it is imported, and in which lines."""
    if path is None:
        return {}
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return {}
    lines: dict[str, int] = {}
    for node in tree.body:  # of two definitions of a name the last one counts
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            lines[node.name] = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                lines[(alias.asname or alias.name).partition(".")[0]] = node.lineno
    return lines
