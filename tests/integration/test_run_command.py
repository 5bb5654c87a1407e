"""``inventory-refresh run`` as a process, with a real Kafka, a real schema registry and the OMS sandbox."""

import io
import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fastavro
import httpx
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from consumer.avro.bundled import schema_path, schema_text
from consumer.sandbox.demo import as_held
from consumer.sandbox.generator import DemoPlan, differences, plan_demo
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import SandboxSettings
from consumer.sandbox.publisher import Encoder, publish, register
from tests.support.service_process import (
    REQUEST_SECONDS_MAX,
    WAIT_SECONDS_MAX,
    Topic,
    free_port,
    running_service,
    service_config,
    wait_until,
)

pytestmark = pytest.mark.integration


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer(SandboxSettings(time_scale=0.0)) as server:
        yield server


@pytest.fixture
def changes(kafka: str, topic: Callable[..., str], admin: AdminClient) -> Topic:
    """A topic of four partitions with its dead-letter topic."""
    name = topic(4)
    admin.create_topics([NewTopic(f"{name}.dead", 1, 1)])[f"{name}.dead"].result(30.0)
    return Topic(kafka, name, f"group-of-{name}")


def all_sent(changes: Topic, plan: DemoPlan, sandbox: SandboxServer) -> bool:
    return changes.committed() == changes.end() and not differences(plan.held, as_held(sandbox.state.inventory()))


def reasons(changes: Topic) -> Counter[str]:
    dead = Topic(changes.bootstrap_servers, f"{changes.name}.dead", changes.group)
    return Counter(dict(message.headers())["inventory_refresh.reason"].decode() for message in dead.read_all())


def test_run_sends_every_change_commits_to_the_end_and_exits_with_0_on_sigterm(
    kafka: str, registry: str, changes: Topic, sandbox: SandboxServer, tmp_path: Path
) -> None:
    plan = plan_demo(7, schema_id=register(registry, changes.name, {"timeout": 60}), burst_items=3_500)
    publish(plan.events, bootstrap_servers=kafka, topic=changes.name)
    config = service_config(kafka, changes.name, sandbox, avro={"registry_url": registry})

    with running_service(config, tmp_path) as service:
        wait_until(service.is_ready, "ready")
        wait_until(lambda: all_sent(changes, plan, sandbox), "all sent and committed")
        assert service.stop() == 0

    assert sum(changes.end().values()) == len(plan.events)
    assert reasons(changes) == {reason.value: count for reason, count in plan.rejects.items()}
    assert sandbox.state.summary().max_in_flight_per_location == 1
    assert "Traceback" not in service.output()
    assert "panicked" not in service.output()


def test_a_process_killed_and_restarted_loses_no_change_and_commits_past_no_unsent_one(
    kafka: str, changes: Topic, sandbox: SandboxServer, tmp_path: Path
) -> None:
    plan = plan_demo(11, burst_items=9_000)
    config = service_config(
        kafka,
        changes.name,
        sandbox,
        avro={"schema_file": str(schema_path())},
        kafka={"poll_messages_max": 500, "properties": {"session.timeout.ms": 3_000, "heartbeat.interval.ms": 300}},
        window={"max_age": 0.4, "flush_items": 3_000},
        oms={"max_in_flight": 2},
    )
    third = -(-len(plan.events) // 3)
    for start in range(0, len(plan.events), third):
        publish(plan.events[start : start + third], bootstrap_servers=kafka, topic=changes.name)
        before = sandbox.state.summary().items
        with running_service(config, tmp_path) as service:
            wait_until(lambda before=before: sandbox.state.summary().items > before, "something sent")  # type: ignore[misc]
            service.stop(signal.SIGKILL)
        assert_committed_is_held(changes, sandbox)

    with running_service(config, tmp_path) as service:
        wait_until(lambda: all_sent(changes, plan, sandbox), "all sent and committed")
        assert service.stop() == 0


def assert_committed_is_held(changes: Topic, sandbox: SandboxServer) -> None:
    """The sandbox has the item of every valid change below a committed offset."""
    held = {(location, item.get("sku")) for location, items in sandbox.state.inventory().items() for item in items}
    committed = changes.committed()
    below = [
        message.value()
        for message in changes.read_all()
        if message.value() and message.offset() < committed[message.partition()]
    ]
    unsent = [change for change in map(_sendable, below) if change and change not in held]
    assert unsent == []


def _sendable(value: bytes) -> tuple[str, str] | None:
    """Location and SKU of a change; None for the generator's bad events, whose SKU is BAD or unreadable."""
    try:
        change: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), json.loads(schema_text()), None)
    except (EOFError, ValueError, IndexError):
        return None
    return None if change["sku"] in {"", "BAD"} else (change["locationName"], change["sku"])


def test_two_members_send_every_change_through_a_rolling_restart(
    kafka: str, changes: Topic, sandbox: SandboxServer, tmp_path: Path
) -> None:
    plan = plan_demo(13, burst_items=6_000)
    half = len(plan.events) // 2
    configs = [service_config(kafka, changes.name, sandbox, avro={"schema_file": str(schema_path())}) for _ in range(2)]
    with running_service(configs[0], tmp_path / "a") as first, running_service(configs[1], tmp_path / "b") as second:
        for service in (first, second):
            wait_until(service.is_ready, "ready")
        publish(plan.events[:half], bootstrap_servers=kafka, topic=changes.name)
        assert first.stop() == 0
        with running_service(configs[0], tmp_path / "a") as again:
            publish(plan.events[half:], bootstrap_servers=kafka, topic=changes.name)
            wait_until(lambda: all_sent(changes, plan, sandbox), "all sent and committed")
            assert [again.stop(), second.stop()] == [0, 0]


Fault = Callable[[dict[str, Any], Topic], None]


def _set(section: str, **values: Any) -> Fault:
    def change(config: dict[str, Any], _changes: Topic) -> None:
        config[section] |= values

    return change


@pytest.mark.parametrize(
    ("fault", "exit_code", "named"),
    [
        pytest.param(_set("window", max_age="soon"), 2, ["window.max_age", "soon"], id="wrong value"),
        pytest.param(_set("window", max_agee=3), 2, ["window.max_agee", "max_age"], id="unknown name"),
        pytest.param(_set("window", flush_items=4_000), 2, ["window.flush_items", "3000"], id="flush between chunks"),
        pytest.param(
            _set("kafka", properties={"auto.offset.reset": "latest"}),
            2,
            ["auto.offset.reset"],
            id="option set by the service",
        ),
        pytest.param(_set("kafka", properties={"no.such.option": "1"}), 2, ["no.such.option"], id="unknown option"),
        pytest.param(
            _set("kafka", bootstrap_servers="127.0.0.1:1", unreachable_timeout=2),
            3,
            ["127.0.0.1:1", "kafka.bootstrap_servers"],
            id="unreachable broker",
        ),
        pytest.param(_set("kafka", topics=["no-such-topic"]), 3, ["kafka.topics", "no-such-topic"], id="missing topic"),
        pytest.param(_set("oms", api_secret="wrong"), 4, ["oms.api_secret"], id="wrong OMS credentials"),
        pytest.param(_set("dead_letters", topic="no-such-dead"), 5, ["dead_letters.topic"], id="missing dead letters"),
    ],
)
def test_a_startup_error_is_one_line_and_an_exit_code_of_its_kind(
    kafka: str,
    changes: Topic,
    sandbox: SandboxServer,
    tmp_path: Path,
    fault: Fault,
    exit_code: int,
    named: Sequence[str],
) -> None:
    config = service_config(kafka, changes.name, sandbox, avro={"schema_file": str(schema_path())})
    fault(config, changes)

    with running_service(config, tmp_path) as service:
        code = service.process.wait(WAIT_SECONDS_MAX)

    (line,) = [line for line in service.output().splitlines() if line.startswith("inventory-refresh: ")]
    assert [part for part in named if part not in line] == []
    assert "Traceback" not in service.output()
    assert code == exit_code


def test_wrong_kafka_credentials_are_reported_in_one_line(
    broker: Any, changes: Topic, sandbox: SandboxServer, tmp_path: Path
) -> None:
    if not broker.sasl_servers:
        pytest.skip("needs a broker with a SASL listener: unset KAFKA_BOOTSTRAP_SERVERS")
    config = service_config(broker.sasl_servers, changes.name, sandbox, avro={"schema_file": str(schema_path())})
    config["kafka"]["properties"] |= {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "inventory",
        "sasl.password": "a wrong password",
    }
    with running_service(config, tmp_path) as service:
        assert service.process.wait(WAIT_SECONDS_MAX) == 3

    assert "sasl" in service.output().lower()
    assert "a wrong password" not in service.output()
    assert "Traceback" not in service.output()


def test_the_service_starts_without_the_oms_and_sends_every_change_once_it_is_up(
    kafka: str, changes: Topic, tmp_path: Path
) -> None:
    settings = SandboxSettings(port=free_port(), time_scale=0.0)
    with SandboxServer(settings) as stopped:
        config = service_config(
            kafka, changes.name, stopped, avro={"schema_file": str(schema_path())}, oms={"backoff_max": 1.0}
        )
    plan = plan_demo(17, burst_items=500)
    publish(plan.events, bootstrap_servers=kafka, topic=changes.name)
    with running_service(config, tmp_path) as service:
        wait_until(service.is_ready, "ready without the OMS")
        with SandboxServer(settings) as sandbox:
            wait_until(lambda: all_sent(changes, plan, sandbox), "all sent and committed")
            assert service.stop() == 0


FAULTS: dict[str, dict[str, Any]] = {
    "throttled by the gateway": {"quota": True, "retry_after": 1},
    "unavailable, reported by the OMS": {"status": 503, "body": {"code": 5001}},
    "gateway timeout although the request was queued": {"status": 504, "queue": True},
    "bad gateway": {"status": 502},
    "answer lost after the request was queued": {"reset": "after_queue"},
    "connection reset before the request was queued": {"reset": "before_queue"},
    "no jobID": {"status": 200, "body_text": "{}"},
    "permission denied once": {"status": 403, "body": {"code": 5004}},
}


def test_every_change_is_sent_despite_throttling_outages_lost_answers_and_revoked_tokens(
    kafka: str, changes: Topic, sandbox: SandboxServer, tmp_path: Path
) -> None:
    plan = plan_demo(23, burst_items=2_000)
    publish(plan.events, bootstrap_servers=kafka, topic=changes.name)
    hold = {"unknown_hold": 1.5, "backoff_min": 0.1, "backoff_max": 0.5}
    config = service_config(kafka, changes.name, sandbox, avro={"schema_file": str(schema_path())}, oms=hold)
    faults = httpx.post(
        f"{sandbox.url}/sandbox/faults", json={"answers": list(FAULTS.values())}, timeout=REQUEST_SECONDS_MAX
    )
    assert faults.status_code < 300, faults.text
    with running_service(config, tmp_path) as service:
        wait_until(lambda: sandbox.state.summary().scripted_answers_left == 0, "every fault was injected")
        httpx.post(f"{sandbox.url}/sandbox/faults", json={"revoke_tokens": True}, timeout=REQUEST_SECONDS_MAX)
        wait_until(lambda: all_sent(changes, plan, sandbox), "all sent and committed")
        assert service.stop() == 0

    assert sandbox.state.summary().max_in_flight_per_location == 1


def test_a_request_larger_than_the_oms_accepts_is_split_until_it_fits_without_a_dead_letter(
    kafka: str, changes: Topic, tmp_path: Path
) -> None:
    encoder = Encoder(1)
    events = [encoder.event({"locationName": "Rome", "sku": f"sku-{at}", "quantity": at}) for at in range(20)]
    publish(events, bootstrap_servers=kafka, topic=changes.name)
    with SandboxServer(SandboxSettings(time_scale=0.0, max_items=5)) as sandbox:
        config = service_config(kafka, changes.name, sandbox, avro={"schema_file": str(schema_path())})
        with running_service(config, tmp_path) as service:
            wait_until(lambda: changes.committed() == changes.end(), "all sent and committed")
            assert service.stop() == 0
        held = {item["sku"]: item["quantity"] for item in sandbox.state.inventory()["Rome"]}

    assert held == {f"sku-{at}": at for at in range(20)}
    assert reasons(changes) == {}


def test_the_status_page_and_the_metrics_count_what_was_sent(
    kafka: str, changes: Topic, sandbox: SandboxServer, tmp_path: Path
) -> None:
    plan = plan_demo(19, burst_items=100)
    publish(plan.events, bootstrap_servers=kafka, topic=changes.name)
    avro, locations = {"schema_file": str(schema_path())}, {"locations_max": 2}
    config = service_config(kafka, changes.name, sandbox, avro=avro, metrics=locations)
    with running_service(config, tmp_path) as service:
        wait_until(lambda: all_sent(changes, plan, sandbox), "all sent and committed")
        metrics = httpx.get(f"{service.url}/metrics", timeout=REQUEST_SECONDS_MAX).text
        status = httpx.get(f"{service.url}/api/status", timeout=REQUEST_SECONDS_MAX).json()

    assert f"inventory_refresh_messages_read_total {len(plan.events)}.0" in metrics
    accepted, items, coalesced = (
        float(metrics.split(f"\ninventory_refresh_{name}_total ")[1].split("\n")[0])
        for name in ("changes_accepted", "items_accepted", "changes_coalesced")
    )
    assert accepted == len(plan.changes)
    assert accepted == items + coalesced
    assert coalesced > 0
    assert metrics.count("inventory_refresh_location_items_accepted_total{") == 2
    assert status["totals"]["messages_read"] == len(plan.events)
    assert "sandbox-specific-secret" not in metrics + str(status) + service.output()


def test_the_status_page_shows_what_is_pending_of_each_location(
    kafka: str, changes: Topic, sandbox: SandboxServer, tmp_path: Path
) -> None:
    plan = plan_demo(20, burst_items=100)
    publish(plan.events, bootstrap_servers=kafka, topic=changes.name)
    avro = {"schema_file": str(schema_path())}
    config = service_config(kafka, changes.name, sandbox, avro=avro, window={"max_age": 600.0})

    with running_service(config, tmp_path) as service:

        def get(path: str) -> Any:
            return httpx.get(f"{service.url}{path}", timeout=REQUEST_SECONDS_MAX).raise_for_status()

        def pending() -> int:
            locations = get("/api/locations?limit=500").json()["locations"] if service.is_ready() else []
            return sum(location["pending_changes"] for location in locations)

        wait_until(lambda: pending() == len(plan.changes), "every change is pending")
        location = get("/api/locations?sort=pending&limit=1").json()["locations"][0]
        page = get("/").text

    assert location["state"] == "pending"
    assert location["next_send"].endswith(", or when full")
    assert location["last_request"] is None
    assert f"{len(plan.changes):,} changes of " in page
    assert "the oldest change is 10 minutes old" in page
