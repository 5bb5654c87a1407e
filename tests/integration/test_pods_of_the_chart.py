"""The service as the chart's pods start it, each as a process on this machine, with a real Kafka."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from consumer.avro.bundled import schema_text
from consumer.sandbox.oms.app import TOKEN_PATH
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import SPECIFIC_KEY, SPECIFIC_SECRET, SandboxSettings
from tests.support import chart, go_tools
from tests.support.parts import or_skip
from tests.support.release import Object
from tests.support.service_process import REQUEST_SECONDS_MAX, ServiceProcess, free_port, running_service, wait_until

# Time for building helm, if this is the first test that needs it.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(int(go_tools.BUILD_SECONDS_MAX))]

Start = Callable[[str], ServiceProcess]


@pytest.fixture
def objects(kafka: str, topic: Callable[..., str], admin: AdminClient) -> Iterator[list[Object]]:
    """The objects of the chart with static membership, a real Kafka, the sandbox, and the schema in a file."""
    or_skip(go_tools.helm)
    name = topic(4)
    admin.create_topics([NewTopic(f"{name}.dead", 1, 1)])[f"{name}.dead"].result(30.0)
    with SandboxServer(SandboxSettings(time_scale=0.0)) as sandbox:
        changes = {
            "kafka": {"bootstrap_servers": kafka, "topics": [name], "group_id": f"group-of-{name}"},
            "avro": {"registry_url": ""},
            "oms": {"base_url": sandbox.url, "token_url": sandbox.url + TOKEN_PATH},
            "dead_letters": {"topic": f"{name}.dead"},
        }
        yield chart.template("static-membership", {"config": changes, "avroSchema": schema_text()})


@pytest.fixture
def start(objects: list[Object], tmp_path: Path) -> Iterator[Start]:
    """Starts the container of the pod with this name; its volumes are folders."""
    with ExitStack() as stack:
        yield lambda pod: stack.enter_context(running_service(*container(objects, pod, tmp_path / pod)))


def container(objects: list[Object], pod: str, folder: Path) -> tuple[dict[str, Any], Path, dict[str, str]]:
    """What a kubelet would give the container: settings, the folder with all files, environment variables."""
    config_maps = chart.of_kind(objects, "ConfigMap")
    (data,) = [config_map["data"] for config_map in config_maps if "config.yaml" in config_map["data"]]
    files = data | {"secrets/oms__api_key": SPECIFIC_KEY, "secrets/oms__api_secret": SPECIFIC_SECRET}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    config = chart.settings(objects)
    config["avro"]["schema_file"] = str(folder / Path(config["avro"]["schema_file"]).name)
    # All pods share this machine's address; loopback only, so that other machines cannot reach them.
    config["http"] = {"host": "127.0.0.1", "port": free_port()}
    values = {variable["name"]: variable.get("value", pod) for variable in chart.container(objects)["env"]}
    return config, folder, values | {"INVENTORY_REFRESH_SECRETS_DIR": str(folder / "secrets")}


def answer(service: ServiceProcess, probe: dict[str, Any]) -> int:
    return httpx.get(service.url + probe["httpGet"]["path"], timeout=REQUEST_SECONDS_MAX).status_code


def rebalances(service: ServiceProcess) -> list[str]:
    text = httpx.get(f"{service.url}/metrics", timeout=REQUEST_SECONDS_MAX).text
    return [line for line in text.splitlines() if line.startswith("inventory_refresh_rebalances_total{")]


def test_a_container_of_the_chart_starts_answers_its_probes_and_stops_within_its_grace_period(
    objects: list[Object], start: Start
) -> None:
    spec = chart.pod_template(objects)["spec"]
    probes = [chart.container(objects)[f"{name}Probe"] for name in ("startup", "liveness", "readiness")]
    service = start("demo-inventory-refresh-0")
    wait_until(service.is_ready, "ready")
    assert [answer(service, probe) for probe in probes] == [200, 200, 200]
    assert service.stop(seconds=spec["terminationGracePeriodSeconds"]) == 0


def test_a_static_member_that_restarts_in_time_keeps_its_partitions_without_a_rebalance(start: Start) -> None:
    restarting = start("demo-inventory-refresh-1")
    wait_until(lambda: len(restarting.held()) == 4, "the first has all partitions")
    other = start("demo-inventory-refresh-0")  # only now, so that its own assignment is its last rebalance
    wait_until(lambda: len(other.held()) == len(restarting.held()) == 2, "the partitions are shared")
    partitions, before = restarting.held(), rebalances(other)

    assert restarting.stop() == 0
    restarted = start("demo-inventory-refresh-1")
    wait_until(lambda: restarted.held() == partitions, "the same partitions again")
    assert rebalances(other) == before
