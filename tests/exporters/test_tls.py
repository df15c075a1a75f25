"""The host exporter's port with TLS and a password, against clients of all kinds."""

from __future__ import annotations

import base64
import shutil
import socket
import ssl
import subprocess
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from obspool.errors import ObspoolError
from obspool.exporters.address import Address
from obspool.exporters.credentials import Credentials, CredentialsError
from obspool.exporters.host import Host
from obspool.exporters.host_server import HostServer
from obspool.exporters.tls import Certificate, CertificateError
from tests.exporters.conftest import server_threads
from tests.exporters.hosts import run_pool
from tests.exporters.samples import connect, get, receive
from tests.helpers import poll

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 with its key, in one file."""
    return make_pem(tmp_path_factory.mktemp("tls"))


def make_pem(directory: Path, name: str = "one") -> Path:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no `openssl` on PATH")
    key, certificate, both = (directory / f"{name}.{kind}" for kind in ("key", "crt", "pem"))
    subprocess.run(
        [
            openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "2", "-subj", f"/CN={name}",
            "-addext", "subjectAltName=IP:127.0.0.1",
            "-keyout", str(key), "-out", str(certificate),
        ],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    return both


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host(3600.0)
    run_pool()
    yield made
    made.close()


@pytest.fixture
def serving() -> Iterator[ExitStack]:
    """What closes servers; afterwards no thread of them is left."""
    with ExitStack() as stack:
        yield stack
    assert not server_threads()


def serve(stack: ExitStack, host: Host, **options: object) -> HostServer:
    server = HostServer(host, Address("127.0.0.1", 0), **options)  # type: ignore[arg-type]
    stack.callback(server.close)
    return server


def over_tls(url: str, pem: Path, request: bytes = REQUEST) -> tuple[bytes, bytes]:
    """Send a request with a client that trusts this certificate; return head and body."""
    context = ssl.create_default_context(cafile=str(pem))
    with (
        connect(url) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False) as tls,
    ):
        tls.sendall(request)
        data = b""
        while chunk := tls.recv(65536):
            data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    return head, body


def test_tls_serves_the_whole_answer(host: Host, serving: ExitStack, pem: Path) -> None:
    """A client that checks the certificate gets it all, and is told of its end."""
    server = serve(serving, host, certificate=Certificate(pem, pem))
    assert server.url.startswith("https://127.0.0.1:")
    head, body = over_tls(server.url, pem)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b'obspool_items_completed_total{outcome="ok",pool="nightly"}' in body


def test_idle_clients_block_nobody(host: Host, serving: ExitStack, pem: Path) -> None:
    """Clients that connect and never shake hands, or stop in the middle of it, wait alone."""
    server = serve(serving, host, certificate=Certificate(pem, pem))
    with ExitStack() as idle:
        for number in range(20):
            client = idle.enter_context(connect(server.url))
            client.sendall(b"\x16\x03\x01\x02\x00\x01"[: number % 7])
        start = time.monotonic()
        assert over_tls(server.url, pem)[0].startswith(b"HTTP/1.1 200 ")
        assert time.monotonic() - start < 3


@pytest.mark.parametrize("data", [REQUEST, b"\x16\x03\x01\x00\x05hello", b"\xff" * 3000])
def test_who_speaks_no_tls_is_let_go(
    host: Host, serving: ExitStack, pem: Path, data: bytes
) -> None:
    """Plain HTTP or garbage on the port: the connection ends, the others are served."""
    server = serve(serving, host, certificate=Certificate(pem, pem))
    with connect(server.url) as client:
        client.sendall(data)
        received = b""
        try:
            while chunk := client.recv(4096):
                received += chunk
        except ConnectionResetError:
            pass
        assert b"obspool_" not in received
    assert over_tls(server.url, pem)[0].startswith(b"HTTP/1.1 200 ")


def test_old_tls_is_refused(host: Host, serving: ExitStack, pem: Path) -> None:
    """Below 1.2 there is none."""
    server = serve(serving, host, certificate=Certificate(pem, pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLS"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLS"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with connect(server.url) as plain, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(plain)


def test_a_renewed_certificate_is_taken(
    host: Host, serving: ExitStack, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a restart; a broken one is logged, and the old one goes on."""
    served = make_pem(tmp_path, "served")
    renewed = make_pem(tmp_path, "renewed")
    old = served.read_bytes()
    certificate = Certificate(served, served)
    server = serve(serving, host, certificate=certificate)
    served.write_bytes(b"nonsense")
    certificate.refresh()
    assert "certificate" in caplog.text
    before = tmp_path / "before.pem"
    before.write_bytes(old)
    assert over_tls(server.url, before)[0].startswith(b"HTTP/1.1 200 ")
    renewed.rename(served)
    certificate.refresh()
    assert over_tls(server.url, served)[0].startswith(b"HTTP/1.1 200 ")
    with pytest.raises(ssl.SSLCertVerificationError):
        over_tls(server.url, before)


def test_bad_certificates_are_named(tmp_path: Path, pem: Path) -> None:
    """Which file, and why."""
    with pytest.raises(CertificateError, match=r"nothing\.pem can't be read: No such file"):
        Certificate(tmp_path / "nothing.pem", pem)
    (tmp_path / "no.pem").write_text("no")
    with pytest.raises(CertificateError, match=r"no\.pem"):
        Certificate(tmp_path / "no.pem", pem)
    other = make_pem(tmp_path, "other")
    with pytest.raises(CertificateError, match="no certificate and its key"):
        Certificate(pem, other.with_suffix(".key"))
    openssl = shutil.which("openssl")
    assert openssl is not None
    locked = tmp_path / "locked.key"
    subprocess.run(
        [openssl, "ec", "-in", str(pem), "-aes128", "-passout", "pass:x", "-out", str(locked)],
        check=True, capture_output=True, timeout=30, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    with pytest.raises(CertificateError, match="password"):
        Certificate(pem, locked)


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_a_password_is_asked_for(host: Host, serving: ExitStack, tmp_path: Path) -> None:
    """On each path; a wrong one gets nothing but 401."""
    file = tmp_path / "auth"
    file.write_text("# who may\n\nprometheus:s3cret:ä\nother:x\n", encoding="utf-8")
    file.chmod(0o600)
    url = serve(serving, host, credentials=Credentials.read(file)).url
    refused = [
        get(url),
        get(url, "/"),
        get(url, authorization=basic("prometheus:wrong")),
        get(url, authorization=basic("prometheus")),
        get(url, authorization="Basic ***"),
        get(url, authorization="Bearer s3cret:ä".encode("ascii", "replace").decode()),
    ]
    for answer in refused:
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")
        assert b"obspool_" not in answer.body
    for right in ("prometheus:s3cret:ä", "other:x"):
        assert get(url, authorization=basic(right)).status == 200


def test_a_file_of_passwords_is_for_nobody_else(tmp_path: Path) -> None:
    """And has a form; the messages never tell a password."""
    file = tmp_path / "auth"
    file.write_text("name:s3cret\n")
    file.chmod(0o644)
    with pytest.raises(CredentialsError, match="chmod o="):
        Credentials.read(file)
    file.chmod(0o640)
    assert Credentials.read(file).allow(basic("name:s3cret"))
    for text, said in (("s3cret\n", "line 1"), ("a:b\n:s3cret", "line 2"), ("# a\n", "no line")):
        file.write_text(text)
        with pytest.raises(CredentialsError, match=said) as caught:
            Credentials.read(file)
        assert "s3cret" not in str(caught.value)
    with pytest.raises(CredentialsError, match="can't be read"):
        Credentials.read(tmp_path)
    assert issubclass(CredentialsError, ObspoolError)


def test_a_half_open_answer_ends_with_its_client(host: Host, serving: ExitStack, pem: Path) -> None:
    """A client that resets in the midst of an answer harms nothing."""
    server = serve(serving, host, certificate=Certificate(pem, pem))
    context = ssl.create_default_context(cafile=str(pem))
    for _ in range(5):
        with connect(server.url) as plain:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            tls = context.wrap_socket(plain, server_hostname="127.0.0.1")
            tls.sendall(REQUEST)
            tls.close()
    poll(lambda: over_tls(server.url, pem)[0].startswith(b"HTTP/1.1 200 "))


def test_without_tls_the_host_is_served_as_well(host: Host, serving: ExitStack) -> None:
    """HEAD, other paths, and half a request are as with the pool's own server."""
    url = serve(serving, host).url
    assert get(url, method="HEAD").body == b""
    assert get(url, "/nothing").status == 404
    assert get(url, method="POST").status == 405
    with connect(url) as client:
        client.sendall(REQUEST[:10])
        assert get(url).status == 200
        client.sendall(REQUEST[10:])
        assert receive(client).status == 200
