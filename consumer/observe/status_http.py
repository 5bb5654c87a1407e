"""The HTTP server under the status pages: what a client may do there is bounded in time, bytes and connections."""

import socket
import sys
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from io import BufferedReader, RawIOBase
from socketserver import ThreadingMixIn
from typing import IO, Any, Final, cast
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer

import structlog

CONNECTION_SECONDS_MAX: Final = 10.0
"""A client may take so long to send its request, and as long again to take the answer."""
CONNECTIONS_MAX: Final = 32
"""Served at once; one more takes the place of the oldest, so that slow clients cannot shut probes out. Probes and
Prometheus need a handful, each for milliseconds."""
REQUEST_LINE_BYTES_MAX: Final = 4_096
REQUEST_BYTES_MAX: Final = 16_384
"""Request line and headers together; a body is never read."""
SAFETY: Final = (
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)
"""On every answer: nothing from elsewhere is loaded, run or framed, nothing guessed about the content."""

_log = structlog.get_logger("inventory_refresh.status")


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = CONNECTIONS_MAX

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        self._open: dict[socket.socket, None] = {}
        """Connections, the oldest first."""
        self._changing = threading.Lock()
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind without the look-up of this machine's name that the standard library does, which may take seconds."""
        socket_address = self.server_address
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(socket_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changing:
            if len(self._open) >= CONNECTIONS_MAX:
                oldest = next(iter(self._open))
                del self._open[oldest]
                # Only shut down: its thread sees the end and closes it.
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)
            self._open[request] = None
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._changing:
                self._open.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is no error of ours; anything else is told in full."""
        del request
        _log.debug("status_connection_failed", client=str(client_address[0]), exc_info=True)


class _TooLargeError(Exception):
    """Request line and headers are larger than anybody's who means well."""


class _Request(RawIOBase):
    """What a client sends, up to a limit of bytes and of time: each read alone would let a slow one go on for ever."""

    def __init__(self, connection: socket.socket, seconds_max: float) -> None:
        self._connection = connection
        self._deadline = time.monotonic() + seconds_max
        self._left = REQUEST_BYTES_MAX

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Raises TimeoutError, or _TooLargeError."""
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("the request took too long")
        if not self._left:
            raise _TooLargeError
        self._connection.settimeout(seconds)
        count = self._connection.recv_into(memoryview(buffer)[: self._left])
        self._left -= count
        return count


class _Responder(ServerHandler):
    server_software = "inventory-refresh"

    def log_exception(self, exc_info: Any) -> None:
        _log.error("status_page_failed", exc_info=exc_info)


class Handler(WSGIRequestHandler):
    timeout = CONNECTION_SECONDS_MAX
    server_version = "inventory-refresh"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.rfile = BufferedReader(_Request(self.connection, self.timeout))

    def handle(self) -> None:
        """Answer one request; the connection is closed after it."""
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
        responder = _Responder(*files, sys.stderr, self.get_environ(), multithread=True)
        responder.request_handler = self  # type: ignore[attr-defined]  # as the standard library's own handler does
        responder.run(self.server.get_app())  # type: ignore[attr-defined]

    def end_headers(self) -> None:
        """Of the standard library's error pages, which quote the request; all others come from ``_application``."""
        for name, value in SAFETY:
            self.send_header(name, value)
        super().end_headers()

    def address_string(self) -> str:
        return str(self.client_address[0])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        _log.debug("status_request", client=self.address_string(), line=format % args)
