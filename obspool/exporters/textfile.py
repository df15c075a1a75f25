"""A file for node_exporter's textfile collector, replaced as a whole each time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from obspool.errors import ObspoolError
from obspool.exporters.replacing import replace

if TYPE_CHECKING:
    from pathlib import Path

NAME = "obspool.prom"
# Another user's node_exporter is to read it; whoever doesn't want that has a umask (UMask=).
_MODE = 0o644


class TextfileError(ObspoolError, OSError):
    """The directory for node_exporter can't be written to; the message says why."""


def write(directory: Path, text: bytes) -> None:
    """Replace the file.

    Raises:
        TextfileError: the directory isn't there, or can't be written to.
    """
    path = directory / NAME
    try:
        replace(path, text, _MODE)
    except OSError as error:
        raise TextfileError(
            error.errno, f"{path} can't be written: {error.strerror or error}"
        ) from error
