"""The status server: an HTTP server with a few read-only pages, in a thread of its own.

It answers GET and HEAD:

- ``/healthz``, for a liveness probe: 200 while the loop is alive, else 503 and the reason.
- ``/readyz``, for a readiness probe: 200 once the process has joined its group (a spare member without partitions is
  ready too) and as long as nothing needs an operator, else 503 and the reason. An outage of the OMS or of the schema
  registry does not make a process unready: it must not block a rollout.
- ``/metrics``: Prometheus metrics. ``/``: the status page. ``/api/status``: the same as JSON.

What a client can use is bounded in time, bytes and connections, so that a slow or hostile one cannot starve probes.
"""

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from io import BufferedReader, RawIOBase
from socketserver import ThreadingMixIn
from typing import IO, Any, Final, cast
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app

from consumer.errors import SettingsError
from consumer.observe.status_board import StatusBoard
from consumer.observe.status_page import render_page
from consumer.settings import HttpSettings

CONNECTION_SECONDS_MAX: Final = 10.0
"""For a client to send its request; a write of the response may block for as long."""
CONNECTIONS_MAX: Final = 32
"""Open at a time. One more closes the oldest, so that slow clients cannot shut probes out; probes and Prometheus need a
handful, for milliseconds each."""
REQUEST_LINE_BYTES_MAX: Final = 4_096
REQUEST_BYTES_MAX: Final = 16_384
"""Request line and headers together; a body is never read."""
STOP_SECONDS_MAX: Final = 5.0
POLL_SECONDS: Final = 0.1
"""How long the server takes at most to notice that it should stop."""
ALL_IPV6: Final = "::"
ALL_IPV4: Final = "0.0.0.0"  # noqa: S104 - probes and Prometheus connect from outside the pod
SECURITY_HEADERS: Final = (
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)
"""On every response: the browser loads and runs nothing, shows the page in no frame and guesses no content type."""

_log = structlog.get_logger("inventory_refresh.status")


class StatusServer:
    """The server in its thread. ``port`` is the one it listens on, also if the setting is 0 (any free port)."""

    def __init__(self, settings: HttpSettings, board: StatusBoard, registry: CollectorRegistry) -> None:
        """Listen, without answering yet. Raises SettingsError if the address cannot be used."""
        self._server = _listen(settings)
        self._server.set_app(_application(board, registry))
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="status", daemon=True
        )

    @property
    def url(self) -> str:
        """A URL of this server for clients on this machine."""
        host = str(self._server.server_address[0])
        host = {ALL_IPV6: "127.0.0.1", ALL_IPV4: "127.0.0.1"}.get(host, host)
        return f"http://{_in_url(host)}:{self.port}"

    def start(self) -> None:
        """Start to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, within a few seconds. Connections that are still open end with the process."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(STOP_SECONDS_MAX)
        self._server.server_close()


def _listen(settings: HttpSettings) -> "Server":
    """A server at the address of the settings; without one, at all addresses. Raises SettingsError."""
    host = settings.host or (ALL_IPV6 if _has_ipv6() else ALL_IPV4)
    try:
        return (ServerIpv6 if ":" in host else Server)((host, settings.port), Handler)
    except OSError as error:
        raise SettingsError(
            f"http.port: cannot listen on {_in_url(host)}:{settings.port}: {error.strerror or error}; "
            "choose another http.port or http.host"
        ) from None


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _has_ipv6() -> bool:
    """Whether this machine has IPv6: the kernel may be without it, or have it switched off for all interfaces."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind((ALL_IPV6, 0))
    except OSError:
        return False
    return True


# Pages


@dataclass(frozen=True, slots=True)
class _Response:
    status: HTTPStatus
    content_type: str
    text: str
    headers: tuple[tuple[str, str], ...] = ()


def _application(board: StatusBoard, registry: CollectorRegistry) -> WSGIApplication:
    metrics = make_wsgi_app(registry)
    pages: Mapping[str, Callable[[], _Response]] = {
        "/": lambda: _Response(HTTPStatus.OK, "text/html", render_page(board.status())),
        "/api/status": lambda: _Response(
            HTTPStatus.OK, "application/json", json.dumps(board.status(), indent=2) + "\n"
        ),
        "/healthz": lambda: _probe(board.stalled()),
        "/readyz": lambda: _probe(board.not_ready()),
    }

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path, method = environ.get("PATH_INFO", "/"), environ["REQUEST_METHOD"]
        if method not in {"GET", "HEAD"}:
            response = _Response(HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", "read only\n", (("Allow", "GET, HEAD"),))
        elif path == "/metrics":
            body = metrics(
                environ | {"REQUEST_METHOD": "GET"},
                lambda status, headers, *error: start_response(status, [*headers, *SECURITY_HEADERS], *error),
            )
            return [] if method == "HEAD" else body
        elif path in pages:
            response = pages[path]()
        else:
            response = _Response(HTTPStatus.NOT_FOUND, "text/plain", "not found\n")
        return _send(response, method, start_response)

    return application


def _probe(problem: str | None) -> _Response:
    status = HTTPStatus.OK if problem is None else HTTPStatus.SERVICE_UNAVAILABLE
    return _Response(status, "text/plain", f"{problem or 'ok'}\n")


def _send(response: _Response, method: str, start_response: StartResponse) -> Iterable[bytes]:
    body = response.text.encode()
    start_response(
        f"{response.status.value} {response.status.phrase}",
        [
            ("Content-Type", f"{response.content_type}; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            *SECURITY_HEADERS,
            *response.headers,
        ],
    )
    return [] if method == "HEAD" else [body]


# Connections


class Server(ThreadingMixIn, WSGIServer):
    """One thread per connection, and at most ``CONNECTIONS_MAX`` connections."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = CONNECTIONS_MAX

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        self._connections: dict[socket.socket, None] = {}
        """Open connections, oldest first; a dict, as an ordered set."""
        self._lock = threading.Lock()
        """Guards ``_connections``, which every connection's thread changes."""
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind without the standard library's reverse lookup of the host's name, which can take seconds."""
        socket_address = self.server_address
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(socket_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            if len(self._connections) >= CONNECTIONS_MAX:
                oldest = next(iter(self._connections))
                del self._connections[oldest]
                # Only shut it down: its own thread then sees the end of the stream and closes it.
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)
            self._connections[request] = None
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._connections.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log at debug level: mostly it is a client that hung up."""
        del request
        _log.debug("status_connection_failed", client=str(client_address[0]), exc_info=True)


class ServerIpv6(Server):
    """The same for IPv6. At ``ALL_IPV6`` it also accepts IPv4, whatever the machine's default is."""

    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, self.server_address[0] != ALL_IPV6)
        super().server_bind()


class _TooLargeError(Exception):
    """Request line and headers exceed ``REQUEST_BYTES_MAX``."""


class _RequestReader(RawIOBase):
    """Reads a request, with one limit on its bytes and one on its time.

    A timeout per read is not enough: a client that sends a byte now and then would keep its connection for ever.
    """

    def __init__(self, connection: socket.socket, seconds_max: float) -> None:
        self._connection = connection
        self._deadline = time.monotonic() + seconds_max
        self._bytes_left = REQUEST_BYTES_MAX

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Raises TimeoutError or _TooLargeError."""
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("the request took too long")
        if not self._bytes_left:
            raise _TooLargeError
        self._connection.settimeout(seconds)
        count = self._connection.recv_into(memoryview(buffer)[: self._bytes_left])
        self._bytes_left -= count
        return count


class _ServerHandler(ServerHandler):
    server_software = "inventory-refresh"

    def log_exception(self, exc_info: Any) -> None:
        _log.error("status_page_failed", exc_info=exc_info)


class Handler(WSGIRequestHandler):
    """One connection: it serves a single request and is then closed."""

    timeout = CONNECTION_SECONDS_MAX
    server_version = "inventory-refresh"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.rfile = BufferedReader(_RequestReader(self.connection, self.timeout))

    def handle(self) -> None:
        self.requestline = self.request_version = self.command = ""
        try:
            self.raw_requestline = self.rfile.readline(REQUEST_LINE_BYTES_MAX + 1)
            if len(self.raw_requestline) > REQUEST_LINE_BYTES_MAX:
                self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
                return
            if not self.parse_request():
                return
        except _TooLargeError:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return
        self.connection.settimeout(self.timeout)
        files = cast("IO[bytes]", self.rfile), cast("IO[bytes]", self.wfile)
        handler = _ServerHandler(*files, sys.stderr, self.get_environ(), multithread=True)
        handler.request_handler = self  # type: ignore[attr-defined]  # as the standard library's own handler does
        handler.run(self.server.get_app())  # type: ignore[attr-defined]

    def end_headers(self) -> None:
        """Only for the standard library's error pages, which quote the request; ``_send`` has its own headers."""
        for name, value in SECURITY_HEADERS:
            self.send_header(name, value)
        super().end_headers()

    def address_string(self) -> str:
        return str(self.client_address[0])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        _log.debug("status_request", client=self.address_string(), request=format % args)
