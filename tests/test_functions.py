"""Functions on their way to workers: those of modules, of scripts, and of interpreters."""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Any

import pytest

from obspool import Pool
from obspool.functions import NAME_LENGTH, Functions, name_of
from tests.pool import scripts, work

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext
    from pathlib import Path

_setting = "not set"


def _set(value: str) -> None:
    global _setting  # noqa: PLW0603 - what initializers do
    _setting = value


def _get(_: Any) -> str:
    return _setting


class Scale:
    """Has methods of all kinds."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def apply(self, item: int) -> int:
        return self.factor * item

    @classmethod
    def of_class(cls, item: int) -> str:
        return f"{cls.__name__}{item}"

    @staticmethod
    def of_nobody(item: int) -> int:
        return -item

    def __call__(self, item: int) -> int:
        return 10 * self.factor * item


def test_every_kind_of_callable_works(mp_context: BaseContext) -> None:
    """Lambdas, closures, methods, partials, classes, builtins: in each start method."""
    factor = 3

    def closure(item: int) -> int:
        return factor * item

    calls: list[tuple[Any, list[Any]]] = [
        (lambda item: item + 1, [2, 3]),
        (closure, [3, 6]),
        (Scale(4).apply, [4, 8]),
        (Scale.of_class, ["Scale1", "Scale2"]),
        (Scale.of_nobody, [-1, -2]),
        (Scale(2), [20, 40]),
        (functools.partial(work.add, 5, a=1), [7, 8]),
        (functools.partial(lambda a, b: a - b, 5), [4, 3]),
        (str, ["1", "2"]),
        (operator.neg, [-1, -2]),
        ("ab".__mul__, ["ab", "abab"]),
    ]
    with Pool(1, context=mp_context) as pool:
        for function, expected in calls:
            for chunk in (1, 2):
                assert pool.map(function, [1, 2], chunk) == expected, function


def test_a_closure_has_the_values_of_its_own_call() -> None:
    """Closures of one function that differ only in what they hold are different functions."""

    def make(number: int) -> Any:
        return lambda item: (number, item)

    with Pool(2) as pool:
        results = [pool.apply_async(make(n), (n,)) for n in range(30)]
        assert [r.get(20) for r in results] == [(n, n) for n in range(30)]


def test_globals_that_the_initializer_set_are_seen_by_all_functions(
    mp_context: BaseContext,
) -> None:
    """By reference or by value, a function runs in its module's namespace in the worker."""
    with Pool(1, _set, ("from the initializer",), context=mp_context) as pool:
        assert pool.map(_get, [1]) == ["from the initializer"]
        assert pool.map(lambda _: _setting, [1]) == ["from the initializer"]
        assert pool.map(functools.partial(_get), [1]) == ["from the initializer"]
    assert _setting == "not set"


def test_a_lambda_as_initializer(mp_context: BaseContext) -> None:
    """Also the initializer may be what pickle refuses."""
    with Pool(1, lambda value: _set(f"by {value}"), ("lambda",), context=mp_context) as pool:
        assert pool.map(_get, [1]) == ["by lambda"]


def test_only_what_travels_by_reference_is_kept() -> None:
    """The same function of a module is sent once; anything with state is sent for each job."""
    functions = Functions("fork")
    assert functions.encode(work.double) is functions.encode(work.double)
    assert functions.encode(work.double).kept
    assert functions.encode(len).kept
    scale = Scale(1)
    for callable_ in (scale, scale.apply, functools.partial(work.double), lambda x: x):
        first, second = functions.encode(callable_), functions.encode(callable_)
        assert not first.kept
        assert first.number != second.number


def test_names_are_for_people_and_run_no_code() -> None:
    """A callable is shown by its function's name; its own attributes are not asked."""

    class Hostile:
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(f"asked for {name}")

        def __call__(self) -> None: ...

    assert name_of(work.double) == "double"
    assert name_of(functools.partial(work.double, 1)) == "double"
    assert name_of(Scale(1).apply) == "Scale.apply"
    assert name_of(Scale(1)) == "Scale"
    assert name_of(len) == "len"
    assert name_of(Hostile()).endswith("Hostile")
    long = type("L" * 500, (), {"__call__": print})
    assert len(name_of(long())) == NAME_LENGTH


SCRIPT = """
    import functools
    limit = 1
    def above(item): return item + 1
    class Above:
        def __init__(self, by): self.by = by
        def method(self, item): return item + self.by
        def __call__(self, item): return item - self.by
    def set_limit(value):
        global limit
        limit = value
    def get_limit(_): return limit
    if __name__ == "__main__":
        def below(item): return item * 2
        class Below:
            def method(self, item): return item * 3
            def __call__(self, item): return item * 4
        by = 7
        def uses_globals(item): return above(item) + by
        def recursive(item): return item and 1 + recursive(item - 1)
        with Pool(1, context=context) as pool:
            def after(item): return item * 5
            {body}
"""

IN_SCRIPTS = {
    "of the script": ("above", [2, 3]),
    "lambda": ("lambda item: item * 9", [9, 18]),
    "bound method": ("Above(4).method", [5, 6]),
    "callable": ("Above(4)", [-3, -2]),
    "partial": ("functools.partial(above)", [2, 3]),
    "below the guard": ("below", [2, 4]),
    "partial of one below the guard": ("functools.partial(below)", [2, 4]),
    "bound method below the guard": ("Below().method", [3, 6]),
    "callable below the guard": ("Below()", [4, 8]),
    "defined after the pool": ("after", [5, 10]),
    "partial of one defined after the pool": ("functools.partial(after)", [5, 10]),
    "with globals": ("uses_globals", [9, 10]),
    "recursive": ("recursive", [1, 2]),
}


def test_functions_of_a_script(start_method: str, tmp_path: Path) -> None:
    """Whatever a script defines, and wherever it defines it, runs in a worker."""
    lines = [
        f"try: print({name!r}, pool.map({text}, [1, 2]))\n"
        f"            except Exception as error: print({name!r}, repr(error))"
        for name, (text, _) in IN_SCRIPTS.items()
    ]
    printed = scripts.script(
        tmp_path, start_method, SCRIPT.format(body="\n            ".join(lines))
    )
    assert printed.splitlines() == [f"{name} {value}" for name, (_, value) in IN_SCRIPTS.items()]


def test_an_initializers_globals_in_a_script(start_method: str, tmp_path: Path) -> None:
    """What the initializer set is neither hidden nor undone by functions that come by value."""
    body = """pass
        with Pool(1, set_limit, (5,), context=context) as pool:
            print(pool.map(get_limit, [1]), pool.map(lambda _: limit, [1]))
    """
    assert scripts.script(tmp_path, start_method, SCRIPT.format(body=body)) == "[5] [5]\n"


@pytest.mark.parametrize("function", ["new", "functools.partial(new)"])
def test_a_function_redefined_in_a_script_is_the_new_one(
    start_method: str, tmp_path: Path, function: str
) -> None:
    """A worker that has the old one by the same name must not run it."""
    source = f"""
        import functools
        def new(item): return "old"
        if __name__ == "__main__":
            with Pool(1, context=context) as pool:
                assert pool.map({function}, [1]) == ["old"]
                def new(item): return "new"
                print(pool.map({function}, [1]))
    """
    assert scripts.script(tmp_path, start_method, source) == "['new']\n"


def test_a_lambda_sees_a_global_as_it_is_when_it_is_sent(start_method: str, tmp_path: Path) -> None:
    """A global of the script that changed since the pool was made has its new value."""
    source = """
        factor = 1
        if __name__ == "__main__":
            with Pool(1, context=context) as pool:
                for factor in (10, 100):
                    print(pool.map(lambda item: item * factor, [1]))
    """
    assert scripts.script(tmp_path, start_method, source) == "[10]\n[100]\n"


def test_functions_typed_into_an_interpreter(start_method: str) -> None:
    """Defined, redefined, after the pool was made, with globals that change: always the latest."""
    lines = scripts.typed(
        start_method,
        """
        k = 1
        pool = Pool(1, context=context)
        def f(item): return item + k

        print(pool.map(f, [1]))
        k = 5
        print(pool.map(f, [1]))
        def f(item): return item * 100

        print(pool.map(f, [1]), pool.map(lambda item: item - k, [1]))
        import functools
        print(pool.map(functools.partial(f), [1]))
        def f(item): return item * 200

        print(pool.map(functools.partial(f), [1]))
        pool.terminate()
        """,
    )
    assert lines == ["[2]", "[6]", "[100] [-4]", "[100]", "[200]"]


def test_functions_of_python_c(start_method: str) -> None:
    """`python -c` has no file that a worker could import."""
    source = """
        def f(item): return item + 1
        pool = Pool(1, context=context)
        def g(item): return f(item) * 2
        print(pool.map(f, [1]), pool.map(g, [1]), pool.map(lambda item: g(item), [1]))
        pool.close()
        pool.join()
    """
    assert scripts.command(start_method, source) == "[2] [4] [4]\n"
