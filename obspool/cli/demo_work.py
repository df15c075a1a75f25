"""What the demo's workers do: parse, measure and compress a source file.

Workers import this module only; it imports what the work needs, and nothing of the demo's front.
"""

from __future__ import annotations

import ast
import io
import lzma
import os
import signal
import stat
import tokenize
import warnings
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LARGEST = 8 << 20  # bytes; a syntax tree takes a hundred times its source
_ZLIB_LEVEL = 9
# A dictionary of 1 MiB holds nearly every source file; the default of 8 costs each worker 90 MiB.
_LZMA_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 20}]

_BLOCKS = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.Try,
    ast.TryStar,
    ast.With,
    ast.AsyncWith,
    ast.Match,
)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class FileReport:
    """What was found in one file.

    Attributes:
        nesting: the most blocks (def, class, if, for …) within each other.
        names: different identifiers.
        zlib_size: in bytes, compressed; `lzma_size` likewise.
    """

    path: str
    size: int
    lines: int
    functions: int
    classes: int
    nesting: int
    names: int
    zlib_size: int
    lzma_size: int


def prepare_worker() -> None:
    """Initialize a worker of the demo.

    Ctrl-C reaches every process on the terminal; here the parent alone decides what it means, and
    ends its workers by SIGTERM. What the compiler has to say about others' sources is not the
    demo's affair.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    warnings.simplefilter("ignore")


def measure(path: str) -> FileReport:
    """Parse, measure and compress one file.

    Raises:
        OSError: it can't be read.
        SyntaxError: it isn't Python, or not this version's; UnicodeDecodeError likewise.
        ValueError: it is too large, or no regular file.
    """
    raw = _read(path)
    tree = ast.parse(raw, filename=path)
    functions = classes = deepest = 0
    names: set[str] = set()
    for node, depth in _walk(tree):
        functions += isinstance(node, _FUNCTIONS)
        classes += isinstance(node, ast.ClassDef)
        deepest = max(deepest, depth)
        if (name := _name(node)) is not None:
            names.add(name)
    return FileReport(
        path=path,
        size=len(raw),
        lines=_lines(raw),
        functions=functions,
        classes=classes,
        nesting=deepest,
        names=len(names),
        zlib_size=len(zlib.compress(raw, _ZLIB_LEVEL)),
        lzma_size=len(lzma.compress(raw, filters=_LZMA_FILTERS)),
    )


def _read(path: str) -> bytes:
    # A FIFO that is named like a source file would hold its worker for ever.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is no regular file")
        if status.st_size > _LARGEST:
            raise ValueError(f"{path} has {status.st_size:,} bytes, more than {_LARGEST:,}")
        return file.read(_LARGEST)


def _lines(raw: bytes) -> int:
    encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
    return len(raw.decode(encoding).splitlines())


def _walk(tree: ast.AST) -> Iterator[tuple[ast.AST, int]]:
    """Yield all nodes with their depth in blocks; a deep tree must not need a deep stack."""
    waiting = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        yield node, depth
        same = _elif(node)
        waiting.extend(
            (child, depth + (isinstance(child, _BLOCKS) and child is not same))
            for child in ast.iter_child_nodes(node)
        )


def _elif(node: ast.AST) -> ast.AST | None:
    """Return the `elif` of an `if`: in the tree within it, in the source beside it."""
    match node:
        case ast.If(orelse=[ast.If() as other]):
            return other
    return None


def _name(node: ast.AST) -> str | None:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
            return name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return name
        case ast.ClassDef(name=name):
            return name
    return None
