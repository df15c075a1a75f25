"""Ending a pool's process by signals, for when it no longer answers its control socket.

Only a process that is surely the pool's own is touched: of the same user, in the same pid
namespace, and with the start time that the segment has, so that no other process that got the
pid later is meant.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

from obspool.errors import ControlError
from obspool.telemetry import processes
from obspool_dashboard.questions import TERM_PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from obspool.telemetry.facts import PoolFacts

# Seconds for the kernel to end what got SIGKILL, and for workers to follow their parent.
KILL_PATIENCE = 5.0
LOOK = 0.05


def refusal(facts: PoolFacts) -> str:
    """Say why the pool's process may not be ended from here; empty when it may."""
    if facts.uid != os.geteuid():
        return f"it belongs to uid {facts.uid}"
    here = processes.pid_namespace()
    if not here or facts.pid_namespace != here:
        return "it runs in another container or pid namespace"
    if facts.pid == os.getpid():
        return "it is this process itself"
    return ""


def end_processes(facts: PoolFacts, workers: Sequence[int]) -> str:
    """End the pool's process by SIGTERM or, when that doesn't help, SIGKILL.

    A stopped process is woken, as it could not obey SIGTERM otherwise. Workers end with their
    parent; those that don't get SIGKILL too.

    Args:
        facts: of the pool.
        workers: the pids of its workers.

    Returns:
        What it took, for people.

    Raises:
        ControlError: it may not be ended from here, or could not be.
    """
    who = f"pool {facts.name!r} (pid {facts.pid})"
    if reason := refusal(facts):
        raise ControlError(f"{who} was not ended: {reason}")
    try:
        owner = _owner(facts)
        followers = [child for child in owner.children(recursive=True) if child.pid in set(workers)]
        owner.send_signal(signal.SIGTERM)
        owner.send_signal(signal.SIGCONT)
        how = "SIGTERM"
        if not _gone([owner], TERM_PATIENCE):
            owner.send_signal(signal.SIGKILL)
            how = "SIGKILL, as SIGTERM did not help"
    except psutil.NoSuchProcess:
        raise ControlError(f"{who} was not ended: its process is gone already") from None
    except (psutil.Error, OSError) as error:
        raise ControlError(f"{who} could not be ended: {error}") from error
    if not _gone([owner], KILL_PATIENCE):
        raise ControlError(f"{who} could not be ended: it waits in the kernel, as for a dead disk")
    return f"ended by {how}{_end_followers(followers)}"


def _owner(facts: PoolFacts) -> psutil.Process:
    """Return the pool's process, and not another one that got its pid later.

    Raises:
        psutil.NoSuchProcess: it is gone.
    """
    # Remembers its start time before that is compared: what has the pid later gets no signal.
    owner = psutil.Process(facts.pid)
    if facts.process_start_ticks not in {0, processes.start_ticks(facts.pid)}:
        raise psutil.NoSuchProcess(facts.pid)
    return owner


def _end_followers(followers: Iterable[psutil.Process]) -> str:
    """See that the workers are gone, and return what is to be said of it."""
    _gone(followers, KILL_PATIENCE)
    left = [process for process in followers if not _is_gone(process)]
    for process in left:
        with suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
    return f"; {len(left)} of its workers by SIGKILL" if left else ""


def _gone(ending: Iterable[psutil.Process], patience: float) -> bool:
    """Wait until all are gone; False when some are still there in the end."""
    pause, deadline = threading.Event(), time.monotonic() + patience
    while not all(map(_is_gone, ending)):
        if time.monotonic() > deadline:
            return False
        pause.wait(LOOK)
    return True


def _is_gone(process: psutil.Process) -> bool:
    """Whether it has ended, also when its parent hasn't asked for its exit code yet."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True
