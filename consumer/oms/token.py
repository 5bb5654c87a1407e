"""OAuth 2.0 client credentials: a token is used until shortly before it expires, and renewed by one thread."""

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
"""API key and secret, asked for at every renewal: a secret that was changed in its file needs no restart."""

MARGIN_SHARE: Final = 0.1
MARGIN_SECONDS_MAX: Final = 60.0
"""A token is renewed this long before it expires, or a tenth of its life before: it must outlast a request."""
LIFE_SECONDS_DEFAULT: Final = 300.0
"""Where the answer does not say how long a token lives."""
LIFE_SECONDS_MAX: Final = 86_400.0

_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,8192}")
"""What can stand in a header."""


@dataclass(frozen=True, slots=True)
class Token:
    """``number`` counts the tokens of this process; ``use_until`` is in monotonic seconds."""

    number: int
    value: str = field(repr=False)
    use_until: float


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What to post for a token. ``secrets`` are the forms in which the secret stands in it."""

    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)


def as_form(key: str, secret: str) -> TokenRequest:
    """As OAuth 2.0 has it: the credentials in the header, the grant in a form."""
    basic = b64encode(f"{key}:{secret}".encode()).decode()
    headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"}
    return TokenRequest(headers, b"grant_type=client_credentials", (secret, basic))


def as_json(key: str, secret: str) -> TokenRequest:
    """All in a JSON body, as Unified Commerce wants it."""
    content = {"client_id": key, "client_secret": secret, "grant_type": "client_credentials"}
    body = json.dumps(content, ensure_ascii=False).encode()
    return TokenRequest({"Content-Type": "application/json"}, body, (secret, json.dumps(secret)[1:-1]))


class Tokens:
    """The token in use, shared by all threads."""

    def __init__(
        self,
        http: httpx.Client,
        url: str,
        credentials: Credentials,
        *,
        timeout_seconds: float,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        request: Callable[[str, str], TokenRequest] = as_form,
    ) -> None:
        """``request`` makes the request for a token of API key and secret."""
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
        self._tries = 0
        self._forbidden: int | None = None
        self.fetched = 0
        """How many tokens this process has had."""

    def get(self) -> Token | Answer:
        """A token that is good for a while yet, or why there is none.

        The answer is UNAUTHORISED (the credentials are wrong), WRONG_ADDRESS, OVER_QUOTA or UNAVAILABLE. Whoever waits
        while another thread fails shares its failure: one outage costs one time-out, not one a thread.
        """
        tries = self._tries
        token = self._usable()
        if token:
            return token
        with self._renewing:
            token = self._usable()
            if token:
                return token
            if self._tries != tries and self._failure:
                return self._failure
            renewed = self._fetch()
            with self._state:
                self._tries += 1
                self._token = renewed if isinstance(renewed, Token) else None
                self._failure = renewed if isinstance(renewed, Answer) else None
            return renewed

    def drop(self, token: Token) -> None:
        """The OMS does not take this token any more: the next ``get`` renews it, unless another thread has already."""
        with self._state:
            if self._token == token:
                self._token = None

    def forbidden(self, token: Token) -> bool:
        """The OMS answered 403 to this token: drop it. True if an earlier one was forbidden too, and none accepted."""
        self.drop(token)
        with self._state:
            if self._forbidden is None:
                self._forbidden = token.number
            return token.number > self._forbidden

    def accepted(self) -> None:
        """A request was accepted: whatever was forbidden before is allowed now."""
        with self._state:
            self._forbidden = None

    def _usable(self) -> Token | None:
        token = self._token
        return token if token and self._monotonic() < token.use_until else None

    def _fetch(self) -> Token | Answer:
        request = self._request(*self._credentials())
        asked_at = self._monotonic()
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
            return _no_token(classify_error(error))
        if 200 <= reply.status <= 299:
            return self._read(reply, asked_at)
        reply = reply.without(*request.secrets)
        return _no_token(classify(reply.status, reply.headers, reply.body, wall=self._wall()))

    def _read(self, reply: Reply, asked_at: float) -> Token | Answer:
        """The token in the reply; how long it lives counts from when it was asked for."""
        try:
            content = json.loads(reply.body)
        except (ValueError, RecursionError):
            content = None
        value = content.get("access_token") if isinstance(content, dict) else None
        if not isinstance(value, str) or not _TOKEN.fullmatch(value):
            # Not quoted: what stands there may be a token all the same.
            return Answer(AnswerKind.WRONG_ADDRESS, status=reply.status, detail="oms.token_url gives no access_token")
        life = _life_seconds(content.get("expires_in"))
        self.fetched += 1
        return Token(self.fetched, value, asked_at + life - min(MARGIN_SECONDS_MAX, MARGIN_SHARE * life))


def _life_seconds(expires_in: object) -> float:
    """``expires_in`` of an answer, a number or a string of digits."""
    if isinstance(expires_in, str) and expires_in.isascii() and expires_in.isdigit() and len(expires_in) <= 9:
        expires_in = int(expires_in)
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float) or not expires_in > 0:
        return LIFE_SECONDS_DEFAULT
    return float(min(expires_in, LIFE_SECONDS_MAX))


def _no_token(answer: Answer) -> Answer:
    """What the token endpoint's answer means for a request that therefore did not leave: never unknown."""
    kind = answer.kind
    if kind not in (AnswerKind.OVER_QUOTA, AnswerKind.WRONG_ADDRESS):
        kind = AnswerKind.UNAUTHORISED if answer.status in (400, 401, 403) else AnswerKind.UNAVAILABLE
    return replace(answer, kind=kind, detail=f"no token from oms.token_url: {answer.detail}")
