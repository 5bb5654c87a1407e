"""TLS and credentials on every connection at once, and no secret in any output."""

import base64
import json
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from consumer.avro.bundled import schema_text
from consumer.avro.encode import EventEncoder
from consumer.observe.status.api import ANSWERS
from consumer.sandbox.oms.app import TOKEN_PATH
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import SandboxSettings
from tests.support.avro import TinyRegistry
from tests.support.certificates import KEY_PASSWORD, Certificates
from tests.support.service_process import (
    REQUEST_SECONDS_MAX,
    ROOT,
    WAIT_SECONDS_MAX,
    ServiceProcess,
    Topic,
    running_service,
    service_config,
    wait_until,
)
from tests.support.services import TLS_PASSWORD, TLS_USER, Kafka
from tests.support.tls_front import TlsFront, tls_front

pytestmark = pytest.mark.integration

SCHEMA_ID = 7
REGISTRY_USER, REGISTRY_PASSWORD = "reader", "registry/pass@word+for=tests"
API_KEY, API_SECRET = "the-api-key-of-tests", "api secret/with=odd@signs"
SECRETS = {
    "sasl.password": TLS_PASSWORD,
    "ssl.key.password": KEY_PASSWORD,
    "registry": REGISTRY_PASSWORD,
    "api_key": API_KEY,
    "api_secret": API_SECRET,
}


@dataclass
class World:
    """All servers behind TLS, and settings to connect to them."""

    bootstrap_servers: str
    tls_servers: str
    certificates: Certificates
    changes: Topic
    registry: TlsFront
    oms: TlsFront
    sandbox: SandboxServer
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def secret(self, name: str, text: str) -> None:
        """Write a secret file, like one that Kubernetes mounts."""
        folder = self.folder / "secrets"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        self.environment["INVENTORY_REFRESH_SECRETS_DIR"] = str(folder)

    def config(self) -> dict[str, Any]:
        pem = self.certificates
        config: dict[str, Any] = service_config(
            self.tls_servers,
            self.changes.name,
            self.sandbox,
            avro={
                "registry_url": self.registry.url,
                "registry": {
                    "ssl.ca.location": str(pem.ca),
                    "ssl.certificate.location": str(pem.client_cert),
                    "ssl.key.location": str(pem.client_key),
                },
            },
            oms={
                "base_url": self.oms.url,
                "token_url": self.oms.url + TOKEN_PATH,
                "ca_file": str(pem.ca),
                "client_cert_file": str(pem.client_cert),
                "client_key_file": str(pem.client_key),
            },
            log={"level": "debug"},
        )
        for name in ("api_key", "api_secret"):
            del config["oms"][name]
        config["kafka"]["unreachable_timeout"] = 60.0
        config["kafka"]["properties"] = {
            "group.protocol": "consumer",  # which also uses the admin client
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "PLAIN",
            "sasl.username": TLS_USER,
            "ssl.ca.location": str(pem.ca),
            "ssl.certificate.location": str(pem.client_cert),
            "ssl.key.location": str(pem.locked_key),
            "debug": "conf,security,feature",
        }
        return config


@pytest.fixture
def world(broker: Kafka, topic: Callable[..., str], admin: AdminClient, tmp_path: Path) -> Iterator[World]:
    if broker.tls_servers is None or broker.tls_folder is None:
        pytest.skip("the broker of KAFKA_BOOTSTRAP_SERVERS has no TLS listener for these tests")
    name = topic()
    admin.create_topics([NewTopic(f"{name}.dead", 1, 1)])[f"{name}.dead"].result(REQUEST_SECONDS_MAX)
    certificates = Certificates(Path(broker.tls_folder))
    with ExitStack() as stack:
        registry = TinyRegistry()
        stack.callback(registry.down)
        registry.add(SCHEMA_ID, schema_text())
        sandbox = stack.enter_context(
            SandboxServer(SandboxSettings(time_scale=0.0, specific_key=API_KEY, specific_secret=API_SECRET))  # type: ignore[arg-type]
        )
        world = World(
            broker.bootstrap_servers,
            broker.tls_servers,
            certificates,
            Topic(broker.bootstrap_servers, name, f"group-of-{name}"),
            stack.enter_context(tls_front(certificates, registry.port)),
            stack.enter_context(tls_front(certificates, int(sandbox.url.rpartition(":")[2]))),
            sandbox,
            tmp_path,
        )
        world.secret("kafka__properties__sasl.password", TLS_PASSWORD)
        world.secret("kafka__properties__ssl.key.password", KEY_PASSWORD)
        world.secret("avro__registry__basic.auth.user.info", f"{REGISTRY_USER}:{REGISTRY_PASSWORD}")
        world.secret("oms__api_key", API_KEY)
        world.secret("oms__api_secret", API_SECRET)
        yield world


def forms(secret: str) -> set[str]:
    """A secret in every form in which it is sent or printed."""
    pairs = (secret, f"{REGISTRY_USER}:{secret}", f"{API_KEY}:{secret}", f"\0{TLS_USER}\0{secret}")
    encoded = {base64.b64encode(pair.encode()).decode() for pair in pairs}
    return {secret, json.dumps(secret)[1:-1], urllib.parse.quote(secret, safe=""), *encoded}


def assert_has_no_secret(text: str, *more: str) -> None:
    leaked = [name for name, secret in SECRETS.items() for form in forms(secret) if form in text]
    assert not leaked, leaked
    assert not [secret for secret in more if secret in text]


def all_output(service: ServiceProcess) -> str:
    pages = ["/", "/api/status", "/metrics", "/healthz", "/readyz", "/nowhere", *ANSWERS]
    shown = [httpx.get(service.url + page, timeout=REQUEST_SECONDS_MAX).text for page in pages]
    processes = [path.read_bytes() for path in Path(f"/proc/{service.pid}").glob("task/*/comm")]
    processes.append(Path(f"/proc/{service.pid}/cmdline").read_bytes())
    return "\n".join([*shown, *(text.decode() for text in processes), service.output()])


def bearers(front: TlsFront) -> list[str]:
    lines = b"".join(front.received).decode("latin-1").splitlines()
    return [line.split()[-1] for line in lines if line.lower().startswith("authorization: bearer")]


def test_all_connections_use_tls_certificates_and_credentials_and_no_secret_is_printed(world: World) -> None:
    encoder = EventEncoder.confluent(schema_text(), SCHEMA_ID)
    good = [encoder.encode({"locationName": "Rome", "sku": f"s{item}", "quantity": 1}) for item in range(50)]
    with running_service(world.config(), world.folder, world.environment) as service:
        wait_until(service.is_ready, "ready")
        publish_values(world, [*good, b"\x00bad"])
        wait_until(lambda: world.changes.committed() == world.changes.end(), "sent and committed")
        shown = all_output(service)
        assert service.stop() == 0
        shown += service.output()

    dead = Topic(world.bootstrap_servers, f"{world.changes.name}.dead", "reader").read_all()
    assert [message.value() for message in dead] == [b"\x00bad"]
    assert world.sandbox.state.summary().items == 50
    basic = base64.b64encode(f"{REGISTRY_USER}:{REGISTRY_PASSWORD}".encode())
    assert basic in b"".join(world.registry.received)
    assert "librdkafka" in shown or "rdkafka" in shown, "the client's own debug lines are logged"
    tokens = bearers(world.oms)
    assert tokens
    assert_has_no_secret(shown, *tokens)


def publish_values(world: World, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": world.bootstrap_servers})
    for value in values:
        producer.produce(world.changes.name, value)
    assert producer.flush(REQUEST_SECONDS_MAX) == 0


NO_ANSWER_SECONDS = 5.0
"""With these faults Kafka never answers, and the service gives up after this time. A handshake fails sooner."""

Fault = Callable[[World, dict[str, Any]], None]


def _kafka_password(world: World, _config: dict[str, Any]) -> None:
    world.secret("kafka__properties__sasl.password", TLS_PASSWORD + "-but-wrong")


def _key_password(world: World, _config: dict[str, Any]) -> None:
    world.secret("kafka__properties__ssl.key.password", KEY_PASSWORD + "-but-wrong")


def _no_certificate(_world: World, config: dict[str, Any]) -> None:
    config["kafka"]["unreachable_timeout"] = NO_ANSWER_SECONDS
    for name in ("ssl.certificate.location", "ssl.key.location"):
        del config["kafka"]["properties"][name]


def _other_authority(world: World, config: dict[str, Any]) -> None:
    config["kafka"]["unreachable_timeout"] = NO_ANSWER_SECONDS
    config["kafka"]["properties"]["ssl.ca.location"] = str(world.certificates.other_ca)


def _api_secret(world: World, _config: dict[str, Any]) -> None:
    world.secret("oms__api_secret", API_SECRET + "-but-wrong")


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        pytest.param(_kafka_password, 3, "refuses the credentials", id="SASL password"),
        pytest.param(_key_password, 2, "kafka.properties", id="password of the key"),
        pytest.param(_no_certificate, 3, "no answer", id="no client certificate"),
        pytest.param(_other_authority, 3, "check that ssl.ca.location in kafka.properties", id="untrusted authority"),
        pytest.param(_api_secret, 4, "correct oms.api_key and oms.api_secret", id="API secret"),
    ],
)
def test_a_wrong_certificate_or_secret_is_reported_in_one_line_without_secrets(
    world: World, fault: Fault, code: int, says: str
) -> None:
    config = world.config()
    del config["kafka"]["properties"]["debug"]
    fault(world, config)
    path = world.folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))

    run = subprocess.run(  # noqa: S603 - this project's own command
        [sys.executable, "-m", "consumer", "check", "--config", str(path)],
        cwd=ROOT,
        env=world.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_SECONDS_MAX,
    )

    assert run.returncode == code, run.stdout
    (error,) = [line for line in run.stdout.splitlines() if line.startswith("error")]
    assert says in error
    assert_has_no_secret(run.stdout + run.stderr)
