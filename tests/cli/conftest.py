"""A program with a pool at work, for the tests of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.programs import Program

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def program() -> Iterator[Program]:
    program = Program()
    yield program
    program.end()
