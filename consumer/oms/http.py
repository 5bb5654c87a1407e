"""One HTTP call, sent at most once, bounded in time and size. No retries, no redirects."""

import re
import ssl
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version
from typing import Any, Final, Literal, Self, cast

import httpx

REPLY_BYTES_MAX: Final = 65_536
"""How much of a response's body is read by default. A jobID or an error takes a few hundred bytes, an HTML page of a
gateway a few thousand."""
CONNECT_SECONDS_MAX: Final = 10.0
"""An OMS that takes longer to accept a connection counts as down."""
KEEP_ALIVE_SECONDS: Final = 3.0
"""Idle connections are closed after this, before the server closes them (many do after 5 s): a request written at that
moment is lost, its outcome is unknown, and its location is held."""

_COMPRESSED: Final = frozenset({"gzip", "x-gzip", "deflate"})
"""Never requested, but some gateways compress anyway."""
_ZLIB_OR_GZIP: Final = 32 + zlib.MAX_WBITS

_WAIT_SECONDS_MIN: Final = 0.001
"""A timeout of 0 would mean non-blocking, which fails with another kind of error."""

_HIDDEN: Final = b"***"

_FIRST_BYTE: Final = "http11.send_request_headers.started"
"""httpx traces this event once the connection is established, before any byte of the request is written."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response. The body is cut off at the caller's limit, or where the connection or the time ended."""

    status: int
    headers: httpx.Headers
    body: bytes

    def without(self, *secrets: str) -> Self:
        """The reply with these secrets masked, in case the server echoed them: replies are quoted in logs."""
        body = self.body
        headers = self.headers.copy()
        for secret in filter(None, secrets):
            body = body.replace(secret.encode(), _HIDDEN)
            if b"\\" in body:
                body = _json_spellings(secret).sub(_HIDDEN, body)
            for name, value in self.headers.items():
                if secret in value:
                    headers[name] = headers[name].replace(secret, _HIDDEN.decode())
        return replace(self, headers=headers, body=body)


def _json_spellings(secret: str) -> re.Pattern[bytes]:
    r"""Matches the secret with each character written as it is, after a backslash, or as ``\uXXXX``."""
    spellings = []
    for character in secret:
        units = character.encode("utf-16-be").hex()
        escape = "".join(rf"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
        spellings.append(rb"(?:\\?%b|(?i:%b))" % (re.escape(character.encode()), escape.encode()))
    return re.compile(b"".join(spellings))


def default_certificates() -> ssl.SSLContext:
    """Trust certifi's authorities, or those of SSL_CERT_FILE or SSL_CERT_DIR. No client certificate."""
    return httpx.create_ssl_context(verify=True, cert=None, trust_env=True)


def open_http(
    *,
    timeout_seconds: float,
    connections_max: int,
    transport: httpx.BaseTransport | None,
    certificates: ssl.SSLContext | None = None,
) -> httpx.Client:
    """Open the HTTP client that all threads of the service share. ``transport`` replaces real connections.

    ``timeout_seconds`` bounds each single wait for the server. ``certificates`` holds the trusted authorities and the
    client certificate (default: ``default_certificates``). Proxies of the environment are ignored.
    """
    limits = httpx.Limits(
        max_connections=connections_max,
        max_keepalive_connections=connections_max,
        keepalive_expiry=KEEP_ALIVE_SECONDS,
    )
    return httpx.Client(
        auth=None,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={
            "User-Agent": f"inventory-refresh/{version('inventory-refresh')}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        },
        timeout=httpx.Timeout(
            connect=min(CONNECT_SECONDS_MAX, timeout_seconds),
            read=timeout_seconds,
            write=timeout_seconds,
            pool=timeout_seconds,
        ),
        follow_redirects=False,
        max_redirects=0,
        trust_env=False,
        transport=transport
        or httpx.HTTPTransport(
            verify=certificates or default_certificates(),
            http1=True,
            http2=False,
            limits=limits,
            trust_env=False,
            proxy=None,
            retries=0,
        ),
    )


def call(
    http: httpx.Client,
    method: Literal["GET", "POST"],
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes | None,
    seconds_max: float,
    monotonic: Callable[[], float],
    before_first_byte: Callable[[], None] = lambda: None,
    reply_bytes_max: int = REPLY_BYTES_MAX,
) -> Reply:
    """Send the request once and read the reply.

    ``before_first_byte`` is called once a connection is established, and may raise to prevent the request from being
    sent. The call takes at most ``seconds_max``: the time left bounds each single wait, and reading the reply's body as
    a whole. The exception is a server that sends its headers byte by byte, each just in time.

    Raises httpx.HTTPError if no response headers arrived. After them, a lost connection only cuts off the body.
    """
    deadline = monotonic() + seconds_max
    waits = dict.fromkeys(("read", "write", "pool"), seconds_max) | {"connect": min(CONNECT_SECONDS_MAX, seconds_max)}

    def trace(event: str, _: Mapping[str, Any]) -> None:
        if event == _FIRST_BYTE:
            before_first_byte()
        # httpx looks these up again for each step of the exchange.
        waits["read"] = waits["write"] = max(deadline - monotonic(), _WAIT_SECONDS_MIN)

    extensions = {"trace": trace, "timeout": waits}
    with http.stream(method, url, headers=headers, content=body, extensions=extensions) as response:
        content = _read(response, deadline, monotonic, reply_bytes_max)
        if response.headers.get("Content-Encoding", "").strip().lower() in _COMPRESSED:
            content = _decompress(content, reply_bytes_max)
        return Reply(response.status_code, response.headers, content)


def _read(response: httpx.Response, deadline: float, monotonic: Callable[[], float], bytes_max: int) -> bytes:
    body = bytearray()
    try:
        # The raw stream: httpx would decompress each part without a limit, and a few kilobytes can become gigabytes.
        for part in cast("httpx.SyncByteStream", response.stream):
            body += part
            if len(body) >= bytes_max or monotonic() >= deadline:
                break
    except httpx.HTTPError:
        # The status is known, and the rest of the body only matters for a jobID. Without one a 2xx is unreadable, and
        # treated like no answer at all.
        return bytes(body[:bytes_max])
    return bytes(body[:bytes_max])


def _decompress(body: bytes, bytes_max: int) -> bytes:
    """At most ``bytes_max`` bytes of a compressed body. A body that cannot be decompressed is returned as it is."""
    try:
        return zlib.decompressobj(_ZLIB_OR_GZIP).decompress(body, bytes_max)
    except zlib.error:
        return body
