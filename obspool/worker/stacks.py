"""A worker's part of `pool.stack`: what writes its Python stack when the parent asks by a signal.

There are two signals, as neither alone will do:

    ASK    a Python handler: it runs between two bytecodes, where all threads' frames are whole, but
           not while the main thread is in C
    DUMP   faulthandler's: it runs anywhere, also while C code holds the GIL

DUMP in the middle of Python code reads frames that are just being made or let go of: in Python 3.12
and 3.13 one in some hundreds killed its worker, and more with the stacks of other threads. So the
parent sends it only to a worker whose main thread has not answered ASK, and is therefore in C; and
it shows that thread alone.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # `signal` makes enumerations, 0.1 ms in a worker
import faulthandler
import os
from functools import partial
from threading import _active, get_ident  # type: ignore[attr-defined]

from obspool.frames import frames_of_all, outward

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

# Real-time signals, which programs hardly use; none where a system has none.
AVAILABLE = hasattr(_signal, "SIGRTMIN")
ASK: int = _signal.SIGRTMIN + 11 if AVAILABLE else 0
DUMP: int = ASK + 1

# Of a thread's frames the innermost are told, as faulthandler does.
MOST_FRAMES = 100

# Bytes of an answer; what is beyond is left out: threads, as the main one comes first.
MOST = 1 << 16


def arm(file: int) -> None:
    """Have this process write its stack to a file when it is asked to, and its forked children too.

    Args:
        file: descriptor, opened for appending; nothing is done below 0.
    """
    if file >= 0:
        _signal.signal(ASK, partial(_answer, file))
        _signal.siginterrupt(ASK, False)  # a look should cut short as few calls as can be
        faulthandler.register(DUMP, file, all_threads=False)


def marks(pid: int) -> tuple[str, str]:
    """Return the lines before and after the answer of a process."""
    return f"<{pid}>\n", f"</{pid}>\n"


def lines(frames: Iterable[FrameType]) -> Iterator[str]:
    """Yield the frames of a stack as faulthandler writes them, the most recent call first."""
    for number, frame in enumerate(frames):
        if number == MOST_FRAMES:
            yield "  ...\n"
            return
        code = frame.f_code
        yield f'  File "{code.co_filename}", line {frame.f_lineno} in {code.co_qualname}\n'


def _answer(file: int, _signum: int, frame: FrameType | None) -> None:
    """Write the stacks of all threads, the main one first; what runs must not notice."""
    begin, end = marks(os.getpid())
    try:
        text = "".join((begin, *_stacks(frame)))[: MOST - len(end)]
        os.write(file, (text + end).encode(errors="replace"))
    except (OSError, RecursionError, MemoryError):  # the parent hears nothing, and says so
        pass


def _stacks(frame: FrameType | None) -> Iterator[str]:
    """Yield the lines of all stacks; no lock is taken, as this may have interrupted its holder."""
    yield "Main thread (most recent call first):\n"
    yield from lines(outward(frame))
    own = get_ident()
    for ident, frames in frames_of_all(MOST_FRAMES + 1).items():
        if ident != own:
            thread = _active.get(ident)
            name = f"Thread {ident:#x}" if thread is None else f"Thread {thread.name}"
            yield f"\n{name} (most recent call first):\n"
            yield from lines(frames)
