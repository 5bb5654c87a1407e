import pytest

from consumer.core.oms.answers import (
    Accepted,
    Answer,
    AnswerKind,
    Decision,
    Hold,
    Refused,
    RefusedWhole,
    Retry,
    RetryLimits,
    Shrink,
    Stop,
    decide,
)

LIMITS = RetryLimits(
    backoff_seconds_min=1.0, backoff_seconds_max=60.0, unknown_hold_seconds=120.0, retry_after_seconds_max=3_600.0
)


def decided(answer: Answer, attempt: int = 0, jitter: float = 0.0, limits: RetryLimits = LIMITS) -> Decision:
    return decide(answer, attempt=attempt, jitter=jitter, limits=limits)


@pytest.mark.parametrize(
    ("answer", "decision"),
    [
        pytest.param(Answer(AnswerKind.ACCEPTED, job_id="7", status=200), Accepted("7"), id="accepted"),
        pytest.param(Answer(AnswerKind.NOT_SENT), Retry(None, whole_oms=False), id="not sent, retried at once"),
        pytest.param(
            Answer(AnswerKind.OVER_QUOTA, status=403),
            Retry(1.0, whole_oms=True, over_quota=True),
            id="throttled, all locations wait",
        ),
        pytest.param(Answer(AnswerKind.UNAVAILABLE), Retry(1.0, whole_oms=True), id="unavailable, all locations wait"),
        pytest.param(Answer(AnswerKind.UNKNOWN, status=504), Hold(120.0, 1.0), id="unknown, the location is held"),
        pytest.param(
            Answer(AnswerKind.UNREADABLE, status=200), Hold(120.0, 1.0), id="2xx without a jobID, the location is held"
        ),
        pytest.param(
            Answer(AnswerKind.REFUSED, status=400, detail="no such sku", named=(("a",),)),
            Refused("HTTP 400: no such sku", named=(("a",),), after_seconds=1.0),
            id="refused, with the OMS's message",
        ),
        pytest.param(
            Answer(AnswerKind.TOO_LARGE, detail="large", body_bytes=9),
            Shrink(9, by_gateway=False, after_seconds=1.0, detail="no HTTP answer: large"),
            id="too large, not sent",
        ),
        pytest.param(
            Answer(AnswerKind.TOO_LARGE, status=413, detail="large", body_bytes=9),
            Shrink(9, by_gateway=True, after_seconds=1.0, detail="HTTP 413: large"),
            id="too large for a gateway",
        ),
    ],
)
def test_every_kind_of_answer_has_its_decision(answer: Answer, decision: Decision) -> None:
    assert decided(answer) == decision


@pytest.mark.parametrize(
    ("answer", "settings"),
    [
        pytest.param(Answer(AnswerKind.UNAUTHORISED, status=401), "oms.api_key and oms.api_secret", id="unauthorised"),
        pytest.param(
            Answer(AnswerKind.UNAUTHORISED, status=400, setting="oms.token_scope"),
            "correct oms.token_scope",
            id="a token request without its scope",
        ),
        pytest.param(Answer(AnswerKind.WRONG_ADDRESS, status=405), "oms.base_url", id="wrong address"),
        pytest.param(Answer(AnswerKind.WRONG_ADDRESS, status=302), "oms.base_url", id="redirected"),
        pytest.param(
            Answer(AnswerKind.WRONG_ADDRESS, status=404, setting="oms.token_url"),
            "oms.token_url",
            id="no token endpoint there",
        ),
    ],
)
def test_an_answer_that_needs_an_operator_stops_and_names_the_setting_to_change(answer: Answer, settings: str) -> None:
    decision = decided(answer)

    assert isinstance(decision, Stop)
    assert decision.kind is answer.kind
    assert settings in decision.detail
    assert f"HTTP {answer.status}" in decision.detail
    assert "\n" not in decision.detail


def test_every_kind_is_decided() -> None:
    for kind in AnswerKind:
        decided(Answer(kind, job_id="7" if kind is AnswerKind.ACCEPTED else None))


@pytest.mark.parametrize(
    ("attempt", "jitter", "seconds"),
    [
        pytest.param(0, 0.0, 1.0, id="first, least"),
        pytest.param(0, 1.0, 2.0, id="first, most"),
        pytest.param(3, 0.0, 1.0, id="later, least"),
        pytest.param(3, 0.5, 8.5, id="later, middle"),
        pytest.param(3, 1.0, 16.0, id="later, most"),
        pytest.param(40, 1.0, 60.0, id="never over the maximum"),
        pytest.param(10**9, 1.0, 60.0, id="no overflow"),
    ],
)
def test_back_off_has_full_jitter_under_a_ceiling_that_doubles(attempt: int, jitter: float, seconds: float) -> None:
    assert decided(Answer(AnswerKind.UNAVAILABLE), attempt, jitter) == Retry(seconds, whole_oms=True)


@pytest.mark.parametrize(
    ("wished", "seconds"),
    [
        pytest.param(0.0, 1.0, id="shorter than the back-off"),
        pytest.param(30.0, 30.0, id="longer than the back-off"),
        pytest.param(86_400.0, 3_600.0, id="capped"),
        pytest.param(float("inf"), 1.0, id="infinite, ignored"),
        pytest.param(float("nan"), 1.0, id="NaN, ignored"),
    ],
)
def test_retry_after_is_a_floor_with_a_cap(wished: float, seconds: float) -> None:
    answer = Answer(AnswerKind.OVER_QUOTA, status=429, retry_after_seconds=wished)

    assert decided(answer) == Retry(seconds, whole_oms=True, over_quota=True)


def test_a_hold_lasts_at_least_as_long_as_back_off_and_retry_after() -> None:
    short = RetryLimits(backoff_seconds_max=600.0, unknown_hold_seconds=100.0)

    assert decided(Answer(AnswerKind.UNKNOWN), 20, 0.0, short) == Hold(100.0, 1.0)
    assert decided(Answer(AnswerKind.UNKNOWN), 20, 1.0, short) == Hold(600.0, 600.0)
    assert decided(Answer(AnswerKind.UNKNOWN, retry_after_seconds=300.0), 0, 1.0, short) == Hold(300.0, 300.0)


@pytest.mark.parametrize(("attempt", "jitter"), [(-1, 0.0), (0, -0.1), (0, 1.1), (0, float("nan"))])
def test_an_attempt_or_jitter_out_of_range_is_refused(attempt: int, jitter: float) -> None:
    with pytest.raises(ValueError, match="attempt must be at least 0"):
        decided(Answer(AnswerKind.UNAVAILABLE), attempt, jitter)


@pytest.mark.parametrize("limits", [{"backoff_seconds_min": 61.0}, {"unknown_hold_seconds": -1.0}])
def test_limits_that_contradict_each_other_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="backoff min"):
        RetryLimits(**limits)


@pytest.mark.parametrize(
    ("kind", "status", "advice"),
    [
        (AnswerKind.FORBIDDEN, 403, "oms.api_key"),
        (AnswerKind.WRONG_ADDRESS, 404, "oms.base_url"),
        (AnswerKind.WRONG_ADDRESS, 410, "oms.base_url"),
        (AnswerKind.GATEWAY_PAGE, 400, "a gateway refuses"),
        (AnswerKind.GATEWAY_PAGE, 403, "oms.api_key"),
        (AnswerKind.GATEWAY_PAGE, 404, "oms.base_url"),
        (AnswerKind.GATEWAY_PAGE, 405, "oms.base_url"),
    ],
)
def test_a_refusal_that_may_concern_the_location_alone_says_what_to_change_if_it_does_not(
    kind: AnswerKind, status: int, advice: str
) -> None:
    decision = decided(Answer(kind, status=status, detail="no", repeated=True, retry_after_seconds=7.0))

    assert isinstance(decision, RefusedWhole)
    assert (decision.kind, decision.status, decision.detail) == (kind, status, f"HTTP {status}: no")
    assert (decision.after_seconds, decision.retry_after_seconds, decision.repeated) == (7.0, 7.0, True)
    assert advice in decision.advice
