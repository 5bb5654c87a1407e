"""Fixtures for real servers: started once per test run for all workers, or taken from the environment."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import SandboxSettings
from tests.support.brokers import Brokers, running_brokers
from tests.support.fleet import Fleet, OpenFleet, open_fleet
from tests.support.parts import or_skip
from tests.support.services import Kafka, use_kafka, use_registry
from tests.support.topics import make_topic


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
    """The URL of a real schema registry, as Confluent's client expects it."""
    with ExitStack() as stack:
        yield or_skip(lambda: use_registry(stack)).url


@pytest.fixture(scope="session")
def admin(kafka: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka})


@pytest.fixture
def topic(admin: AdminClient) -> Callable[..., str]:
    """``topic(partitions=1, config=None)`` creates a topic, waits until it can be used, and returns its name."""

    def make(partitions: int = 1, config: dict[str, str] | None = None) -> str:
        name = f"changes-{uuid.uuid4().hex[:12]}"
        make_topic(admin, name, partitions, config)
        return name

    return make


@pytest.fixture
def fleet(kafka: str, topic: Callable[..., str], tmp_path: Path) -> Iterator[OpenFleet]:
    with ExitStack() as stack:

        def make(*, partitions: int = 4, **more: Any) -> Fleet:
            sandbox = stack.enter_context(SandboxServer(SandboxSettings(time_scale=0.0)))
            name = topic(partitions)
            return stack.enter_context(open_fleet(kafka, name, sandbox, tmp_path, partitions=partitions, **more))

        yield make


@pytest.fixture(scope="session")
def three_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """A Kafka whose brokers a test may kill. All of its tests run on one worker, so it is started once."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("brokers")
        yield or_skip(lambda: stack.enter_context(running_brokers(folder, 3)))


@pytest.fixture
def cluster(three_brokers: Brokers) -> Iterator[Brokers]:
    """The three brokers; after the test all are running and in sync again."""
    yield three_brokers
    three_brokers.restore()
