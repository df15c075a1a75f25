"""Which files the demo works on."""

from __future__ import annotations

import os
import random
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

from obspool.cli import Failure

_SUFFIX = ".py"
_MOST = 20_000  # files; enough for any demo, and an end for `--dir /`
# Of what is installed beside the standard library, and what no source tree is about.
_LEFT_OUT = frozenset({"__pycache__", "site-packages", "dist-packages", "node_modules"})


@dataclass
class SourceFiles:
    """The Python source files below a directory.

    Attributes:
        paths: in an order that mixes small and large, the same for the same files.
        unreadable: directories that couldn't be listed, with the reason.
        cut: whether there are more.
    """

    root: Path
    paths: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    cut: bool = False


def source_files(directory: str | None) -> SourceFiles:
    """Find the source files below the directory, None for the interpreter's standard library.

    Raises:
        Failure: there are none; the message says what there is instead.
    """
    root = Path(directory or sysconfig.get_path("stdlib")).absolute()
    found = SourceFiles(root)
    if not root.exists():
        raise Failure(f"{root} doesn't exist; {_OTHER}")
    if not root.is_dir():
        raise Failure(f"{root} is no directory; {_OTHER}")
    _collect(found)
    if not found.paths:
        raise Failure(_nothing(found))
    random.Random(0).shuffle(found.paths)  # noqa: S311 - an order, no secret
    return found


_OTHER = "give one with Python source files as --dir"


def _collect(found: SourceFiles) -> None:
    def unreadable(error: OSError) -> None:
        found.unreadable.append(f"{error.filename}: {error.strerror}")

    for folder, folders, files in os.walk(found.root, onerror=unreadable):
        # In place: os.walk descends into what is left, in this order.
        folders[:] = sorted(f for f in folders if f not in _LEFT_OUT and not f.startswith("."))
        for name in sorted(files):
            if name.endswith(_SUFFIX):
                if len(found.paths) == _MOST:
                    found.cut = True
                    return
                found.paths.append(str(Path(folder, name)))


def _nothing(found: SourceFiles) -> str:
    if found.unreadable:
        return f"nothing to work on: can't read {found.unreadable[0]}; {_OTHER}"
    return f"no Python source files (*{_SUFFIX}) below {found.root}; {_OTHER}"
