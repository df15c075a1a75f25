"""Descriptors that forked children must not keep."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest

from obspool import _fork


def test_a_socket_nobody_refers_to_is_closed_without_a_word() -> None:
    one, other = _fork.Socket.pair()
    number = one.fileno()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del one
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    assert other.recv(1) == b""
    other.close()


_READER = """
import os, sys, threading
from obspool import Pool

def read(_):
    device = os.readlink(f"/proc/self/fd/{sys.stdin.fileno()}")
    return sys.stdin.read(), sys.stdin.buffer.read(), device

reader = threading.Thread(target=sys.stdin.readline, daemon=True)
reader.start()
with Pool(PROCESSES, maxtasksperchild=1) as pool:
    print(set(pool.map(read, range(4), 1)), flush=True)
os._exit(0)  # without the lock that the reader has
"""


@pytest.mark.parametrize("processes", [1, 9])
def test_workers_are_forked_while_a_thread_reads_the_input(processes: int) -> None:
    """Multiprocessing would wait for that in each of them; theirs is empty, as in the stdlib."""
    reading, writing = os.pipe()  # nothing comes, and it doesn't end
    try:
        program = _READER.replace("PROCESSES", str(processes))
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdin=reading,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    finally:
        os.close(reading)
        os.close(writing)
    assert done.stdout == "{('', b'', '/dev/null')}\n"
