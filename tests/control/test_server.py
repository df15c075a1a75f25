from __future__ import annotations

import gc
import logging
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from obspool.control.peer import Peer, peer_of
from obspool.control.protocol import Command, Request
from obspool.control.server import _host, serve, withdraw
from obspool.errors import ControlError
from tests.control.targets import CLOSE, RecordingTarget, answer, ask, dial, server_threads
from tests.helpers import poll

STACK = Request("nightly", Command.STACK, {"slot": 0}).encode()


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's side of a connection takes only a few KiB before they are read."""

    def peer_of_a_small_one(connection: socket.socket) -> Peer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        return peer_of(connection)

    monkeypatch.setattr("obspool.control.server.peer_of", peer_of_a_small_one)


def held_connections() -> int:
    server = _host._server
    return 0 if server is None else len(server._connections)


def test_a_command_reaches_its_pool_with_who_asked(path: str, target: RecordingTarget) -> None:
    """The pool is told the command, and the uid and pid of the peer."""
    assert ask(path, CLOSE).ok
    assert target.requests == [
        (Request("nightly", Command.CLOSE), Peer(uid=os.getuid(), pid=os.getpid()))
    ]


def test_only_its_user_may_open_the_socket(path: str) -> None:
    """The mode is 0600 whatever the umask is."""
    status = Path(path).lstat()
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600


def test_pools_of_a_process_share_one_socket_and_thread(path: str, target: RecordingTarget) -> None:
    """A request names its pool; the server stays until the last one is withdrawn."""
    other = RecordingTarget("other")
    assert serve(other) == path
    assert len(server_threads()) == 1
    withdraw(target)
    assert not ask(path, CLOSE).ok
    assert ask(path, Request("other", Command.TERMINATE).encode()).ok
    assert other.commands == [Command.TERMINATE]
    withdraw(other)
    assert not Path(path).exists()


def test_a_name_that_settles_later_is_found(path: str, target: RecordingTarget) -> None:
    """The name is looked up at each request: a taken one gets a suffix after `serve`."""
    target.name = "nightly-2"
    reply = ask(path, CLOSE)
    assert not reply.ok
    assert "'nightly'" in reply.error
    assert "nightly-2" in reply.error
    assert ask(path, Request("nightly-2", Command.CLOSE).encode()).ok


def test_the_arguments_reach_the_pool(path: str, target: RecordingTarget) -> None:
    """Checked, and complete."""
    assert ask(path, Request("nightly", Command.CANCEL, {"job": 7}).encode()).ok
    ((request, _),) = target.requests
    assert request.arguments == {"job": 7, "running": False}


def test_a_text_is_sent_as_the_client_takes_it(
    path: str, target: RecordingTarget, small_buffers: None
) -> None:
    """One that is larger than the socket's buffer goes in pieces; others are served meanwhile."""
    target.text = "x" * 60_000
    with dial(path) as connection:
        connection.sendall(STACK)
        poll(lambda: target.requests)
        assert ask(path, CLOSE).ok
        assert answer(connection).text == target.text


def test_a_client_that_does_not_read_is_dropped(
    path: str, target: RecordingTarget, small_buffers: None
) -> None:
    """After two seconds, and whatever is left of its reply with it."""
    target.text = "x" * 60_000
    with dial(path) as connection:
        connection.sendall(STACK)
        poll(lambda: target.requests)
        began = time.monotonic()
        poll(lambda: not held_connections())
        assert 1.0 < time.monotonic() - began < 6
        with pytest.raises(AssertionError, match="cut short"):
            answer(connection)
    assert ask(path, CLOSE).ok


def test_a_client_that_leaves_in_the_middle_is_forgotten(
    path: str, target: RecordingTarget, small_buffers: None
) -> None:
    """At once, and no signal or error comes of it."""
    target.text = "x" * 60_000
    with dial(path) as connection:
        connection.sendall(STACK)
        poll(lambda: held_connections() == 1)
    poll(lambda: held_connections() == 0, deadline=1.5)
    assert ask(path, CLOSE).ok


def test_clients_that_do_not_read_only_delay_the_others(
    path: str, target: RecordingTarget, small_buffers: None
) -> None:
    """More of them than are held; the last one waits for the first to be dropped."""
    target.text = "x" * 60_000
    rude = [dial(path) for _ in range(9)]
    try:
        for connection in rude:
            connection.sendall(STACK)
        assert ask(path, CLOSE).ok
    finally:
        for connection in rude:
            connection.close()


def test_a_line_that_comes_while_the_pool_is_busy_is_not_late(
    path: str, target: RecordingTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stack takes its time, and the others' patience doesn't run out in it."""
    monkeypatch.setattr("obspool.control.server._PATIENCE", 0.3)
    begun = threading.Event()

    def busy(*_: object) -> str:
        begun.set()
        threading.Event().wait(0.5)
        return "done"

    monkeypatch.setattr(target, "command", busy)
    with dial(path) as slow, dial(path) as other:
        other.sendall(CLOSE[:5])
        poll(lambda: held_connections() == 2)
        slow.sendall(STACK)
        assert begun.wait(5)
        other.sendall(CLOSE[5:])
        assert answer(slow).text == "done"
        assert answer(other).ok


def test_a_pool_that_refuses_tells_why(path: str, target: RecordingTarget) -> None:
    """A ControlError's message is the reply."""
    target.error = ControlError("the pool has ended already")
    assert ask(path, CLOSE).error == "the pool has ended already"


def test_a_pool_that_fails_does_not_end_the_server(
    path: str, target: RecordingTarget, caplog: pytest.LogCaptureFixture
) -> None:
    """Any other exception is logged, told to the client, and the next command is served."""
    target.error = ZeroDivisionError("oh")
    assert "ZeroDivisionError: oh" in ask(path, CLOSE).error
    assert "a command over the control socket failed" in caplog.text
    target.error = None
    assert ask(path, CLOSE).ok


def test_a_collected_pool_ends_the_server() -> None:
    """The server holds pools weakly, and one that is never withdrawn doesn't keep it alive."""
    target = RecordingTarget()
    path = serve(target)
    assert path is not None
    del target
    gc.collect()
    poll(lambda: not Path(path).exists() and not server_threads())


def test_serving_again_after_the_end_works(target: RecordingTarget) -> None:
    """A process makes one pool after the other."""
    for _ in range(20):
        path = serve(target)
        assert path is not None
        assert ask(path, CLOSE).ok
        withdraw(target)
        withdraw(target)
        assert not Path(path).exists()


def test_concurrent_serving_and_withdrawing() -> None:
    """Threads that make and end pools at the same time always find a working server."""
    failures: list[str] = []

    def live(name: str) -> None:
        for _ in range(50):
            target = RecordingTarget(name)
            path = serve(target)
            reply = ask(path, Request(name, Command.CLOSE).encode()) if path else None
            if reply is None or not reply.ok or len(target.commands) != 1:
                failures.append(f"{name}: {path} {reply}")
            withdraw(target)

    threads = [threading.Thread(target=live, args=(f"pool-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    poll(lambda: not server_threads())


@pytest.mark.parametrize("garbage", [b"\0" * 99 + b"\n", b"GET / HTTP/1.1\r\n", b"{]\n", b"\n"])
def test_garbage_is_answered_and_ends_there(
    path: str, target: RecordingTarget, garbage: bytes
) -> None:
    """What isn't a request costs its sender the connection, and nobody else anything."""
    assert not ask(path, garbage).ok
    assert target.commands == []
    assert ask(path, CLOSE).ok


def test_a_line_without_end_is_cut_off_at_four_kib(path: str, target: RecordingTarget) -> None:
    """A client that sends 100 MB is dropped after the first few KiB."""
    megabyte = b"x" * 1_000_000
    with dial(path) as connection:
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            connection.sendall(megabyte * 100)
        assert "4096" in answer(connection).error
    assert ask(path, CLOSE).ok
    assert len(target.commands) == 1


def test_a_line_may_come_in_pieces(path: str) -> None:
    """A request is complete at its newline, however it was cut."""
    with dial(path) as connection:
        for octet in CLOSE:
            connection.send(bytes([octet]))
        assert answer(connection).ok


def test_a_client_that_leaves_early_is_forgotten(path: str, target: RecordingTarget) -> None:
    """Half a line is no command, and a client that doesn't wait for its reply harms nobody."""
    with dial(path) as connection:
        connection.sendall(CLOSE[:-1])
    with dial(path) as connection:
        connection.sendall(CLOSE)
    poll(lambda: len(target.commands) == 1)
    assert ask(path, CLOSE).ok
    assert len(target.commands) == 2


def test_a_silent_client_is_dropped(path: str) -> None:
    """A connection has two seconds for its line, also when it drips."""
    began = time.monotonic()
    with dial(path) as connection:
        connection.sendall(b"{")
        assert "seconds" in answer(connection).error
    assert 1.5 < time.monotonic() - began < 6


def test_many_silent_clients_only_delay_the_others(path: str) -> None:
    """Clients beyond the few that are held wait in the backlog and are served."""
    silent = [dial(path) for _ in range(30)]
    try:
        assert ask(path, CLOSE).ok
    finally:
        for connection in silent:
            connection.close()


def test_no_descriptors_left(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """When accept() finds none, the server tries again later instead of spinning."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10.0)
    # Lowest free descriptor: under this limit nobody gets another one.
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with connection:
            connection.connect(path)
            poll(lambda: "can't accept" in caplog.text)
            began = time.thread_time()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            connection.sendall(CLOSE)
            assert answer(connection).ok
            assert time.thread_time() - began < 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caplog.text.count("can't accept") <= 2


@pytest.mark.skipif(os.getuid() != 0, reason="only root can ask as somebody else")
def test_another_user_is_refused(path: str, obspool_dir: Path, target: RecordingTarget) -> None:
    """Even where the file's mode would let it in, the kernel's word on the peer decides."""
    obspool_dir.chmod(0o755)
    Path(path).chmod(0o666)
    client = (
        "import os, socket, sys\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect(sys.argv[1])\n"
        "sys.stdout.write(s.recv(4096).decode())\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", client, path], capture_output=True, text=True, check=True, timeout=20
    )
    assert "uid 65534 may not command uid 0" in told.stdout
    assert target.commands == []


def test_control_can_be_left_out(
    target: RecordingTarget, monkeypatch: pytest.MonkeyPatch, obspool_dir: Path
) -> None:
    """OBSPOOL_CONTROL=0: no socket, no thread, no word."""
    monkeypatch.setenv("OBSPOOL_CONTROL", "0")
    assert serve(target) is None
    assert not server_threads()
    assert list(obspool_dir.iterdir()) == []


def test_no_place_for_a_socket_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A pool works without control; one line at INFO says that it has none."""
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("OBSPOOL_DIR", str(file))
    monkeypatch.setattr("obspool.control.server._host._told", False)
    with caplog.at_level(logging.INFO, "obspool"):
        assert serve(RecordingTarget()) is None
        assert serve(RecordingTarget()) is None
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "no control socket" in caplog.text


def test_a_long_path_works(
    target: RecordingTarget, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A socket's address may have 104 bytes; on Linux a longer path is reached by its directory."""
    if not sys.platform.startswith("linux"):
        pytest.skip("needs /proc/self/fd")
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    monkeypatch.setenv("OBSPOOL_DIR", str(directory))
    path = serve(target)
    assert path is not None
    assert Path(path).parent == directory
    from obspool.control import address  # noqa: PLC0415 - what a client does

    with address.connect(Path(path), 5.0) as connection:
        connection.sendall(CLOSE)
        assert answer(connection).ok
    withdraw(target)
    assert not Path(path).exists()


def stale_socket(path: Path) -> None:
    """Leave a socket as a process that was killed leaves it."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


def test_stale_sockets_are_removed(
    target: RecordingTarget, monkeypatch: pytest.MonkeyPatch, obspool_dir: Path
) -> None:
    """A killed process leaves its socket; the next server there removes it, whoever it was."""
    monkeypatch.setattr("obspool.control.address._YOUNG", -1.0)
    stale_socket(obspool_dir / f"{os.getpid()}.sock")
    stale_socket(obspool_dir / "1.sock")
    (obspool_dir / "note.sock").write_text("no socket", encoding="utf-8")
    path = serve(target)
    assert path == str(obspool_dir / f"{os.getpid()}.sock")
    assert ask(path, CLOSE).ok
    left = {Path(path).name, "note.sock"}
    poll(lambda: {entry.name for entry in obspool_dir.iterdir()} == left)


def test_a_living_socket_of_the_same_name_is_left_alone(
    target: RecordingTarget, monkeypatch: pytest.MonkeyPatch, obspool_dir: Path
) -> None:
    """Two containers that share the directory may both have this pid: the second takes a suffix."""
    monkeypatch.setattr("obspool.control.address._YOUNG", -1.0)
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(obspool_dir / f"{os.getpid()}.sock"))
        living.listen()
        assert serve(target) == str(obspool_dir / f"{os.getpid()}-2.sock")
    (obspool_dir / f"{os.getpid()}.sock").unlink()


def test_a_young_refusing_socket_is_no_stale_one(
    target: RecordingTarget, obspool_dir: Path
) -> None:
    """Between bind() and listen() a socket refuses connections too."""
    stale_socket(obspool_dir / f"{os.getpid()}.sock")
    assert serve(target) == str(obspool_dir / f"{os.getpid()}-2.sock")
    (obspool_dir / f"{os.getpid()}.sock").unlink()
