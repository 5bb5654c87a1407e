"""OAuth 2.0 client credentials: a token is used until shortly before it expires; one thread at a time renews it.

A new token may be refused for some seconds: it has not reached every server yet, or is valid from a time by a clock
that runs ahead. It therefore rests after a 401 and is used again, with growing pauses, before the credentials count as
wrong (rule 26 of docs/protocol.md).
"""

import json
import re
import threading
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlencode

import httpx

from consumer.core.oms.answers import Answer, AnswerKind
from consumer.oms.answers import classify, classify_error
from consumer.oms.http import Reply, call
from consumer.oms.reply_parsing import is_over_quota, read_json, read_retry_after, short_line

Credentials = Callable[[], tuple[str, str]]
"""Returns API key and secret. Called at every renewal, so that a changed secret needs no restart."""

MARGIN_SHARE: Final = 0.1
MARGIN_SECONDS_MAX: Final = 60.0
"""A token is renewed a tenth of its lifetime before it expires, at most this long before: it must outlast a request."""
LIFETIME_SECONDS_DEFAULT: Final = 300.0
"""Lifetime of a token whose response has no usable ``expires_in``."""
LIFETIME_SECONDS_MAX: Final = 86_400.0
NEW_SECONDS: Final = 60.0
"""A token counts as new for this long, or until a call with it was let in."""
RENEWAL_SECONDS: Final = 600.0
"""A refusal other than a 401 may mean a stale token, but rarely does: a token is renewed for one at most once in this
time."""
PAUSES_SECONDS: Final = (1.0, 2.0, 5.0, 10.0, 20.0)
"""How long a new token rests after each 401. One more 401 after the last pause means wrong credentials."""

_OAUTH_OUTAGES: Final = frozenset({"server_error", "temporarily_unavailable", "slow_down"})
_SETTING_OF_OAUTH_ERROR: Final[Mapping[str, str]] = {
    "invalid_scope": "oms.token_scope",
    "invalid_target": "oms.token_audience",
    "invalid_request": "oms.token_scope, oms.token_audience or oms.token_fields",
    "unsupported_grant_type": "oms.token_url",
}
"""What to correct, by the error of OAuth 2.0 (RFC 6749, 8707); for all others it is the API key or its secret."""

_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,8192}")
"""Characters that are allowed in a header value."""


@dataclass(frozen=True, slots=True)
class Token:
    """``sequence`` counts the tokens of this process from 1; times are in monotonic seconds.

    ``refusals`` is how often it had been refused when it was handed out.
    """

    sequence: int
    value: str = field(repr=False)
    use_until: float
    issued_at: float = 0.0
    refusals: int = 0

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


@dataclass(frozen=True, slots=True)
class TokenOptions:
    """What a token endpoint wants besides key and secret.

    ``fields`` are further fields of the request. With ``credentials_in_body`` key and secret are fields as well,
    instead of a header. ``secrets`` are values of ``fields`` and ``headers`` that must not be shown.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    credentials_in_body: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


DEFAULT_OPTIONS: Final = TokenOptions()


def form_request(key: str, secret: str, options: TokenOptions = DEFAULT_OPTIONS) -> TokenRequest:
    """The token request of OAuth 2.0: a form as body; the credentials in the Authorization header or in the form."""
    fields = {"grant_type": "client_credentials", **options.fields}
    headers = {"Content-Type": "application/x-www-form-urlencoded", **options.headers}
    basic = b64encode(f"{key}:{secret}".encode()).decode()
    if options.credentials_in_body:
        fields |= {"client_id": key, "client_secret": secret}
    else:
        headers["Authorization"] = f"Basic {basic}"
    secrets = (secret, basic, urlencode({"": secret})[1:], *options.secrets)
    return TokenRequest(headers, urlencode(fields).encode(), secrets)


def json_request(key: str, secret: str, options: TokenOptions = DEFAULT_OPTIONS) -> TokenRequest:
    """The token request of Unified Commerce: everything in a JSON body."""
    content = {"client_id": key, "client_secret": secret, "grant_type": "client_credentials", **options.fields}
    body = json.dumps(content, ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json", **options.headers}
    return TokenRequest(headers, body, (secret, json.dumps(secret)[1:-1], *options.secrets))


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
        self._is_proven = False
        """A call with the token was let in."""
        self._refusals = 0
        """How often the token was refused while it was new."""
        self._rests_until = 0.0
        self._failure: Answer | None = None
        self._attempts = 0
        self._keep_until = float("-inf")
        """Until then no refusal but a 401 is a reason to drop the token."""
        self._first_refused: int | None = None
        """Sequence of the first token with which a request was refused whole since one was last accepted."""
        self.fetched = 0
        """Number of tokens that this process has received."""

    def get(self) -> Token | Answer:
        """A valid token, or the reason why there is none: UNAUTHORISED, WRONG_ADDRESS, OVER_QUOTA or UNAVAILABLE.

        While a new token rests there is none, either: UNAVAILABLE until its pause is over.

        A thread that waits while another thread's attempt fails shares that failure: an outage costs one timeout, not
        one for each thread.
        """
        attempts = self._attempts
        usable = self._usable()
        if usable:
            return usable
        with self._renewing:
            usable = self._usable()
            if usable:
                return usable
            if self._attempts != attempts and self._failure:
                return self._failure
            renewed = self._fetch()
            with self._state:
                self._attempts += 1
                self._token = renewed if isinstance(renewed, Token) else None
                self._is_proven, self._refusals, self._rests_until = False, 0, 0.0
                self._failure = renewed if isinstance(renewed, Answer) else None
            return renewed

    def refused(self, token: Token, answer: Answer) -> Answer | None:
        """A refresh request with this token got this 401. Returns None if it should be repeated with another token.

        Otherwise the token is new: the result is what the request is answered. It is UNAVAILABLE while the token rests,
        and UNAUTHORISED once all of its pauses are over.
        """
        now = self._monotonic()
        with self._state:
            if self._token is None or self._token.sequence != token.sequence:
                return None
            if token.refusals < self._refusals:
                return self._resting(now, answer)
            if not self._refusals and (self._is_proven or now - token.issued_at > NEW_SECONDS):
                self._token = None
                return None
            if self._refusals == len(PAUSES_SECONDS):
                self._token = None
                return answer
            self._rests_until = now + PAUSES_SECONDS[self._refusals]
            self._refusals += 1
            return self._resting(now, answer)

    def replace(self, token: Token) -> bool:
        """Another call than a refresh request got a 401. Returns whether to repeat it with another token.

        A new token is left alone: only refresh requests decide about it.
        """
        with self._state:
            if self._token is None or self._token.sequence != token.sequence:
                return True
            if not self._is_proven and self._monotonic() - self._token.issued_at <= NEW_SECONDS:
                return False
            self._token = None
            return True

    def drop(self, token: Token) -> None:
        """Stop using this token. The next ``get`` renews it, unless another thread already has."""
        with self._state:
            if self._token and self._token.sequence == token.sequence:
                self._token = None

    def record_refused_whole(self, token: Token) -> bool:
        """Record a refusal that is not about the request's content.

        A new token may help, so this one is dropped, but at most once in ``RENEWAL_SECONDS``. Returns whether a request
        with an earlier token got such a refusal as well, and none was accepted in between.
        """
        with self._state:
            now = self._monotonic()
            if self._token and self._token.sequence == token.sequence and now >= self._keep_until:
                self._token = None
                self._keep_until = now + RENEWAL_SECONDS
            if self._first_refused is None:
                self._first_refused = token.sequence
            return token.sequence > self._first_refused

    def record_let_in(self, token: Token) -> None:
        """Record that a call with this token was let in: it is valid."""
        if not self._is_proven:
            with self._state:
                if self._token and self._token.sequence == token.sequence:
                    self._is_proven, self._refusals = True, 0

    def record_accepted(self) -> None:
        """Record that a request was accepted: earlier refusals no longer count."""
        with self._state:
            self._first_refused = None

    def _usable(self) -> Token | Answer | None:
        """The token if it has not expired; an answer while it rests."""
        with self._state:
            now = self._monotonic()
            if self._token is None or now >= self._token.use_until:
                return None
            if now < self._rests_until:
                return self._resting(now)
            return replace(self._token, refusals=self._refusals) if self._refusals else self._token

    def _resting(self, now: float, refusal: Answer | None = None) -> Answer:
        """The answer to a request while the token rests; ``refusal`` is the 401 that this request got, if any."""
        detail = "a new token is refused so far, and will be used again after a pause"
        return Answer(
            AnswerKind.UNAVAILABLE,
            status=refusal.status if refusal else None,
            retry_after_seconds=max(self._rests_until - now, 0.0),
            detail=short_line(f"{detail}: {refusal.detail}") if refusal and refusal.detail else detail,
        )

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
        masked = reply.without(*request.secrets)
        refusal = _read_oauth_error(masked, self._wall())
        if refusal:
            return refusal
        if 200 <= reply.status <= 299:
            return self._read(reply, requested_at)
        return _without_token(
            classify(masked.status, masked.headers, masked.body, wall=self._wall(), is_own=lambda _content: True)
        )

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
        return Token(self.fetched, value, requested_at + lifetime - margin, issued_at=self._monotonic())


def _lifetime_seconds(expires_in: object) -> float:
    """The token's lifetime; ``expires_in`` may be a number or a string of digits."""
    if isinstance(expires_in, str) and expires_in.isascii() and expires_in.isdigit() and len(expires_in) <= 9:
        expires_in = int(expires_in)
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float) or not expires_in > 0:
        return LIFETIME_SECONDS_DEFAULT
    return float(min(expires_in, LIFETIME_SECONDS_MAX))


def _read_oauth_error(reply: Reply, wall: float) -> Answer | None:
    """The error of OAuth 2.0 in the reply, whatever its status: some endpoints send it with 200. None without one."""
    content: Any = read_json(reply.body)
    error = content.get("error") if isinstance(content, dict) and not content.get("access_token") else None
    is_oauth = (200 <= reply.status <= 299 or reply.status in (400, 401, 403)) and isinstance(error, str)
    if not is_oauth or not error or is_over_quota(reply.status, reply.headers):
        return None
    kind = AnswerKind.UNAVAILABLE if error in _OAUTH_OUTAGES else AnswerKind.UNAUTHORISED
    description = content.get("error_description")
    said = f"{error}: {description}" if isinstance(description, str) and description else error
    return Answer(
        kind,
        status=reply.status,
        retry_after_seconds=read_retry_after(reply.headers, wall),
        setting=_SETTING_OF_OAUTH_ERROR.get(error) if kind is AnswerKind.UNAUTHORISED else None,
        detail=short_line(f"no token from oms.token_url: {said}"),
    )


def _without_token(answer: Answer) -> Answer:
    """What a failed token request means for the refresh request, which was not sent: its outcome is never unknown."""
    kind = answer.kind
    if kind not in (AnswerKind.OVER_QUOTA, AnswerKind.WRONG_ADDRESS):
        kind = AnswerKind.UNAUTHORISED if answer.status in (400, 401, 403) else AnswerKind.UNAVAILABLE
    return replace(answer, kind=kind, detail=f"no token from oms.token_url: {answer.detail}")
