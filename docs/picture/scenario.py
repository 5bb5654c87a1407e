"""Some minutes of the real service at work, for its pictures: full requests, a burst, an outage, and the recovery.

Broker, OMS sandbox and publisher run in this process; the service is the command ``run``. All listen on loopback only.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

import httpx

from consumer.avro.bundled import schema_path
from consumer.sandbox.embedded_broker import EmbeddedBroker
from consumer.sandbox.oms.faults.rules import Latency, Outage
from consumer.sandbox.oms.faults.scripted import FaultRequest
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import SandboxSettings
from consumer.sandbox.publisher import Change, Encoder, publish
from tests.support.service_process import ServiceProcess, running_service, service_config, wait_until

TOPIC: Final = "inventory-changes"
SEED: Final = 1
SCHEMA_ID: Final = 1
TICK_SECONDS: Final = 1.0
"""Between two rounds of published changes."""

WAREHOUSES: Final[Mapping[str, int]] = {
    "Warehouse North": 1_200,
    "Warehouse East": 1_000,
    "Warehouse South": 900,
    "Warehouse West": 800,
    "Online Returns": 700,
}
"""Changes per second. Each location fills a window of 12,000 items in 13 to 22 s."""
WAREHOUSE_ITEMS: Final = 30_000
STORES: Final[Mapping[str, int]] = {"Store 01": 260, "Store 02": 390, "Store 03": 260}
"""Changes per second. Too few to fill a window in time: these send whole chunks when their oldest changes are due."""
STORE_ITEMS_PER_RATE: Final = 75
"""Distinct items of a store, per change and second."""
BURST_LOCATION: Final = "Central Warehouse"
BURST_ITEMS: Final = 81_000
REJECTED: Final[tuple[Change, ...]] = (
    {"locationName": "Store 01", "sku": "SKU00001", "quantity": -1},
    {"locationName": "Store 02", "sku": "SKU00002", "quantity": -5},
    {"locationName": "", "sku": "SKU00003", "quantity": 1},
)
"""Changes that can never be sent, published with the burst."""

MAX_AGE_SECONDS: Final = 27
"""Instead of the default 300 s, which is as long as the picture. Windows sent at this age are still in the histograms'
bucket of 30 s; with a few seconds more, their quantiles would be drawn near the next bucket's end, 60 s."""
STORE_DELAY_SECONDS: Final = MAX_AGE_SECONDS / len(STORES)
"""Between the first changes of one store and the next, so that their requests do not all leave at the same time."""
BACKOFF_SECONDS_MAX: Final = 12
"""Instead of the default 60 s, so that the recovery comes soon after the end of the outage."""
WARM_UP_SECONDS: Final = 2 * MAX_AGE_SECONDS + 10
"""Before the picture begins: until all stores have had their first request."""
BURST_AT: Final = 0.2
OUTAGE_AT: Final = 0.42
OUTAGE_SHARE: Final = 0.15
STATUS_PAGE_AT: Final = 0.52
"""When things happen, as shares of the time that the picture shows."""


BACKLOG_LOCATIONS: Final = 60
BACKLOG_ITEMS: Final = 15_000
"""Of each location: what has come while no process ran."""
BACKLOG_ANSWER_SECONDS: Final = 6.0
"""Until the OMS answers. With few requests in flight, it sets the pace, and reading waits for memory."""
BACKLOG_SAMPLES: Final = 13
"""Of the charts, until the picture is drawn."""


class Scenario:
    """The service and what it talks to, while ``running_scenario`` lasts."""

    def __init__(self, service: ServiceProcess, sandbox: SandboxServer, bootstrap_servers: str) -> None:
        self.service = service
        self._sandbox = sandbox
        self._bootstrap_servers = bootstrap_servers
        self._rng = random.Random(SEED)  # noqa: S311 - not for secrets
        self._encoder = Encoder(SCHEMA_ID)
        self._stopping = threading.Event()

    def warm_up(self) -> None:
        """Wait until all locations send at their usual rate."""
        time.sleep(WARM_UP_SECONDS)

    def play(self, seconds: float, during_outage: Callable[[], None]) -> None:
        """Run the burst and the outage within ``seconds``, and call this in the middle of the outage."""
        started = time.monotonic()

        def wait_for(share: float) -> None:
            time.sleep(max(started + share * seconds - time.monotonic(), 0))

        wait_for(BURST_AT)
        self._publish_burst()
        wait_for(OUTAGE_AT)
        outage = Outage(duration=OUTAGE_SHARE * seconds)
        self._sandbox.state.add_faults(FaultRequest(rules=[outage]))
        wait_for(STATUS_PAGE_AT)
        during_outage()
        wait_for(1)

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """Publish changes of all locations at their rates until the block ends."""
        thread = threading.Thread(target=self._publish_until_stopped, name="publisher")
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join()

    def _publish_until_stopped(self) -> None:
        started = next_tick = time.monotonic()
        while not self._stopping.wait(max(next_tick - time.monotonic(), 0)):
            next_tick += TICK_SECONDS
            open_stores = islice(STORES.items(), 1 + int((next_tick - started) / STORE_DELAY_SECONDS))
            locations = [(location, rate, WAREHOUSE_ITEMS) for location, rate in WAREHOUSES.items()]
            locations += [(location, rate, rate * STORE_ITEMS_PER_RATE) for location, rate in open_stores]
            changes = [
                self._change(location, self._rng.randrange(items))
                for location, rate, items in locations
                for _ in range(round(rate * TICK_SECONDS))
            ]
            self._rng.shuffle(changes)
            self._publish(changes)

    def _publish_burst(self) -> None:
        self._publish([*(self._change(BURST_LOCATION, item) for item in range(BURST_ITEMS)), *REJECTED])

    def _publish(self, changes: list[Change]) -> None:
        publish(map(self._encoder.event, changes), bootstrap_servers=self._bootstrap_servers, topic=TOPIC)

    def _change(self, location: str, item: int) -> Change:
        occurred_at = time.time() - self._rng.uniform(0.2, 1.5)
        return {
            "locationName": location,
            "sku": f"SKU{item:05}",
            "quantity": self._rng.randrange(1_000),
            "occurredAt": round(occurred_at * 1_000),
        }


@contextmanager
def catching_up(folder: Path) -> Iterator[str]:
    """The URL of a service that is behind by many changes, and knows for how long."""
    slow = Latency(seconds=BACKLOG_ANSWER_SECONDS)
    oms = SandboxSettings(seconds_per_chunk=0.25, seconds_per_job=0.25, faults=(slow,))
    rng = random.Random(SEED)  # noqa: S311 - not for secrets
    encoder = Encoder(SCHEMA_ID)
    with EmbeddedBroker([TOPIC, f"{TOPIC}.dead"]) as broker, SandboxServer(oms) as sandbox:
        for number in range(BACKLOG_LOCATIONS):
            changes: list[Change] = [
                {"locationName": f"Store {number:02}", "sku": f"SKU{item:05}", "quantity": rng.randrange(1_000)}
                for item in range(BACKLOG_ITEMS)
            ]
            publish(map(encoder.event, changes), bootstrap_servers=broker.bootstrap_servers, topic=TOPIC)
        config = service_config(
            broker.bootstrap_servers,
            TOPIC,
            sandbox,
            avro={"schema_file": str(schema_path())},
            oms={"max_in_flight": 2},
            memory={"budget": "48MiB"},
        )
        with running_service(config, folder) as service:
            wait_until(service.is_ready, "the service is ready")
            wait_until(lambda: _knows_how_long(service.url), "the service knows how long it will take")
            yield service.url
            service.stop()


def _knows_how_long(url: str) -> bool:
    samples = httpx.get(f"{url}/api/history").json()["points"]
    return len(samples) >= BACKLOG_SAMPLES and "at this rate" in httpx.get(f"{url}/api/overview").json()["health"]


@contextmanager
def running_scenario(folder: Path) -> Iterator[Scenario]:
    """Start broker, sandbox, service and publisher; all of them end with the block."""
    oms = SandboxSettings(seconds_per_chunk=0.25, seconds_per_job=0.25)
    with EmbeddedBroker([TOPIC, f"{TOPIC}.dead"]) as broker, SandboxServer(oms) as sandbox:
        config = service_config(
            broker.bootstrap_servers,
            TOPIC,
            sandbox,
            avro={"schema_file": str(schema_path())},
            window={"max_age": MAX_AGE_SECONDS},
            oms={"unknown_hold": 10, "backoff_max": BACKOFF_SECONDS_MAX},
        )
        with running_service(config, folder) as service:
            scenario = Scenario(service, sandbox, broker.bootstrap_servers)
            wait_until(service.is_ready, "the service is ready")
            with scenario.publishing():
                yield scenario
            service.stop()
