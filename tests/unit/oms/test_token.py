import json
import threading
import time
from base64 import b64encode
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from consumer.core.oms.answers import Answer, AnswerKind
from consumer.oms.token import (
    LIFETIME_SECONDS_DEFAULT,
    RENEWAL_SECONDS,
    Token,
    TokenOptions,
    Tokens,
    form_request,
    json_request,
)

URL = "https://auth.example/token"
WAIT_SECONDS_MAX = 60.0


class Auth:
    """A token endpoint, and everything else that ``Tokens`` needs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.reply: Any = None
        self.requests: list[httpx.Request] = []
        self.credentials = ("the-key", "the-secret")
        self.http = httpx.Client(transport=httpx.MockTransport(self._answer))
        self.tokens = Tokens(
            self.http,
            URL,
            lambda: self.credentials,
            timeout_seconds=5.0,
            monotonic=lambda: self.now,
            wall=lambda: 0.0,
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if isinstance(self.reply, Exception):
            raise self.reply
        if callable(self.reply):
            self.reply()
        if isinstance(self.reply, httpx.Response):
            return self.reply
        return self.token(f"token-{len(self.requests)}", 1_000)

    @staticmethod
    def token(value: object, expires_in: object = 1_000) -> httpx.Response:
        return httpx.Response(200, json={"access_token": value, "expires_in": expires_in})

    def get(self) -> Token:
        token = self.tokens.get()
        assert isinstance(token, Token)
        return token

    def fail(self) -> Answer:
        answer = self.tokens.get()
        assert isinstance(answer, Answer)
        return answer


@pytest.fixture
def auth() -> Auth:
    return Auth()


def test_a_token_is_requested_as_in_oauth(auth: Auth) -> None:
    assert auth.get().value == "token-1"

    (request,) = auth.requests
    assert (request.method, str(request.url), request.content) == ("POST", URL, b"grant_type=client_credentials")
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert request.headers["Authorization"] == "Basic " + b64encode(b"the-key:the-secret").decode()


@pytest.mark.parametrize(
    ("expires_in", "margin", "life"),
    [
        pytest.param(3_600, 60.0, 3_600.0, id="an hour, a minute before"),
        pytest.param("3600", 60.0, 3_600.0, id="as text"),
        pytest.param(20.0, 2.0, 20.0, id="short, a tenth before"),
        pytest.param(10**9, 60.0, 86_400.0, id="a day at most"),
        pytest.param(None, 30.0, LIFETIME_SECONDS_DEFAULT, id="absent"),
        pytest.param(0, 30.0, LIFETIME_SECONDS_DEFAULT, id="zero"),
        pytest.param(-5, 30.0, LIFETIME_SECONDS_DEFAULT, id="negative"),
        pytest.param(True, 30.0, LIFETIME_SECONDS_DEFAULT, id="true"),
        pytest.param("soon", 30.0, LIFETIME_SECONDS_DEFAULT, id="words"),
    ],
)
def test_a_token_is_used_until_shortly_before_it_expires(
    auth: Auth, expires_in: object, margin: float, life: float
) -> None:
    auth.reply = Auth.token("t", expires_in)
    auth.get()
    auth.now = life - margin - 0.1
    auth.get()
    assert len(auth.requests) == 1

    auth.now = life - margin
    auth.get()
    assert len(auth.requests) == 2


def test_its_lifetime_counts_from_the_request(auth: Auth) -> None:
    def slow() -> None:
        auth.now += 30.0

    auth.reply = slow

    assert auth.get().use_until == 1_000.0 - 60.0


def test_a_dropped_token_is_renewed_with_the_current_credentials(auth: Auth) -> None:
    first = auth.get()
    auth.credentials = ("the-key", "another-secret")
    auth.tokens.drop(first)

    assert auth.get().value == "token-2"
    assert auth.requests[1].headers["Authorization"] == "Basic " + b64encode(b"the-key:another-secret").decode()
    assert auth.tokens.fetched == 2


def test_dropping_a_token_that_another_thread_has_renewed_keeps_the_new_one(auth: Auth) -> None:
    first = auth.get()
    auth.tokens.drop(first)
    second = auth.get()
    auth.tokens.drop(first)

    assert auth.get() == second
    assert len(auth.requests) == 2


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        pytest.param(httpx.Response(400), AnswerKind.UNAUTHORISED, id="400"),
        pytest.param(httpx.Response(401), AnswerKind.UNAUTHORISED, id="401"),
        pytest.param(httpx.Response(403), AnswerKind.UNAUTHORISED, id="403"),
        pytest.param(
            httpx.Response(403, headers={"X-Mashery-Error-Code": "ERR_403_DEVELOPER_OVER_QPS"}),
            AnswerKind.OVER_QUOTA,
            id="403 over quota",
        ),
        pytest.param(httpx.Response(429), AnswerKind.OVER_QUOTA, id="429"),
        pytest.param(httpx.Response(404), AnswerKind.WRONG_ADDRESS, id="404"),
        pytest.param(httpx.Response(405), AnswerKind.WRONG_ADDRESS, id="405"),
        pytest.param(httpx.Response(301), AnswerKind.WRONG_ADDRESS, id="301"),
        pytest.param(httpx.Response(408), AnswerKind.UNAVAILABLE, id="408"),
        pytest.param(httpx.Response(500), AnswerKind.UNAVAILABLE, id="500"),
        pytest.param(httpx.Response(502), AnswerKind.UNAVAILABLE, id="502"),
        pytest.param(httpx.ConnectError("refused"), AnswerKind.UNAVAILABLE, id="refused"),
        pytest.param(httpx.ReadTimeout("silent"), AnswerKind.UNAVAILABLE, id="timeout"),
        pytest.param(httpx.Response(200, content=b"<html>"), AnswerKind.WRONG_ADDRESS, id="a page"),
        pytest.param(httpx.Response(200, json=[]), AnswerKind.WRONG_ADDRESS, id="a list"),
        pytest.param(httpx.Response(200, json={}), AnswerKind.WRONG_ADDRESS, id="no token"),
        pytest.param(Auth.token(""), AnswerKind.WRONG_ADDRESS, id="an empty token"),
        pytest.param(Auth.token("a\r\nX-Evil: 1"), AnswerKind.WRONG_ADDRESS, id="no header value"),
        pytest.param(Auth.token("a" * 8_193), AnswerKind.WRONG_ADDRESS, id="too long"),
        pytest.param(Auth.token(7), AnswerKind.WRONG_ADDRESS, id="a number"),
    ],
)
def test_a_failed_token_request_is_never_unknown(auth: Auth, reply: object, kind: AnswerKind) -> None:
    auth.reply = reply

    assert auth.fail().kind is kind
    auth.reply = None
    assert auth.get().sequence == 1


def test_secrets_are_in_no_answer_and_no_repr(auth: Auth) -> None:
    basic = b64encode(b"the-key:the-secret").decode()
    auth.reply = httpx.Response(400, content=f"the-secret {basic} the-secret".encode())
    assert auth.fail().detail == "no token from oms.token_url: *** *** ***"

    auth.reply = httpx.Response(200, json={"access_token": "va lue", "note": "the-secret"})
    assert "lue" not in auth.fail().detail

    auth.reply = None
    assert "token-" not in repr(auth.get())


def test_threads_share_one_renewal(auth: Auth) -> None:
    auth.reply = lambda: time.sleep(0.1)
    tokens: list[Token] = []
    together([lambda: tokens.append(auth.get())] * 6)

    assert len(tokens) == 6
    assert len(set(tokens)) == 1
    assert len(auth.requests) == 1


class Door:
    """A lock that counts the threads that hold it or wait for it."""

    def __init__(self) -> None:
        self.come = threading.Semaphore(0)
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self.come.release()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_threads_that_wait_for_a_failing_renewal_share_its_failure(auth: Auth, monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door()
    monkeypatch.setattr(auth.tokens, "_renewing", door)

    def fail() -> None:
        for _ in range(6):
            assert door.come.acquire(timeout=WAIT_SECONDS_MAX)
        raise httpx.ConnectTimeout("slow")

    auth.reply = fail
    answers: list[Answer] = []
    together([lambda: answers.append(auth.fail())] * 6)

    assert [answer.kind for answer in answers] == [AnswerKind.UNAVAILABLE] * 6
    assert len(auth.requests) == 1


def together(calls: list[Any]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS_MAX)


@pytest.mark.parametrize("status", [200, 400, 401])
def test_an_oauth_error_is_reported_whatever_its_status(auth: Auth, status: int) -> None:
    auth.reply = httpx.Response(
        status, json={"error": "invalid_scope", "error_description": "name a scope, the-secret"}
    )

    answer = auth.fail()

    assert (answer.kind, answer.status) == (AnswerKind.UNAUTHORISED, status)
    assert answer.detail == "no token from oms.token_url: invalid_scope: name a scope, ***"
    assert answer.setting == "oms.token_scope"


def test_an_oauth_outage_is_no_reason_to_stop(auth: Auth) -> None:
    auth.reply = httpx.Response(200, json={"error": "temporarily_unavailable"}, headers={"Retry-After": "7"})

    answer = auth.fail()

    assert (answer.kind, answer.retry_after_seconds) == (AnswerKind.UNAVAILABLE, 7.0)


@pytest.mark.parametrize(
    "body", [{"timestamp": 1, "status": 404, "error": "Not Found"}, {"error": {"code": 1}}, {"error": ""}]
)
def test_other_errors_are_none_of_oauths(auth: Auth, body: object) -> None:
    auth.reply = httpx.Response(404, json=body)

    assert auth.fail().kind is AnswerKind.WRONG_ADDRESS


FIELDS = TokenOptions({"scope": "inventory write", "resource": "https://oms"}, headers={"X-Api-Key": "k"})


def test_further_fields_are_sent_in_the_form() -> None:
    request = form_request("the-key", "the-secret", FIELDS)

    assert parse_qs(request.body.decode()) == {
        "grant_type": ["client_credentials"],
        "scope": ["inventory write"],
        "resource": ["https://oms"],
    }
    assert request.headers["X-Api-Key"] == "k"
    assert request.headers["Authorization"].startswith("Basic ")


def test_credentials_may_be_sent_in_the_form_and_are_masked_as_they_are_written() -> None:
    request = form_request("the-key", "a&b c", replace(FIELDS, credentials_in_body=True))

    sent = parse_qs(request.body.decode())
    assert (sent["client_id"], sent["client_secret"]) == (["the-key"], ["a&b c"])
    assert "Authorization" not in request.headers
    assert "a%26b+c" in request.secrets


def test_further_fields_are_sent_in_the_json_body() -> None:
    content = json.loads(json_request("the-key", "the-secret", FIELDS).body)

    assert content == {
        "client_id": "the-key",
        "client_secret": "the-secret",
        "grant_type": "client_credentials",
        "scope": "inventory write",
        "resource": "https://oms",
    }


def test_a_refusal_other_than_a_401_renews_the_token_at_most_once_in_ten_minutes(auth: Auth) -> None:
    auth.reply = lambda: None
    for _ in range(3):
        auth.tokens.record_refused_whole(auth.get())
    assert auth.get().sequence == 2

    auth.now += RENEWAL_SECONDS
    auth.tokens.record_refused_whole(auth.get())
    assert auth.get().sequence == 3
