"""Every example of docs/events.md end to end: from a topic, through the whole service, to the counts in the OMS."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from consumer.app import Service
from consumer.sandbox.embedded_broker import EmbeddedBroker
from consumer.sandbox.oms.app import TOKEN_PATH
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import SPECIFIC_KEY, SPECIFIC_SECRET, SandboxSettings
from consumer.settings import Settings
from tests.support.event_examples import Example, examples
from tests.support.service_process import wait_until

pytestmark = pytest.mark.integration

STOP_SECONDS = 30.0


@contextmanager
def running(settings: Settings) -> Iterator[Service]:
    service = Service(settings)
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        yield service
    finally:
        service.stop()
        thread.join(STOP_SECONDS)


def settings_of(example: Example, folder: Path, servers: str, oms_url: str) -> Settings:
    schema = folder / "event.avsc"
    schema.write_text(example.schema, encoding="utf-8")
    return Settings.model_validate(
        {
            "kafka": {"bootstrap_servers": servers, "topics": ["stock"]},
            "avro": {"schema_file": str(schema)},
            "window": {"max_age": 0.2},
            "oms": {
                "base_url": oms_url,
                "token_url": oms_url + TOKEN_PATH,
                "api_key": SPECIFIC_KEY,
                "api_secret": SPECIFIC_SECRET,
            },
            "dead_letters": {"topic": "dead"},
            "http": {"host": "127.0.0.1", "port": 0},
            **example.settings,
        }
    )


def item_of(change: dict[str, Any]) -> tuple[str, str]:
    return change.get("partNumber", ""), change.get("sku", "")


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_the_oms_ends_up_with_the_last_count_of_each_item(example: Example, tmp_path: Path) -> None:
    expected = {(change["locationName"], *item_of(change)): change["quantity"] for change in example.changes}
    with EmbeddedBroker(["stock", "dead"]) as broker, SandboxServer(SandboxSettings(time_scale=0)) as oms:
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
        for key, value in example.records:
            producer.produce("stock", key=key, value=value, partition=0)
        producer.flush(10)

        def counts() -> dict[tuple[str, ...], Any]:
            return {
                (location, *item_of(dict(item))): item["quantity"]
                for location, items in oms.state.inventory().items()
                for item in items
            }

        with running(settings_of(example, tmp_path, broker.bootstrap_servers, oms.url)):
            wait_until(lambda: counts() == expected, "the OMS has the counts of the page")
