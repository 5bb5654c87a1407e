"""Topics for tests. A broker confirms a new topic a little before it can be written, read or described."""

import time
from collections.abc import Mapping

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

REQUEST_SECONDS_MAX = 60.0
POLL_SECONDS = 0.02


def make_topic(admin: AdminClient, name: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
    """Create the topic on a single broker; returns when it can be used."""
    created = admin.create_topics([NewTopic(name, partitions, 1, config=dict(config or {}))])
    created[name].result(REQUEST_SECONDS_MAX)
    wait_until_usable(admin, name, partitions)


def wait_until_usable(admin: AdminClient, name: str, partitions: int) -> None:
    """Wait until each partition has a leader that has opened its log. Raises TimeoutError."""
    deadline = time.monotonic() + REQUEST_SECONDS_MAX
    while not _is_usable(admin, name, partitions):
        if time.monotonic() > deadline:
            raise TimeoutError(f"topic {name} cannot be used after {REQUEST_SECONDS_MAX:g} s")
        time.sleep(POLL_SECONDS)


def _is_usable(admin: AdminClient, name: str, partitions: int) -> bool:
    # Asked every time: the client caches that a topic is unknown.
    known = admin.list_topics(name, timeout=REQUEST_SECONDS_MAX).topics[name].partitions.values()
    if len(known) != partitions or any(partition.leader < 0 for partition in known):
        return False
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    requests = admin.list_offsets({TopicPartition(name, partition): latest for partition in range(partitions)})
    return not any(request.exception(REQUEST_SECONDS_MAX) for request in requests.values())
