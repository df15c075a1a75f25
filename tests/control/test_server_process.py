"""The server in its process: forks, signals, and the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from obspool.control.server import serve, withdraw
from tests.cli.environment import environment
from tests.control.targets import CLOSE, RecordingTarget, ask


def test_a_forked_child_lets_go(target: RecordingTarget) -> None:
    """The child has none of the server's descriptors, may serve, and the parent's goes on."""
    before = socket_inodes()
    path = serve(target)
    assert path is not None
    sockets = socket_inodes() - before
    assert len(sockets) == 3  # the listener, and the pair that wakes the thread
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            report = f"{len(sockets & socket_inodes())} {Path(path).exists()} "
            mine = RecordingTarget()
            report += str(serve(mine) not in {None, path})
            withdraw(mine)
            os.write(writer, report.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as told:
        words = told.read()
    assert words == "0 True True"
    os.waitpid(child, 0)
    assert Path(path).exists()
    assert ask(path, CLOSE).ok
    assert len(target.commands) == 1


def socket_inodes() -> set[str]:
    """Name this process's sockets."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            link = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if link.startswith("socket:"):
            found.add(link)
    return found


@pytest.mark.parametrize(
    "end", ["pass", "raise SystemExit(3)", "import os, signal; os.kill(os.getpid(), signal.SIGINT)"]
)
def test_the_socket_is_gone_when_its_process_ends(obspool_dir: Path, end: str) -> None:
    """Also when nobody withdrew the pool."""
    program = (
        "from obspool.control.server import serve\n"
        "from tests.control.targets import RecordingTarget\n"
        "target = RecordingTarget()\n"
        "assert serve(target)\n" + end
    )
    subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        timeout=20,
        capture_output=True,
        env=environment(),
    )
    assert list(obspool_dir.iterdir()) == []


def test_sigpipe_does_not_kill_the_process(path: str, obspool_dir: Path) -> None:
    """Programs restore SIGPIPE's default action; a client that left must not end them."""
    program = (
        "import signal, sys, socket, time\n"
        "from obspool.control.server import serve, withdraw\n"
        "from tests.control.targets import RecordingTarget, ask, dial\n"
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
        "target = RecordingTarget()\n"
        "path = serve(target)\n"
        f"line = {CLOSE!r}\n"
        "for _ in range(50):\n"
        "    with dial(path) as c: c.sendall(line)\n"
        "    with dial(path) as c: c.sendall(line[:5])\n"
        "assert ask(path, line).ok\n"
        "withdraw(target)\n"
        "print('alive')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        timeout=20,
        capture_output=True,
        env=environment(),
        text=True,
    )
    assert (ended.returncode, ended.stdout) == (0, "alive\n"), ended.stderr
