"""`obspool exporter` as a process: its options, its end, and what it says."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families as read_text

import obspool as library
from obspool.cli.arguments import parse
from obspool.words import Outcome
from tests.cli.environment import environment
from tests.cli.pools import obspool
from tests.exporters.hosts import exporter, run_pool, shown
from tests.exporters.samples import get, is_free, key, pools_at, port_of, series_of
from tests.exporters.test_tls import basic, make_pem, over_tls
from tests.helpers import poll
from tests.telemetry.processes import NOBODY, need_root

if TYPE_CHECKING:
    from pathlib import Path

DONE = "obspool_items_completed_total"
OK = {"pool": "nightly", "outcome": "ok"}


def test_it_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    """One line says where; SIGTERM is its usual end, and gives the port back."""
    with exporter(tmp_path / "log") as process:
        run = run_pool()
        url = process.url
        assert url.startswith("http://127.0.0.1:")
        assert get(url).series[key(DONE, OK)] == run.items_completed[Outcome.OK]
        assert process.stop() == 0
        assert process.log.count("\n") == 1
    assert is_free(port_of(url))


def test_ctrl_c_ends_it_as_any_command(tmp_path: Path) -> None:
    """With 130, and no traceback."""
    with exporter(tmp_path / "log") as process:
        assert process.url
        assert process.stop(signal.SIGINT) == 130
        assert "Traceback" not in process.log


def test_a_real_pool_of_another_process_is_served(tmp_path: Path) -> None:
    """From its beginning to its end, and its next run goes on."""
    with exporter(tmp_path / "log", "--interval", "50ms") as process:
        url = process.url
        for total in (100.0, 200.0):
            with library.Pool(2, name="nightly") as pool:
                assert pool.map(abs, range(100)) == list(range(100))
                assert pool.name == "nightly"
                poll(lambda: "nightly" in pools_at(url))
            assert poll(lambda: get(url).series.get(key(DONE, OK))) == total
        states = get(url).series
        assert states[key("obspool_pool_state", {"pool": "nightly", "state": "ended"})] == 1


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    """With what to do, and exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = obspool("exporter", "--listen", str(port))
    assert done.returncode == 1
    assert f"can't be served at 127.0.0.1:{port}: Address already in use" in done.stderr
    assert "another port" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--listen", "nowhere"], 2, "has no port number"),
        (["--keep", "x"], 2, "'x' is no time from 0 to 86400 s"),
        (["--interval", "0"], 2, "'0' is no time"),
        (["--once", "--listen", "0"], 2, "doesn't listen"),
        (["--listen", "0", "--tls-key", "x.pem"], 2, "goes with --tls-cert"),
        (["--listen", "0", "--tls-cert", "/nowhere.pem"], 1, "/nowhere.pem can't be read: No such"),
        (["--listen", "0", "--auth-file", "/nowhere"], 1, "/nowhere can't be read: No such"),
        (["--textfile", "/nowhere"], 1, "/nowhere/obspool.prom can't be written: No such"),
        (["--listen", "0", "--state", "/nowhere/x"], 1, "/nowhere/x can't be written: No such"),
        (["--once", "--state", "/"], 1, "/ can't be read: Is a directory"),
    ],
)
def test_what_is_wrong_is_told_at_the_start(options: list[str], code: int, said: str) -> None:
    """In one line, without a traceback."""
    run_pool()
    done = obspool("exporter", *options)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_times_have_units() -> None:
    """A number is seconds."""
    for text, seconds in (("500ms", 0.5), ("30", 30), ("1.5s", 1.5), ("5m", 300), ("2h", 7200)):
        assert parse(["exporter", "--keep", text]).keep == seconds
    assert parse(["exporter"]).keep == 300


def test_once_prints_and_ends() -> None:
    """Without --textfile, to standard output, in the text format."""
    run = run_pool()
    done = obspool("exporter", "--once")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        f'{DONE}{{outcome="ok",pool="nightly"}} {run.items_completed[Outcome.OK]}.0' in done.stdout
    )
    assert "process_" not in done.stdout


def test_once_with_a_file_of_totals_goes_on(tmp_path: Path) -> None:
    """From cron: each call adds what ended since the last one."""
    options = ("--once", "--textfile", str(tmp_path), "--state", str(tmp_path / "state"))
    total = 0
    for seed in range(3):
        total += run_pool(shown(seed=seed)).items_completed[Outcome.OK]
        assert obspool("exporter", *options).returncode == 0
        text = (tmp_path / "obspool.prom").read_text()
        assert f'{DONE}{{outcome="ok",pool="nightly"}} ' in text
        assert series_of(read_text(text))[key(DONE, OK)] == total


def test_a_textfile_is_written_again_and_again(tmp_path: Path) -> None:
    """Every so often; without a port unless one is asked for."""
    options = ("--textfile", str(tmp_path), "--write-interval", "100ms", "--interval", "50ms")
    with exporter(tmp_path / "log", *options, listen=None) as process:
        file = tmp_path / "obspool.prom"
        poll(file.exists, message=lambda: process.log)
        run_pool()
        poll(lambda: 'pool="nightly"' in file.read_text())
        assert process.stop() == 0
        assert process.log == ""


def test_totals_survive_a_restart(tmp_path: Path) -> None:
    """With --state; what ended meanwhile is added."""
    options = ("--state", str(tmp_path / "state"))
    first = run_pool().items_completed[Outcome.OK]
    with exporter(tmp_path / "log", *options) as process:
        assert get(process.url).series[key(DONE, OK)] == first
        assert process.stop() == 0
    second = run_pool(shown(seed=4)).items_completed[Outcome.OK]
    with exporter(tmp_path / "log", *options) as process:
        assert get(process.url).series[key(DONE, OK)] == first + second
        assert process.stop() == 0


def test_tls_and_a_password_together(tmp_path: Path) -> None:
    """Both options on the command line; over the loopback nothing is warned of."""
    pem = make_pem(tmp_path)
    auth = tmp_path / "auth"
    auth.write_text("me:s3cret\n")
    auth.chmod(0o600)
    run_pool()
    with exporter(tmp_path / "log", "--tls-cert", str(pem), "--auth-file", str(auth)) as process:
        url = process.url
        assert url.startswith("https://")
        request = "GET /metrics HTTP/1.1\r\nAuthorization: {}\r\n\r\n"
        head, _ = over_tls(url, pem, request.format(basic("me:wrong")).encode())
        assert head.startswith(b"HTTP/1.1 401 ")
        head, body = over_tls(url, pem, request.format(basic("me:s3cret")).encode())
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b'pool="nightly"' in body
        assert "s3cret" not in process.log


def test_an_open_port_without_protection_is_warned_of(tmp_path: Path) -> None:
    """It serves all the same: a firewall may do it."""
    with exporter(tmp_path / "log", listen="0.0.0.0:0") as process:
        assert get(process.url).status == 200
        assert "without TLS and without a password" in process.log


def test_foreign_files_are_told_and_the_rest_is_served(tmp_path: Path, obspool_dir: Path) -> None:
    """One line on stderr for each, a count in the metrics."""
    run_pool()
    (obspool_dir / "foreign.obspool").write_text("no segment")
    with exporter(tmp_path / "log") as process:
        found = get(process.url).series
        assert found[key("obspool_exporter_skipped_files", {"reason": "unreadable"})] == 1
        assert key(DONE, OK) in found
        assert "foreign.obspool: cut short" in process.log


def test_a_directory_that_is_gone_for_a_while_is_told_once(tmp_path: Path) -> None:
    """What can't be written now is written later; what is scraped doesn't suffer."""
    directory = tmp_path / "textfiles"
    directory.mkdir()
    looks = key("obspool_exporter_look_seconds_count", {})
    options = ("--textfile", str(directory), "--write-interval", "100ms", "--interval", "50ms")
    with exporter(tmp_path / "log", *options) as process:
        url = process.url
        poll((directory / "obspool.prom").exists)
        moved = directory.rename(tmp_path / "moved")
        poll(lambda: "can't be written" in process.log)
        first = get(url).series[looks]
        poll(lambda: get(url).series[looks] > first + 50)
        assert process.log.count("can't be written") == 1
        (moved / "obspool.prom").unlink()
        moved.rename(directory)
        poll((directory / "obspool.prom").exists)


def test_a_files_name_does_nothing_to_a_terminal(tmp_path: Path, obspool_dir: Path) -> None:
    """Control characters of others' files are shown, not sent."""
    (obspool_dir / "\x1b[2J\n.obspool").write_text("no segment")
    with exporter(tmp_path / "log") as process:
        assert process.url
        assert "\x1b" not in process.log
        assert process.log.count("\n") == 2


def test_a_directory_without_rights_is_told(obspool_dir: Path) -> None:
    """One line, a count, and the exporter works on: it may be opened to a group later."""
    need_root()
    run_pool()
    # Another user may not even read the interpreter: so first it does all once, as root.
    code = f"""
import contextlib, io, os, sys
from obspool.cli import main
with contextlib.redirect_stdout(io.StringIO()):
    main(["exporter", "--once"])
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
sys.exit(main(["exporter", "--once"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env=environment(OBSPOOL_DIR=str(obspool_dir)),
    )
    assert done.returncode == 0, done.stderr
    assert f"skipped {obspool_dir}: Permission denied" in done.stderr
    assert 'obspool_exporter_skipped_files{reason="directory"} 1.0' in done.stdout
