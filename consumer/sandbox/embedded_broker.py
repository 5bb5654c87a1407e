"""A broker inside this process, for the demo and quick tests: the mock cluster of librdkafka.

Sockets, groups and commits are real, but it is not suitable for load tests or for testing fencing:
- a partition keeps about 5 MiB and drops older messages: publish compressed, and at most a few 100,000 events;
- a topic always has 4 partitions;
- it accepts commits from members that do not own the partition, and it does not report topic IDs.
"""

import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from confluent_kafka import Producer

from consumer.errors import InvariantError

PARTITIONS: Final = 4
"""Of every topic."""
START_SECONDS_MAX: Final = 60.0


class EmbeddedBroker:
    """Runs during the ``with`` block; all its messages are gone afterwards."""

    def __init__(self, topics: Sequence[str] = ()) -> None:
        self._topics = topics
        self._cluster: Producer | None = None
        self._bootstrap_servers: str | None = None

    def __enter__(self) -> Self:
        options = {"bootstrap.servers": "127.0.0.1:1", "test.mock.num.brokers": 1, "log_level": 3}
        self._cluster = Producer(options, logger=logging.getLogger("inventory_refresh.embedded_broker"))
        (broker,) = self._cluster.list_topics(timeout=START_SECONDS_MAX).brokers.values()
        self._bootstrap_servers = f"{broker.host}:{broker.port}"
        for topic in self._topics:
            self.create_topic(topic)
        return self

    @property
    def bootstrap_servers(self) -> str:
        """``host:port`` on the loopback interface; only within the ``with`` block."""
        if self._bootstrap_servers is None:
            raise InvariantError("the embedded broker is not running")
        return self._bootstrap_servers

    def create_topic(self, topic: str) -> None:
        """Create a topic: this broker does so when a producer asks for the topic's metadata."""
        if self._cluster is None:
            raise InvariantError("the embedded broker is not running")
        self._cluster.list_topics(topic, timeout=START_SECONDS_MAX)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._cluster = None
        self._bootstrap_servers = None
