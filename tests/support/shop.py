"""The whole service in this process: a real Kafka, the OMS sandbox over real sockets, and somebody who publishes."""

import threading
from collections import Counter
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
    """What a test does with a running service, and what it sees of it."""

    service: Service
    sandbox: SandboxServer
    changes: Topic
    dead: Topic
    published: list[Change] = field(default_factory=list)

    def publish(self, *changes: Change) -> None:
        encoder = Encoder(SCHEMA_ID)
        self.published += changes
        publish(map(encoder.event, changes), bootstrap_servers=self.changes.bootstrap_servers, topic=self.changes.name)

    def order(self, **faults: Any) -> None:
        """Script faults of the sandbox."""
        assert self.sandbox.state.add_faults(FaultRequest.model_validate(faults))

    def committed_to_the_end(self) -> bool:
        """As the service sees it; in the end the broker is asked."""
        latest = self.service.board.latest.partitions
        return sum(max(each.committed_offset or 0, 0) for each in latest) >= len(self.published)

    def finish(self) -> None:
        """Wait until all is committed and every job has ended."""
        wait_until(self.committed_to_the_end, "all is committed")
        wait_until(lambda: all(job.finished for job in self.sandbox.state.jobs()), "the jobs have ended")
        assert self.changes.committed() == self.changes.end()

    def differences(self, *left_out: Change) -> list[str]:
        """What the OMS holds otherwise than every published change but those left out would make it."""
        expected = held_after(change for change in self.published if change not in left_out)
        return differences(expected, self.held())

    def held(self) -> Held:
        return as_held(self.sandbox.state.inventory())

    def letters(self) -> list[dict[str, str]]:
        """The dead letters' headers, without their prefix; ``value`` is the value's length, "" without one."""
        return [
            {name.removeprefix("inventory_refresh."): value.decode() for name, value in message.headers() or []}
            | {"value": str(len(message.value() or b""))}
            for message in self.dead.read_all()
        ]

    def reasons(self) -> dict[str, int]:
        return dict(Counter(letter["reason"] for letter in self.letters()))

    def metric(self, name: str, **labels: str) -> float:
        return self.service.metrics.registry.get_sample_value(f"inventory_refresh_{name}", labels) or 0.0

    def probe(self, path: str) -> int:
        return httpx.get(self.service.url + path, timeout=REQUEST_SECONDS_MAX).status_code

    def sizes(self) -> list[int]:
        """Items of each job, in the order in which the sandbox accepted them."""
        return [job.items for job in self.sandbox.state.jobs()]


def changes(count: int, *, location: str = "Rome", quantity: int = 7, first: int = 0) -> list[Change]:
    return [{"locationName": location, "sku": f"sku-{at}", "quantity": quantity} for at in range(first, first + count)]


@contextmanager
def open_shop(
    kafka: str, topic: str, sandbox: SandboxServer, published: Sequence[Change] = (), **sections: Any
) -> Iterator[Shop]:
    """Run the service for the block, with ``published`` on the topic before it starts."""
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
