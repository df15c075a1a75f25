"""Looking at what other threads run: it must harm nobody."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading

import pytest

from obspool.frames import frames_of_all, is_running
from tests.cli.environment import environment

# A collection begins wherever something is made, and gives the GIL away, while the threads that are
# looked at go on, with frames of several sizes in the same places.
_PROGRAM = """
import gc, sys, threading, time
from obspool.frames import frames_of_all, is_running

def deep(depth):
    return deeper(depth - 1) if depth > 0 else time.sleep(0)

def deeper(depth, a=1, b=2):
    c = d = (a, b)
    return deepest(depth - 1, 4) if depth > 0 else time.sleep(0)

def deepest(depth, a, e=5, *f, g=6):
    h, i, j = a, e, g
    return deep(depth - 1) if depth > 0 else time.sleep(0)

def run():
    depth = 0
    while not over:
        depth = (depth + 7) % 40
        deep(depth), deeper(depth // 2), deepest(depth, 1)

def collected(phase, info):
    if threading.current_thread() is threading.main_thread():
        time.sleep(0)

over = False
threads = [threading.Thread(target=run) for _ in range(2)]
for thread in threads:
    thread.start()
gc.callbacks.append(collected)
gc.set_threshold(5)
code = (lambda: None).__code__
end = time.monotonic() + 1
while time.monotonic() < end:
    for thread in threads:
        assert not is_running(thread.ident, code)
    for frames in frames_of_all(50).values():
        assert all(type(frame.f_lineno) is int for frame in frames)
assert gc.isenabled()
over = True
for thread in threads:
    thread.join()
print("unharmed")
"""


@pytest.mark.timeout(60)
def test_threads_that_are_looked_at_go_on_unharmed() -> None:
    """In Python 3.11 looking without care ends this program within its first looks."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", _PROGRAM],
        capture_output=True,
        text=True,
        timeout=50,
        env=environment(),
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "unharmed\n"), done.stderr[-3000:]


def test_what_a_thread_runs() -> None:
    begun, go = threading.Event(), threading.Event()

    def inner() -> None:
        begun.set()
        assert go.wait(10)

    def outer() -> None:
        inner()

    thread = threading.Thread(target=outer)
    thread.start()
    assert begun.wait(10)
    assert thread.ident is not None
    assert is_running(thread.ident, outer.__code__)
    names = [frame.f_code.co_name for frame in frames_of_all(100)[thread.ident]]
    assert names[names.index("inner") + 1] == "outer"
    assert len(frames_of_all(2)[thread.ident]) == 2
    go.set()
    thread.join()
    assert not is_running(thread.ident, outer.__code__)
    assert is_running(threading.get_ident(), test_what_a_thread_runs.__code__)
    assert not is_running(threading.get_ident(), outer.__code__)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_it_was(enabled: bool) -> None:
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        frames_of_all(1)
        is_running(threading.get_ident() + 1, test_what_a_thread_runs.__code__)
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
