"""`obspool exporter`: all pools of this host for Prometheus, from one port or in a file."""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import time
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING

from obspool.cli import INTERRUPTED, WRONG_USE, Failure
from obspool.cli.arguments import EXPORTER_ADDRESS
from obspool.exporters import state, textfile
from obspool.exporters.address import Address
from obspool.exporters.collector import Problem
from obspool.exporters.credentials import Credentials
from obspool.exporters.host import Host
from obspool.exporters.host_server import HostServer
from obspool.exporters.tls import Certificate
from obspool.telemetry.watch import raise_the_limit
from obspool.units import printable

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator
    from pathlib import Path

    _Wait = Callable[[float], int | None]

# A busy host folds some runs at each look; the file is written this often at most.
SAVE_SECONDS = 5.0

# So many new runs in one look, and the next is the sooner: of 100 ended ones in a directory, the
# oldest go, and pools may come and go faster than that within an interval.
MANY = 10
HURRY = 5

_SELF = "node_exporter"  # the file's only reader, as far as names that are new to it are concerned

_log = logging.getLogger("obspool")


def run(arguments: Namespace) -> int:
    """Serve until a signal comes, or write once."""
    _check(arguments)
    with ExitStack() as at_end, _log_to_stderr():
        # node_exporter has process_… metrics of its own, and in a terminal nobody asks for them.
        serves = not arguments.once and (arguments.listen or not arguments.textfile)
        host = Host(arguments.keep, own_process=bool(serves))
        at_end.callback(host.close)
        raise_the_limit()
        if arguments.state is not None:
            state.load(arguments.state, host)
        if arguments.once:
            return _once(host, arguments)
        host.look()
        server = _serve(host, arguments, at_end) if serves else None
        exporter = _Exporter(host, arguments, server)
        exporter.write(always=True)  # what can't be written is found out now
        at_end.callback(exporter.save)
        return exporter.run()


def _check(arguments: Namespace) -> None:
    if arguments.once and arguments.listen:
        raise Failure("--once writes or prints, and doesn't listen", WRONG_USE)
    if arguments.tls_key is not None and arguments.tls_cert is None:
        raise Failure("--tls-key goes with --tls-cert", WRONG_USE)


def _once(host: Host, arguments: Namespace) -> int:
    text, _ = host.text(openmetrics=False)
    if arguments.textfile is not None:
        textfile.write(arguments.textfile, text)
    else:
        sys.stdout.write(text.decode())
    if arguments.state is not None:
        state.save(arguments.state, host)
    return 0


def _serve(
    host: Host, arguments: Namespace, at_end: ExitStack
) -> tuple[HostServer, Certificate | None]:
    try:
        address = Address.parse(arguments.listen or EXPORTER_ADDRESS)
    except ValueError as error:
        raise Failure(str(error), WRONG_USE) from error
    credentials = None
    if arguments.auth_file is not None:
        credentials = Credentials.read(arguments.auth_file)
    certificate = None
    if arguments.tls_cert is not None:
        certificate = Certificate(arguments.tls_cert, arguments.tls_key or arguments.tls_cert)
    server = HostServer(host, address, certificate=certificate, credentials=credentials)
    at_end.callback(server.close)
    _log.info("the metrics of this host's pools are served at %s", server.url)
    if not _is_loopback(address.host):
        lacking = [
            text
            for text, given in (("TLS", certificate), ("a password", credentials))
            if given is None
        ]
        if lacking:
            _log.warning(
                "they can be had from other machines, without %s", " and without ".join(lacking)
            )
    return server, certificate


class _Exporter:
    """What is done every now and then, until a signal comes."""

    def __init__(
        self,
        host: Host,
        arguments: Namespace,
        served: tuple[HostServer, Certificate | None] | None,
    ) -> None:
        self._host = host
        self._server = served[0] if served else None
        self._certificate = served[1] if served else None
        self._interval: float = arguments.interval
        self._directory: Path | None = arguments.textfile
        self._write_interval: float = arguments.write_interval
        self._state: Path | None = arguments.state
        self._write_at = self._save_at = 0.0
        self._saved = -1
        self._told = ""

    def run(self) -> int:
        """Go on until SIGTERM or Ctrl-C, and return the exit code."""
        with _signals() as wait:
            pause = self._interval
            while (number := wait(pause)) is None:
                if self._server is not None and not self._server.alive:
                    raise Failure("the server's thread has ended, which it never should")
                pause = self._interval / (HURRY if self._turn() >= MANY else 1)
        return INTERRUPTED if number == signal.SIGINT else 0

    def save(self) -> None:
        """Write the totals, at the end."""
        if self._state is not None and self._host.changes != self._saved:
            state.save(self._state, self._host)

    def write(self, *, always: bool = False) -> None:
        """Write the files whose time has come."""
        now = time.monotonic()
        if self._directory is not None and (always or now >= self._write_at):
            self._write_at = now + self._write_interval
            text, _ = self._host.text(openmetrics=False, scraper=_SELF)
            textfile.write(self._directory, text)
            self._told = ""
        if self._state is not None and (always or now >= self._save_at):
            self._save_at = now + SAVE_SECONDS
            if self._host.changes != self._saved:
                changes = self._host.changes
                state.save(self._state, self._host)
                self._saved = changes

    def _turn(self) -> int:
        """Do all that is due; return how many runs were new."""
        new = 0
        try:
            new = self._host.look()
            if self._certificate is not None:
                self._certificate.refresh()
            self.write()
        except OSError as error:  # a full disk, for example: it may go on later
            self._tell(str(error))
        except Exception as error:  # noqa: BLE001 - counted: the others' pools are to be served
            self._host.count(Problem.SOURCE)
            self._tell(f"{type(error).__name__}: {error}")
        return new

    def _tell(self, text: str) -> None:
        """Say what goes wrong, once until something else does, or until it goes well."""
        if text != self._told:
            _log.error("%s", text)
        self._told = text


@contextmanager
def _signals() -> Iterator[_Wait]:
    """Give what waits so many seconds for a signal and returns its number, None for none."""
    reader, writer = os.pipe()
    for end in reader, writer:
        os.set_blocking(end, False)
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: None) for number in numbers]
    before_fd = signal.set_wakeup_fd(writer)

    def wait(seconds: float) -> int | None:
        ready, _, _ = select.select([reader], [], [], seconds)
        return os.read(reader, 1)[0] if ready else None

    try:
        yield wait
    finally:
        signal.set_wakeup_fd(before_fd)
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


class _Printable(logging.Formatter):
    """Says what is logged without what a file's name may do to a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    handler = logging.StreamHandler()
    handler.setFormatter(_Printable("obspool: %(message)s"))
    level = _log.level
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    try:
        yield
    finally:
        _log.setLevel(level)
        _log.removeHandler(handler)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
