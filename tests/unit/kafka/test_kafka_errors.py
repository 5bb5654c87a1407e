import pytest
from confluent_kafka import KafkaError

from consumer.errors import BrokerError
from consumer.kafka.commits import commit_outcome
from consumer.kafka.errors import ErrorClass, classify, text_of
from consumer.ports import CommitRefused, Committed


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        pytest.param(KafkaError.REBALANCE_IN_PROGRESS, ErrorClass.PASSING, id="rebalance"),
        pytest.param(KafkaError.STALE_MEMBER_EPOCH, ErrorClass.PASSING, id="stale epoch"),
        pytest.param(KafkaError._TIMED_OUT, ErrorClass.PASSING, id="timed out"),
        pytest.param(KafkaError.COORDINATOR_NOT_AVAILABLE, ErrorClass.PASSING, id="no coordinator"),
        pytest.param(KafkaError.UNKNOWN_MEMBER_ID, ErrorClass.FENCED, id="unknown member"),
        pytest.param(KafkaError.ILLEGAL_GENERATION, ErrorClass.FENCED, id="illegal generation"),
        pytest.param(KafkaError.FENCED_INSTANCE_ID, ErrorClass.FENCED, id="fenced instance"),
        pytest.param(KafkaError.GROUP_AUTHORIZATION_FAILED, ErrorClass.UNAUTHORISED, id="group forbidden"),
        pytest.param(KafkaError._AUTHENTICATION, ErrorClass.UNAUTHORISED, id="login refused"),
        pytest.param(KafkaError._NO_OFFSET, ErrorClass.NOTHING_TO_DO, id="nothing to commit"),
        pytest.param(KafkaError.UNKNOWN_TOPIC_OR_PART, ErrorClass.FINAL, id="topic gone"),
        pytest.param(KafkaError._BAD_MSG, ErrorClass.FINAL, id="data that cannot be read are never passed over"),
        pytest.param(KafkaError.UNKNOWN, ErrorClass.FINAL, id="unheard of"),
    ],
)
def test_an_error_means(code: int, meaning: ErrorClass) -> None:
    assert classify(KafkaError(code)) is meaning


def test_a_fatal_error_shuts_the_client_out_whatever_its_code() -> None:
    assert classify(KafkaError(KafkaError._TIMED_OUT, "over", fatal=True)) is ErrorClass.SHUT_OUT


def test_a_commit_of_a_client_that_is_shut_out_is_refused_and_nothing_may_leave_on_it() -> None:
    refused = commit_outcome([KafkaError(KafkaError._FATAL), KafkaError(KafkaError.REQUEST_TIMED_OUT)])
    assert isinstance(refused, CommitRefused)
    assert refused.fenced


def test_an_errors_text_is_one_line_with_its_name() -> None:
    assert text_of(KafkaError(KafkaError._TRANSPORT, "no\n route")) == "no route (_TRANSPORT)"


def test_a_commit_that_had_nothing_to_do_is_committed() -> None:
    assert commit_outcome([KafkaError(KafkaError._NO_OFFSET)]) == Committed()


def test_the_worst_error_of_a_commits_partitions_counts() -> None:
    passing, fenced, forbidden = (
        KafkaError(code)
        for code in (
            KafkaError.REQUEST_TIMED_OUT,
            KafkaError.ILLEGAL_GENERATION,
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
        )
    )
    refused = commit_outcome([passing])
    assert isinstance(refused, CommitRefused)
    assert not refused.fenced
    refused = commit_outcome([passing, fenced])
    assert isinstance(refused, CommitRefused)
    assert refused.fenced
    with pytest.raises(BrokerError, match="TOPIC_AUTHORIZATION_FAILED"):
        commit_outcome([fenced, forbidden, passing])
