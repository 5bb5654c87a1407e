"""What a client of its own asks the broker about topics, beside the consumer: their ids, and partitions just added.

A topic that was deleted and made anew under its name has another id. A client that reads on does not tell: where the
new log is longer than the old one was, it goes on in the new one at the old one's offset, and what lies before is
passed over. So whoever reads asks for the id now and then.
"""

import logging
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from consumer.ports import Assignment

REQUEST_SECONDS_MAX: Final = 10.0
"""How long one request to the broker may take."""
TOPIC_ID_SECONDS_MAX: Final = 5.0
LOOK_SECONDS: Final = 10.0
"""How often it is asked whether a topic is still the same."""

_log = logging.getLogger("inventory_refresh.kafka")


class Topics:
    """Asked by the consumer's one thread, in its rebalance callback too.

    There the consumer's own list_topics must not be called: it makes the client forget that a poll is under way, and
    the next thing that it has to tell in that poll (a line of its log is enough) aborts the process.
    """

    def __init__(self, make_admin: Callable[[], AdminClient]) -> None:
        self._make_admin = make_admin
        self._admin: AdminClient | None = None
        self._asked: dict[str, Future[Any]] = {}
        self._look_at = 0.0

    def id_of(self, topic: str) -> str:
        """The broker's id of the topic; "" where it does not tell, which is no reason to stop: it only guards."""
        try:
            admin = self._client()
            cluster = admin.list_topics(topic, timeout=REQUEST_SECONDS_MAX)
            if cluster.controller_id not in cluster.brokers:
                return ""  # an embedded broker: the question would wait for a controller in vain
            asked = admin.describe_topics(TopicCollection([topic]), request_timeout=TOPIC_ID_SECONDS_MAX)
            return str(asked[topic].result(TOPIC_ID_SECONDS_MAX + 1.0).topic_id)
        except (KafkaException, TimeoutError) as error:
            _log.warning("the broker does not tell the id of topic %s: %s", topic, error)
            return ""

    def ends(self, partition: TopicPartition) -> tuple[int, int]:
        """The log's first offset and its end, also of a partition that the consumer has not heard of yet.

        Raises KafkaException.
        """
        self._client().list_topics(partition.topic, timeout=REQUEST_SECONDS_MAX)  # so that this client hears of it
        first, end = OffsetSpec.earliest(), OffsetSpec.latest()  # type: ignore[no-untyped-call]
        return self._offset(partition, first), self._offset(partition, end)

    def made_anew(self, assignments: Iterable[Assignment], now: float) -> set[int]:
        """Without waiting: the numbers of these whose topic, by what was told since the last call, is another one."""
        ids = {each.assignment_id: (each.topic, each.topic_id) for each in assignments if each.topic_id}
        told = self._look({topic for topic, _ in ids.values()}, now)
        return {number for number, (topic, topic_id) in ids.items() if told.get(topic, topic_id) != topic_id}

    def _look(self, topics: Collection[str], now: float) -> dict[str, str]:
        answered = {topic: future for topic, future in self._asked.items() if future.done()}
        for topic in answered:
            del self._asked[topic]
        if topics and now >= self._look_at and not self._asked:
            self._look_at = now + LOOK_SECONDS
            wanted = TopicCollection(sorted(topics))
            self._asked = self._client().describe_topics(wanted, request_timeout=TOPIC_ID_SECONDS_MAX)
        # One that is not there at the moment, or whose broker does not answer, is asked for again.
        return {topic: str(future.result().topic_id) for topic, future in answered.items() if not future.exception()}

    def _offset(self, partition: TopicPartition, spec: OffsetSpec) -> int:
        asked = self._client().list_offsets(
            {partition: spec},
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=REQUEST_SECONDS_MAX,
        )
        (answer,) = asked.values()
        offset: int = answer.result().offset
        return offset

    def _client(self) -> AdminClient:
        if self._admin is None:
            self._admin = self._make_admin()
        return self._admin
