"""What is read from the broker about newly assigned partitions, within the rebalance callback."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaException, TopicPartition

from consumer.core.partition.commit_metadata import parse_metadata
from consumer.kafka.calls import call_until
from consumer.kafka.errors import UNKNOWN_PARTITION, error_of
from consumer.kafka.topics import REQUEST_SECONDS_MAX, TopicLookup
from consumer.ports import Assignment

_call_until = partial(call_until, also_retried=UNKNOWN_PARTITION)
"""A partition that was just added may be assigned before the client knows it: that goes away too."""

LOAD_SECONDS_MAX: Final = 60.0
"""How long loading all partitions of a rebalance may take: well below max.poll.interval.ms, because the loop waits."""

_log = structlog.get_logger("inventory_refresh.kafka")


class AssignmentLoader:
    """Reads committed offsets, log bounds and topic ids, and numbers the assignments from 1 upwards."""

    def __init__(self, consumer: Consumer, topics: TopicLookup) -> None:
        self._consumer = consumer
        self._topics = topics
        self._last_id = 0

    def load(self, partitions: Sequence[tuple[str, int]]) -> list[Assignment]:
        """A new assignment for each partition (topic, number), in the same order.

        Waits for the broker. Raises BrokerError when it does not answer within ``LOAD_SECONDS_MAX``.
        """
        if not partitions:
            return []
        deadline = time.monotonic() + LOAD_SECONDS_MAX
        committed = _call_until(deadline, "read the committed offsets", lambda: self._committed(partitions))
        topic_ids = {topic: self._topics.topic_id(topic) for topic in {topic for topic, _ in partitions}}
        return [self._load_one(partition, topic_ids[partition.topic], deadline) for partition in committed]

    def _committed(self, partitions: Sequence[tuple[str, int]]) -> list[TopicPartition]:
        wanted = [TopicPartition(topic, partition) for topic, partition in partitions]
        answers = self._consumer.committed(wanted, timeout=REQUEST_SECONDS_MAX)
        for answer in answers:
            if answer.error is not None:
                raise KafkaException(answer.error)
        return answers

    def _load_one(self, committed: TopicPartition, topic_id: str | None, deadline: float) -> Assignment:
        partition = f"{committed.topic} [{committed.partition}]"
        low, high = _call_until(deadline, f"read the log bounds of {partition}", lambda: self._log_bounds(committed))
        self._last_id += 1
        offset = None if committed.offset == OFFSET_INVALID else committed.offset
        metadata = committed.metadata or ""
        if offset is not None and _is_of_another_topic(offset, metadata, topic_id):
            _log.error(
                "commit_of_deleted_topic_ignored",
                topic=committed.topic,
                partition=committed.partition,
                committed_offset=offset,
                start_offset=low,
                detail="the topic was recreated after this commit; reading starts at the log's start",
            )
            offset, metadata = None, ""
        return Assignment(
            assignment_id=self._last_id,
            topic=committed.topic,
            partition=committed.partition,
            committed=offset,
            metadata=metadata,
            low=low,
            high=high,
            topic_id=topic_id,
        )

    def _log_bounds(self, partition: TopicPartition) -> tuple[int, int]:
        try:
            return self._consumer.get_watermark_offsets(partition, timeout=REQUEST_SECONDS_MAX)
        except KafkaException as exception:
            if error_of(exception).code() != UNKNOWN_PARTITION:
                raise
            return self._topics.log_bounds(partition)  # the group may know a new partition before the consumer does


def _is_of_another_topic(committed: int, metadata: str, topic_id: str | None) -> bool:
    """Whether the commit belongs to a deleted topic of the same name (rule 8). Pure; False if an id is unknown."""
    committed_to = parse_metadata(metadata, committed=committed).topic_id
    return committed_to is not None and topic_id is not None and committed_to != topic_id
