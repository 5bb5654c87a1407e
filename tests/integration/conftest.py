"""Fixtures that give real servers: started once for all workers of a test run, or those that the environment names."""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TypeVar

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.support.services import Kafka, PartMissingError, use_kafka, use_registry

REQUEST_SECONDS_MAX = 30.0

Part = TypeVar("Part")


def _use(part: Callable[[ExitStack], Part], stack: ExitStack) -> Part:
    """Skip where a part cannot be had on this machine; where every part must be there (CI=true), fail."""
    try:
        return part(stack)
    except PartMissingError as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI=true, and a part is missing: {missing}")
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def broker() -> Iterator[Kafka]:
    with ExitStack() as stack:
        yield _use(use_kafka, stack)


@pytest.fixture(scope="session")
def kafka(broker: Kafka) -> str:
    """The bootstrap servers of a real Kafka."""
    return broker.bootstrap_servers


@pytest.fixture(scope="session")
def registry() -> Iterator[str]:
    """The URL of a real schema registry, as a client of Confluent's takes it."""
    with ExitStack() as stack:
        yield _use(use_registry, stack).url


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
