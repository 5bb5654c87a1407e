"""A client for each test, closed after it."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from consumer.core.changes.items import ITEM_KEY
from consumer.oms.client import HttpRefreshClient, build_client
from tests.unit.oms.oms_bench import SETTINGS, Bench, Clock, MakeBench, ScriptedOms


@pytest.fixture
def make_bench() -> Iterator[MakeBench]:
    """Makes a bench with other ``settings``, ``credentials`` or ``transport``; its client is closed after the test."""
    made: list[HttpRefreshClient] = []

    def make(*, transport: httpx.BaseTransport | None = None, credentials: Any = None, **settings: Any) -> Bench:
        oms, clock = ScriptedOms(), Clock()
        client = build_client(
            SETTINGS.model_copy(update=settings),
            ITEM_KEY,
            monotonic=clock.monotonic,
            wall=clock.wall,
            fence_seconds=5.0,
            credentials=credentials,
            transport=transport or httpx.MockTransport(oms),
        )
        made.append(client)
        return Bench(oms, clock, client)

    yield make
    for client in made:
        client.close()


@pytest.fixture
def bench(make_bench: MakeBench) -> Bench:
    return make_bench()
