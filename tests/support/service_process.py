"""The command ``run`` as a separate process, with real services."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from consumer.sandbox.oms.app import TOKEN_PATH
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import SPECIFIC_KEY, SPECIFIC_SECRET
from tests.support.keeper import free_ports

WAIT_SECONDS_MAX = 150.0
"""Long enough for a busy machine: tests do not check how soon a condition becomes true."""
REQUEST_SECONDS_MAX = 60.0
"""For one answer of a broker or of a status page."""
COORDINATOR_ERRORS = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}
"""A broker that has just started answers with these for a moment."""
ROOT = Path(__file__).resolve().parents[2]

_LIBC = ctypes.CDLL(None)
_SET_PARENT_DEATH_SIGNAL = 1


def wait_until(condition: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS_MAX) -> None:
    """Raises AssertionError if the condition does not become true in time; ``what`` describes it."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


def free_port() -> int:
    (port,) = free_ports(1)
    return port


def service_config(
    bootstrap_servers: str, topic: str, sandbox: SandboxServer | str, **sections: Mapping[str, Any]
) -> Any:
    """Settings of a service with short times; ``sandbox`` is the server or its URL, ``sections`` override options.

    The session timeout is not short: a member that pauses for a while on a busy machine should stay in the group.
    """
    oms_url = sandbox if isinstance(sandbox, str) else sandbox.url
    config: dict[str, dict[str, Any]] = {
        "kafka": {
            "bootstrap_servers": bootstrap_servers,
            "topics": [topic],
            "group_id": f"group-of-{topic}",
            "properties": {"session.timeout.ms": 30_000, "heartbeat.interval.ms": 300},
        },
        "avro": {},
        "window": {"max_age": 1.5},
        "oms": {
            "base_url": oms_url,
            "token_url": oms_url + TOKEN_PATH,
            "api_key": SPECIFIC_KEY,
            "api_secret": SPECIFIC_SECRET,
            "unknown_hold": 2.0,
        },
        "dead_letters": {"topic": f"{topic}.dead"},
        "http": {"host": "127.0.0.1", "port": free_port()},
        "log": {"format": "json"},
    }
    for section, values in sections.items():
        config[section] = config.get(section, {}) | dict(values)
    return config


@dataclass
class ServiceProcess:
    """A running ``inventory-refresh run``; its output goes to ``log``."""

    process: subprocess.Popen[bytes]
    log: Path
    url: str

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_ready(self) -> bool:
        assert self.process.poll() is None, f"the service has ended: {self.output()}"
        try:
            return httpx.get(f"{self.url}/readyz", timeout=REQUEST_SECONDS_MAX).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def snapshot(self) -> dict[str, Any]:
        """The loop's current state, as on the status page."""
        status = httpx.get(f"{self.url}/api/status", timeout=REQUEST_SECONDS_MAX)
        snapshot: dict[str, Any] = status.json()["snapshot"]
        return snapshot

    def held(self) -> list[int]:
        """The partitions that it holds now."""
        return [partition["partition"] for partition in self.snapshot()["partitions"]] if self.is_ready() else []

    def output(self) -> str:
        return self.log.read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log events with this name (log format json)."""
        lines = [line for line in self.output().splitlines() if line.startswith("{") and line.endswith("}")]
        return [event for event in map(json.loads, lines) if event.get("event") == name]

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = WAIT_SECONDS_MAX) -> int:
        """Send the signal, wait, and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)


def end_with_parent() -> None:
    """Have Linux kill this process when its parent ends, so that a killed test run leaves no processes."""
    if sys.platform == "linux":
        _LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


@contextmanager
def running_service(
    config: Mapping[str, Any], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[ServiceProcess]:
    """Start the service, and kill it at the end of the block if it still runs."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(dict(config)))
    log = folder / f"service-{time.monotonic_ns()}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - this project's own command
            [sys.executable, "-m", "consumer", "run", "--config", str(path)],
            cwd=ROOT,
            env=os.environ | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent,  # noqa: PLW1509 - a single system call that takes no lock
        )
        try:
            yield ServiceProcess(process, log, f"http://127.0.0.1:{config['http']['port']}")
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(REQUEST_SECONDS_MAX)


@dataclass(frozen=True)
class Topic:
    """A topic and a group, seen by a client outside the group."""

    bootstrap_servers: str
    name: str
    group: str

    def partitions(self) -> list[TopicPartition]:
        metadata = AdminClient({"bootstrap.servers": self.bootstrap_servers}).list_topics(
            self.name, timeout=REQUEST_SECONDS_MAX
        )
        return [TopicPartition(self.name, number) for number in sorted(metadata.topics[self.name].partitions)]

    @contextmanager
    def _client(self) -> Iterator[Consumer]:
        consumer = Consumer({"bootstrap.servers": self.bootstrap_servers, "group.id": self.group, "log_level": 0})
        try:
            yield consumer
        finally:
            consumer.close()

    def committed(self) -> dict[int, int]:
        """By partition; negative where nothing is committed. Waits for the group's coordinator."""
        deadline = time.monotonic() + REQUEST_SECONDS_MAX
        while True:
            with self._client() as consumer:
                try:
                    offsets = consumer.committed(self.partitions(), timeout=REQUEST_SECONDS_MAX)
                except KafkaException as error:
                    if error.args[0].code() not in COORDINATOR_ERRORS or time.monotonic() > deadline:
                        raise
                else:
                    return {partition.partition: partition.offset for partition in offsets}
            time.sleep(0.1)

    def end(self) -> dict[int, int]:
        with self._client() as consumer:
            return {
                partition.partition: consumer.get_watermark_offsets(partition, timeout=REQUEST_SECONDS_MAX)[1]
                for partition in self.partitions()
            }

    def read_all(self) -> list[Any]:
        """Every message, in the order of partitions and offsets."""
        messages: list[Any] = []
        options = {"bootstrap.servers": self.bootstrap_servers, "group.id": f"{self.group}-reader", "log_level": 0}
        consumer = Consumer(options | {"enable.auto.commit": False, "auto.offset.reset": "earliest"})
        try:
            partitions = self.partitions()
            expected = sum(self.end().values())
            consumer.assign([TopicPartition(self.name, partition.partition, 0) for partition in partitions])
            deadline = time.monotonic() + WAIT_SECONDS_MAX
            while len(messages) < expected and time.monotonic() < deadline:
                messages += [message for message in consumer.consume(1_000, 0.2) if message.error() is None]
        finally:
            consumer.close()
        return sorted(messages, key=lambda message: (message.partition(), message.offset()))
