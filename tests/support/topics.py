"""Topics of a test's own. A broker says that one is made a little before it can be written, read or asked about."""

import time
from collections.abc import Mapping

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

REQUEST_SECONDS_MAX = 60.0
POLL_SECONDS = 0.02


def make_topic(admin: AdminClient, name: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
    """Make it on a Kafka of one broker; returns when it can be used."""
    made = admin.create_topics([NewTopic(name, partitions, 1, config=dict(config or {}))])
    made[name].result(REQUEST_SECONDS_MAX)
    wait_until_usable(admin, name, partitions)


def wait_until_usable(admin: AdminClient, name: str, partitions: int) -> None:
    """Wait until each partition has a leader, which has its log. Raises TimeoutError."""
    deadline = time.monotonic() + REQUEST_SECONDS_MAX
    while not _is_usable(admin, name, partitions):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} is not there within {REQUEST_SECONDS_MAX:g} s")
        time.sleep(POLL_SECONDS)


def _is_usable(admin: AdminClient, name: str, partitions: int) -> bool:
    # Always asked first: that it did not know of a topic is something that the client remembers.
    known = admin.list_topics(name, timeout=REQUEST_SECONDS_MAX).topics[name].partitions.values()
    if len(known) != partitions or any(partition.leader < 0 for partition in known):
        return False
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    asked = admin.list_offsets({TopicPartition(name, number): latest for number in range(partitions)})
    return not any(answer.exception(REQUEST_SECONDS_MAX) for answer in asked.values())
