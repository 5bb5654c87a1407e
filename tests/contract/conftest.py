"""Every contract test runs twice: in the simulated world and against real servers."""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tests.contract.worlds import PARTITIONS, KafkaWorld, OmsWorld, RealKafka, RealOms, Simulated
from tests.integration.conftest import admin, broker, kafka, topic

__all__ = ["admin", "broker", "kafka", "topic"]

SIMULATED = "simulated"
REAL = "real"

both = [pytest.param(SIMULATED), pytest.param(REAL, marks=pytest.mark.integration)]


@pytest.fixture(params=both)
def group(request: pytest.FixtureRequest) -> Iterator[KafkaWorld]:
    """A topic and a consumer group."""
    if request.param == SIMULATED:
        yield Simulated()
        return
    make_topic: Callable[..., str] = request.getfixturevalue("topic")
    servers: str = request.getfixturevalue("kafka")
    with closing(RealKafka(servers, make_topic(PARTITIONS))) as world:
        yield world


@pytest.fixture(params=both)
def oms(request: pytest.FixtureRequest) -> Iterator[OmsWorld]:
    """An OMS and its client."""
    world: Simulated | RealOms = Simulated() if request.param == SIMULATED else RealOms()
    with closing(world):
        yield world
