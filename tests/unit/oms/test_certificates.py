"""Private certificates: a real TLS server with a private authority, and files with wrong content."""

import json
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from consumer.core.changes.items import ITEM_KEY
from consumer.errors import SettingsError
from consumer.oms.certificates import certificate_files
from consumer.oms.client import build_client
from tests.unit.oms.oms_bench import SETTINGS

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None,
    reason="openssl makes the certificates: install it (on Debian and Ubuntu: apt-get install openssl)",
)


@dataclass(frozen=True)
class Files:
    """An authority, the certificates that it signed, and an untrusted authority."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path
    locked_key: Path
    other_ca: Path


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)  # noqa: S603, S607 - a tool of tests


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("certificates")

    def at(name: str) -> str:
        return str(folder / name)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other"):
        subject = ("-subj", f"/CN={name} of tests", "-days", "2")
        openssl("req", "-x509", *new_key, *subject, "-keyout", at(f"{name}.key"), "-out", at(f"{name}.pem"))
    for name in ("server", "client"):
        openssl("req", *new_key, "-subj", f"/CN={name}", "-keyout", at(f"{name}.key"), "-out", at(f"{name}.csr"))
        extensions = folder / f"{name}.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1\nkeyUsage=digitalSignature\n", encoding="utf-8")
        signing = ("-CA", at("ca.pem"), "-CAkey", at("ca.key"), "-CAcreateserial", "-days", "2")
        openssl(
            "x509", "-req", "-in", at(f"{name}.csr"), *signing, "-extfile", str(extensions), "-out", at(f"{name}.pem")
        )
    openssl("ec", "-in", at("client.key"), "-aes256", "-passout", "pass:secret", "-out", at("locked.key"))
    names = ("ca.pem", "server.pem", "server.key", "client.pem", "client.key", "locked.key", "other.pem")
    return Files(*(folder / name for name in names))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"access_token": "t", "expires_in": 600}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


ServeTls = Callable[..., str]


@pytest.fixture
def serve_tls(files: Files) -> Iterator[ServeTls]:
    """Serve over TLS; ``clients_of`` is the authority that must have signed the client certificates."""
    servers = []

    def serve(*, clients_of: Path | None = None) -> str:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.server_cert, files.server_key)
        if clients_of:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients_of)
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a refused handshake is what is tested
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        servers.append(server)
        return f"https://127.0.0.1:{server.server_port}/token"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def named(password: str | None, paths: dict[str, Path | None]) -> dict[str, Any]:
    settings: dict[str, Any] = {name: str(path) for name, path in paths.items() if path}
    return settings | ({"client_key_password": SecretStr(password)} if password else {})


def unreachable(
    token_url: str, *, password: str | None = None, is_strict: bool = True, **files: Path | None
) -> str | None:
    """Why there is no token; None if there is one."""
    client = build_client(
        SETTINGS.model_copy(
            update={"token_url": token_url, "timeout": 60.0, "tls_strict": is_strict} | named(password, files)
        ),
        ITEM_KEY,
        monotonic=time.monotonic,
        wall=time.time,
        fence_seconds=30.0,
    )
    try:
        return client.check_credentials()
    finally:
        client.close()


def test_a_private_authority_is_trusted_only_if_it_is_configured(files: Files, serve_tls: ServeTls) -> None:
    url = serve_tls()

    assert unreachable(url, ca_file=files.ca) is None
    assert "CERTIFICATE_VERIFY_FAILED" in (unreachable(url) or "")
    assert "CERTIFICATE_VERIFY_FAILED" in (unreachable(url, ca_file=files.other_ca) or "")


def test_an_oms_that_requires_a_client_certificate_gets_it(files: Files, serve_tls: ServeTls) -> None:
    url = serve_tls(clients_of=files.ca)

    assert (
        unreachable(url, ca_file=files.ca, client_cert_file=files.client_cert, client_key_file=files.client_key) is None
    )
    assert unreachable(url, ca_file=files.ca) is not None


def test_certificate_and_key_may_be_in_one_file(files: Files, serve_tls: ServeTls, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(files.client_cert.read_bytes() + files.client_key.read_bytes())

    assert unreachable(serve_tls(clients_of=files.ca), ca_file=files.ca, client_cert_file=both) is None


def refusal(*, password: str | None = None, **files: Path | None) -> str:
    with pytest.raises(SettingsError) as caught:
        certificate_files(SETTINGS.model_copy(update=named(password, files))).load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_file_stops_the_start_and_names_its_setting(files: Files, tmp_path: Path) -> None:
    gone = tmp_path / "gone.pem"
    words = f"{gone} cannot be read: No such file or directory"

    assert refusal(ca_file=gone) == f"oms.ca_file: {words}"
    assert refusal(client_cert_file=gone) == f"oms.client_cert_file: {words}"
    assert refusal(client_cert_file=files.client_cert, client_key_file=gone) == f"oms.client_key_file: {words}"
    assert "oms.ca_file" in refusal(ca_file=tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_without_an_authority_stops_the_start(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(content)

    assert refusal(ca_file=path) == f"oms.ca_file: {path} has no CA certificate in PEM format"


def test_a_key_of_another_certificate_stops_the_start(files: Files) -> None:
    words = refusal(client_cert_file=files.client_cert, client_key_file=files.server_key)

    assert words.startswith(
        f"oms.client_cert_file: {files.client_cert} cannot be used with the key in {files.server_key}"
    )
    assert "key values mismatch" in words


def test_a_certificate_without_its_key_stops_the_start(files: Files) -> None:
    assert "cannot be used with the key in it" in refusal(client_cert_file=files.client_cert)


def test_an_encrypted_key_stops_the_start_without_a_prompt(files: Files) -> None:
    words = refusal(client_cert_file=files.client_cert, client_key_file=files.locked_key)

    assert words == f"oms.client_key_file: the key in {files.locked_key} is encrypted; set oms.client_key_password"


def test_an_encrypted_key_is_used_with_its_password(files: Files, serve_tls: ServeTls) -> None:
    url = serve_tls(clients_of=files.ca)
    reason = unreachable(
        url,
        ca_file=files.ca,
        client_cert_file=files.client_cert,
        client_key_file=files.locked_key,
        password="secret",
    )

    assert reason is None


def test_a_wrong_password_of_the_key_stops_the_start(files: Files) -> None:
    words = refusal(client_cert_file=files.client_cert, client_key_file=files.locked_key, password="wrong")

    assert "oms.client_key_password" in words
    assert "wrong" not in words


def test_an_authority_without_key_identifiers_is_taken_without_strict_checks(
    files: Files, serve_tls: ServeTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = ssl.create_default_context

    def strict(**options: Any) -> ssl.SSLContext:
        """As from Python 3.13 on."""
        context = create(**options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    url = serve_tls()

    assert (unreachable(url, ca_file=files.ca) or "").startswith(
        "no token from oms.token_url: the certificates fail a strict check only: have them reissued, or set "
        "oms.tls_strict: false (ConnectError: "
    )
    assert unreachable(url, ca_file=files.ca, is_strict=False) is None
    assert "CERTIFICATE_VERIFY_FAILED" in (unreachable(url, ca_file=files.other_ca, is_strict=False) or "")


def test_a_missing_ssl_cert_file_stops_the_start_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))

    assert refusal() == (
        f"environment variable SSL_CERT_FILE: {tmp_path / 'gone.pem'} cannot be read: No such file or directory; "
        "correct or unset it"
    )
