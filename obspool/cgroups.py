"""Where the kernel has the files of this process's cgroups, of both versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CGROUPS = Path("/sys/fs/cgroup")
SELF = Path("/proc/self/cgroup")


def directories(controller: str) -> Iterator[tuple[int, list[Path]]]:
    """Yield the version (2 or 1) and the directories of each cgroup that may limit this process.

    The process's own comes first, then those above it. Inside a cgroup namespace the mount is the
    cgroup itself.
    """
    try:
        lines = SELF.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = CGROUPS / controller if controllers else CGROUPS
        parts = [part for part in path.split("/") if part and part != ".."]
        groups = [mount.joinpath(*parts[:length]) for length in range(len(parts), -1, -1)]
        yield (1 if controllers else 2), groups
