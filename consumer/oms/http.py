"""HTTP at its plainest: one call, sent at most once, bounded in time and size. No retries, no redirects."""

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
"""So much of a response's body is read, unless the caller says otherwise: a jobID or an error takes some hundred, a
gateway's page some thousand."""
CONNECT_SECONDS_MAX: Final = 10.0
"""An OMS that takes longer to accept a connection is as good as down."""
KEEP_ALIVE_SECONDS: Final = 3.0
"""Idle connections are closed after this. Servers close theirs too, many after 5 s; a request that is written just then
is lost, and its location would be held."""

_PACKED: Final = frozenset({"gzip", "x-gzip", "deflate"})
"""Never asked for, but some gateways send so all the same."""
_ZLIB_OR_GZIP: Final = 32 + zlib.MAX_WBITS

_WAIT_SECONDS_MIN: Final = 0.001
"""A wait of 0 would mean not to block at all, which is another kind of error."""

_HIDDEN: Final = b"***"

_FIRST_BYTE: Final = "http11.send_request_headers.started"
"""httpx traces this when the connection stands and before anything of the request is written to it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response; the body is cut off at the caller's limit, or where the connection or the time came to an end."""

    status: int
    headers: httpx.Headers
    body: bytes

    def without(self, *secrets: str) -> Self:
        """The same without these secrets, should the other side have put them in: replies are quoted in messages."""
        body = self.body
        headers = self.headers.copy()
        for secret in filter(None, secrets):
            body = body.replace(secret.encode(), _HIDDEN)
            if b"\\" in body:
                body = _as_json_may_spell(secret).sub(_HIDDEN, body)
            for name, value in self.headers.items():
                if secret in value:
                    headers[name] = headers[name].replace(secret, _HIDDEN.decode())
        return replace(self, headers=headers, body=body)


def _as_json_may_spell(secret: str) -> re.Pattern[bytes]:
    """The secret, each of its characters as it is, after a backslash, or by its number after a backslash and a u."""
    spellings = []
    for character in secret:
        units = character.encode("utf-16-be").hex()
        number = "".join(rf"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))
        spellings.append(rb"(?:\\?%b|(?i:%b))" % (re.escape(character.encode()), number.encode()))
    return re.compile(b"".join(spellings))


def usual_certificates() -> ssl.SSLContext:
    """Trust the authorities of certifi's list, or those of SSL_CERT_FILE or SSL_CERT_DIR; show no certificate."""
    return httpx.create_ssl_context(verify=True, cert=None, trust_env=True)


def open_http(
    *,
    timeout_seconds: float,
    connections_max: int,
    transport: httpx.BaseTransport | None,
    certificates: ssl.SSLContext | None = None,
) -> httpx.Client:
    """The one client of the service, shared by its threads; ``transport`` in place of real connections.

    ``timeout_seconds`` bounds each wait for the other side. ``certificates`` says whom to trust and as whom to come
    (default: ``usual_certificates``). Proxies of the environment are not used.
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
            verify=certificates or usual_certificates(),
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

    ``before_first_byte`` is called when a connection stands, and may raise to have nothing sent. The whole takes
    ``seconds_max`` at most: what is left of it bounds each single wait, and the reading of the reply's body altogether.
    (The one way past it: a server that sends its headers byte by byte, each just in time.)

    Raises httpx.HTTPError if no status came; once there is one, a lost connection only cuts the body off.
    """
    deadline = monotonic() + seconds_max
    waits = dict.fromkeys(("read", "write", "pool"), seconds_max) | {"connect": min(CONNECT_SECONDS_MAX, seconds_max)}

    def trace(event: str, _: Mapping[str, Any]) -> None:
        if event == _FIRST_BYTE:
            before_first_byte()
        # httpx reads these anew for each part of the exchange.
        waits["read"] = waits["write"] = max(deadline - monotonic(), _WAIT_SECONDS_MIN)

    extensions = {"trace": trace, "timeout": waits}
    with http.stream(method, url, headers=headers, content=body, extensions=extensions) as response:
        content = _read(response, deadline, monotonic, reply_bytes_max)
        if response.headers.get("Content-Encoding", "").strip().lower() in _PACKED:
            content = _unpacked(content, reply_bytes_max)
        return Reply(response.status_code, response.headers, content)


def _read(response: httpx.Response, deadline: float, monotonic: Callable[[], float], bytes_max: int) -> bytes:
    body = bytearray()
    try:
        # As it comes: httpx would unpack each part as a whole, and some kilobytes may swell to gigabytes.
        for part in cast("httpx.SyncByteStream", response.stream):
            body += part
            if len(body) >= bytes_max or monotonic() >= deadline:
                break
    except httpx.HTTPError:
        # The status stands, and what it means does not depend on the rest, but for a jobID: without it the outcome is
        # not known to be good, just as if nothing had come.
        return bytes(body[:bytes_max])
    return bytes(body[:bytes_max])


def _unpacked(body: bytes, bytes_max: int) -> bytes:
    """At most so many bytes of a packed body; as it is where it cannot be unpacked."""
    try:
        return zlib.decompressobj(_ZLIB_OR_GZIP).decompress(body, bytes_max)
    except zlib.error:
        return body
