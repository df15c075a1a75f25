"""What a worker process looks like from outside: memory and CPU time, also while it is stuck."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psutil

from obspool.telemetry.layout import PARENT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from obspool.engines.protocol import WorkerId
    from obspool.telemetry.segment import Segment


class Sampler:
    """Reads /proc through psutil and writes the parent's fields of each bank."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._processes: dict[WorkerId, psutil.Process] = {}

    def sample(self, pids: Mapping[WorkerId, int]) -> None:
        """Sample all workers."""
        self._processes = {w: p for w, p in self._processes.items() if w in pids}
        for worker, pid in pids.items():
            try:
                process = self._processes.get(worker)
                if process is None:
                    process = self._processes[worker] = psutil.Process(pid)
                with process.oneshot():
                    memory, cpu = process.memory_info().rss, process.cpu_times()
            except psutil.Error:  # it has just ended
                continue
            cells = self._segment.cells
            base = self._segment.layout.parent_block(*worker)
            if not cells[base + PARENT["ready_resident_bytes"]]:
                cells[base + PARENT["ready_resident_bytes"]] = memory
            cells[base + PARENT["resident_bytes"]] = memory
            cells[base + PARENT["cpu_sample"]] = round((cpu.user + cpu.system) * 1_000_000_000)
            cells[base + PARENT["sampled"]] = time.monotonic_ns()
