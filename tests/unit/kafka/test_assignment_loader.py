"""What is read from the broker about a new assignment, with a client and an admin client that answer from memory."""

from typing import Any

import pytest
from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException, TopicPartition
from structlog.testing import capture_logs

from consumer.core.partition.commit_metadata import CommitMetadata, format_metadata
from consumer.errors import BrokerError
from consumer.kafka.assignment_loader import AssignmentLoader
from consumer.ports import Assignment


class Client:
    """A group's commits and a log from offset 10 to 20; the ``failures`` are raised first, one per call."""

    def __init__(self, offset: int = OFFSET_INVALID, metadata: str | None = None, *failures: int) -> None:
        self.commit = (offset, metadata)
        self.failures = list(failures)

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        self._fail()
        offset, metadata = self.commit
        return [TopicPartition(wanted.topic, wanted.partition, offset, metadata or "") for wanted in partitions]

    def get_watermark_offsets(self, partition: TopicPartition, timeout: float) -> tuple[int, int]:
        self._fail()
        return 10, 20

    def _fail(self) -> None:
        if self.failures:
            raise KafkaException(KafkaError(self.failures.pop(0)))


class Lookup:
    def __init__(self, topic_id: str | None) -> None:
        self._topic_id = topic_id

    def topic_id(self, topic: str) -> str | None:
        return self._topic_id

    def log_bounds(self, partition: TopicPartition) -> tuple[int, int]:
        return 0, 5


def load(client: Any, topic_id: str | None = "new-id", partitions: int = 1) -> list[Assignment]:
    lookup: Any = Lookup(topic_id)
    loader = AssignmentLoader(client, lookup)
    return loader.load([("changes", partition) for partition in range(partitions)])


def test_assignments_are_numbered_from_1_and_hold_the_commit_the_log_bounds_and_the_topic_id() -> None:
    first, second = load(Client(12, "text"), partitions=2)
    assert first == Assignment(1, "changes", 0, 12, "text", low=10, high=20, topic_id="new-id")
    assert (second.assignment_id, second.partition) == (2, 1)


def test_without_a_commit_the_committed_offset_is_unknown() -> None:
    (assignment,) = load(Client())
    assert (assignment.committed, assignment.metadata) == (None, "")


@pytest.mark.parametrize(
    ("committed_to", "current", "is_ignored"),
    [
        pytest.param("old-id", "new-id", True, id="another topic id"),
        pytest.param("new-id", "new-id", False, id="the same topic id"),
        pytest.param(None, "new-id", False, id="unknown when committed"),
        pytest.param("old-id", None, False, id="unknown now"),
    ],
)
def test_a_commit_to_a_deleted_topic_of_the_same_name_is_ignored(
    committed_to: str | None, current: str | None, *, is_ignored: bool
) -> None:
    metadata = format_metadata(CommitMetadata(15, in_doubt=True, topic_id=committed_to))
    with capture_logs() as logs:
        (assignment,) = load(Client(12, metadata), current)
    assert (assignment.committed, assignment.metadata) == ((None, "") if is_ignored else (12, metadata))
    assert [event["event"] for event in logs] == (["commit_of_deleted_topic_ignored"] if is_ignored else [])


@pytest.mark.parametrize(
    "code", [KafkaError._TRANSPORT, KafkaError.UNKNOWN_MEMBER_ID, KafkaError._UNKNOWN_PARTITION], ids=str
)
def test_a_call_that_may_succeed_later_is_retried(code: int) -> None:
    with capture_logs() as logs:
        (assignment,) = load(Client(12, "", code))
    assert assignment.committed == 12
    (event,) = logs
    assert (event["event"], event["action"]) == ("kafka_call_retried", "read the committed offsets")


def test_a_permanent_error_is_raised_at_once() -> None:
    with pytest.raises(BrokerError, match=r"Kafka: cannot read the committed offsets: .*TOPIC_AUTHORIZATION_FAILED"):
        load(Client(12, "", KafkaError.TOPIC_AUTHORIZATION_FAILED))


def test_the_log_bounds_of_a_partition_that_the_consumer_does_not_know_come_from_the_admin_client() -> None:
    client = Client(OFFSET_INVALID)
    client.get_watermark_offsets = unknown_partition  # type: ignore[method-assign]
    (assignment,) = load(client)
    assert (assignment.low, assignment.high) == (0, 5)


def unknown_partition(partition: TopicPartition, timeout: float) -> tuple[int, int]:
    raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION))
