"""The whole service in this process, between a real Kafka and the OMS sandbox, with a publisher."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from consumer.app import Service
from consumer.avro.bundled import schema_path
from consumer.sandbox.demo import as_held
from consumer.sandbox.generator import Held, differences, held_after
from consumer.sandbox.oms.faults.scripted import FaultRequest
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.publisher import Change, Encoder, publish
from consumer.settings import Settings
from tests.support.service_process import REQUEST_SECONDS_MAX, WAIT_SECONDS_MAX, Topic, service_config, wait_until

SCHEMA_ID = 1


@dataclass
class Shop:
    """A running service, with what tests do to it and check about it."""

    service: Service
    sandbox: SandboxServer
    changes: Topic
    dead: Topic
    published: list[Change] = field(default_factory=list)

    def publish(self, *changes: Change) -> None:
        encoder = Encoder(SCHEMA_ID)
        self.published += changes
        publish(map(encoder.event, changes), bootstrap_servers=self.changes.bootstrap_servers, topic=self.changes.name)

    def add_faults(self, **faults: Any) -> None:
        """Add faults to the sandbox; the arguments are the keys of ``FaultRequest``."""
        assert self.sandbox.state.add_faults(FaultRequest.model_validate(faults))

    def committed_to_the_end(self) -> bool:
        """As reported by the service; ``finish`` also asks the broker."""
        partitions = self.service.board.latest.partitions
        return sum(max(partition.committed_offset or 0, 0) for partition in partitions) >= len(self.published)

    def finish(self) -> None:
        """Wait until every offset is committed and every job has ended."""
        wait_until(self.committed_to_the_end, "every offset is committed")
        wait_until(lambda: all(job.finished for job in self.sandbox.state.jobs()), "the jobs have ended")
        assert self.changes.committed() == self.changes.end()

    def differences(self, *excluded: Change) -> list[str]:
        """Differences between the OMS's items and the result of all published changes except ``excluded``."""
        expected = held_after(change for change in self.published if change not in excluded)
        return differences(expected, self.held())

    def held(self) -> Held:
        return as_held(self.sandbox.state.inventory())

    def dead_letters(self) -> list[dict[str, str]]:
        """The dead letters' headers, without their prefix; ``value`` is the length of the value, 0 without one."""
        return [
            {name.removeprefix("inventory_refresh."): value.decode() for name, value in message.headers() or []}
            | {"value": str(len(message.value() or b""))}
            for message in self.dead.read_all()
        ]

    def metric(self, name: str, **labels: str) -> float:
        return self.service.metrics.registry.get_sample_value(f"inventory_refresh_{name}", labels) or 0.0

    def probe(self, path: str) -> int:
        return httpx.get(f"{self.service.url}{path}", timeout=REQUEST_SECONDS_MAX).status_code

    def sizes(self) -> list[int]:
        """The number of items of each job, in the order in which the sandbox accepted them."""
        return [job.items for job in self.sandbox.state.jobs()]


def changes(count: int, *, location: str = "Rome", quantity: int = 7, first: int = 0) -> list[Change]:
    return [{"locationName": location, "sku": f"sku-{at}", "quantity": quantity} for at in range(first, first + count)]


@contextmanager
def open_shop(
    kafka: str, topic: str, sandbox: SandboxServer, published: Sequence[Change] = (), **sections: Any
) -> Iterator[Shop]:
    """Run the service during the block; ``published`` is on the topic before it starts."""
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(f"{topic}.dead", 1, 1)])[f"{topic}.dead"].result(REQUEST_SECONDS_MAX)
    sections["avro"] = {"schema_file": str(schema_path())} | sections.get("avro", {})
    sections["oms"] = {"unknown_hold": 2, "backoff_min": 0.2, "backoff_max": 1} | sections.get("oms", {})
    sections["http"] = {"host": "127.0.0.1", "port": 0}
    config = service_config(kafka, topic, sandbox, **sections)
    service = Service(Settings.model_validate(config))
    group = config["kafka"]["group_id"]
    shop = Shop(service, sandbox, Topic(kafka, topic, group), Topic(kafka, f"{topic}.dead", group))
    if published:
        shop.publish(*published)
    failures: list[BaseException] = []

    def run() -> None:
        try:
            service.run()
        except BaseException as error:  # noqa: BLE001 - raised again on the test's thread
            failures.append(error)

    thread = threading.Thread(target=run, name="service")
    thread.start()
    try:
        wait_until(lambda: bool(failures) or service.board.ready(), "the service is ready")
        yield shop
    finally:
        service.stop()
        thread.join(WAIT_SECONDS_MAX)
        if failures:
            raise failures[0]
