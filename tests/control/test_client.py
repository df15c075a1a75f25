from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from obspool.control import client
from obspool.control.protocol import Command
from obspool.control.server import serve, withdraw
from obspool.errors import ControlError
from tests.cli.environment import environment
from tests.control.targets import RecordingTarget, facts_of
from tests.helpers import poll

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Serves a pool, prints the socket's path, then each command it is told.
POOL_PROGRAM = """
import sys, threading
from obspool.control.server import serve
from tests.cli.environment import environment
from tests.control.targets import RecordingTarget

class Printing(RecordingTarget):
    def command(self, request, by):
        print(request.command, *request.arguments.values(), by.uid, flush=True)
        return self.text

target = Printing(text="File job.py, line 7\\n" * 2000)
print(serve(target), flush=True)
sys.stdin.read()
"""


class PoolProcess:
    """A process with a pool, `nightly`."""

    def __init__(self, *prefix: str) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", POOL_PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        self.pid = self.process.pid
        self.path = self.line()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def stop(self) -> None:
        """Stop it, as Ctrl-Z does; all of its threads have stopped then."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=10)


@pytest.fixture
def pool() -> Iterator[PoolProcess]:
    process = PoolProcess()
    yield process
    if process.process.returncode is None:
        process.process.communicate(timeout=10)


@pytest.mark.parametrize("command", ["close", Command.TERMINATE])
def test_a_pool_of_another_process_is_told(pool: PoolProcess, command: Command | str) -> None:
    """`send` returns when the pool has accepted the command."""
    client.send(facts_of(pool.path, pid=pool.pid), command)
    assert pool.line() == f"{command} {os.getuid()}"


def test_arguments_go_along_and_a_text_comes_back(pool: PoolProcess) -> None:
    """A text may be longer than a request, and than what a socket takes at once."""
    text = client.send(facts_of(pool.path, pid=pool.pid), Command.STACK, {"slot": 3})
    assert text == "File job.py, line 7\n" * 2000
    assert pool.line() == f"stack 3 {os.getuid()}"


def test_wrong_arguments_are_refused_here() -> None:
    """Before anything is sent; the message names the argument."""
    with pytest.raises(ControlError, match=r"`workers` of the command resize .* not 0"):
        client.send(facts_of("/nowhere", pid=7), Command.RESIZE, {"workers": 0})


def test_an_unknown_command_is_refused_here(pool: PoolProcess) -> None:
    """The message lists those there are."""
    with pytest.raises(ControlError, match=r"no command 'explode' here.*close, terminate"):
        client.send(facts_of(pool.path, pid=pool.pid), "explode")


def test_a_pool_without_control_says_so() -> None:
    """OBSPOOL_CONTROL=0, or no place for a socket: what to do instead."""
    with pytest.raises(ControlError, match=r"'nightly' \(pid 7\) has no control.*signal"):
        client.send(facts_of(None, pid=7), Command.CLOSE)


def test_a_refusal_is_passed_on() -> None:
    """The pool's own words, with the name it was asked by."""
    target = RecordingTarget(error=ControlError("it has ended already"))
    try:
        with pytest.raises(
            ControlError, match=r"'nightly' .* did not obey `close`: it has ended already"
        ):
            client.send(facts_of(serve(target), pid=os.getpid()), Command.CLOSE)
    finally:
        withdraw(target)


def test_a_killed_process_is_gone(pool: PoolProcess, obspool_dir: Path) -> None:
    """Its socket is still there, and nobody listens."""
    pool.kill()
    assert Path(pool.path).exists()
    with pytest.raises(ControlError, match="its process is gone"):
        client.send(facts_of(pool.path, pid=pool.pid), Command.CLOSE)
    Path(pool.path).unlink()


def test_a_process_that_ended_is_gone(pool: PoolProcess) -> None:
    """It took its socket along."""
    pool.process.communicate(timeout=10)
    with pytest.raises(ControlError, match="its process is gone"):
        client.send(facts_of(pool.path, pid=pool.pid), Command.CLOSE)


def test_a_deleted_socket_of_a_living_process(pool: PoolProcess) -> None:
    """Something empties /dev/shm, as logind does: the process still runs."""
    Path(pool.path).unlink()
    with pytest.raises(ControlError, match=r"nobody listens at .*the file was deleted"):
        client.send(facts_of(pool.path, pid=pool.pid), Command.CLOSE)


def test_a_stopped_process_is_not_waited_for_long(pool: PoolProcess) -> None:
    """The client gives up, says what may be, and names the way out."""
    pool.stop()
    try:
        began = time.monotonic()
        with pytest.raises(ControlError, match=f"stopped or stuck.*kill -CONT {pool.pid}"):
            client.send(facts_of(pool.path, pid=pool.pid), Command.CLOSE, timeout=0.3)
        assert time.monotonic() - began < 5
    finally:
        os.kill(pool.pid, signal.SIGCONT)


def test_a_stopped_process_that_many_wait_for(pool: PoolProcess) -> None:
    """A full backlog is no hang either."""
    pool.stop()
    waiting: list[socket.socket] = []
    try:
        with contextlib.suppress(BlockingIOError):
            for _ in range(5000):
                connection = socket.socket(socket.AF_UNIX)
                waiting.append(connection)
                connection.setblocking(False)
                connection.connect(pool.path)
        with pytest.raises(ControlError, match="too many clients wait"):
            client.send(facts_of(pool.path, pid=pool.pid), Command.CLOSE, timeout=0.3)
    finally:
        for connection in waiting:
            connection.close()
        os.kill(pool.pid, signal.SIGCONT)


def test_another_process_at_the_path_is_told_nothing(pool: PoolProcess) -> None:
    """A reused pid's or another pool's socket: what listens must be the process of the facts."""
    with pytest.raises(ControlError, match=f"pid {pool.pid} listens"):
        client.send(facts_of(pool.path, pid=os.getpid()), Command.CLOSE)


def test_another_user_at_the_path_is_told_nothing(pool: PoolProcess) -> None:
    """A segment may not lead root's client to a socket of someone else's choice."""
    with pytest.raises(ControlError, match=f"uid {os.getuid()} listens, not uid 1234"):
        client.send(facts_of(pool.path, pid=pool.pid, uid=1234), Command.CLOSE)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_the_pool_of_another_user(pool: PoolProcess) -> None:
    """Without a right to the directory the client says whose pool it is."""
    program = (
        "import os\n"
        "from obspool.control import client\n"
        "from obspool.errors import ControlError\n"
        "from tests.control.targets import facts_of\n"
        "os.setgid(65534); os.setuid(65534)\n"
        f"facts = facts_of({pool.path!r}, pid={pool.pid})\n"
        "try: client.send(facts, 'close')\n"
        "except ControlError as error: print(error)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
        env=environment(),
    )
    assert "it belongs to uid 0; ask as that user or as root" in told.stdout


def can_unshare() -> bool:
    return (
        shutil.which("unshare") is not None
        and subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "true"], check=False, capture_output=True
        ).returncode
        == 0
    )


@pytest.mark.skipif(not can_unshare(), reason="needs the right to unshare namespaces")
def test_a_pool_in_another_pid_namespace(obspool_dir: Path) -> None:
    """With a shared directory it can be told; without one the error says where it runs."""
    pool = PoolProcess("unshare", "--pid", "--fork", "--kill-child")
    try:
        inner = psutil_child(pool.pid)
        namespace = Path(f"/proc/{inner}/ns/pid").stat().st_ino
        assert Path(pool.path).name == "1.sock"
        facts = facts_of(pool.path, pid=1, pid_namespace=namespace)
        client.send(facts, Command.CLOSE)
        assert pool.line() == f"close {os.getuid()}"
        elsewhere = facts_of("/nowhere/1.sock", pid=1, pid_namespace=namespace)
        with pytest.raises(ControlError, match="another container or namespace"):
            client.send(elsewhere, Command.CLOSE)
        mine = Path("/proc/self/ns/pid").stat().st_ino
        with pytest.raises(ControlError, match="of another container or namespace listens"):
            client.send(facts_of(pool.path, pid=1, pid_namespace=mine), Command.CLOSE)
    finally:
        pool.process.communicate(timeout=10)


def psutil_child(pid: int) -> int:
    import psutil  # noqa: PLC0415 - only here

    children = poll(lambda: psutil.Process(pid).children())
    return int(children[0].pid)


@contextlib.contextmanager
def listening(path: Path, behave: Callable[[socket.socket], None]) -> Iterator[None]:
    """Something that listens where a pool should, and is no pool."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def accept() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                with contextlib.suppress(OSError):
                    behave(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield
        finally:
            thread.join()
            path.unlink()


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"", "cut short"),
        (b'{"ok"', "cut short"),
        (b"x" * 100_000, "too long"),
        (b"SSH-2.0\n", "JSON"),
    ],
)
def test_strange_answers(obspool_dir: Path, answer: bytes, complaint: str) -> None:
    """The answer is bounded, and what isn't one is an error of ours."""
    path = obspool_dir / "strange.sock"
    with (
        listening(path, lambda connection: connection.sendall(answer)),
        pytest.raises(ControlError, match=complaint),
    ):
        client.send(facts_of(str(path), pid=os.getpid()), Command.CLOSE, timeout=5)


def test_an_answer_that_drips_is_not_waited_for_for_ever(obspool_dir: Path) -> None:
    """The time limit is one for the whole exchange."""
    ended = threading.Event()

    def drip(connection: socket.socket) -> None:
        while not ended.wait(0.05):
            connection.send(b" ")

    path = obspool_dir / "drip.sock"
    with listening(path, drip):
        began = time.monotonic()
        try:
            with pytest.raises(ControlError, match="did not answer within"):
                client.send(facts_of(str(path), pid=os.getpid()), Command.CLOSE, timeout=0.4)
        finally:
            ended.set()
        assert time.monotonic() - began < 3
