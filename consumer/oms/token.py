"""OAuth 2.0 client credentials: a token is used until shortly before it expires; one thread at a time renews it."""

import json
import re
import threading
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import httpx

from consumer.core.oms.answers import Answer, AnswerKind
from consumer.oms.answers import classify, classify_error
from consumer.oms.http import Reply, call

Credentials = Callable[[], tuple[str, str]]
"""Returns API key and secret. Called at every renewal, so that a changed secret needs no restart."""

MARGIN_SHARE: Final = 0.1
MARGIN_SECONDS_MAX: Final = 60.0
"""A token is renewed a tenth of its lifetime before it expires, at most this long before: it must outlast a request."""
LIFETIME_SECONDS_DEFAULT: Final = 300.0
"""Lifetime of a token whose response has no usable ``expires_in``."""
LIFETIME_SECONDS_MAX: Final = 86_400.0

_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,8192}")
"""Characters that are allowed in a header value."""


@dataclass(frozen=True, slots=True)
class Token:
    """``sequence`` counts the tokens of this process from 1; ``use_until`` is in monotonic seconds."""

    sequence: int
    value: str = field(repr=False)
    use_until: float

    @property
    def header(self) -> tuple[bytes, bytes]:
        """The header by which a call shows the token."""
        return b"Authorization", b"Bearer " + self.value.encode()


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What to post for a token. ``secrets`` are the forms in which it contains the secret, to be masked in replies."""

    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)


def form_request(key: str, secret: str) -> TokenRequest:
    """The token request of OAuth 2.0: credentials in the Authorization header, a form as body."""
    basic = b64encode(f"{key}:{secret}".encode()).decode()
    headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"}
    return TokenRequest(headers, b"grant_type=client_credentials", (secret, basic))


def json_request(key: str, secret: str) -> TokenRequest:
    """The token request of Unified Commerce: everything in a JSON body."""
    content = {"client_id": key, "client_secret": secret, "grant_type": "client_credentials"}
    body = json.dumps(content, ensure_ascii=False).encode()
    return TokenRequest({"Content-Type": "application/json"}, body, (secret, json.dumps(secret)[1:-1]))


class Tokens:
    """The current token, shared by all threads."""

    def __init__(
        self,
        http: httpx.Client,
        url: str,
        credentials: Credentials,
        *,
        timeout_seconds: float,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        request: Callable[[str, str], TokenRequest] = form_request,
    ) -> None:
        """``request`` builds the token request from API key and secret."""
        self._http = http
        self._url = url
        self._credentials = credentials
        self._timeout_seconds = timeout_seconds
        self._monotonic = monotonic
        self._wall = wall
        self._request = request
        self._renewing = threading.Lock()
        self._state = threading.Lock()
        self._token: Token | None = None
        self._failure: Answer | None = None
        self._attempts = 0
        self._first_forbidden: int | None = None
        """Sequence of the first token that got a 403 since a request was last accepted."""
        self.fetched = 0
        """Number of tokens that this process has received."""

    def get(self) -> Token | Answer:
        """A valid token, or the reason why there is none: UNAUTHORISED, WRONG_ADDRESS, OVER_QUOTA or UNAVAILABLE.

        A thread that waits while another thread's attempt fails shares that failure: an outage costs one timeout, not
        one for each thread.
        """
        attempts = self._attempts
        token = self._usable()
        if token:
            return token
        with self._renewing:
            token = self._usable()
            if token:
                return token
            if self._attempts != attempts and self._failure:
                return self._failure
            renewed = self._fetch()
            with self._state:
                self._attempts += 1
                self._token = renewed if isinstance(renewed, Token) else None
                self._failure = renewed if isinstance(renewed, Answer) else None
            return renewed

    def drop(self, token: Token) -> None:
        """Stop using this token, after a 401. The next ``get`` renews it, unless another thread already has."""
        with self._state:
            if self._token == token:
                self._token = None

    def record_forbidden(self, token: Token) -> bool:
        """Record a 403 and drop the token.

        True if an earlier token got a 403 as well, and no request was accepted in between.
        """
        self.drop(token)
        with self._state:
            if self._first_forbidden is None:
                self._first_forbidden = token.sequence
            return token.sequence > self._first_forbidden

    def record_accepted(self) -> None:
        """Record that a request was accepted: earlier 403s no longer count."""
        with self._state:
            self._first_forbidden = None

    def _usable(self) -> Token | None:
        token = self._token
        return token if token and self._monotonic() < token.use_until else None

    def _fetch(self) -> Token | Answer:
        request = self._request(*self._credentials())
        requested_at = self._monotonic()
        try:
            reply = call(
                self._http,
                "POST",
                self._url,
                headers=request.headers,
                body=request.body,
                seconds_max=self._timeout_seconds,
                monotonic=self._monotonic,
            )
        except httpx.HTTPError as error:
            return _without_token(classify_error(error))
        if 200 <= reply.status <= 299:
            return self._read(reply, requested_at)
        reply = reply.without(*request.secrets)
        return _without_token(classify(reply.status, reply.headers, reply.body, wall=self._wall()))

    def _read(self, reply: Reply, requested_at: float) -> Token | Answer:
        """The token in the reply. Its lifetime counts from the request."""
        try:
            content = json.loads(reply.body)
        except (ValueError, RecursionError):
            content = None
        value = content.get("access_token") if isinstance(content, dict) else None
        if not isinstance(value, str) or not _TOKEN.fullmatch(value):
            # The reply is not quoted: it may still contain a token.
            return Answer(
                AnswerKind.WRONG_ADDRESS, status=reply.status, detail="no access_token in oms.token_url's response"
            )
        lifetime = _lifetime_seconds(content.get("expires_in"))
        self.fetched += 1
        margin = min(MARGIN_SECONDS_MAX, MARGIN_SHARE * lifetime)
        return Token(self.fetched, value, requested_at + lifetime - margin)


def _lifetime_seconds(expires_in: object) -> float:
    """The token's lifetime; ``expires_in`` may be a number or a string of digits."""
    if isinstance(expires_in, str) and expires_in.isascii() and expires_in.isdigit() and len(expires_in) <= 9:
        expires_in = int(expires_in)
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float) or not expires_in > 0:
        return LIFETIME_SECONDS_DEFAULT
    return float(min(expires_in, LIFETIME_SECONDS_MAX))


def _without_token(answer: Answer) -> Answer:
    """What a failed token request means for the refresh request, which was not sent: its outcome is never unknown."""
    kind = answer.kind
    if kind not in (AnswerKind.OVER_QUOTA, AnswerKind.WRONG_ADDRESS):
        kind = AnswerKind.UNAUTHORISED if answer.status in (400, 401, 403) else AnswerKind.UNAVAILABLE
    return replace(answer, kind=kind, detail=f"no token from oms.token_url: {answer.detail}")
