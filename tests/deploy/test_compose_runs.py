"""The services of compose.yaml as processes of this machine: their own commands, variables and files, no containers.

Only addresses and paths are replaced, and times shortened.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.brokers import QUICK_START
from tests.support.composition import mounts, services
from tests.support.keeper import PartMissingError, free_ports
from tests.support.parts import or_skip
from tests.support.services import broker_answers, format_storage, kafka_command, kafka_tools_command, use_registry

ROOT = Path(__file__).parents[2]
UP_SECONDS_MAX = 240.0
PORTS = ["kafka:9092", "kafka:9093", "0.0.0.0:9094", "oms:8090", "member-1:8080", "member-2:8080", "prometheus:9090"]
ITEMS = 2_000
"""Items per round of the generator."""
MEMBERS = ["member-1", "member-2"]
UP = 'up{job="inventory-refresh",namespace="compose"}'

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1_200)]


class Machine:
    """The addresses of the services on this machine, and their processes."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        registry = or_skip(lambda: use_registry(stack)).url.removeprefix("http://").partition("/")[0]
        ports = {place: f"127.0.0.1:{port}" for place, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
        self.places = ports | {"registry:8080": registry}

    def translated(self, text: str) -> str:
        for place, here in self.places.items():
            text = text.replace(place, here)
            text = text.replace("0.0.0.0:" + place.partition(":")[2], here)  # the address it listens on
        return text

    def file(self, service: str, path: str, **changes: str) -> Path:
        """A copy of a mounted file, with the addresses and paths of this machine."""
        text = self.translated(mounts(service)[path].read_text(encoding="utf-8"))
        for target, source in mounts(service).items():
            text = text.replace(f"{target}/", f"{source}/")
        for old, new in changes.items():
            text, count = re.subn(rf"\b{old}: \S+", f"{old}: {new}", text)
            assert count == 1, old
        copy = self.folder / f"{service}-{Path(path).name}"
        copy.write_text(text, encoding="utf-8")
        return copy

    def environment(self, service: str, **changes: str) -> dict[str, str]:
        given = {name: self.translated(value) for name, value in services()[service].get("environment", {}).items()}
        return given | changes

    def start(self, service: str, command: list[str], environment: Mapping[str, str] | None = None) -> None:
        """Start a process that ends with the test, in any case: a guard watches our end of a pipe."""
        log = self._stack.enter_context((self.folder / f"{service}.log").open("wb"))
        guard = subprocess.Popen(  # noqa: S603 - our own commands
            [sys.executable, "-m", "tests.support.brokers", *command],
            cwd=ROOT,
            env=os.environ | dict(environment or {}),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )
        self._stack.callback(guard.communicate, timeout=UP_SECONDS_MAX)

    def run(self, command: list[str], environment: Mapping[str, str]) -> str:
        done = subprocess.run(  # noqa: S603 - our own commands
            command,
            env=os.environ | dict(environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=UP_SECONDS_MAX,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def logs(self) -> str:
        return "\n".join(f"{log.name}:\n{log.read_text()[-2_000:]}" for log in sorted(self.folder.glob("*.log")))

    def wait_until(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + UP_SECONDS_MAX
        while not true():
            assert time.monotonic() < deadline, f"not within {UP_SECONDS_MAX:g} s: {what}\n{self.logs()}"
            time.sleep(0.1)

    def get(self, place: str, path: str) -> Any:
        """The answer of a service; None if it does not answer, or not with 200."""
        try:
            answer = httpx.get(f"http://{self.places[place]}{path}", timeout=UP_SECONDS_MAX)
        except httpx.TransportError:
            return None
        if answer.status_code != httpx.codes.OK:
            return None
        return answer.json() if "json" in answer.headers["content-type"] else answer.text


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with ExitStack() as stack:
        yield Machine(tmp_path, stack)


def start_kafka(machine: Machine) -> None:
    """Start Kafka as its image does: a variable KAFKA_SOME_NAME sets the property some.name."""
    given = machine.environment("kafka")
    properties = {name.removeprefix("KAFKA_").lower().replace("_", "."): value for name, value in given.items()}
    properties["log.dirs"] = str(machine.folder / "kafka-data")
    file = machine.folder / "server.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    java, *options = or_skip(kafka_command)
    command = [java, *QUICK_START, *options]
    format_storage(command, file)
    machine.start("kafka", [*command, "kafka.Kafka", str(file)])
    machine.wait_until(lambda: broker_answers(machine.places["kafka:9092"]), "Kafka answers")


def make_topics(machine: Machine) -> None:
    tool = machine.folder / "kafka-topics.sh"
    java, *options = or_skip(kafka_tools_command)
    tool.write_text(
        f'#!/bin/sh\nexec {shlex.join([java, *QUICK_START, *options])} org.apache.kafka.tools.TopicCommand "$@"\n'
    )
    tool.chmod(0o755)
    machine.run(
        ["/bin/sh", str(machine.file("topics", "/topics.sh"))], machine.environment("topics", KAFKA_TOPICS=str(tool))
    )


def start_oms(machine: Machine) -> None:
    host, port = machine.places["oms:8090"].split(":")
    here = {"0.0.0.0": host, "8090": port}  # noqa: S104 - only in its container
    command = [here.get(part, part) for part in services()["oms"]["command"]]
    machine.start("oms", [sys.executable, "-m", "consumer", *command])
    machine.wait_until(lambda: machine.get("oms:8090", "/sandbox/summary") is not None, "the OMS answers")


def start_members(machine: Machine) -> Path:
    config = machine.file("member-1", "/etc/inventory-refresh/config.yaml", max_age="2s")
    for name in MEMBERS:
        host, port = machine.places[f"{name}:8080"].split(":")
        mine = {"INVENTORY_REFRESH_HTTP__HOST": host, "INVENTORY_REFRESH_HTTP__PORT": port}
        mine["INVENTORY_REFRESH_CONFIG"] = str(config)
        machine.start(name, [sys.executable, "-m", "consumer", "run"], machine.environment(name, **mine))
    machine.wait_until(lambda: all(machine.get(f"{name}:8080", "/readyz") for name in MEMBERS), "both are ready")
    machine.wait_until(lambda: all(has_partitions(machine, name) for name in MEMBERS), "both have partitions")
    return config


def has_partitions(machine: Machine, member: str) -> bool:
    """Readiness is not enough: a member is ready before it has any partition."""
    status = machine.get(f"{member}:8080", "/api/status")
    return bool(status and status["snapshot"]["partitions"])


def generate(machine: Machine, config: Path) -> None:
    """Run a single round of the generator."""
    commands = machine.folder / "bin"
    commands.mkdir()
    command = commands / "inventory-refresh"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m consumer "$@"\n')
    command.chmod(0o755)
    mine = {"INVENTORY_REFRESH_CONFIG": str(config), "PAUSE_SECONDS": "0", "ROUNDS": "1"}
    mine |= {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    machine.run(["/bin/sh", str(machine.file("generator", "/generate.sh"))], machine.environment("generator", **mine))


def start_prometheus(machine: Machine) -> None:
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        raise PartMissingError("Prometheus is not installed (it is not on the PATH): apt-get install prometheus")
    config = machine.file("prometheus", "/etc/prometheus/prometheus.yaml", scrape_interval="1s", scrape_timeout="1s")
    options = [
        f"--config.file={config}",
        f"--storage.tsdb.path={machine.folder / 'prometheus-data'}",
        f"--web.listen-address={machine.places['prometheus:9090']}",
    ]
    machine.start("prometheus", [prometheus, *options])


def asked(machine: Machine, query: str) -> list[Any]:
    answer = machine.get("prometheus:9090", f"/api/v1/query?query={query}")
    return answer["data"]["result"] if answer else []


def values_by_pod(machine: Machine, query: str) -> set[tuple[str, str]]:
    return {(sample["metric"]["pod"], sample["value"][1]) for sample in asked(machine, query)}


def test_generated_changes_reach_the_oms_through_both_members_and_show_in_prometheus(
    machine: Machine,
) -> None:
    start_kafka(machine)
    make_topics(machine)
    start_oms(machine)
    config = start_members(machine)
    or_skip(lambda: start_prometheus(machine))

    generate(machine, config)

    def items_held() -> int:
        answer = machine.get("oms:8090", "/sandbox/inventory") or {"locations": {}}
        return sum(len(items) for items in answer["locations"].values())

    def items_seen() -> list[float]:
        return [float(sample["value"][1]) for sample in asked(machine, "sum(inventory_refresh_items_accepted_total)")]

    machine.wait_until(lambda: items_held() == ITEMS, "the OMS holds what was generated")
    machine.wait_until(lambda: items_seen() == [ITEMS], "Prometheus has seen it")
    up = {(name, "1") for name in MEMBERS}
    machine.wait_until(lambda: values_by_pod(machine, UP) == up, "Prometheus has scraped both at last")
    shares = values_by_pod(machine, "max by (pod) (max_over_time(inventory_refresh_items_accepted_total[10m]))")
    assert {name for name, share in shares if float(share) > 0} == set(MEMBERS), shares
    groups = machine.get("prometheus:9090", "/api/v1/rules")["data"]["groups"]
    assert [rule["health"] for group in groups for rule in group["rules"] if rule["health"] == "err"] == []
    assert groups
