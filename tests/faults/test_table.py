"""The table in this package's docstring is true: each test that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import tests.faults

_TESTS = Path(__file__).parents[1]
_NAMED = re.findall(r"([\w/]+\.py)::(\w+)", tests.faults.__doc__ or "")


def test_the_table_names_tests() -> None:
    assert len(_NAMED) > 60


@pytest.mark.parametrize("file", sorted({file for file, _ in _NAMED}))
def test_every_test_of_the_table_is_there_and_runs_with_every_start_method(file: str) -> None:
    """It, or a fixture of its that is in the same file, asks for a start method."""
    tree = ast.parse((_TESTS / file).read_text())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    pools = {
        name
        for node in functions.values()
        if {"mp_context", "start_method"} & _arguments(node)
        for name in [*_fixture_names(node)]
    }
    for name in [name for where, name in _NAMED if where == file]:
        assert name in functions, f"{file}::{name} is in the table only"
        wanted = {"mp_context", "start_method", *pools}
        assert wanted & _arguments(functions[name]), f"{name} runs with one start method only"


def _arguments(node: ast.FunctionDef) -> set[str]:
    return {argument.arg for argument in node.args.args}


def _fixture_names(node: ast.FunctionDef) -> list[str]:
    """Return the name that a fixture goes by, as `@pytest.fixture(name="pool")` says it."""
    return [
        keyword.value.value
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call)
        for keyword in decorator.keywords
        if keyword.arg == "name"
        and isinstance(keyword.value, ast.Constant)
        and isinstance(keyword.value.value, str)
    ]


def test_every_test_of_this_package_is_in_the_table() -> None:
    named = {name for file, name in _NAMED if file.startswith("faults/")}
    there = {
        node.name
        for path in Path(__file__).parent.glob("test_*.py")
        if path != Path(__file__)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert there == named
