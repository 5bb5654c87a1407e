"""Topic ids and log bounds, asked through the admin client.

A topic that is deleted and recreated under the same name has another id. A consumer that goes on reading does not
report that: if the new log is longer than the old one was, it continues in the new log at the old log's offset, and
skips what lies before. So the ids are compared regularly (rule 8).
"""

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from typing import Any, Final

import structlog
from confluent_kafka import IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from consumer.kafka.errors import error_of, text_of
from consumer.ports import Assignment

REQUEST_SECONDS_MAX: Final = 10.0
"""How long one request to the broker may take."""
TOPIC_ID_SECONDS_MAX: Final = 5.0
CHECK_INTERVAL_SECONDS: Final = 10.0
"""How often the topic ids are compared."""

_log = structlog.get_logger("inventory_refresh.kafka")


class TopicLookup:
    """For the consumer's thread, also within a rebalance callback.

    The consumer's own ``list_topics`` must not be called in that callback: the client then forgets that a poll is in
    progress, and the next thing that it reports in that poll (one log line is enough) aborts the process.
    """

    def __init__(self, admin: Callable[[], AdminClient]) -> None:
        self._admin = admin
        self._requests: dict[str, Future[Any]] = {}
        self._check_at = 0.0
        self._partition_counts: dict[str, int] = {}

    def topic_id(self, topic: str) -> str | None:
        """The topic's id; None if the broker does not report it, which only disables the checks of rule 8."""
        try:
            admin = self._admin()
            cluster = admin.list_topics(topic, timeout=REQUEST_SECONDS_MAX)
            if topic in cluster.topics:
                self._partition_counts[topic] = len(cluster.topics[topic].partitions)
            if cluster.controller_id not in cluster.brokers:
                return None  # an embedded broker, which has no controller: the next request would time out
            requests = admin.describe_topics(TopicCollection([topic]), request_timeout=TOPIC_ID_SECONDS_MAX)
            return str(requests[topic].result(TOPIC_ID_SECONDS_MAX + 1.0).topic_id)
        except KafkaException as exception:
            _log.warning("topic_id_unavailable", topic=topic, error=text_of(error_of(exception)))
        except TimeoutError:
            _log.warning("topic_id_unavailable", topic=topic, error=f"no answer within {TOPIC_ID_SECONDS_MAX:g} s")
        return None

    def partitions_total(self, topics: Collection[str]) -> int | None:
        """Partitions of these topics, as of when their ids were asked for; None if one was not asked for yet."""
        counts = [self._partition_counts.get(topic) for topic in topics]
        return None if None in counts else sum(count or 0 for count in counts)

    def log_bounds(self, partition: TopicPartition) -> tuple[int, int]:
        """The log's start and end offset, even of a partition that the consumer does not know yet.

        Raises KafkaException.
        """
        self._admin().list_topics(partition.topic, timeout=REQUEST_SECONDS_MAX)  # so that this client knows it
        earliest, latest = OffsetSpec.earliest(), OffsetSpec.latest()  # type: ignore[no-untyped-call]
        return self._offset(partition, earliest), self._offset(partition, latest)

    def recreated(self, assignments: Iterable[Assignment], now: float) -> set[int]:
        """Ids of the assignments whose topic has another id by now; does not wait for the broker.

        Sends a request every ``CHECK_INTERVAL_SECONDS``; a later call takes its answer.
        """
        known = {
            assignment.assignment_id: (assignment.topic, assignment.topic_id)
            for assignment in assignments
            if assignment.topic_id is not None
        }
        current = self._current_ids({topic for topic, _ in known.values()}, now)
        return {
            assignment_id
            for assignment_id, (topic, topic_id) in known.items()
            if current.get(topic, topic_id) != topic_id
        }

    def _current_ids(self, topics: Collection[str], now: float) -> dict[str, str]:
        answered = {topic: request for topic, request in self._requests.items() if request.done()}
        for topic in answered:
            del self._requests[topic]
        if topics and now >= self._check_at and not self._requests:
            self._check_at = now + CHECK_INTERVAL_SECONDS
            wanted = TopicCollection(sorted(topics))
            self._requests = self._admin().describe_topics(wanted, request_timeout=TOPIC_ID_SECONDS_MAX)
        # A topic that does not exist at the moment, or whose broker does not answer, is asked for again next time.
        return {topic: str(request.result().topic_id) for topic, request in answered.items() if not request.exception()}

    def _offset(self, partition: TopicPartition, spec: OffsetSpec) -> int:
        requests = self._admin().list_offsets(
            {partition: spec},
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=REQUEST_SECONDS_MAX,
        )
        (request,) = requests.values()
        offset: int = request.result().offset
        return offset
