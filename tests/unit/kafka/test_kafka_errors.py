"""The class of each error of Kafka, and the outcome of a commit."""

import pytest
from confluent_kafka import KafkaError

from consumer.errors import BrokerError
from consumer.kafka.commit_outcome import commit_outcome
from consumer.kafka.errors import ErrorClass, classify, text_of
from consumer.ports import CommitRefused, Committed


@pytest.mark.parametrize(
    ("code", "error_class"),
    [
        pytest.param(KafkaError.REBALANCE_IN_PROGRESS, ErrorClass.RETRIABLE, id="rebalance"),
        pytest.param(KafkaError.STALE_MEMBER_EPOCH, ErrorClass.RETRIABLE, id="stale epoch"),
        pytest.param(KafkaError._TIMED_OUT, ErrorClass.RETRIABLE, id="timed out"),
        pytest.param(KafkaError.COORDINATOR_NOT_AVAILABLE, ErrorClass.RETRIABLE, id="no coordinator"),
        pytest.param(KafkaError.UNKNOWN_MEMBER_ID, ErrorClass.FENCED, id="unknown member"),
        pytest.param(KafkaError.ILLEGAL_GENERATION, ErrorClass.FENCED, id="illegal generation"),
        pytest.param(KafkaError.FENCED_INSTANCE_ID, ErrorClass.FENCED, id="fenced instance"),
        pytest.param(KafkaError.GROUP_AUTHORIZATION_FAILED, ErrorClass.UNAUTHORISED, id="group forbidden"),
        pytest.param(KafkaError._AUTHENTICATION, ErrorClass.UNAUTHORISED, id="login refused"),
        pytest.param(KafkaError._NO_OFFSET, ErrorClass.NO_OFFSETS, id="nothing to commit"),
        pytest.param(KafkaError.UNKNOWN_TOPIC_OR_PART, ErrorClass.PERMANENT, id="topic gone"),
        pytest.param(KafkaError._BAD_MSG, ErrorClass.PERMANENT, id="corrupt data, which is never skipped"),
        pytest.param(KafkaError.UNKNOWN, ErrorClass.PERMANENT, id="unknown code"),
    ],
)
def test_an_error_code_has_its_class(code: int, error_class: ErrorClass) -> None:
    assert classify(KafkaError(code)) is error_class


def test_a_fatal_error_is_fatal_whatever_its_code() -> None:
    assert classify(KafkaError(KafkaError._TIMED_OUT, "over", fatal=True)) is ErrorClass.FATAL


def test_a_commit_of_an_unusable_client_is_refused_as_fenced() -> None:
    refused = commit_outcome([KafkaError(KafkaError._FATAL), KafkaError(KafkaError.REQUEST_TIMED_OUT)])
    assert isinstance(refused, CommitRefused)
    assert refused.fenced


def test_an_errors_text_is_one_line_with_its_name() -> None:
    assert text_of(KafkaError(KafkaError._TRANSPORT, "no\n route")) == "no route (_TRANSPORT)"


def test_a_commit_without_offsets_counts_as_committed() -> None:
    assert commit_outcome([KafkaError(KafkaError._NO_OFFSET)]) == Committed()


def test_the_worst_error_of_the_partitions_decides_the_outcome_of_a_commit() -> None:
    retriable, fenced, forbidden = (
        KafkaError(code)
        for code in (
            KafkaError.REQUEST_TIMED_OUT,
            KafkaError.ILLEGAL_GENERATION,
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
        )
    )
    refused = commit_outcome([retriable])
    assert isinstance(refused, CommitRefused)
    assert not refused.fenced
    refused = commit_outcome([retriable, fenced])
    assert isinstance(refused, CommitRefused)
    assert refused.fenced
    with pytest.raises(BrokerError, match="TOPIC_AUTHORIZATION_FAILED"):
        commit_outcome([fenced, forbidden, retriable])


def test_a_member_with_an_old_generation_is_still_a_member() -> None:
    """Its commit may be repeated; that of a member which the broker no longer knows may not."""
    old, unknown = KafkaError(KafkaError.ILLEGAL_GENERATION), KafkaError(KafkaError.UNKNOWN_MEMBER_ID)

    def is_member(*errors: KafkaError) -> bool:
        outcome = commit_outcome(errors)
        assert isinstance(outcome, CommitRefused)
        return outcome.is_member

    assert is_member(old)
    assert not is_member(unknown)
    assert not is_member(unknown, old)
    assert is_member(KafkaError(KafkaError.REBALANCE_IN_PROGRESS))
