"""One HTTP call, sent at most once, bounded in time and size. No retries, no redirects."""

import re
import ssl
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
_RAW_DEFLATE: Final = -zlib.MAX_WBITS
"""Some servers send ``deflate`` without the wrapper of zlib that the standard asks for."""

_WAIT_SECONDS_MIN: Final = 0.001
"""A timeout of 0 would mean non-blocking, which fails with another kind of error."""

_HIDDEN: Final = b"***"

_STARTED: Final = ".started"
_FIRST_BYTE: Final = "http11.send_request_headers.started"
"""httpx traces this event once the connection is established, before any byte of the request is written.

Through a proxy there are two: for the proxy's own CONNECT, and for the request once the tunnel stands."""


class TunnelError(httpx.ProxyError):
    """The way through the proxy failed after CONNECT was sent to it: the request itself was not."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response. The body is cut off at the caller's limit, or where the connection or the time ended."""

    status: int
    headers: httpx.Headers
    body: bytes

    def without(self, *secrets: str) -> Self:
        """The reply with these secrets masked, in case the server echoed them: replies are quoted in logs."""
        body, headers = self.body, self.headers
        for secret in filter(None, secrets):
            body = body.replace(secret.encode(), _HIDDEN)
            if b"\\" in body:
                body = _json_spellings(secret).sub(_HIDDEN, body)
            for name, value in headers.items():
                if secret in value:
                    headers = headers.copy()
                    headers[name] = value.replace(secret, _HIDDEN.decode())
        return self if body is self.body and headers is self.headers else replace(self, headers=headers, body=body)


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


def open_transport(
    *, connections_max: int, certificates: ssl.SSLContext | None = None, proxy: str | None = None
) -> httpx.BaseTransport:
    """Open a pool of connections, through ``proxy`` if one is given. Proxies of the environment are ignored.

    ``certificates`` holds the trusted authorities and the client certificate (default: ``default_certificates``); an
    https:// proxy is verified against them, too.
    """
    verify = certificates or default_certificates()
    return httpx.HTTPTransport(
        verify=verify,
        http1=True,
        http2=False,
        limits=httpx.Limits(
            max_connections=connections_max,
            max_keepalive_connections=connections_max,
            keepalive_expiry=KEEP_ALIVE_SECONDS,
        ),
        trust_env=False,
        proxy=httpx.Proxy(proxy, ssl_context=verify if proxy.startswith("https://") else None) if proxy else None,
        retries=0,
    )


def open_http(
    *,
    timeout_seconds: float,
    connections_max: int,
    transport: httpx.BaseTransport | None,
    certificates: ssl.SSLContext | None = None,
) -> httpx.Client:
    """Open the HTTP client that all threads of the service share. ``transport`` replaces real connections.

    ``timeout_seconds`` bounds each single wait for the server; for ``certificates`` see ``open_transport``.
    """
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
        transport=transport or open_transport(connections_max=connections_max, certificates=certificates),
    )


class Endpoint:
    """An address that is called often: what all calls of it have in common is worked out once.

    Calls go straight to the transport. An httpx.Client would look for redirects, cookies, authentication and hooks, of
    which there are none here, and so double the price of a call.
    """

    def __init__(
        self,
        http: httpx.Client,
        transport: httpx.BaseTransport,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        secrets: Sequence[str] = (),
    ) -> None:
        """``headers`` are sent with each call, as are those of ``http``, whose transport is ``transport``.

        ``secrets`` are their values that the caller must mask in replies.
        """
        self.secrets = secrets
        self._transport = transport
        prepared = http.build_request("GET", url, headers=headers)
        self._url = prepared.url
        self._headers = prepared.headers.raw

    def call(
        self,
        method: Literal["GET", "POST"],
        path: str = "",
        *,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes | None,
        seconds_max: float,
        monotonic: Callable[[], float],
        before_first_byte: Callable[[], None] | None = None,
        reply_bytes_max: int = REPLY_BYTES_MAX,
    ) -> Reply:
        """As ``call``; ``path`` is put after the address."""
        waits = _Waits(seconds_max, monotonic, before_first_byte)
        request = httpx.Request(
            method,
            httpx.URL(f"{self._url}{path}") if path else self._url,
            headers=[*self._headers, *headers],
            content=body,
            extensions=waits.extensions(),
        )
        with waits.watching():
            response = self._transport.handle_request(request)
        try:
            return _reply(response, waits, reply_bytes_max)
        finally:
            response.close()


def call(
    http: httpx.Client,
    method: Literal["GET", "POST"],
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes | None,
    seconds_max: float,
    monotonic: Callable[[], float],
    before_first_byte: Callable[[], None] | None = None,
    reply_bytes_max: int = REPLY_BYTES_MAX,
) -> Reply:
    """Send the request once and read the reply.

    ``before_first_byte`` is called once a connection is established, and may raise to prevent the request from being
    sent. The call takes at most ``seconds_max``: the time left bounds each single wait, and reading the reply's body as
    a whole. The exception is a server that sends its headers byte by byte, each just in time.

    Raises httpx.HTTPError if no response headers arrived. After them, a lost connection only cuts off the body.
    """
    waits = _Waits(seconds_max, monotonic, before_first_byte)
    request = http.build_request(method, url, headers=headers, content=body, extensions=waits.extensions())
    with waits.watching():
        response = http.send(request, stream=True)
    try:
        return _reply(response, waits, reply_bytes_max)
    finally:
        response.close()


class _Waits:
    """What bounds the waits of one call, kept current while it goes on."""

    def __init__(
        self, seconds_max: float, monotonic: Callable[[], float], before_first_byte: Callable[[], None] | None
    ) -> None:
        self.deadline = monotonic() + seconds_max
        self.monotonic = monotonic
        self._before_first_byte = before_first_byte
        self._is_tunnelling = False
        """CONNECT was sent to a proxy, and nothing of the request so far."""
        self._seconds = {
            "connect": min(CONNECT_SECONDS_MAX, seconds_max),
            "read": seconds_max,
            "write": seconds_max,
            "pool": seconds_max,
        }

    def extensions(self) -> dict[str, object]:
        """Of the request. They are not kept here: objects in a cycle keep their memory until garbage is collected."""
        # httpx looks the seconds up again for each step of the exchange.
        return {"trace": self._trace, "timeout": self._seconds}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """For the exchange up to the response's headers. Raises TunnelError if a proxy was as far as it got."""
        try:
            yield
        except httpx.ProxyError:
            raise
        except httpx.HTTPError as error:
            if self._is_tunnelling:
                raise TunnelError(f"{type(error).__name__} after CONNECT: {error}") from error
            raise

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        if event == _FIRST_BYTE:
            if self._before_first_byte:
                self._before_first_byte()
            self._is_tunnelling = info["request"].method == b"CONNECT"
        if event.endswith(_STARTED):
            left = max(self.deadline - self.monotonic(), _WAIT_SECONDS_MIN)
            self._seconds["read"] = self._seconds["write"] = left


def _reply(response: httpx.Response, waits: _Waits, bytes_max: int) -> Reply:
    content = _read(response, waits.deadline, waits.monotonic, bytes_max)
    if response.headers.get("Content-Encoding", "").strip().lower() in _COMPRESSED:
        content = _decompress(content, bytes_max)
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
    with suppress(zlib.error):
        return zlib.decompressobj(_ZLIB_OR_GZIP).decompress(body, bytes_max)
    with suppress(zlib.error):
        raw = zlib.decompressobj(_RAW_DEFLATE)
        content = raw.decompress(body, bytes_max)
        # Nothing in it says that it is deflate, so a stream that does not end is taken for anything else.
        if raw.eof or len(content) >= bytes_max:
            return content
    return body
