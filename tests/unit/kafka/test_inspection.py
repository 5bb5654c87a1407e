"""How answers of the cluster are read; tests/integration/test_check_command asks real brokers."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException

from consumer.kafka.cluster_state import NO_CONTROLLER, Unanswered
from consumer.kafka.inspection import _both, _offset, _result, _retried, _session_limits

DENIED = KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
MOVING = KafkaException(KafkaError(KafkaError.NOT_COORDINATOR))


@pytest.mark.parametrize(("offset", "known"), [(0, True), (7, True), (-1, True), (OFFSET_INVALID, False)])
def test_an_invalid_offset_is_no_answer_and_minus_one_is_the_end(offset: int, known: bool) -> None:  # noqa: FBT001
    """librdkafka returns it, without an error, for a request that timed out."""
    found = _offset(SimpleNamespace(offset=offset))
    assert found == offset if known else isinstance(found, Unanswered)


def test_bounds_need_both_answers() -> None:
    silent = Unanswered("late")
    assert _both(1, 2) == (1, 2)
    assert _both(silent, 2) == silent
    assert _both(1, silent) == silent


def test_a_refusal_differs_from_no_answer() -> None:
    refused: Future[Any] = Future()
    refused.set_exception(DENIED)
    found = _result(refused, 1.0)
    assert found.is_denied
    assert "TOPIC_AUTHORIZATION_FAILED" in found.reason
    late: Future[Any] = Future()
    late.set_exception(TimeoutError())
    assert not _result(late, 1.0).is_denied


def test_a_coordinator_that_moves_is_asked_again_but_a_refusal_is_final() -> None:
    answers: list[Any] = [MOVING, MOVING, "the group"]

    def ask(_seconds: float) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert _retried(ask, 60.0) == "the group"
    answers += [DENIED, "unused"]
    assert _retried(ask, 60.0).is_denied
    assert answers == ["unused"]


def test_session_limits_are_those_of_the_first_broker_that_lets_us_see_them() -> None:
    limits = {"group.min.session.timeout.ms": "6000", "group.max.session.timeout.ms": "1800000"}
    denied = Unanswered("denied", is_denied=True)
    assert _session_limits({1: denied, 2: limits}) == (6.0, 1800.0)
    assert _session_limits({1: denied}) == NO_CONTROLLER
    assert _session_limits({}) == NO_CONTROLLER
