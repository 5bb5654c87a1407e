"""What is to be known of a partition when this process is given it, read from the broker in the rebalance callback."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaException, TopicPartition

from consumer.core.partition.commit_metadata import parse_metadata
from consumer.errors import BrokerError
from consumer.kafka.errors import UNKNOWN_PARTITION, ErrorClass, classify, error_of, text_of
from consumer.kafka.topics import REQUEST_SECONDS_MAX, Topics
from consumer.ports import Assignment

Answer = TypeVar("Answer")

DESCRIBE_SECONDS_MAX: Final = 60.0
"""How long all of them may take together: well below max.poll.interval.ms, since the loop waits."""
RETRY_SECONDS: Final = 0.1

_log = logging.getLogger("inventory_refresh.kafka")


class AssignmentLoader:
    """Reads committed offsets, the log's ends and topic ids, and numbers the assignments from 1 upwards."""

    def __init__(self, consumer: Consumer, topics: Topics) -> None:
        self._consumer = consumer
        self._topics = topics
        self._last_number = 0

    def describe(self, partitions: Sequence[TopicPartition]) -> list[Assignment]:
        """One assignment a partition, in the same order. Raises BrokerError when the broker does not tell in time."""
        if not partitions:
            return []
        deadline = time.monotonic() + DESCRIBE_SECONDS_MAX
        committed = _until(deadline, "tell the committed offsets", lambda: self._committed(partitions))
        topic_ids = {topic: self._topics.id_of(topic) for topic in {partition.topic for partition in partitions}}
        return [self._describe_one(partition, topic_ids[partition.topic], deadline) for partition in committed]

    def _committed(self, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        asked = [TopicPartition(partition.topic, partition.partition) for partition in partitions]
        answers = self._consumer.committed(asked, timeout=REQUEST_SECONDS_MAX)
        for answer in answers:
            if answer.error is not None:
                raise KafkaException(answer.error)
        return answers

    def _describe_one(self, committed: TopicPartition, topic_id: str | None, deadline: float) -> Assignment:
        name = f"{committed.topic} [{committed.partition}]"
        low, high = _until(deadline, f"tell the ends of {name}", lambda: self._ends(committed))
        self._last_number += 1
        offset = None if committed.offset == OFFSET_INVALID else committed.offset
        metadata = committed.metadata or ""
        if offset is not None and _is_of_another_topic(offset, metadata, topic_id):
            _log.error(
                "%s was made anew since offset %d was committed: that commit is ignored, reading begins at %d",
                *(name, offset, low),
            )
            offset, metadata = None, ""
        return Assignment(
            assignment_id=self._last_number,
            topic=committed.topic,
            partition=committed.partition,
            committed=offset,
            metadata=metadata,
            low=low,
            high=high,
            topic_id=topic_id,
        )

    def _ends(self, partition: TopicPartition) -> tuple[int, int]:
        try:
            return self._consumer.get_watermark_offsets(partition, timeout=REQUEST_SECONDS_MAX)
        except KafkaException as exception:
            if error_of(exception).code() != UNKNOWN_PARTITION:
                raise
            return self._topics.ends(partition)  # the group knows of a new one sooner than the consumer


def start_offset(assignment: Assignment) -> int:
    """Where reading begins: at the committed offset if the log has it, else at the log's start. Pure.

    The end of the log counts as in it. Whoever is told of the assignment sees from the same numbers that they disagree.
    """
    committed = assignment.committed
    if committed is not None and assignment.low <= committed <= assignment.high:
        return committed
    return assignment.low


def _is_of_another_topic(committed: int, metadata: str, topic_id: str | None) -> bool:
    """Whether the commit was made to another topic of the same name. Pure; unknown ids are no proof."""
    known = parse_metadata(metadata, committed=committed).topic_id
    return bool(known is not None and topic_id is not None and known != topic_id)


def _until(deadline: float, what: str, ask: Callable[[], Answer]) -> Answer:
    """Ask until there is an answer. Raises BrokerError after the deadline, or when asking again would not help."""
    while True:
        try:
            return ask()
        except KafkaException as exception:
            error = error_of(exception)
            passes = classify(error) in {ErrorClass.PASSING, ErrorClass.FENCED} or error.code() == UNKNOWN_PARTITION
            if not passes or time.monotonic() > deadline:
                raise BrokerError(f"Kafka does not {what}: {text_of(error)}") from exception
            _log.warning("Kafka does not %s yet: %s", what, text_of(error))
        time.sleep(RETRY_SECONDS)
