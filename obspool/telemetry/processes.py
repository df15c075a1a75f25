"""What tells a process from all others, of this pid namespace or another, now or later."""

from __future__ import annotations

from pathlib import Path

_START_TICKS = 22 - 3  # field 22 of /proc/PID/stat, counted from the state behind the name


def pid_namespace(process: int | str = "self") -> int:
    """Return the inode of a process's pid namespace, 0 where it can't be seen."""
    try:
        return Path(f"/proc/{process}/ns/pid").stat().st_ino
    except OSError:
        return 0


def start_ticks(process: int | str = "self") -> int:
    """Return when a process began, in clock ticks since boot; 0 where that can't be seen."""
    try:
        stat = Path(f"/proc/{process}/stat").read_bytes()
        # The name in parentheses may hold anything, also parentheses and spaces.
        return int(stat[stat.rindex(b")") + 1 :].split()[_START_TICKS])
    except (OSError, ValueError, IndexError):
        return 0
