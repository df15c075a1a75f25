"""A file for node_exporter's textfile collector, replaced as a whole each time."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from obspool.errors import ObspoolError

if TYPE_CHECKING:
    from pathlib import Path

NAME = "obspool.prom"
# node_exporter reads `*.prom` only; fixed, so that what a killed exporter left is used again.
_TEMPORARY = ".obspool.prom.tmp"
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Another user's node_exporter is to read it; whoever doesn't want that has a umask (UMask=).
_MODE = 0o644


class TextfileError(ObspoolError, OSError):
    """The directory for node_exporter can't be written to; the message says why."""


def write(directory: Path, text: bytes) -> None:
    """Replace the file.

    Raises:
        TextfileError: the directory isn't there, or can't be written to.
    """
    temporary = directory / _TEMPORARY
    try:
        with suppress(FileNotFoundError):
            temporary.unlink()
        fd = os.open(temporary, _FLAGS, _MODE)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(text)
            temporary.rename(directory / NAME)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise TextfileError(
            error.errno, f"{directory / NAME} can't be written: {error.strerror or error}"
        ) from error
