"""A Kafka cluster for one test, of one or more brokers that can be killed and restarted.

Each broker runs under a guard, a process that kills it when the test process ends for any reason.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.support.keeper import ROOT, START_SECONDS_MAX, free_ports
from tests.support.services import SHORT_SESSIONS, broker_answers, format_storage, kafka_command

POLL_SECONDS = 0.1
REQUEST_SECONDS_MAX = 10.0
OFFSETS_TOPIC = "__consumer_offsets"
QUICK_START = ("-XX:TieredStopAtLevel=1", "-Xshare:auto")
"""A broker that runs for seconds gains nothing from an optimising compiler."""


class Brokers:
    """Brokers with ids from 1 upwards; each is a controller too, so a majority of them must be running."""

    def __init__(self, folder: Path, count: int) -> None:
        java, *options = kafka_command()
        self._command = [java, *QUICK_START, *options]
        ports = free_ports(2 * count)
        self._ports = dict(enumerate(ports[:count], start=1))
        self._controllers = dict(enumerate(ports[count:], start=1))
        self._folder = folder
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        for broker in self._ports:
            self._properties(broker).write_text(self._properties_text(broker))
            format_storage(self._command, self._properties(broker))

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self._ports.values())

    @property
    def ids(self) -> list[int]:
        return list(self._ports)

    def start(self, broker: int) -> None:
        """Start the broker with the data it has; ``wait_until_up`` waits until it answers."""
        with (self._folder / f"server-{broker}.log").open("ab") as log:
            run = [*self._command, "kafka.Kafka", str(self._properties(broker))]
            self._running[broker] = subprocess.Popen(  # noqa: S603 - this file, and Kafka
                [sys.executable, "-m", "tests.support.brokers", *run],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    def wait_until_up(self) -> None:
        """Wait until all brokers that were started answer. Raises TimeoutError."""
        deadline = time.monotonic() + START_SECONDS_MAX
        for broker in self._running:
            while not broker_answers(f"127.0.0.1:{self._ports[broker]}"):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"broker {broker} does not answer after {START_SECONDS_MAX:g} s")
                time.sleep(POLL_SECONDS)

    def kill(self, *brokers: int) -> None:
        """Kill these brokers, without a shutdown; returns when their processes have ended."""
        guards = [self._running.pop(broker) for broker in brokers]
        for guard in guards:
            if guard.stdin is not None:
                guard.stdin.close()
        for guard in guards:
            guard.wait(START_SECONDS_MAX)

    def restore(self) -> None:
        """Start the brokers that are down, and wait until all replicas are in sync. Raises TimeoutError."""
        for broker in self.ids:
            if broker not in self._running:
                self.start(broker)
        self.wait_until_up()
        self.wait_until_in_sync()

    def wait_until_in_sync(self) -> None:
        """Wait until all replicas of all partitions are in sync. Raises TimeoutError."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        deadline = time.monotonic() + START_SECONDS_MAX
        while not _is_in_sync(admin):
            if time.monotonic() > deadline:
                raise TimeoutError(f"replicas are not in sync after {START_SECONDS_MAX:g} s")
            time.sleep(POLL_SECONDS)

    def coordinator(self, group: str) -> int:
        """The id of the group's coordinator, -1 while there is none. Raises KafkaException if no broker answers."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        partitions = admin.list_topics(OFFSETS_TOPIC, timeout=REQUEST_SECONDS_MAX).topics[OFFSETS_TOPIC].partitions
        # Computed: asked for a group's coordinator while brokers die, the client may abort the process.
        leader: int = partitions[_java_hash(group) % len(partitions)].leader
        return leader

    def close(self) -> None:
        self.kill(*self._running)

    def _properties(self, broker: int) -> Path:
        return self._folder / f"server-{broker}.properties"

    def _properties_text(self, broker: int) -> str:
        replicas = min(3, len(self._ports))
        voters = ",".join(f"{controller}@127.0.0.1:{port}" for controller, port in self._controllers.items())
        return f"""\
process.roles=broker,controller
node.id={broker}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{self._ports[broker]},CONTROLLER://127.0.0.1:{self._controllers[broker]}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={self._folder / f"data-{broker}"}
auto.create.topics.enable=false
default.replication.factor={replicas}
min.insync.replicas={max(1, replicas - 1)}
offsets.topic.num.partitions=4
offsets.topic.replication.factor={replicas}
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
{SHORT_SESSIONS}"""


@contextmanager
def running_brokers(folder: Path, count: int) -> Iterator[Brokers]:
    """Running brokers, until the block ends. Raises PartMissingError."""
    brokers = Brokers(folder, count)
    try:
        for broker in brokers.ids:
            brokers.start(broker)
        brokers.wait_until_up()
        yield brokers
    finally:
        brokers.close()


def _is_in_sync(admin: AdminClient) -> bool:
    try:
        topics = admin.list_topics(timeout=REQUEST_SECONDS_MAX).topics.values()
    except KafkaException:
        return False
    partitions = [partition for topic in topics for partition in topic.partitions.values()]
    return all(sorted(partition.isrs) == sorted(partition.replicas) for partition in partitions)


def _java_hash(text: str) -> int:
    """How Kafka assigns a group to a partition of ``OFFSETS_TOPIC``: Java's hash of an ASCII text, without its sign."""
    value = 0
    for character in text.encode("ascii"):
        value = (31 * value + character) & 0xFFFFFFFF
    return value & 0x7FFFFFFF


def _guard(command: list[str]) -> None:
    """Run the command until standard input ends: the parent process closes it, or has ended itself."""
    process: subprocess.Popen[Any] = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - ours
    sys.stdin.read()
    process.kill()
    process.wait()


if __name__ == "__main__":
    _guard(sys.argv[1:])
