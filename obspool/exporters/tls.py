"""TLS for a thread that must never wait: bytes in, bytes out, no socket.

The stdlib's wrapped sockets shake hands in accept(), where one idle client blocks all others.
"""

from __future__ import annotations

import logging
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

from obspool.errors import ObspoolError

if TYPE_CHECKING:
    from pathlib import Path

_CHUNK = 16 * 1024

_log = logging.getLogger("obspool")


class CertificateError(ObspoolError, OSError):
    """A certificate or its key can't be used; the message says which, and why."""


class Session:
    """One connection's side."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._shaken = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Take what the client sent; return what it says, and what to send to it.

        Raises:
            ssl.SSLError: this is no TLS, or nothing that both sides can.
        """
        self._in.write(data)
        plain = bytearray()
        with suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            if not self._shaken:
                self._tls.do_handshake()
                self._shaken = True
            while chunk := self._tls.read(_CHUNK):
                plain += chunk
        return bytes(plain), self._out.read()

    def seal(self, data: bytes) -> bytes:
        """Return an answer as it is sent, with the end that tells that it is whole.

        Raises:
            ssl.SSLError: the client has left.
        """
        if data:
            self._tls.write(data)
        with suppress(ssl.SSLError):  # the client's own end isn't there yet
            self._tls.unwrap()
        return self._out.read()


class Certificate:
    """A certificate and its key, read again when their files change."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read them.

        Raises:
            CertificateError: they can't be read, or don't belong together.
        """
        self._files = (certificate, key)
        self._times = self._changed()
        self._context = self._load()

    def session(self) -> Session:
        """Return a new connection's side."""
        return Session(self._context)

    def refresh(self) -> None:
        """Take a renewed certificate; one that can't be used is logged, and the old one kept."""
        times = self._changed()
        if times == self._times:
            return
        self._times = times
        try:
            self._context = self._load()
        except CertificateError as error:
            _log.error("the certificate is the old one still: %s", error)

    def _changed(self) -> list[int]:
        times = []
        for file in self._files:
            with suppress(OSError):
                times.append(file.stat().st_mtime_ns)
        return times

    def _load(self) -> ssl.SSLContext:
        certificate, key = self._files
        for file in self._files:
            try:
                file.read_bytes()  # the error of load_cert_chain doesn't name it
            except OSError as error:
                reason = error.strerror or str(error)
                raise CertificateError(f"{file} can't be read: {reason}") from error
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            # A key with a password would have it asked for on the terminal.
            context.load_cert_chain(certificate, key, password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            raise CertificateError(
                f"{certificate} and {key} are no certificate and its key (PEM, without a "
                f"password): {error}"
            ) from error
        return context


def _no_password() -> str:
    raise ValueError("the key has a password")
