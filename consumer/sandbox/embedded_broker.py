"""A broker inside this process, for the demo and quick tests: the mock cluster that comes with librdkafka.

Real sockets, real groups, real commits; but it is no broker for load, nor one to test fencing on:
- a partition keeps about 5 MiB and drops what is older, so publish compressed, and not more than a few 100,000 events;
- a topic has 4 partitions, always;
- it takes commits from members that do not own the partition, and it does not tell a topic's id.
"""

import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from confluent_kafka import Producer

PARTITIONS: Final = 4
"""Of every topic."""
START_SECONDS_MAX: Final = 30.0


class EmbeddedBroker:
    """A context manager; it is gone, with all that it held, when the context is left."""

    def __init__(self, topics: Sequence[str] = ()) -> None:
        self._topics = topics
        self._cluster: Producer | None = None
        self.bootstrap_servers = ""
        """``host:port`` on the loopback interface, while it runs."""

    def __enter__(self) -> Self:
        options = {"bootstrap.servers": "127.0.0.1:1", "test.mock.num.brokers": 1, "log_level": 3}
        self._cluster = Producer(options, logger=logging.getLogger("inventory_refresh.embedded_broker"))
        (broker,) = self._cluster.list_topics(timeout=START_SECONDS_MAX).brokers.values()
        self.bootstrap_servers = f"{broker.host}:{broker.port}"
        for topic in self._topics:
            self.create_topic(topic)
        return self

    def create_topic(self, topic: str) -> None:
        """To ask for a topic as a producer is how this broker makes one."""
        if self._cluster is None:
            raise RuntimeError("the broker runs only inside its context")
        self._cluster.list_topics(topic, timeout=START_SECONDS_MAX)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._cluster = None
        self.bootstrap_servers = ""
