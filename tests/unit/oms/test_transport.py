"""The way out over real connections: proxies, and certificates that change while the client works."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from consumer.core.changes.blocks import Rows
from consumer.core.changes.items import ITEM_KEY
from consumer.core.oms.answers import Answer, AnswerKind
from consumer.errors import SettingsError
from consumer.oms.client import HttpRefreshClient, build_client
from consumer.oms.transport import CHECK_SECONDS, RenewingTransport, proxy_of
from consumer.ports import Submission
from tests.support.certificates import Certificates, make_certificates
from tests.support.frames import change, frame
from tests.unit.oms.oms_bench import SETTINGS

WAIT_SECONDS_MAX = 60.0


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


class Oms(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        is_token = self.path.endswith("/token")
        self.server.calls.append("token" if is_token else "refresh")  # type: ignore[attr-defined]
        body = json.dumps({"access_token": "t", "expires_in": 600} if is_token else {"jobID": 9}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@pytest.fixture
def oms(certificates: Certificates) -> Iterator[ThreadingHTTPServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Oms)
    server.calls = []  # type: ignore[attr-defined]
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a refused handshake is what is tested
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class Proxy:
    """Tunnels CONNECT; ``on_connect`` may do something before, and returns False to close the connection instead."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.on_connect: Callable[[socket.socket], bool] = lambda _connection: True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(4_096)
            self.heads.append(head)
            if not self.on_connect(connection):
                return
            host, _, port = head.split()[1].decode().rpartition(":")
            with socket.create_connection((host, int(port))) as target:
                connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=pump, args=[target, connection], daemon=True)
                back.start()
                pump(connection, target)
                back.join(5)


def pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    made = Proxy()
    yield made
    made.close()


class LateClock:
    def __init__(self) -> None:
        self.late = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.late


MakeClient = Callable[..., HttpRefreshClient]


@pytest.fixture
def make_client(oms: ThreadingHTTPServer, certificates: Certificates) -> Iterator[MakeClient]:
    made = []

    def make(*, clock: Callable[[], float] = time.monotonic, **settings: Any) -> HttpRefreshClient:
        url = f"https://127.0.0.1:{oms.server_port}"
        fields = {"base_url": url, "token_url": f"{url}/token", "timeout": WAIT_SECONDS_MAX, "max_in_flight": 1}
        client = build_client(
            SETTINGS.model_copy(update=fields | {"ca_file": str(certificates.ca)} | settings),
            ITEM_KEY,
            monotonic=clock,
            wall=time.time,
            fence_seconds=5.0,
        )
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


def send(client: HttpRefreshClient, started_at: float | None = None) -> Answer:
    rows = Rows(frame([change("Rome", "a")]))
    client.submit(Submission(1, "Rome", rows, time.monotonic() if started_at is None else started_at))
    client.wait(WAIT_SECONDS_MAX)
    (answered,) = client.answers()
    return answered.answer


def test_requests_and_token_requests_go_through_the_proxy_with_its_credentials(
    make_client: MakeClient, proxy: Proxy, oms: ThreadingHTTPServer
) -> None:
    client = make_client(proxy=SecretStr(f"http://user:pass%40@{proxy.address}"))

    assert send(client).kind is AnswerKind.ACCEPTED
    assert proxy.heads[0].startswith(f"CONNECT 127.0.0.1:{oms.server_port} HTTP/1.1\r\n".encode())
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNzQA==\r\n" in proxy.heads[0]
    assert oms.calls == ["token", "refresh"]  # type: ignore[attr-defined]


def test_a_proxy_that_refuses_proves_that_nothing_was_queued_and_is_named(
    make_client: MakeClient, proxy: Proxy, oms: ThreadingHTTPServer
) -> None:
    def refuse(connection: socket.socket) -> bool:
        connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        return False

    proxy.on_connect = refuse
    answer = send(make_client(proxy=SecretStr(f"http://{proxy.address}")))

    assert answer.kind is AnswerKind.UNAVAILABLE
    assert "oms.proxy" in answer.detail
    assert "407 Proxy Authentication Required" in answer.detail
    assert oms.calls == []  # type: ignore[attr-defined]


def test_a_proxy_that_is_lost_after_connect_proves_that_nothing_was_queued(
    make_client: MakeClient, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumer.oms.http.KEEP_ALIVE_SECONDS", 0.0)  # each call gets a tunnel of its own
    client = make_client(proxy=SecretStr(f"http://{proxy.address}"))
    assert client.check_credentials() is None
    proxy.on_connect = lambda _connection: False

    answer = send(client)

    assert answer.kind is AnswerKind.UNAVAILABLE
    assert "after CONNECT" in answer.detail


def test_the_fence_is_checked_after_the_tunnel_stands(
    make_client: MakeClient, proxy: Proxy, oms: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumer.oms.http.KEEP_ALIVE_SECONDS", 0.0)
    clock = LateClock()
    client = make_client(clock=clock, proxy=SecretStr(f"http://{proxy.address}"))
    assert client.check_credentials() is None

    def slow(_connection: socket.socket) -> bool:
        clock.late = 6.0
        return True

    proxy.on_connect = slow

    assert send(client, clock()).kind is AnswerKind.NOT_SENT
    assert len(proxy.heads) == 2
    assert oms.calls == ["token"]  # type: ignore[attr-defined]


def test_the_proxy_is_the_settings_or_the_environments() -> None:
    url, environ = "https://oms.example", {"HTTPS_PROXY": "http://env:1"}

    def chosen(proxy: str | None) -> str | None:
        return proxy_of(SETTINGS.model_copy(update={"proxy": SecretStr(proxy) if proxy else None}), url, environ)

    assert chosen(None) == "http://env:1"
    assert chosen("http://mine:2") == "http://mine:2"
    assert chosen("direct") is None


def test_an_address_of_ipv6_behind_a_proxy_is_refused_in_words() -> None:
    with pytest.raises(SettingsError, match="use a host name, or name the address in NO_PROXY"):
        proxy_of(SETTINGS, "https://[fd00::5]:8443", {"HTTPS_PROXY": "http://env:1"})


def test_a_renewed_authority_is_used_without_a_restart(
    make_client: MakeClient, certificates: Certificates, tmp_path: Path
) -> None:
    ca, clock = tmp_path / "ca.pem", LateClock()
    ca.write_bytes(certificates.other_ca.read_bytes())
    client = make_client(clock=clock, ca_file=str(ca))
    assert "CERTIFICATE_VERIFY_FAILED" in (client.check_credentials() or "")

    ca.write_bytes(b"half of a")
    clock.late += CHECK_SECONDS
    assert "CERTIFICATE_VERIFY_FAILED" in (client.check_credentials() or "")

    ca.write_bytes(certificates.ca.read_bytes())
    clock.late += CHECK_SECONDS
    assert client.check_credentials() is None


class Pool(httpx.BaseTransport):
    def __init__(self) -> None:
        self.is_closed = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200)

    def close(self) -> None:
        self.is_closed = True


def test_calls_in_flight_keep_the_old_connections_until_they_must_have_ended() -> None:
    pools: list[Pool] = []
    now, version = 0.0, 1

    def open_pool() -> Pool:
        pools.append(Pool())
        return pools[-1]

    transport = RenewingTransport(open_pool, lambda: version, call_seconds_max=30.0, monotonic=lambda: now)
    request = httpx.Request("GET", "https://oms.example")
    version, now = 2, CHECK_SECONDS
    transport.handle_request(request)
    now += 29.0
    transport.handle_request(request)
    assert [pool.is_closed for pool in pools] == [False, False]

    now += CHECK_SECONDS
    transport.handle_request(request)
    assert [pool.is_closed for pool in pools] == [True, False]
    transport.close()
    assert all(pool.is_closed for pool in pools)
