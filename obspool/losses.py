"""What is said of items that were lost with their worker."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from obspool.errors import CancelledError, TaskTimeoutError, WorkerLostError
from obspool.supervisor import how

if TYPE_CHECKING:
    from obspool.engines.protocol import Exited
    from obspool.jobs import Sent
    from obspool.supervisor import Worker
    from obspool.telemetry.recorder import LastSeen

# So many workers may die with a run of items at the head of what they were sent, before they begin
# it; then its first task is given up. Arguments that can't be received would kill workers for ever.
ATTEMPTS = 3


def lost_error(worker: Worker, event: Exited, sent: Sent, seen: LastSeen) -> WorkerLostError:
    """Say which worker died of what, in which item, and what else was lost with it.

    Args:
        worker: that died.
        event: how.
        sent: the run of items; those that have no result yet had all begun.
        seen: what was last seen of the worker.
    """
    ran = event.begun - 1 - sent.first
    first, last = sent.item + sent.received, sent.item + sent.count - 1
    name = sent.job.function.name
    item = seconds = None
    memory, description = seen
    text = f"the worker in slot {worker.id.slot} (pid {worker.pid}) died: {how(event.code)}"
    if event.out_of_memory:
        text += ", probably out of memory"
    if ran < sent.received:
        text += f", as {ATTEMPTS - 1} others did, on receiving item {first} of {name}"
    elif ran < sent.count:
        item = sent.item + ran
        text += f", while it ran item {item} of {name}"
        if description:
            text += f", {description}"
        last -= 1
        if event.began:
            seconds = (time.monotonic_ns() - event.began) / 1e9
            text += f" (for {seconds:.3g} s)"
    else:
        text += f", with results of {name} that it had not sent yet"
    if last > first:
        text += f"; items {first} to {last} had been run, and their results are lost with it"
    elif last == first:
        text += f"; item {first} had been run, and its result is lost with it"
    if sent.losses:
        times = "once" if sent.losses == 1 else f"{sent.losses} times"
        text += f"; it had been lost {times} before"
    if memory:
        text += f"; its memory was {memory >> 20} MiB when last seen"
    error = WorkerLostError(text)
    error.slot, error.pid, error.exitcode = worker.id.slot, worker.pid, event.code
    error.function, error.item, error.seconds = name, item, seconds
    error.description = "" if item is None else description
    error.finished = range(first, last + 1) if ran >= sent.received else range(0)
    error.memory, error.out_of_memory = memory, event.out_of_memory
    return error


def overdue_error(worker: Worker, sent: Sent) -> TaskTimeoutError:
    """Say that a worker was killed because its item, the only one of the run, didn't end."""
    job = sent.job
    return TaskTimeoutError(
        f"item {sent.item} of {job.function.name} ran longer than {job.timeout:g} s in the worker "
        f"in slot {worker.id.slot} (pid {worker.pid}), and didn't end when it was interrupted: the "
        "worker was killed"
    )


def cancelled_error(worker: Worker, sent: Sent) -> CancelledError:
    """Say the same of an item that was cancelled."""
    return CancelledError(
        f"item {sent.item} of {sent.job.function.name} was cancelled while it ran in the worker in "
        f"slot {worker.id.slot} (pid {worker.pid}), and didn't end when it was interrupted: the "
        "worker was killed"
    )
