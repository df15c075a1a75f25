"""Surroundings that give nothing, break off, or attack: no room, no descriptors, no processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from obspool import Pool
from obspool.telemetry import registry
from tests.cli.environment import environment
from tests.faults import programs
from tests.helpers import poll
from tests.pool import work
from tests.pool.ending import ended
from tests.telemetry.processes import NOBODY, need_root, small_tmpfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import BaseContext

GET = 20.0
CLIENTS = 8


@pytest.fixture(name="small")
def _small_directory(obspool_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A tmpfs for OBSPOOL_DIR that is full but for a few KiB."""
    with small_tmpfs(obspool_dir, "64k") as directory:
        (directory / "full").write_bytes(bytes(48 << 10))
        monkeypatch.setenv("OBSPOOL_DIR", str(directory))
        yield directory


def test_no_space_for_the_segment(mp_context: BaseContext, small: Path) -> None:
    """The pool works, and can be found, all the same: its segment is in memory."""
    with Pool(2, context=mp_context, name="homeless") as pool:
        assert pool.map(work.double, range(100), 1) == list(range(0, 200, 2))
        assert pool.name == "homeless"
        (entry,) = registry.list_pools().entries
        assert (entry.facts.name, entry.alive) == ("homeless", True)
        assert pool.stats().items_completed["ok"] == 100  # type: ignore[index]
        ended(pool)


_NO_DESCRIPTORS = """
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    def limit(room):
        used = len(os.listdir("/proc/self/fd")) - 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + room, hard))
    Pool(1, context=context).terminate()
    with Pool(2, maxtasksperchild=1, context=context) as pool:
        pool.map(work.double, range(4), 1)
        for room in (0, 3, 8):
            limit(room)
            result = pool.map_async(work.double, range(6), 1)
            result.wait(0.3)
            try:
                while True:
                    Pool(1, context=context).terminate()
                    break
            except OSError as error:
                assert error.errno == 24, error
            except RuntimeError as error:
                print(error)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            try:
                assert result.get(20) == list(range(0, 12, 2))
            except PoolBrokenError as error:
                assert "could not be started" in str(error), error
                break
    with Pool(1, context=context) as pool:
        print(pool.map(work.double, [4]))
"""


def test_file_descriptors_used_up(start_method: str, tmp_path: Path) -> None:
    """Work goes on afterwards, or the pool says what is wrong; a new one is refused at once."""
    assert programs.run(tmp_path, start_method, _NO_DESCRIPTORS).strip() == "[8]"


@pytest.fixture(name="process_limit")
def _cgroup_of_processes() -> Iterator[Path]:
    """A cgroup that counts processes and threads; its folder."""
    for parent in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")):
        group = parent / f"obspool-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        if not (group / "pids.max").exists():
            group.rmdir()
            continue
        processes = group / "cgroup.procs"
        yield group
        poll(partial(_is_empty, processes))
        group.rmdir()
        return
    pytest.skip("no cgroup with a limit of processes can be made here (it takes root)")


def _is_empty(file: Path) -> bool:
    return not file.read_text()


_NO_PROCESSES = """
    group = {group!r}
    def write(name, text):
        with open(os.path.join(group, name), "w") as file:
            file.write(str(text))
    def allow(more):
        with open(os.path.join(group, "pids.current")) as file:
            write("pids.max", int(file.read()) + more)
    write("cgroup.procs", os.getpid())
    Pool(1, context=context).terminate()  # multiprocessing's own helpers start at the first one
    with Pool(2, maxtasksperchild=1, context=context) as pool:
        pool.map(work.double, range(4), 1)
        allow(0)
        result = pool.map_async(work.double, range(6), 1)
        result.wait(0.3)
        try:
            Pool(4, context=context).terminate()
        except (OSError, RuntimeError, EOFError, PoolBrokenError) as error:
            print("refused", type(error).__name__, file=sys.stderr)
        write("pids.max", "max")
        try:
            assert result.get(20) == list(range(0, 12, 2))
        except PoolBrokenError as error:
            print("broken", error, file=sys.stderr)
    def again():
        # A forkserver dies of a fork that fails, and a request may come to it meanwhile.
        try:
            with Pool(1, context=context) as pool:
                return pool.map(work.double, [4])
        except (EOFError, ConnectionError):
            return None
    print(poll(again))
"""


def test_no_more_processes_allowed(start_method: str, tmp_path: Path, process_limit: Path) -> None:
    """Neither processes nor threads: what there is waits or is refused, nothing hangs."""
    source = _NO_PROCESSES.format(group=str(process_limit))
    assert programs.run(tmp_path, start_method, source).strip() == "[8]"


_READER = """
import sys
from obspool.telemetry import reader, registry
print("there", flush=True)
while True:
    for entry in registry.list_pools().entries:
        reader.read(entry.path)
"""


def test_readers_that_die_in_the_middle(mp_context: BaseContext) -> None:
    """A reader takes no lock of the pool, and leaves nothing half done."""
    with Pool(2, context=mp_context) as pool:
        assert pool.name
        for _ in range(3):
            with subprocess.Popen(
                [sys.executable, "-c", _READER],
                stdout=subprocess.PIPE,
                env=environment(),
            ) as reader:
                assert reader.stdout is not None
                assert reader.stdout.readline() == b"there\n"
                result = pool.map_async(work.work, [0.5] * 200, 1)
                result.wait(0.05)
                reader.send_signal(signal.SIGSTOP)
                reader.kill()
                assert len(result.get(GET)) == 200
        stats = ended(pool)
    assert not any(worker.torn for worker in stats.workers)


def _garbage(connection: socket.socket) -> None:
    connection.sendall(os.urandom(300) + b"\n")


def _nothing(connection: socket.socket) -> None:
    """Connect, and say nothing for as long as the test takes."""


def _half(connection: socket.socket) -> None:
    connection.sendall(b'{"pool": "atta')


def _flood(connection: socket.socket) -> None:
    megabyte = b"x" * (1 << 20)
    for _ in range(100):
        connection.sendall(megabyte)


@contextmanager
def _attacked(path: str, attack: Callable[[socket.socket], None]) -> Iterator[None]:
    """Have clients of a kind at work while the block runs: each of them three times."""
    begun = threading.Semaphore(0)
    over = threading.Event()

    def client() -> None:
        for _ in range(3):
            # Thrown out, as it should be, or the pool has ended.
            with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(GET)
                connection.connect(path)
                begun.release()
                attack(connection)
                over.wait(0.5)

    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in clients:
        thread.start()
    try:
        assert begun.acquire(timeout=GET)
        yield
    finally:
        over.set()
        for thread in clients:
            thread.join(GET)


@pytest.mark.parametrize("attack", [_garbage, _nothing, _half, _flood])
def test_clients_that_attack_disturb_no_work_and_no_other_client(
    mp_context: BaseContext, attack: Callable[[socket.socket], None]
) -> None:
    with Pool(2, context=mp_context, name="attacked") as pool:
        assert pool.name == "attacked"
        path = pool.stats().facts.control
        assert path is not None
        with _attacked(path, attack):
            assert pool.map_async(work.double, range(300), 1).get(GET) == list(range(0, 600, 2))
            asked = _obspool("close", "attacked")
        pool.join()
        assert asked.returncode == 0, asked.stderr
        assert pool.stats().outcome == "finished"


def _obspool(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "obspool", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=GET,
        env=environment(),
    )


_OTHER_USER = """
import os, socket, sys
os.setgid(65534)
os.setuid(65534)
client = socket.socket(socket.AF_UNIX)
client.settimeout(5)
try:
    client.connect(sys.argv[1])  # it need not say anything
    print(client.recv(4096).decode())
except OSError as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_another_users_client_is_refused(
    mp_context: BaseContext, obspool_dir: Path, mode: int
) -> None:
    """By the file system and, should somebody have opened that, by what the kernel says of it."""
    need_root()
    with Pool(1, context=mp_context, name="private") as pool:
        assert pool.name == "private"
        path = pool.stats().facts.control
        assert path is not None
        obspool_dir.chmod(mode)
        if mode == 0o755:
            Path(path).chmod(0o666)
        said = subprocess.run(
            [sys.executable, "-c", _OTHER_USER, path],
            capture_output=True,
            text=True,
            check=True,
            timeout=GET,
        ).stdout
        assert ("PermissionError" if mode == 0o700 else f"uid {NOBODY} may not") in said
        assert pool.map(work.double, [1, 2]) == [2, 4]
        ended(pool)
