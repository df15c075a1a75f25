"""The memory of a segment: the words that workers and the pool's own threads store into.

Workers import this module and not `segment`, which makes and publishes the file.
"""

from __future__ import annotations

import mmap
import os

from obspool.telemetry.layout import WORD, Layout


class SegmentCells:
    """A segment's words, shared with every process that maps the same file.

    The mapping is never undone while an object refers to it: a thread that still stores when the
    pool has ended stores into memory that exists.

    Attributes:
        cells: the whole segment as unsigned 8-byte words; beyond the layout's there is no memory.
        layout: where everything is in them.
        fd: the file's descriptor, -1 when there is none (any more).
    """

    def __init__(self, fd: int, layout: Layout, words: int = 0) -> None:
        """Map the file, which must be at least as long; the descriptor stays open.

        Args:
            fd: of the file; -1: memory without one.
            layout: where everything is.
            words: how many to map, if that is more than the layout's.

        Raises:
            OSError: it can't be mapped.
            ValueError: it is too short.
        """
        self.fd = fd
        self.layout = layout
        memory = mmap.mmap(
            fd, max(words, layout.words) * WORD, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE
        )
        self.cells: memoryview = memoryview(memory).cast("Q")

    def held(self) -> bool | None:
        """Tell whether the owner holds the segment's lock; None: it isn't known in this process."""
        return None


def attach(fd: int, slots: int, header_words: int) -> SegmentCells:
    """Map the segment of a pool that passed its descriptor to this process.

    Takes no lock and closes nothing; the caller may close the descriptor afterwards.

    Args:
        fd: of the owner's `Segment.fd`, as it arrived here.
        slots: as the owner's `Segment.layout` says.
        header_words: the same.

    Raises:
        OSError: the file can't be mapped.
        ValueError: it is shorter than it should be, or `fd` is negative.
    """
    if fd < 0:
        raise ValueError(f"no descriptor of a segment: {fd}")
    layout = Layout(slots, header_words)
    if os.fstat(fd).st_size < layout.words * WORD:
        raise ValueError(f"the segment of descriptor {fd} is shorter than {layout.words} words")
    found = SegmentCells(fd, layout)
    found.fd = -1  # the caller's affair
    return found
