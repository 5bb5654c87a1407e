import json
import threading
import time
from datetime import UTC, datetime
from email.utils import format_datetime
from importlib.metadata import version

import httpx
import pytest
import structlog

from consumer.core.changes.blocks import Rows
from consumer.core.oms.answers import AnswerKind
from consumer.errors import InvariantError, OmsRefusedError
from consumer.oms.client import token_options
from consumer.oms.token import NEW_SECONDS, PAUSES_SECONDS
from consumer.ports import Answered, Submission
from tests.support.frames import change, frame
from tests.unit.oms.oms_bench import ANSWER_SECONDS_MAX, SETTINGS, Bench, MakeBench

FORBIDDEN = 403, {"code": 5004, "message": "not for you"}


def reply(status: int, content: object = None, **headers: str) -> httpx.Response:
    return httpx.Response(status, json=content, headers=headers)


@pytest.mark.parametrize(
    ("api", "url"),
    [
        ("inventory-specific", "https://oms.example/inv/api/v5/inventory/refresh"),
        ("inventory-v5", "https://oms.example/api/v5/inventory/refresh"),
    ],
)
def test_a_submission_becomes_one_request_and_its_answer(make_bench: MakeBench, api: str, url: str) -> None:
    bench = make_bench(api=api)

    answered = bench.send("a", "b", "a")

    assert (answered.request_id, answered.answer.kind, answered.answer.job_id) == (1, AnswerKind.ACCEPTED, "42")
    (request,) = bench.oms.sent_to("oms.example")
    assert (request.method, str(request.url)) == ("POST", url)
    assert request.headers["Authorization"] == "Bearer token-1"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["User-Agent"] == f"inventory-refresh/{version('inventory-refresh')}"
    assert json.loads(request.content) == {
        "locationName": "Rome",
        "items": [{"sku": "a", "quantity": 1}, {"sku": "b", "quantity": 1}],
    }
    assert answered.bytes_sent == len(request.content)


def test_a_request_has_its_id_in_a_header_also_when_it_is_repeated_with_a_new_token(bench: Bench) -> None:
    bench.send("a")
    bench.oms.refreshes = [reply(401), reply(200, {"jobID": 7})]
    rows = Rows(frame([change("Rome", "a")]))
    bench.client.submit(Submission(9, "Rome", rows, bench.clock.now, x_request_id="0badc0ffee-9"))
    bench.answered()

    without, *both = bench.oms.sent_to("oms.example")
    assert "X-Request-Id" not in without.headers
    assert [request.headers["X-Request-Id"] for request in both] == ["0badc0ffee-9"] * 2


def test_every_submission_is_answered_exactly_once_however_many_are_in_flight(bench: Bench) -> None:
    gate = threading.Barrier(4, timeout=ANSWER_SECONDS_MAX)

    def together(_: httpx.Request) -> httpx.Response:
        gate.wait()
        return reply(200, {"jobID": 1})

    bench.client.check_credentials()
    bench.oms.refreshes = [together] * 4
    numbers = {bench.submit(location=location) for location in ("Rome", "Oslo", "Bern", "Riga")}
    answers: list[Answered] = []
    while len(answers) < len(numbers):
        bench.client.wait(ANSWER_SECONDS_MAX)
        answers += bench.client.answers()

    assert {answered.request_id for answered in answers} == numbers
    assert bench.client.answers() == []


def test_a_stale_token_is_renewed_once_and_the_same_body_sent_again(bench: Bench) -> None:
    bench.send()
    bench.oms.refreshes = [reply(401)]

    answered = bench.send()

    assert answered.answer.kind is AnswerKind.ACCEPTED
    assert bench.oms.bearers == ["token-1", "token-1", "token-2"]
    _, first, second = bench.oms.sent_to("oms.example")
    assert first.content == second.content
    assert answered.bytes_sent == 2 * len(first.content)


def test_a_new_token_that_is_refused_rests_and_is_used_again_and_nothing_leaves_meanwhile(bench: Bench) -> None:
    bench.oms.refreshes = [reply(401, {"error": "invalid_token"}), reply(401), reply(200, {"jobID": 7})]

    first = bench.send().answer
    meanwhile = bench.send()
    bench.clock.now += PAUSES_SECONDS[0]
    second = bench.send().answer
    bench.clock.now += PAUSES_SECONDS[1]
    third = bench.send().answer

    assert [answer.kind for answer in (first, second, third)] == [
        AnswerKind.UNAVAILABLE,
        AnswerKind.UNAVAILABLE,
        AnswerKind.ACCEPTED,
    ]
    assert (first.status, first.retry_after_seconds, second.retry_after_seconds) == (401, *PAUSES_SECONDS[:2])
    assert "invalid_token" in first.detail
    assert (meanwhile.answer.kind, meanwhile.bytes_sent) == (AnswerKind.UNAVAILABLE, 0)
    assert bench.oms.bearers == ["token-1"] * 3


def test_after_its_last_pause_a_refused_token_means_wrong_credentials_and_the_next_request_gets_another(
    bench: Bench,
) -> None:
    bench.oms.refreshes = [reply(401)] * (len(PAUSES_SECONDS) + 1)

    kinds = []
    for pause in (*PAUSES_SECONDS, 0.0):
        kinds.append(bench.send().answer.kind)
        bench.clock.now += pause

    assert kinds == [AnswerKind.UNAVAILABLE] * len(PAUSES_SECONDS) + [AnswerKind.UNAUTHORISED]
    assert bench.send().answer.kind is AnswerKind.ACCEPTED
    assert bench.oms.bearers == ["token-1"] * len(kinds) + ["token-2"]


def test_a_token_renewed_after_a_401_rests_without_a_third_call(bench: Bench) -> None:
    bench.send()
    bench.oms.refreshes = [reply(401), reply(401)]

    answered = bench.send()

    assert answered.answer.kind is AnswerKind.UNAVAILABLE
    assert bench.oms.bearers == ["token-1", "token-1", "token-2"]


def test_requests_that_a_new_token_was_refused_together_let_it_rest_once(bench: Bench) -> None:
    gate = threading.Barrier(3, timeout=ANSWER_SECONDS_MAX)

    def together(_: httpx.Request) -> httpx.Response:
        gate.wait()
        return reply(401)

    bench.client.check_credentials()
    bench.oms.refreshes = [together] * 3
    for location in ("Rome", "Oslo", "Bern"):
        bench.submit(location=location)
    answers: list[Answered] = []
    while len(answers) < 3:
        bench.client.wait(ANSWER_SECONDS_MAX)
        answers += bench.client.answers()

    assert [answered.answer.retry_after_seconds for answered in answers] == [PAUSES_SECONDS[0]] * 3


def test_an_unused_token_that_is_no_longer_new_is_renewed_at_once(bench: Bench) -> None:
    bench.client.check_credentials()
    bench.clock.now += NEW_SECONDS + 1.0
    bench.oms.refreshes = [reply(401)]

    assert bench.send().answer.kind is AnswerKind.ACCEPTED
    assert bench.oms.bearers == ["token-1", "token-2"]


def test_the_body_is_sent_again_only_after_401(bench: Bench) -> None:
    for status in (400, 403, 404, 429, 500, 503):
        bench.oms.refreshes = [reply(status)]
        bench.oms.requests.clear()
        bench.send()
        assert len(bench.oms.bearers) == 1


def test_a_403_is_repeated_only_if_another_token_got_one_before(bench: Bench) -> None:
    bench.oms.refreshes = [reply(*FORBIDDEN) for _ in range(3)]

    assert [bench.send().answer.repeated for _ in range(3)] == [False, True, True]
    assert bench.oms.bearers == ["token-1", "token-2", "token-2"]

    bench.send()
    bench.oms.refreshes = [reply(*FORBIDDEN)]
    assert bench.send().answer.repeated is False


def test_several_403s_under_one_token_are_not_repeated(bench: Bench) -> None:
    gate = threading.Barrier(3, timeout=ANSWER_SECONDS_MAX)

    def together(_: httpx.Request) -> httpx.Response:
        gate.wait()
        return reply(*FORBIDDEN)

    bench.client.check_credentials()
    bench.oms.refreshes = [together] * 3
    for location in ("Rome", "Oslo", "Bern"):
        bench.submit(location=location)
    answers: list[Answered] = []
    while len(answers) < 3:
        bench.client.wait(ANSWER_SECONDS_MAX)
        answers += bench.client.answers()

    assert [answered.answer.repeated for answered in answers] == [False] * 3


@pytest.mark.parametrize(
    ("age", "sent"), [pytest.param(5.0, 1, id="just young enough"), pytest.param(5.01, 0, id="old")]
)
def test_a_request_whose_commit_is_too_old_is_given_back_unsent(bench: Bench, age: float, sent: int) -> None:
    answered = bench.send(age_seconds=age)

    assert answered.answer.kind is (AnswerKind.ACCEPTED if sent else AnswerKind.NOT_SENT)
    assert len(bench.oms.bearers) == sent
    assert bool(answered.bytes_sent) == bool(sent)


def test_the_fence_is_checked_when_token_and_body_are_ready(bench: Bench) -> None:
    def slow_token(_: httpx.Request) -> httpx.Response:
        bench.clock.now += 6.0
        return reply(200, {"access_token": "late", "expires_in": 60})

    bench.oms.token_replies = [slow_token]

    assert bench.send().answer.kind is AnswerKind.NOT_SENT
    assert bench.oms.bearers == []


def test_the_fence_is_looked_at_again_before_the_repeat_after_401(bench: Bench) -> None:
    def slow_refusal(_: httpx.Request) -> httpx.Response:
        bench.clock.now += 6.0
        return reply(401)

    bench.send()
    bench.oms.refreshes = [slow_refusal]

    answered = bench.send()

    assert answered.answer.kind is AnswerKind.NOT_SENT
    assert bench.oms.bearers == ["token-1", "token-1"]
    assert answered.bytes_sent > 0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ConnectError("refused"), AnswerKind.UNAVAILABLE),
        (httpx.ConnectTimeout("slow"), AnswerKind.UNAVAILABLE),
        (httpx.ReadTimeout("silent"), AnswerKind.UNKNOWN),
        (httpx.RemoteProtocolError("gone"), AnswerKind.UNKNOWN),
    ],
)
def test_connection_errors_become_answers(bench: Bench, error: Exception, kind: AnswerKind) -> None:
    bench.oms.refreshes = [error]

    assert bench.send().answer.kind is kind


@pytest.mark.parametrize(
    ("token_reply", "kind"),
    [
        pytest.param(reply(401, {"error": "invalid_client"}), AnswerKind.UNAUTHORISED, id="wrong credentials"),
        pytest.param(reply(503), AnswerKind.UNAVAILABLE, id="the token endpoint is down"),
        pytest.param(httpx.ReadTimeout("silent"), AnswerKind.UNAVAILABLE, id="and says nothing"),
    ],
)
def test_without_a_token_nothing_is_sent_and_nothing_is_unknown(
    bench: Bench, token_reply: httpx.Response | Exception, kind: AnswerKind
) -> None:
    bench.oms.token_replies = [token_reply]

    answered = bench.send()

    assert (answered.answer.kind, answered.bytes_sent) == (kind, 0)
    assert "oms.token_url" in answered.answer.detail
    assert bench.oms.bearers == []


def test_retry_after_is_part_of_the_answer(bench: Bench) -> None:
    bench.oms.refreshes = [reply(429, None, **{"Retry-After": "17"})]

    assert bench.send().answer.retry_after_seconds == 17.0


def test_a_token_that_the_oms_echoes_does_not_appear_in_the_detail(bench: Bench) -> None:
    bench.oms.refreshes = [reply(400, {"message": "x" * 290 + " Bearer token-1 is odd"})]

    assert "token-" not in bench.send().answer.detail


def test_cookies_are_neither_stored_nor_sent(bench: Bench) -> None:
    bench.oms.refreshes = [reply(200, {"jobID": 1}, **{"Set-Cookie": "node=7; Path=/"})]

    bench.send()
    bench.send()

    assert all("Cookie" not in request.headers for request in bench.oms.requests)


def test_a_bug_in_a_worker_is_raised_after_the_answers_before_it(bench: Bench) -> None:
    bench.send()
    bench.client.submit(Submission(2, "Rome", Rows(), bench.clock.now))
    bench.client.wait(ANSWER_SECONDS_MAX)

    with pytest.raises(ValueError, match="empty"):
        bench.client.answers()


def test_an_unexpected_exception_of_httpx_is_raised_by_answers(bench: Bench) -> None:
    bench.oms.refreshes = [httpx.InvalidURL("odd")]
    bench.submit()
    bench.client.wait(ANSWER_SECONDS_MAX)

    with pytest.raises(httpx.InvalidURL):
        bench.client.answers()


def test_waiting_times_out_without_an_answer(bench: Bench) -> None:
    bench.client.wait(0.01)

    assert bench.client.answers() == []


def test_nothing_is_sent_after_close(make_bench: MakeBench) -> None:
    bench = make_bench(max_in_flight=1)
    entered, leave = threading.Event(), threading.Event()

    def held(_: httpx.Request) -> httpx.Response:
        entered.set()
        leave.wait(ANSWER_SECONDS_MAX)
        return reply(200, {"jobID": 1})

    bench.oms.refreshes = [held]
    bench.submit()
    bench.submit(location="Oslo")
    assert entered.wait(ANSWER_SECONDS_MAX)
    closing = threading.Thread(target=bench.client.close)
    closing.start()
    while not bench.client._workers.closing:
        time.sleep(0.001)
    leave.set()
    closing.join(ANSWER_SECONDS_MAX)

    assert len(bench.oms.sent_to("oms.example")) == 1
    with pytest.raises(InvariantError, match="closed"):
        bench.submit()


class Held:
    """A reply that waits until it is released."""

    def __init__(self, then: httpx.Response) -> None:
        self._then = then
        self.entered, self._leave = threading.Event(), threading.Event()

    def __call__(self, _: httpx.Request) -> httpx.Response:
        self.entered.set()
        self._leave.wait(ANSWER_SECONDS_MAX)
        return self._then

    def release(self) -> None:
        assert self.entered.wait(ANSWER_SECONDS_MAX)
        self._leave.set()


def answers_of(bench: Bench, count: int) -> list[Answered]:
    answers: list[Answered] = []
    while len(answers) < count:
        bench.client.wait(ANSWER_SECONDS_MAX)
        answers += bench.client.answers()
    return answers


def test_what_is_queued_when_a_request_fails_is_handed_back_in_order_and_never_sent(make_bench: MakeBench) -> None:
    bench = make_bench(max_in_flight=1)
    failing = Held(reply(503, {"code": 5001}))
    bench.oms.refreshes = [failing]
    numbers = [bench.submit(location=location) for location in ("Rome", "Oslo", "Bern")]
    failing.release()
    failed, *queued = answers_of(bench, 3)

    assert [answered.request_id for answered in (failed, *queued)] == numbers
    assert failed.answer.kind is not AnswerKind.NOT_SENT
    assert [(answered.answer.kind, answered.bytes_sent) for answered in queued] == [(AnswerKind.NOT_SENT, 0)] * 2
    assert "another request failed" in queued[0].answer.detail
    assert len(bench.oms.bearers) == 1


def test_what_queues_while_the_loop_has_not_heard_of_a_failure_is_handed_back_too(make_bench: MakeBench) -> None:
    bench = make_bench(max_in_flight=1)
    bench.oms.refreshes = [reply(503)]
    bench.submit()
    bench.client.wait(ANSWER_SECONDS_MAX)
    bench.submit(location="Oslo")
    kinds = [answered.answer.kind for answered in answers_of(bench, 2)]

    assert kinds == [AnswerKind.UNKNOWN, AnswerKind.NOT_SENT]


def test_queueing_goes_on_once_the_loop_has_heard_of_a_failure(make_bench: MakeBench) -> None:
    bench = make_bench(max_in_flight=1)
    bench.oms.refreshes = [reply(503)]
    bench.send()
    first = Held(reply(200, {"jobID": 1}))
    bench.oms.refreshes = [first]
    bench.submit()
    bench.submit(location="Oslo")
    first.release()

    assert [answered.answer.kind for answered in answers_of(bench, 2)] == [AnswerKind.ACCEPTED] * 2


def test_a_failure_does_not_stop_requests_for_which_a_thread_was_free(make_bench: MakeBench) -> None:
    bench = make_bench(max_in_flight=4)
    bench.client.check_credentials()
    for _ in range(20):
        bench.oms.refreshes = [reply(503)] * 4
        bench.oms.requests.clear()
        for location in ("Rome", "Oslo", "Bern", "Riga"):
            bench.submit(location=location)
        kinds = [answered.answer.kind for answered in answers_of(bench, 4)]

        assert kinds == [AnswerKind.UNKNOWN] * 4
        assert len(bench.oms.bearers) == 4


@pytest.mark.parametrize("good", [reply(200, {"jobID": 1}), reply(400, {"message": "no"})])
def test_what_is_queued_is_sent_after_an_answer_that_shows_that_the_oms_works(
    make_bench: MakeBench, good: httpx.Response
) -> None:
    bench = make_bench(max_in_flight=1)
    first = Held(good)
    bench.oms.refreshes = [first]
    for location in ("Rome", "Oslo", "Bern"):
        bench.submit(location=location)
    first.release()
    kinds = [answered.answer.kind for answered in answers_of(bench, 3)]

    assert kinds[1:] == [AnswerKind.ACCEPTED] * 2


def test_a_request_whose_commit_is_too_old_is_no_failure_for_those_queued(make_bench: MakeBench) -> None:
    bench = make_bench(max_in_flight=1)
    first = Held(reply(200, {"jobID": 1}))
    bench.oms.refreshes = [first]
    bench.submit()
    bench.submit(location="Oslo", age_seconds=60.0)
    bench.submit(location="Bern")
    first.release()
    kinds = [answered.answer.kind for answered in answers_of(bench, 3)]

    assert kinds == [AnswerKind.ACCEPTED, AnswerKind.NOT_SENT, AnswerKind.ACCEPTED]


def test_credentials_are_checked_at_the_start(bench: Bench) -> None:
    assert bench.client.check_credentials() is None
    assert bench.client.tokens_fetched == 1


@pytest.mark.parametrize(
    ("token_reply", "setting"),
    [
        pytest.param(reply(401, {"error": "invalid_client"}), r"^correct oms\.api_key and oms\.api_secret", id="401"),
        pytest.param(reply(400, {"error": "invalid_client"}), r"^correct oms\.api_key", id="400"),
        pytest.param(reply(403), r"^correct oms\.api_key", id="403"),
        pytest.param(reply(404), r"^correct oms\.token_url", id="404"),
        pytest.param(reply(302, Location="/login"), r"^correct oms\.token_url", id="302"),
        pytest.param(httpx.Response(200, html="<html>"), r"^correct oms\.token_url", id="a web page"),
    ],
)
def test_wrong_credentials_or_address_stop_the_start_with_the_setting(
    bench: Bench, token_reply: httpx.Response, setting: str
) -> None:
    bench.oms.token_replies = [token_reply]

    with pytest.raises(OmsRefusedError, match=setting) as caught:
        bench.client.check_credentials()
    assert "\n" not in str(caught.value)
    assert "the-secret" not in str(caught.value)


@pytest.mark.parametrize("token_reply", [reply(503), reply(429), httpx.ConnectError("refused")])
def test_an_oms_that_is_down_does_not_prevent_the_start(bench: Bench, token_reply: httpx.Response | Exception) -> None:
    bench.oms.token_replies = [token_reply]

    assert (bench.client.check_credentials() or "").startswith("no token from oms.token_url")


GATEWAY_HEADERS = {"Ocp-Apim-Subscription-Key": "key-of-the-gateway", "X-Channel": "shop"}


def test_further_headers_are_sent_with_each_call_but_not_to_a_token_endpoint_elsewhere(make_bench: MakeBench) -> None:
    bench = make_bench(headers=GATEWAY_HEADERS)

    bench.send()
    bench.asked("42")

    for request in bench.oms.sent_to("oms.example"):
        assert request.headers["Ocp-Apim-Subscription-Key"] == "key-of-the-gateway"
        assert request.headers["X-Channel"] == "shop"
    (token_request,) = bench.oms.sent_to("auth.example")
    assert "Ocp-Apim-Subscription-Key" not in token_request.headers


def test_a_token_endpoint_behind_the_same_gateway_gets_the_headers_too() -> None:
    same_host = {
        "token_url": "https://oms.example/token",
        "headers": GATEWAY_HEADERS,
        "token_fields": {"p_secret": "s"},
    }
    options = token_options(SETTINGS.model_copy(update=same_host))

    assert options.headers == GATEWAY_HEADERS
    assert options.secrets == ("s", "key-of-the-gateway")
    assert token_options(SETTINGS.model_copy(update={"token_scope": "inventory", "token_audience": "oms"})).fields == {
        "scope": "inventory",
        "audience": "oms",
    }


def test_values_of_headers_are_masked_in_answers(make_bench: MakeBench) -> None:
    bench = make_bench(headers=GATEWAY_HEADERS)
    bench.oms.refreshes = [reply(503, {"echo": "key-of-the-gateway"}), reply(503, {"echo": "key-of-the-gateway"})]

    assert bench.send().answer.detail == '{"echo": "***"}'
    assert "key-of" not in bench.asked("42")[0].detail


def test_a_body_over_the_limit_is_given_back_unsent_with_its_size(bench: Bench) -> None:
    rows = Rows(frame([change("Rome", "a"), change("Rome", "b", offset=1)]))
    sent = bench.send("a", "b")
    size = sent.answer.body_bytes

    def limited(bytes_max: int) -> Answered:
        bench.client.submit(Submission(2, "Rome", rows, bench.clock.now, bytes_max))
        return bench.answered()

    assert size == sent.bytes_sent == len(bench.oms.sent_to("oms.example")[0].content)
    assert limited(size).answer.kind is AnswerKind.ACCEPTED
    refused = limited(size - 1)
    assert (refused.answer.kind, refused.answer.status, refused.bytes_sent) == (AnswerKind.TOO_LARGE, None, 0)
    assert refused.answer.body_bytes == size
    assert len(bench.oms.bearers) == 2


def test_a_413_says_the_size_of_the_body(bench: Bench) -> None:
    bench.oms.refreshes = [httpx.Response(413, content=b"<html>413 Request Entity Too Large</html>")]

    answered = bench.send()

    assert (answered.answer.kind, answered.answer.status) == (AnswerKind.TOO_LARGE, 413)
    assert answered.answer.body_bytes == answered.bytes_sent > 0


def test_a_gateways_page_is_known_by_its_words(bench: Bench, make_bench: MakeBench) -> None:
    own_words = {"errorCode": "VALIDATION_CONFLICT", "message": "no"}
    bench.oms.refreshes = [reply(400, own_words)]
    unified = make_bench(api="unified-commerce", tenant=7)
    unified.oms.refreshes = [reply(400, own_words)]

    assert bench.send().answer.kind is AnswerKind.GATEWAY_PAGE
    assert unified.send().answer.kind is AnswerKind.REFUSED


def test_the_skew_of_the_oms_clock_is_that_of_its_answers(bench: Bench) -> None:
    skews = [bench.client.clock_skew_seconds]
    date = format_datetime(datetime.fromtimestamp(bench.clock.wall() + 95.0, UTC), usegmt=True)
    bench.oms.refreshes = [reply(200, {"jobID": 1}, Date=date), reply(200, {"jobID": 2}, Date="nonsense")]

    with structlog.testing.capture_logs() as logs:
        bench.send()
        bench.clock.now += 60.0
        bench.send()

    assert [*skews, bench.client.clock_skew_seconds] == [None, 95.0]
    assert [(line["event"], line["skew_seconds"]) for line in logs] == [("oms_clock_differs", 95)]
