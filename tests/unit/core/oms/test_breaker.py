"""The breaker and the limiter: how many calls the OMS may be sent, and when."""

import pytest

from consumer.core.oms.breaker import BreakerState, CircuitBreaker
from consumer.core.oms.rate_limit import RATE_MIN, RateLimiter


def failed(
    breaker: CircuitBreaker, now: float = 10.0, backoff_seconds: float = 30.0, sent_at: float = 9.0
) -> CircuitBreaker:
    breaker.record_failure(sent_at=sent_at, now=now, backoff_seconds=backoff_seconds)
    return breaker


def test_the_breaker_opens_on_a_failure_turns_half_open_and_closes_after_a_good_probe() -> None:
    breaker = CircuitBreaker(8, RateLimiter(None))
    assert (breaker.state(10.0), breaker.permits(0, 10.0)) == (BreakerState.CLOSED, 8)
    failed(breaker)
    assert (breaker.state(39.0), breaker.permits(0, 39.0)) == (BreakerState.OPEN, 0)
    assert (breaker.state(40.0), breaker.permits(0, 40.0), breaker.permits(1, 40.0)) == (BreakerState.HALF_OPEN, 1, 0)
    breaker.record_success(sent_at=40.0)
    assert (breaker.state(41.0), breaker.permits(0, 41.0)) == (BreakerState.CLOSED, 8)


def test_a_success_of_a_request_sent_before_the_failure_does_not_close_the_breaker() -> None:
    breaker = failed(CircuitBreaker(8, RateLimiter(None)))
    breaker.record_success(sent_at=9.5)

    assert breaker.state(39.0) is BreakerState.OPEN


def test_requests_that_fail_together_count_as_one_failure_with_the_longest_back_off() -> None:
    breaker = CircuitBreaker(8, RateLimiter(None))
    for backoff_seconds in (5.0, 30.0, 1.0):
        failed(breaker, backoff_seconds=backoff_seconds)

    assert breaker.failures == 1
    assert breaker.next_permit_at(0, 10.0) == 40.0


def test_no_probe_is_sent_while_earlier_requests_are_in_flight() -> None:
    breaker = failed(CircuitBreaker(8, RateLimiter(None)))

    assert breaker.permits(3, 50.0) == 0
    assert breaker.next_permit_at(3, 50.0) is None


def test_background_calls_wait_until_the_breaker_is_closed() -> None:
    breaker = CircuitBreaker(8, RateLimiter(None))
    assert breaker.background_permits(10.0) == 8
    assert failed(breaker).background_permits(50.0) == 0


def test_a_configured_rate_allows_a_burst_of_one_second() -> None:
    limiter = RateLimiter(2.0)
    assert limiter.available(100.0) == 2.0
    limiter.spend(2, 100.0)
    assert limiter.available(100.0) == 0.0
    assert limiter.next_at(100.0) == 100.5
    assert limiter.available(100.25) == 0.5
    assert limiter.available(1_000.0) == 2.0


def test_a_rate_below_one_per_second_still_allows_single_calls() -> None:
    limiter = RateLimiter(0.1)
    limiter.spend(1, 0.0)

    assert limiter.next_at(0.0) == pytest.approx(10.0)
    assert limiter.available(10.0) == pytest.approx(1.0)


def test_a_throttled_answer_halves_the_rate_of_the_last_second_which_recovers_slowly() -> None:
    limiter = RateLimiter(None)
    assert limiter.limit(0.0) is None
    for tenth in range(600):
        limiter.spend(1, tenth / 10)
    limiter.on_throttled(sent_at=59.95, now=60.2)
    learned = limiter.limit(60.2) or 0.0

    assert learned == pytest.approx(5.0, rel=0.1)
    assert limiter.available(60.2) == 0.0
    assert limiter.limit(120.2) == pytest.approx(2.0 * learned)
    assert limiter.limit(60.2 + 3 * 3_600) is None


def test_a_throttled_probe_halves_the_learned_rate_however_rare_calls_have_become() -> None:
    limiter = RateLimiter(None)
    limiter.spend(16, 10.0)
    limiter.on_throttled(sent_at=10.0, now=10.1)
    limiter.spend(1, 20.0)
    recovered = limiter.limit(20.1) or 0.0
    limiter.on_throttled(sent_at=20.0, now=20.1)

    assert recovered == pytest.approx(9.0, rel=0.01)
    assert limiter.limit(20.1) == pytest.approx(recovered / 2)


def test_a_learned_rate_never_exceeds_the_configured_one() -> None:
    limiter = RateLimiter(4.0)
    for tenth in range(600):
        limiter.spend(1, tenth / 10)
    limiter.on_throttled(sent_at=59.9, now=60.0)

    assert limiter.limit(60.0) == pytest.approx(2.0)
    assert limiter.limit(90_000.0) == 4.0


def test_throttled_answers_to_concurrent_calls_slow_down_once() -> None:
    limiter = RateLimiter(8.0)
    limiter.spend(8, 10.0)
    for _ in range(8):
        limiter.on_throttled(sent_at=10.0, now=10.5)
    once = limiter.limit(10.5)
    limiter.on_throttled(sent_at=11.0, now=12.0)

    assert once is not None
    assert limiter.limit(12.0) < once  # type: ignore[operator]


def test_the_rate_never_drops_below_its_minimum_however_often_calls_are_throttled() -> None:
    limiter = RateLimiter(8.0)
    for at in range(100):
        limiter.on_throttled(sent_at=float(at), now=float(at))

    assert limiter.limit(99.0) == RATE_MIN


def test_the_permits_of_a_round_are_bounded_by_the_rate() -> None:
    breaker = CircuitBreaker(8, RateLimiter(3.0))
    assert breaker.permits(0, 10.0) == 3
    breaker.rate_limiter.spend(3, 10.0)
    assert breaker.permits(0, 10.0) == 0
    assert breaker.next_permit_at(0, 10.0) == pytest.approx(10.0 + 1 / 3)
