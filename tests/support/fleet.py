"""Members of the service as processes on one topic, a publisher, and a ledger of what the OMS accepted.

The quantity of an item is the round in which it was published. An older quantity is therefore smaller, and as long as
the OMS never gets an older quantity after a newer one, the quantities that it accepts never decrease.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic

from consumer.avro.bundled import schema_path
from consumer.sandbox.oms.faults.outcome import JobOverride
from consumer.sandbox.oms.faults.scripted import FaultRequest
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.state import SandboxState
from consumer.sandbox.oms.validation import Refresh
from consumer.sandbox.publisher import Change, Encoder, item_key
from tests.support.service_process import ServiceProcess, running_service, service_config, wait_until

SESSION_MS: Final = 6_000
HEARTBEAT_MS: Final = 300
UNKNOWN_HOLD_SECONDS: Final = 2.0
REQUEST_SECONDS_MAX: Final = 30.0
PUBLISH_SECONDS_MAX: Final = 120.0
"""Includes the time until the remaining brokers notice that others were killed."""
WAIT_SECONDS_MAX: Final = 150.0
"""Long enough for a busy machine: these tests do not check how soon a condition becomes true."""
LONG_SESSIONS: Final = {"session_ms": 60_000, "max.poll.interval.ms": 60_000}
"""For a fleet in which no member may time out, even if it pauses for a while on a busy machine."""
LOG_CHARACTERS_SHOWN: Final = 3_000
CLASSIC, CONSUMER = "classic", "consumer"

both_protocols = pytest.mark.parametrize("protocol", [CLASSIC, CONSUMER])

PUBLISHER: Final = {"log_level": 0, "linger.ms": 5, "enable.idempotence": True, "reconnect.backoff.max.ms": 500}
"""Idempotent, so that a broker failure causes neither duplicates nor reordering."""

Item = tuple[str, str]
"""Location and SKU."""


class Ledger:
    """Every item that a sandbox accepts from now on, in the order of its queue."""

    def __init__(self, state: SandboxState) -> None:
        self._accept = state.accept
        self._lock = threading.Lock()
        self._counts: dict[Item, list[int]] = {}
        state.accept = self._record  # type: ignore[method-assign]

    def _record(self, refresh: Refresh, override: JobOverride | None = None) -> int:
        with self._lock:
            for item in refresh.items or ():
                counts = self._counts.setdefault((refresh.location, item.get("sku", "")), [])
                counts.append(int(item["quantity"]))
            return self._accept(refresh, override)

    def counts(self) -> dict[Item, list[int]]:
        """Each item's accepted quantities, in order."""
        with self._lock:
            return {item: list(counts) for item, counts in self._counts.items()}

    def held(self) -> dict[Item, int]:
        """Each item's last quantity."""
        return {item: counts[-1] for item, counts in self.counts().items()}

    def backwards(self) -> list[str]:
        """One line for each time that an older quantity came after a newer one."""
        return [
            f"{location} {sku}: {older} after {newer}, of {counts}"
            for (location, sku), counts in self.counts().items()
            for newer, older in pairwise(counts)
            if older < newer
        ]

    def repeated(self) -> dict[Item, int]:
        """How often a quantity was repeated, by item, for items where that happened."""
        repeats = {item: len(counts) - len(set(counts)) for item, counts in self.counts().items()}
        return {item: count for item, count in repeats.items() if count}


class Stock:
    """Publishes all items round by round: an item always to one partition, the items of a location to all partitions.

    With ``one_offs``, each round also publishes one item per partition that never changes again. If a message is lost,
    such an item is missing, whereas items that change in every round would hide the loss.
    """

    def __init__(
        self, servers: str, topic: str, *, partitions: int, locations: int, items: int, one_offs: bool = True
    ) -> None:
        self._producer = Producer(PUBLISHER | {"bootstrap.servers": servers})
        self._encoder = Encoder(1)
        self._topic = topic
        self._locations = locations
        self._partitions_with_one_offs = range(partitions if one_offs else 0)
        self._lock = threading.Lock()
        self._partition_of: dict[Item, int] = {}
        self.round = 0
        self.held: dict[Item, int] = {}
        """The latest published quantity of each item."""
        for number in range(items):
            self.add(f"Store {number % locations}", f"sku-{number}", number // locations % partitions)

    def add(self, location: str, sku: str, partition: int) -> None:
        """Add an item, published from the next round on."""
        self._partition_of[location, sku] = partition

    def remove(self, location: str, sku: str) -> None:
        """Stop publishing this item."""
        del self._partition_of[location, sku]

    def publish(self, rounds: int = 1) -> None:
        """Publish rounds; returns when the broker has acknowledged them."""
        with self._lock:
            for _ in range(rounds):
                self.round += 1
                for (location, sku), partition in tuple(self._partition_of.items()):
                    self._publish(location, sku, partition)
                for partition in self._partitions_with_one_offs:
                    location = f"Store {self.round % self._locations}"
                    self._publish(location, f"once-{self.round}-{partition}", partition)
            if self._producer.flush(PUBLISH_SECONDS_MAX):
                raise TimeoutError("the broker did not acknowledge all messages in time")

    @contextmanager
    def publishing(self, pause_seconds: float = 0.1) -> Iterator[None]:
        """Publish rounds until the block ends."""
        stop = threading.Event()
        failures: list[BaseException] = []

        def publish_rounds() -> None:
            try:
                while not stop.wait(pause_seconds):
                    self.publish()
            except BaseException as error:  # noqa: BLE001 - raised again on the test's thread
                failures.append(error)

        thread = threading.Thread(target=publish_rounds, name="publisher")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            if failures:
                raise failures[0]

    def _publish(self, location: str, sku: str, partition: int) -> None:
        change: Change = {"locationName": location, "sku": sku, "quantity": self.round}
        value = self._encoder.value(change)
        deadline = time.monotonic() + REQUEST_SECONDS_MAX
        while True:
            try:
                self._producer.produce(self._topic, key=item_key(change), value=value, partition=partition)
                break
            except KafkaException as exception:  # the producer does not know a new partition at once
                if exception.args[0].code() != KafkaError._UNKNOWN_PARTITION or time.monotonic() > deadline:
                    raise
                self._producer.list_topics(self._topic, timeout=REQUEST_SECONDS_MAX)
        self.held[location, sku] = self.round


@dataclass
class Fleet:
    """The members, their topic, and their OMS."""

    servers: str
    topic: str
    protocol: str
    sandbox: SandboxServer
    stock: Stock
    ledger: Ledger
    folder: Path
    properties: Mapping[str, str | int]
    stack: ExitStack
    outside_client: Consumer
    members: dict[str, ServiceProcess] = field(default_factory=dict)
    supervised: bool = False
    _sections: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def group(self) -> str:
        return f"group-of-{self.topic}"

    def start(self, name: str, **sections: Any) -> ServiceProcess:
        """Start or restart a member; ``sections`` override options of its settings."""
        self._sections[name] = sections
        merged: dict[str, dict[str, Any]] = {
            "kafka": {"properties": dict(self.properties), "revoke_timeout": 12},
            "avro": {"schema_file": str(schema_path())},
            "window": {"max_age": 0.5},
            "oms": {"unknown_hold": UNKNOWN_HOLD_SECONDS, "backoff_min": 0.1, "backoff_max": 0.5},
        }
        for section, values in sections.items():
            merged[section] = merged.get(section, {}) | dict(values)
        config = service_config(self.servers, self.topic, self.sandbox, **merged)
        member = self.stack.enter_context(running_service(config, self.folder / name))
        self.members[name] = member
        return member

    def start_static(self, name: str, instance: str, **sections: Any) -> ServiceProcess:
        """Start or restart a member with a ``group.instance.id``."""
        return self.start(
            name, kafka={"properties": dict(self.properties) | {"group.instance.id": instance}}, **sections
        )

    def kill(self, name: str) -> None:
        """Kill the member without giving it a chance to leave the group."""
        self.members.pop(name).stop(signal.SIGKILL)

    def supervise(self) -> None:
        """From now on, ``wait_until`` restarts members that have ended, as Kubernetes would."""
        self.supervised = True

    def freeze(self, name: str) -> None:
        """Suspend the member's process (SIGSTOP)."""
        self.members[name].process.send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self.members[name].process.send_signal(signal.SIGCONT)

    def add_faults(self, **faults: Any) -> None:
        """Add faults to the sandbox; the arguments are the keys of ``FaultRequest``."""
        assert self.sandbox.state.add_faults(FaultRequest.model_validate(faults))

    def wait_until_shared(self, *names: str) -> None:
        """Wait until each of these members holds some partitions, and together they hold all."""

        def is_shared() -> bool:
            shares = [set(self.members[name].held()) for name in names]
            everything = set(range(len(self.partitions())))
            return all(shares) and sum(map(len, shares)) == len(everything) and set().union(*shares) == everything

        self.wait_until(is_shared, f"{', '.join(names)} share the partitions")

    def wait_until_held(self) -> None:
        """Wait until the OMS has accepted the latest quantity of every item."""
        self.wait_until(lambda: self.ledger.held() == self.stock.held, "the OMS holds the latest quantities")

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Raises AssertionError with the last lines of each member's log if the condition does not become true.

        Errors of the brokers count as false.
        """

        def is_true() -> bool:
            self._restart_ended()
            try:
                return condition()
            except KafkaException:
                return False

        try:
            wait_until(is_true, what, WAIT_SECONDS_MAX)
        except AssertionError as error:
            for name, member in self.members.items():
                error.add_note(f"{name}: {member.output()[-LOG_CHARACTERS_SHOWN:]}")
            raise

    def _restart_ended(self) -> None:
        ended = [name for name, member in self.members.items() if member.process.poll() is not None]
        for name in ended if self.supervised else ():
            self.start(name, **self._sections[name])

    def finish(self) -> None:
        """Wait until everything is applied and committed; check that no older quantity was sent after a newer one."""
        self.wait_until_held()
        self.wait_until(lambda: self.committed() == self.end(), "every offset is committed")
        assert self.ledger.backwards() == []
        applied = {
            (location, str(item["sku"])): item["quantity"]
            for location, items in self.sandbox.state.inventory().items()
            for item in items
        }
        assert applied == self.stock.held

    def partitions(self) -> list[TopicPartition]:
        known = self.outside_client.list_topics(self.topic, timeout=REQUEST_SECONDS_MAX).topics[self.topic].partitions
        return [TopicPartition(self.topic, number) for number in sorted(known)]

    def committed(self) -> dict[int, int]:
        """By partition; negative where nothing is committed."""
        committed = self.outside_client.committed(self.partitions(), timeout=REQUEST_SECONDS_MAX)
        return {partition.partition: partition.offset for partition in committed}

    def end(self) -> dict[int, int]:
        return {
            partition.partition: self.outside_client.get_watermark_offsets(partition, timeout=REQUEST_SECONDS_MAX)[1]
            for partition in self.partitions()
        }


OpenFleet = Callable[..., Fleet]
"""``fleet(partitions=4, ...)``, with the arguments of ``open_fleet``: a new topic and a sandbox, no members yet."""


def group_properties(protocol: str, session_ms: int) -> dict[str, str | int]:
    """``kafka.properties`` with a session timeout; with the protocol ``consumer``, see ``shorten_sessions``."""
    if protocol == CONSUMER:
        return {"group.protocol": CONSUMER, "max.poll.interval.ms": 20_000}
    return {"session.timeout.ms": session_ms, "heartbeat.interval.ms": HEARTBEAT_MS, "max.poll.interval.ms": 20_000}


def shorten_sessions(servers: str, group: str, session_ms: int = SESSION_MS) -> None:
    """Set the group's session timeout on the broker, where the protocol ``consumer`` takes it from."""
    times = {"consumer.session.timeout.ms": session_ms, "consumer.heartbeat.interval.ms": HEARTBEAT_MS}
    entries = [
        ConfigEntry(name, str(value), incremental_operation=AlterConfigOpType.SET) for name, value in times.items()
    ]
    resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=entries)
    admin = AdminClient({"bootstrap.servers": servers})
    admin.incremental_alter_configs([resource])[resource].result(REQUEST_SECONDS_MAX)

    def is_set() -> bool:
        """The broker applies new settings shortly after it has accepted them."""
        described = ConfigResource(ResourceType.GROUP, group)
        settings = admin.describe_configs([described])[described].result(REQUEST_SECONDS_MAX)
        return all(settings[name].value == str(value) for name, value in times.items())

    wait_until(is_set, "the broker applies the group's new timeouts")


@contextmanager
def open_fleet(
    servers: str,
    topic: str,
    sandbox: SandboxServer,
    folder: Path,
    *,
    protocol: str = CLASSIC,
    partitions: int = 4,
    locations: int = 3,
    items: int = 48,
    one_offs: bool = True,
    session_ms: int = SESSION_MS,
    **properties: str | int,
) -> Iterator[Fleet]:
    """A fleet without members, on an existing topic. ``properties`` override those of ``group_properties``."""
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(f"{topic}.dead", 1)])[f"{topic}.dead"].result(REQUEST_SECONDS_MAX)
    if protocol == CONSUMER:
        shorten_sessions(servers, f"group-of-{topic}", session_ms)
    outside_client = Consumer({"bootstrap.servers": servers, "group.id": f"group-of-{topic}", "log_level": 0})
    with ExitStack() as stack:
        stack.callback(outside_client.close)
        yield Fleet(
            servers=servers,
            topic=topic,
            protocol=protocol,
            sandbox=sandbox,
            stock=Stock(servers, topic, partitions=partitions, locations=locations, items=items, one_offs=one_offs),
            ledger=Ledger(sandbox.state),
            folder=folder,
            properties=group_properties(protocol, session_ms) | properties,
            stack=stack,
            outside_client=outside_client,
        )
