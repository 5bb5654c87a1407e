"""The command ``check`` against a real Kafka, a real schema registry and the OMS sandbox."""

import json
import os
import pty
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from consumer.avro.bundled import schema_text
from consumer.checks.findings import CHECKS
from consumer.sandbox.embedded_broker import EmbeddedBroker
from consumer.sandbox.oms.app import TOKEN_PATH, UNIFIED_TOKEN_PATH
from consumer.sandbox.oms.faults.gateway import Skew
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import TENANT, UNIFIED_KEY, UNIFIED_SECRET, V5_KEY, V5_SECRET, SandboxSettings
from tests.support.avro import message
from tests.support.certificates import Certificates
from tests.support.identity_kafka import use_identity_kafka
from tests.support.keeper import free_ports
from tests.support.parts import or_skip
from tests.support.service_process import (
    REQUEST_SECONDS_MAX,
    ROOT,
    WAIT_SECONDS_MAX,
    Topic,
    end_with_parent,
    running_service,
    service_config,
    wait_until,
)
from tests.support.services import (
    SASL_PASSWORD,
    SASL_USER,
    Kafka,
    broker_answers,
    format_storage,
    kafka_command,
)
from tests.support.token_endpoint import CLIENT_ID, CLIENT_SECRET, token_endpoint
from tests.support.topics import make_topic

pytestmark = pytest.mark.integration

MakeTopic = Callable[..., str]
HOUR_MS = 3_600_000


@dataclass
class Report:
    exit_code: int
    findings: Sequence[Mapping[str, str]]

    def of(self, check: str) -> list[str]:
        """The findings of a check as ``status: text; advice``."""
        return [
            f"{entry['status']}: {entry['text']}" + (f"; {entry['advice']}" if "advice" in entry else "")
            for entry in self.findings
            if entry["check"] == check
        ]

    def bad(self) -> set[str]:
        """The checks with an error or a warning."""
        return {entry["check"] for entry in self.findings if entry["status"] in {"error", "warning"}}


def command(config: Any, folder: Path, *options: str) -> list[str]:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return [sys.executable, "-m", "consumer", "check", "--config", str(path), *options]


def run(config: Any, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - this project's own command
        command(config, folder, *options),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_SECONDS_MAX,
    )


def check(config: Any, folder: Path, *options: str) -> Report:
    """On a busy machine, servers that are well may take long to answer."""
    done = run(config, folder, "--json", *(options or ("--timeout", "60")))
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["exit_code"] == done.returncode
    return Report(done.returncode, found["checks"])


@dataclass
class World:
    """A good set-up. ``config`` may be changed by a test."""

    config: Any
    changes: Topic
    sandbox: SandboxServer
    admin: AdminClient
    schema_id: int
    has_run: bool = False
    """The service has run, so the OMS has jobs."""

    def publish(self, *values: bytes | None, **options: Any) -> None:
        producer = Producer({"bootstrap.servers": self.changes.bootstrap_servers})
        for number, value in enumerate(values):
            producer.produce(self.changes.name, value, partition=number % 2, **options)
        assert producer.flush(REQUEST_SECONDS_MAX) == 0

    def change(self, **event: Any) -> bytes:
        return message(schema_id=self.schema_id, **event)

    def commit(self, offset: int) -> None:
        """As a member of the group would."""
        consumer = Consumer({"bootstrap.servers": self.changes.bootstrap_servers, "group.id": self.changes.group})
        partition = TopicPartition(self.changes.name, 0, offset)
        wait_until(lambda: self.changes.committed() is not None, "the group has a coordinator")
        consumer.commit(offsets=[partition], asynchronous=False)
        consumer.close()


@pytest.fixture
def world(kafka: str, topic: MakeTopic, admin: AdminClient, registry: str) -> Iterator[World]:
    name = topic(2)
    make_topic(admin, f"{name}.dead", 1, None)
    with closing(SchemaRegistryClient({"url": registry})) as client:
        schema_id = client.register_schema(f"{name}-value", Schema(schema_text(), "AVRO"))
    with SandboxServer(SandboxSettings()) as sandbox:
        config = service_config(kafka, name, sandbox, avro={"registry_url": registry})
        found = World(config, Topic(kafka, name, config["kafka"]["group_id"]), sandbox, admin, schema_id)
        found.publish(*[found.change(sku=f"B-{number}") for number in range(60)])
        yield found
        assert found.has_run or sandbox.state.summary().jobs == 0, "a check sends no change"


def test_a_good_setup_is_ok_in_every_check_and_no_group_exists_afterwards(world: World, tmp_path: Path) -> None:
    report = check(world.config, tmp_path)

    assert (report.exit_code, report.bad()) == (0, set())
    assert list(dict.fromkeys(entry["check"] for entry in report.findings)) == list(CHECKS)
    assert report.of("topics") == [f"ok: {world.changes.name}: 2 partitions, all with a leader"]
    assert report.of("lag")[0].startswith("ok: 60 messages in 2 partitions; nothing is committed in 2")
    assert report.of("schemas") == [f"ok: those of the last 40 messages can be used: schema {world.schema_id} (40)"]
    assert report.of("mapping")[0] == "ok: 40 of the last 40 messages become changes"
    groups = world.admin.list_consumer_groups(request_timeout=REQUEST_SECONDS_MAX).result()
    assert world.changes.group not in {group.group_id for group in groups.valid}
    assert [len(Topic(world.changes.bootstrap_servers, f"{world.changes.name}.dead", "r").read_all())] == [0]


def test_each_finding_is_one_plain_line_unless_standard_output_is_a_terminal(world: World, tmp_path: Path) -> None:
    world.config["dead_letters"]["topic"] = "nowhere"

    done = run(world.config, tmp_path)

    assert (done.returncode, done.stderr) == (5, "")
    *lines, last = done.stdout.splitlines()
    assert {line.split()[0] for line in lines} == {"ok", "error"}
    (error,) = [line for line in lines if line.startswith("error")]
    assert error == ('error    dead_letters  there is no topic "nowhere"; create it, or correct dead_letters.topic')
    assert "1 error in " in last


def on_a_terminal(arguments: Sequence[str], **environment: str) -> str:
    ours, theirs = pty.openpty()
    variables = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    process = subprocess.Popen(  # noqa: S603 - this project's own command
        arguments,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=variables | {"TERM": "xterm", **environment},
    )
    os.close(theirs)
    output = b""
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:  # Linux says so at the end
            break
        if not part:
            break
        output += part
    os.close(ours)
    process.wait(WAIT_SECONDS_MAX)
    return output.decode()


def test_a_terminal_gets_colours_unless_no_color_is_set(tmp_path: Path) -> None:
    arguments = command({"oms": {"max_itemss": 1}}, tmp_path)
    red = "\x1b[1;31merror"
    assert red in on_a_terminal(arguments)
    plain = on_a_terminal(arguments, NO_COLOR="1")
    assert "error" in plain
    assert "31m" not in plain


# Eight broken set-ups

SASL = {
    "security.protocol": "SASL_PLAINTEXT",
    "sasl.mechanism": "PLAIN",
    "sasl.username": SASL_USER,
    "sasl.password": SASL_PASSWORD,
}


def test_a_broker_that_does_not_answer_is_waited_for_five_seconds_and_the_rest_is_checked(
    world: World, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    world.config["kafka"]["bootstrap_servers"] = f"127.0.0.1:{port}"
    begun = f"error: kafka.bootstrap_servers: no answer from 127.0.0.1:{port} within"

    by_default = check(world.config, tmp_path, "--json")
    report = check(world.config, tmp_path, "--timeout", "9")

    assert by_default.of("brokers")[0].startswith(f"{begun} 5 s")
    assert report.of("brokers")[0].startswith(f"{begun} 9 s")
    assert (report.exit_code, report.bad()) == (3, {"brokers"})
    assert report.of("mapping") == ["skipped: no broker can be asked"]
    assert report.of("registry")[0].startswith("ok")
    assert report.of("refresh")[0].startswith("ok")


def grant(admin: AdminClient, *permissions: tuple[ResourceType, str, AclOperation]) -> None:
    bindings = [
        AclBinding(
            kind, name, ResourcePatternType.LITERAL, f"User:{SASL_USER}", "*", operation, AclPermissionType.ALLOW
        )
        for kind, name, operation in permissions
    ]
    for created in admin.create_acls(bindings, request_timeout=REQUEST_SECONDS_MAX).values():
        created.result()


def test_missing_permissions_are_errors_until_each_is_granted(world: World, broker: Kafka, tmp_path: Path) -> None:
    if broker.sasl_servers is None:
        pytest.skip("the broker of KAFKA_BOOTSTRAP_SERVERS has no SASL listener for these tests")
    name, group, dead = world.changes.name, world.changes.group, f"{world.changes.name}.dead"
    world.config["kafka"] |= {"bootstrap_servers": broker.sasl_servers, "properties": SASL}

    nothing = check(world.config, tmp_path)
    assert (nothing.exit_code, nothing.bad()) == (3, {"topics", "group", "dead_letters"})
    assert f'grant READ on topic "{name}"' in nothing.of("topics")[0]
    assert f'grant READ on group "{group}"' in nothing.of("group")[0]
    assert f'grant WRITE on topic "{dead}"' in nothing.of("dead_letters")[0]

    topic, describe = ResourceType.TOPIC, AclOperation.DESCRIBE
    grant(world.admin, (topic, name, describe), (ResourceType.GROUP, group, describe), (topic, dead, describe))
    seen: list[Report] = []
    wait_until(lambda: _noted(seen, check(world.config, tmp_path)).of("permissions") != [], "the broker knows of it")
    assert seen[-1].bad() == {"permissions", "group", "dead_letters"}
    assert f'grant READ on topic "{name}"' in seen[-1].of("permissions")[0]
    assert "may not join group" in seen[-1].of("group")[0]
    assert "may not write to it" in seen[-1].of("dead_letters")[0]
    assert seen[-1].of("mapping") == ["skipped: no partition can be read"]

    read, write = AclOperation.READ, AclOperation.WRITE
    grant(world.admin, (topic, name, read), (ResourceType.GROUP, group, read), (topic, dead, write))
    wait_until(lambda: not _noted(seen, check(world.config, tmp_path)).bad(), "nothing is missing any more")
    assert seen[-1].of("retention") == [f"skipped: {name}: these credentials may not see its configs"]
    assert seen[-1].of("dead_letters") == [f"ok: {dead}: may be written"]


def _noted(seen: list[Report], report: Report) -> Report:
    seen.append(report)
    return report


def test_a_wrong_password_is_an_error_that_does_not_show_it(world: World, broker: Kafka, tmp_path: Path) -> None:
    if broker.sasl_servers is None:
        pytest.skip("the broker of KAFKA_BOOTSTRAP_SERVERS has no SASL listener for these tests")
    world.config["kafka"] |= {
        "bootstrap_servers": broker.sasl_servers,
        "properties": SASL | {"sasl.password": "not-the-password"},
    }
    report = check(world.config, tmp_path)
    assert (report.exit_code, report.bad()) == (3, {"brokers"})
    assert "refuses the credentials" in report.of("brokers")[0]
    assert "not-the-password" not in json.dumps(report.findings)


def test_a_misspelt_topic_is_an_error_that_names_similar_ones(world: World, tmp_path: Path) -> None:
    name = world.changes.name
    world.config["kafka"]["topics"] = [f"{name}s", name]

    report = check(world.config, tmp_path)

    assert (report.exit_code, report.bad()) == (3, {"topics"})
    missing, found = report.of("topics")
    assert missing.startswith(f'error: there is no topic "{name}s"; create it, or correct kafka.topics; did you mean ')
    assert name in missing.partition("did you mean")[2]
    assert found.startswith("ok")
    assert report.of("mapping")[0].startswith("ok: 40 of the last 40"), "the other topic is tried"


def test_a_check_creates_no_topic(tmp_path: Path) -> None:
    """The embedded broker creates a topic for any producer that asks for it, as brokers with auto-creation do."""
    with EmbeddedBroker(["stock"]) as broker, SandboxServer(SandboxSettings()) as sandbox:
        config = service_config(broker.bootstrap_servers, "stok", sandbox, avro={"registry_url": "http://127.0.0.1:1"})

        report = check(config, tmp_path)

        topics = set(AdminClient({"bootstrap.servers": broker.bootstrap_servers}).list_topics(timeout=60.0).topics)
    assert {"topics", "dead_letters"} <= report.bad()
    assert topics == {"stock"}


def test_a_registry_that_does_not_answer_is_an_error(world: World, tmp_path: Path) -> None:
    world.config["avro"]["registry_url"] = "http://127.0.0.1:9"
    report = check(world.config, tmp_path)
    assert (report.exit_code, report.bad()) == (2, {"registry"})
    assert "check avro.registry_url" in report.of("registry")[0]


def test_a_mapping_to_fields_that_do_not_exist_is_an_error(world: World, tmp_path: Path) -> None:
    fields = {name: name for name in ("locationName", "sku", "quantity")}
    world.config["events"] = {"fields": fields | {"retailPrice": "price.amout"}}
    optional = check(world.config, tmp_path)
    assert (optional.exit_code, optional.bad()) == (2, {"mapping"})
    assert any("no schema has the field price.amout" in line for line in optional.of("mapping"))

    world.config["events"] = {"fields": fields | {"sku": "articel"}}
    required = check(world.config, tmp_path)
    assert (required.exit_code, required.bad()) == (2, {"schemas", "mapping"})
    assert "40 rejected: 40 unusable_schema" in required.of("mapping")[0]


def test_a_message_that_is_no_event_is_a_warning_with_its_position(world: World, tmp_path: Path) -> None:
    world.publish(b"\x00bad")
    report = check(world.config, tmp_path)
    assert (report.exit_code, report.bad()) == (0, {"schemas", "mapping"}), report.findings
    assert f"({world.changes.name}/0/30: " in report.of("schemas")[0]


def test_wrong_credentials_of_the_oms_are_an_error_that_does_not_show_them(world: World, tmp_path: Path) -> None:
    world.config["oms"]["api_secret"] = "not-the-secret"
    report = check(world.config, tmp_path)
    assert (report.exit_code, report.bad()) == (4, {"token"})
    assert report.of("token")[0].startswith("error: correct oms.api_key and oms.api_secret")
    assert report.of("refresh") == ["skipped: not asked without a token"]
    assert "not-the-secret" not in json.dumps(report.findings)


def test_a_key_of_another_package_is_refused_at_the_refresh_endpoint(world: World, tmp_path: Path) -> None:
    world.config["oms"] |= {"api_key": V5_KEY, "api_secret": V5_SECRET}
    report = check(world.config, tmp_path)
    assert report.exit_code == 4
    assert "have this API key permitted to refresh inventory, or correct oms.api" in report.of("refresh")[0]


def test_smart_refresh_is_asked_too_if_the_settings_name_it(world: World, tmp_path: Path) -> None:
    world.config["oms"] |= {
        "api": "unified-commerce",
        "tenant": TENANT,
        "endpoint": "smart-refresh",
        "token_url": world.sandbox.url + UNIFIED_TOKEN_PATH,
        "api_key": UNIFIED_KEY,
        "api_secret": UNIFIED_SECRET,
    }
    report = check(world.config, tmp_path)
    assert report.exit_code == 0
    assert report.of("smart_refresh") == ["ok: refuses an empty request, as it must (HTTP 400)"]


def test_a_missing_dead_letter_topic_is_an_error(world: World, tmp_path: Path) -> None:
    world.config["dead_letters"]["topic"] = f"{world.changes.name}.deadletters"
    report = check(world.config, tmp_path)
    assert (report.exit_code, report.bad()) == (5, {"dead_letters"})
    assert "create it, or correct dead_letters.topic; did you mean" in report.of("dead_letters")[0]


def test_a_clock_that_is_off_is_a_warning(world: World, tmp_path: Path) -> None:
    with SandboxServer(SandboxSettings(faults=(Skew(seconds=-300),))) as sandbox:
        world.config["oms"] |= {"base_url": sandbox.url, "token_url": sandbox.url + TOKEN_PATH}
        report = check(world.config, tmp_path)
    assert (report.exit_code, report.bad()) == (0, {"clock"})
    assert "s behind this machine's; correct this machine's clock" in report.of("clock")[0]


@contextmanager
def stub_of_the_oms(status: int, body: bytes) -> Iterator[str]:
    """Gives tokens and answers everything else like this."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            is_token = self.path == TOKEN_PATH
            self.answer(200 if is_token else status, b'{"access_token": "token-of-tests"}' if is_token else body)

        def do_GET(self) -> None:
            self.answer(200, b'{"jobID": 1, "status": "SUCCESS"}')

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "exit_code", "words"),
    [
        (200, b'{"jobID": 77}', 0, "accepted an empty request, as job 77"),
        (200, b"{}", 4, "check oms.base_url"),
        (400, b"<html>Bad Request</html>", 4, "something in front of the OMS answers"),
        (404, b'{"code": 5002, "message": "no"}', 4, "correct oms.base_url or oms.api"),
        (503, b'{"code": 5001, "message": "no"}', 4, "try again later"),
    ],
)
def test_only_the_refusal_of_the_oms_itself_is_a_good_answer(
    world: World, tmp_path: Path, status: int, body: bytes, exit_code: int, words: str
) -> None:
    with stub_of_the_oms(status, body) as url:
        world.config["oms"] |= {"base_url": url, "token_url": url + TOKEN_PATH}
        report = check(world.config, tmp_path)
    assert (report.exit_code, report.bad()) == (exit_code, {"refresh"}), report.of("jobs")
    assert words in report.of("refresh")[0]


# Groups and retention


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_running_member_is_named_and_not_disturbed(world: World, protocol: str, tmp_path: Path) -> None:
    world.has_run = True
    world.config["kafka"]["properties"] = {"group.protocol": protocol}
    with running_service(world.config, tmp_path / "service") as service:
        wait_until(lambda: world.changes.committed() == world.changes.end(), "everything is sent and committed")
        assigned = len(service.events("partitions_assigned"))
        assert assigned

        report = check(world.config, tmp_path)

        assert (report.exit_code, report.bad()) == (0, set())
        (group,) = report.of("group")
        assert f"1 member by protocol {protocol}: inventory-refresh at 127.0.0.1" in group
        assert report.of("lag") == ["ok: 0 messages in 2 partitions"]
        assert len(service.events("partitions_assigned")) == assigned
        assert service.stop() == 0


def test_uncommitted_changes_that_are_near_their_deletion_are_a_warning(world: World, tmp_path: Path) -> None:
    config = world.config
    config["kafka"]["topics"] = [f"{world.changes.name}-old"]
    make_topic(world.admin, f"{world.changes.name}-old", 1, {"retention.ms": str(10 * HOUR_MS)})
    old = World(
        config,
        Topic(world.changes.bootstrap_servers, f"{world.changes.name}-old", world.changes.group),
        world.sandbox,
        world.admin,
        world.schema_id,
    )
    now_ms = int(time.time() * 1000)
    for hours in (7, 6, 1):
        producer = Producer({"bootstrap.servers": old.changes.bootstrap_servers})
        producer.produce(old.changes.name, old.change(), partition=0, timestamp=now_ms - hours * HOUR_MS)
        assert producer.flush(REQUEST_SECONDS_MAX) == 0

    assert check(config, tmp_path).bad() == set(), "a new group is not late"
    old.commit(1)
    report = check(config, tmp_path)
    assert (report.exit_code, report.bad()) == (0, {"retention"})
    assert "[0]: uncommitted changes are older than half of retention.ms" in report.of("retention")[0]
    old.commit(2)
    assert check(config, tmp_path).bad() == set()

    deleted: Mapping[Any, Future[Any]] = world.admin.delete_records([TopicPartition(old.changes.name, 0, 3)])
    for result in deleted.values():
        result.result(REQUEST_SECONDS_MAX)
    report = check(config, tmp_path)
    assert "[0]: changes were deleted before they were accepted" in report.of("retention")[0]
    old.commit(9)
    assert "lies after the end of the log" in check(config, tmp_path).of("lag")[0]


def test_a_session_timeout_outside_the_brokers_limits_is_an_error(world: World, tmp_path: Path) -> None:
    world.config["kafka"]["properties"] = {"session.timeout.ms": 3_600_000, "heartbeat.interval.ms": 3_000}
    report = check(world.config, tmp_path)
    assert (report.exit_code, report.bad()) == (2, {"session"})
    assert "group.max.session.timeout.ms" in report.of("session")[0]


# Addresses


NOWHERE = "kafka-1.invalid:9092"


@pytest.fixture
def misadvertised(tmp_path: Path) -> Iterator[str]:
    """A Kafka that sends its clients on to an address which cannot be resolved, as many do in front of containers."""
    folder = tmp_path / "kafka"
    folder.mkdir()
    plain, outside, controller = free_ports(3)
    properties = folder / "server.properties"
    properties.write_text(f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{plain},OUTSIDE://127.0.0.1:{outside},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},OUTSIDE://{NOWHERE}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,OUTSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={folder / "data"}
""")
    kafka = kafka_command()
    format_storage(kafka, properties)
    process = subprocess.Popen(  # noqa: S603 - Kafka
        [*kafka, "kafka.Kafka", str(properties)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=end_with_parent,  # noqa: PLW1509 - a single system call that takes no lock
    )
    try:
        wait_until(lambda: broker_answers(f"127.0.0.1:{plain}"), "the broker answers")
        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{plain}", "log_level": 0})
        for name in ("stock", "stock.dead"):
            make_topic(admin, name, 1, None)
        yield f"127.0.0.1:{outside}"
    finally:
        process.kill()
        process.wait(REQUEST_SECONDS_MAX)


def test_brokers_that_answer_at_the_bootstrap_address_alone_are_an_error(
    kafka: str, misadvertised: str, tmp_path: Path
) -> None:
    """The most frequent mistake with Kafka in containers: everything looks well until the first fetch."""
    del kafka  # skips the test without Java or Maven
    with SandboxServer(SandboxSettings()) as sandbox:
        config = service_config(misadvertised, "stock", sandbox, avro={"registry_url": "http://127.0.0.1:1"})
        report = check(config, tmp_path, "--timeout", "8")
    assert report.exit_code == 3
    (brokers,) = report.of("brokers")
    assert brokers.startswith(f"error: 1 broker at {misadvertised}, but {NOWHERE} cannot be asked: ")
    assert "resolve" in brokers
    assert "check the brokers' advertised.listeners" in brokers
    assert report.of("dead_letters")[0].startswith("skipped: stock.dead: exists; ")


def test_a_login_with_tokens_is_used_for_every_question(registry: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        identity = or_skip(lambda: use_identity_kafka(stack))
        endpoint = stack.enter_context(token_endpoint(identity, lifetime_seconds=60.0))
        sandbox = stack.enter_context(SandboxServer(SandboxSettings()))
        name = f"checked-{uuid.uuid4().hex[:8]}"
        admin = AdminClient({"bootstrap.servers": identity.plain_servers})
        for topic in (name, f"{name}.dead"):
            make_topic(admin, topic, 1, None)
        config = service_config(identity.token_servers, name, sandbox, avro={"registry_url": registry})
        config["kafka"]["properties"] = {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(Certificates(Path(identity.folder)).ca),
            "sasl.mechanism": "OAUTHBEARER",
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.client.id": CLIENT_ID,
            "sasl.oauthbearer.client.secret": CLIENT_SECRET,
            "sasl.oauthbearer.token.endpoint.url": endpoint.url,
        }

        report = check(config, tmp_path)
        config["kafka"]["properties"]["sasl.oauthbearer.client.secret"] = "not-the-secret"
        refused = check(config, tmp_path)

    assert (report.exit_code, report.bad()) == (0, set()), report.findings
    assert report.of("permissions") == [f"ok: {name}: may be read"]
    assert report.of("mapping") == ["skipped: the topics have no message yet; check again later"]
    assert (refused.exit_code, refused.bad()) == (3, {"brokers"})
    assert "the login with a token failed" in refused.of("brokers")[0]
    assert "kafka_client" in run(config, tmp_path, "--verbose").stderr, "the log has more, if it is wanted"
    assert "not-the-secret" not in json.dumps(refused.findings)
