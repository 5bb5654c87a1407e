"""What one client of the status server can use: a limit on connections, on bytes and on time.

uvicorn bounds how many requests run, and refuses those that are one too many. Here that would be wrong: idle clients on
all connections would shut the probes out, and Kubernetes restarts a pod whose probes fail. It has no limit on the time
for a request either. So this protocol adds both, and serves one request per connection.
"""

import asyncio
import re
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final

import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTION_SECONDS_MAX: Final = 10.0
"""For a client to send its request, and then to take the response."""
CONNECTIONS_MAX: Final = 32
"""Open at a time. One more closes the oldest, so that slow clients cannot shut probes out; probes and Prometheus need a
handful, for milliseconds each."""
REQUEST_LINE_BYTES_MAX: Final = 4_096
REQUEST_BYTES_MAX: Final = 16_384
"""Request line and headers together; a body is never read."""
HEADERS_MAX: Final = 100
SERVER_NAME: Final = "inventory-refresh"
_CONTENT: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS: Final = (
    ("Content-Security-Policy", _CONTENT),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)
"""On every response: the browser loads and runs only our own files, shows the page in no frame and guesses no content
type."""

_END_OF_HEAD: Final = re.compile(rb"\n\r?\n")
_LINES_MAX: Final = HEADERS_MAX + 2
"""The request line, and the empty line at the end."""

_log = structlog.get_logger("inventory_refresh.status")

Opened = dict["Connection", None]
"""Open connections, oldest first; a dict, as an ordered set. Only the server's thread uses it."""


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1 with the limits of this module. It serves one request and is then closed."""

    def __init__(self, opened: Opened, **of_server: Any) -> None:
        super().__init__(**of_server)
        self._opened = opened
        self._head = b""
        """What was received of request line and headers."""
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the parent class
        """Make room if there are too many, and give the client its time."""
        super().connection_made(transport)
        if len(self._opened) >= CONNECTIONS_MAX:
            oldest = next(iter(self._opened))
            del self._opened[oldest]
            oldest.transport.abort()
        self._opened[self] = None
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._opened.pop(self, None)
        self._clear_deadline()
        if exc is not None:
            _log.debug("status_connection_failed", client=self._client_name, exc_info=exc)
        super().connection_lost(exc)

    # The request

    def _has_request(self) -> bool:
        return bool(self.cycle)

    def data_received(self, data: bytes) -> None:
        """Take what belongs to the request's head, within its limits; anything after it is not read."""
        if self._has_request():
            return
        self._head += data
        end = _END_OF_HEAD.search(self._head)
        length = end.end() if end else len(self._head)
        status = _over_limit(self._head[:length])
        if status is not None:
            self._refuse(status)
            return
        surplus = len(self._head) - length
        super().data_received(data[: len(data) - surplus])
        if self._has_request():
            self._clear_deadline()
            self.flow.pause_reading()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, without quoting it."""
        del msg
        self._refuse(HTTPStatus.BAD_REQUEST)

    def _get_upgrade(self) -> bytes | None:
        """An upgrade may be ignored; uvicorn would log a warning for each."""
        return None

    def _refuse(self, status: HTTPStatus) -> None:
        body = f"{status.phrase.lower()}\n"
        headers = (
            ("Server", SERVER_NAME),
            ("Date", formatdate(usegmt=True)),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            *SECURITY_HEADERS,
        )
        lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers), "", body]
        self.transport.write("\r\n".join(lines).encode())
        self.transport.close()
        _log.debug("status_request", client=self._client_name, request=None, status=status.value)

    # The response

    def on_response_complete(self) -> None:
        """The response is in the transport's buffer; the connection closes once the client has taken it."""
        super().on_response_complete()
        self._set_deadline()

    # Time

    def _set_deadline(self) -> None:
        self._clear_deadline()
        self._deadline = self.loop.call_later(CONNECTION_SECONDS_MAX, self.transport.abort)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    @property
    def _client_name(self) -> str:
        return self.client[0] if self.client else ""


def _over_limit(head: bytes) -> HTTPStatus | None:
    """How to refuse this much of a request's head; None: it is within the limits so far."""
    line, _, _ = head.partition(b"\n")
    if len(line) > REQUEST_LINE_BYTES_MAX:
        return HTTPStatus.REQUEST_URI_TOO_LONG
    if len(head) > REQUEST_BYTES_MAX or head.count(b"\n") > _LINES_MAX:
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    return None
