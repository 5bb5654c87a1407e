"""Fixtures that give real servers: started once for all workers of a test run, or those that the environment names."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.support.parts import or_skip
from tests.support.services import Kafka, use_kafka, use_registry

REQUEST_SECONDS_MAX = 30.0


@pytest.fixture(scope="session")
def broker() -> Iterator[Kafka]:
    with ExitStack() as stack:
        yield or_skip(lambda: use_kafka(stack))


@pytest.fixture(scope="session")
def kafka(broker: Kafka) -> str:
    """The bootstrap servers of a real Kafka."""
    return broker.bootstrap_servers


@pytest.fixture(scope="session")
def registry() -> Iterator[str]:
    """The URL of a real schema registry, as a client of Confluent's takes it."""
    with ExitStack() as stack:
        yield or_skip(lambda: use_registry(stack)).url


@pytest.fixture(scope="session")
def admin(kafka: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka})


@pytest.fixture
def topic(admin: AdminClient) -> Callable[..., str]:
    """``topic(partitions=4, config=None)`` makes a topic with a name of its own, and gives the name."""

    def make(partitions: int = 1, config: dict[str, str] | None = None) -> str:
        name = f"changes-{uuid.uuid4().hex[:12]}"
        made = admin.create_topics([NewTopic(name, partitions, 1, config=config or {})], operation_timeout=10.0)
        made[name].result(REQUEST_SECONDS_MAX)
        return name

    return make
