"""Where segments live: the directories for a pool's file, and those that readers look into.

    OBSPOOL_DIR          if set, this one and no other (below it when it isn't ours alone)
    /dev/shm             obspool-<uid>
    XDG_RUNTIME_DIR      obspool
    the temp directory   obspool-<uid>

All but a temp directory on disk are tmpfs: a page of an mmap'ed file that a disk is writing back
stalls its writer.
"""

from __future__ import annotations

import grp
import os
import stat
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIX = ".obspool"  # of a segment's file
PREFIX = "obspool-"  # of a directory made by obspool; the uid follows
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - what is made there is checked, see prepare()
MEMORY_PREFIX = "obspool-"  # of a memfd that stands in for a file; the pool's name follows
PRIVATE_MEMORY = "obspool:private"  # of one that nobody is to find
STACKS_MEMORY = "obspool:stacks"  # of one that is no segment
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_GROUP_MAY_READ = stat.S_IRGRP | stat.S_IXGRP


def configured() -> Path | None:
    """Return OBSPOOL_DIR, None when it isn't set."""
    value = os.environ.get("OBSPOOL_DIR")
    return _absolute(value) if value else None


@cache
def _absolute(path: str) -> Path:
    """Return the same path for all of a process's life, wherever it may go."""
    return Path(path).absolute()


def memory_name(name: str) -> str:
    """Return the name of the memfd of a pool that found no room in its directory.

    With OBSPOOL_DIR it ends in `@` and a sum of that path: who sets another directory doesn't want
    to see these pools.
    """
    directory = configured()
    world = f"@{crc32(os.fsencode(directory)):08x}" if directory else ""
    return f"{MEMORY_PREFIX}{name}{world}"


def is_memory_name(text: str) -> bool:
    """Tell whether a memfd's name is that of a pool which a reader with our OBSPOOL_DIR may see."""
    world = memory_name("")[len(MEMORY_PREFIX) :]
    _, at, _ = text.partition("@")
    return text.startswith(MEMORY_PREFIX) and (text.endswith(world) if world else not at)


def group() -> int | None:
    """Return the gid of OBSPOOL_GROUP (a name or a number), None when it isn't set.

    Raises:
        LookupError: there is no such group.
    """
    name = os.environ.get("OBSPOOL_GROUP")
    if not name:
        return None
    return int(name) if name.isascii() and name.isdigit() else grp.getgrnam(name).gr_gid


def candidates() -> list[Path]:
    """Return the directories for a new segment of ours, the preferred first."""
    own = f"{PREFIX}{os.geteuid()}"
    if directory := configured():
        # One that others can write to (an emptyDir with fsGroup, a sticky directory) or that is
        # another's can't hold the file itself: who may write there can replace it.
        return [directory if _is_ours_alone(directory) else directory / own]
    found = [SHARED_MEMORY / own] if _is_directory(SHARED_MEMORY) else []
    if (runtime := os.environ.get("XDG_RUNTIME_DIR")) and Path(runtime).is_absolute():
        found.append(Path(runtime) / "obspool")
    if (temporary := _temporary()) is not None:
        found.append(temporary / own)
    return found


def prepare(directory: Path) -> None:
    """Make the directory if need be, and make sure that nobody else can write to it.

    It gets the mode 0700, or with OBSPOOL_GROUP 0750 and that group if we may give it.

    Raises:
        OSError: it can't be made, or it isn't ours.
    """
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700, parents=directory == configured())
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"{directory} is no directory (a symlink isn't followed)")
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{directory} belongs to uid {status.st_uid}")
    if status.st_mode & _OTHERS_MAY_WRITE:
        raise PermissionError(f"others may write to {directory}")
    try:
        gid = group()
    except LookupError:
        return  # the file's maker says so
    if gid is not None and (status.st_gid, status.st_mode & _GROUP_MAY_READ) != (
        gid,
        _GROUP_MAY_READ,
    ):
        try:
            os.chown(directory, -1, gid)
        except PermissionError:
            return  # not in that group: the same
        directory.chmod(0o750)


def searched() -> Iterator[Path]:
    """Yield the directories that may hold segments which this process may read, ours first.

    Those of other users come only from such that let us in: root sees all, a group its own.
    """
    seen: set[Path] = set()
    parents = [SHARED_MEMORY, _temporary()]
    if directory := configured():
        yield directory
        seen.add(directory)
        parents = [directory]
    for path in candidates():
        if path not in seen and _is_directory(path):
            seen.add(path)
            yield path
    for parent in parents:
        for path in _directories_in(parent) if parent is not None else ():
            if path not in seen:
                seen.add(path)
                yield path


def _directories_in(parent: Path) -> list[Path]:
    """Return the directories `obspool-<uid>` that really are that uid's and are open to us."""
    found = []
    try:
        with os.scandir(parent) as entries:
            for entry in entries:
                owner = entry.name.removeprefix(PREFIX)
                if owner == entry.name or not (owner.isascii() and owner.isdigit()):
                    continue
                status = entry.stat(follow_symlinks=False)
                ours = stat.S_ISDIR(status.st_mode) and status.st_uid == int(owner)
                if ours and os.access(entry.path, os.R_OK | os.X_OK):
                    found.append(Path(entry.path))
    except OSError:
        return found  # a directory that can't be listed has nothing for us
    return sorted(found)


def _is_ours_alone(directory: Path) -> bool:
    """Tell whether nobody else can write there; a directory that isn't there yet will be so."""
    try:
        status = directory.lstat()
    except OSError:
        return True
    if not stat.S_ISDIR(status.st_mode):
        return True  # prepare() says what is wrong with it
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_MAY_WRITE


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except PermissionError:  # of a directory above it
        return False


def _temporary() -> Path | None:
    try:
        return Path(tempfile.gettempdir()).absolute()
    except FileNotFoundError:
        return None  # nothing is writable here
