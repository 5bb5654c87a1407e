"""Identities of the service at a real Kafka, set up by the chart's values and started as its container is."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from consumer.avro.bundled import schema_text
from consumer.sandbox.generator import plan_demo
from consumer.sandbox.oms.app import TOKEN_PATH
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import SPECIFIC_KEY, SPECIFIC_SECRET, SandboxSettings
from consumer.sandbox.publisher import publish
from tests.support import chart, go_tools
from tests.support.certificates import Certificates
from tests.support.identity_kafka import IdentityKafka, use_identity_kafka
from tests.support.parts import or_skip
from tests.support.service_process import (
    REQUEST_SECONDS_MAX,
    WAIT_SECONDS_MAX,
    ServiceProcess,
    Topic,
    free_port,
    running_service,
    wait_until,
)
from tests.support.token_endpoint import CLIENT_ID, CLIENT_SECRET, TokenEndpoint, token_endpoint
from tests.support.topics import make_topic

# Time for building helm, if this is the first test that needs it.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(int(go_tools.BUILD_SECONDS_MAX))]

MOUNTS = "/etc/inventory-refresh"
"""Where the chart mounts files; here it is a folder of the test."""
CLIENT_FOLDER = f"{MOUNTS}/kafka-client"
TOKEN_SECONDS = 10.0
"""Short, so that a test sees several tokens; the client renews them at 80 % of this."""
NO_ANSWER_SECONDS = 8.0

Values = Mapping[str, Any]


@pytest.fixture(scope="module")
def broker() -> Iterator[IdentityKafka]:
    or_skip(go_tools.helm)
    with ExitStack() as stack:
        yield or_skip(lambda: use_identity_kafka(stack))


@pytest.fixture
def changes(broker: IdentityKafka, request: pytest.FixtureRequest) -> Topic:
    name = f"changes-{abs(hash(request.node.nodeid))}"
    admin = AdminClient({"bootstrap.servers": broker.plain_servers})
    for topic in (name, f"{name}.dead"):
        make_topic(admin, topic, 2 if topic == name else 1, None)
    return Topic(broker.plain_servers, name, f"group-of-{name}")


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer(SandboxSettings(time_scale=0.0)) as server:
        yield server


@pytest.fixture
def endpoint(broker: IdentityKafka) -> Iterator[TokenEndpoint]:
    with token_endpoint(broker, TOKEN_SECONDS) as found:
        yield found


@contextmanager
def pod(
    kafka: Values,
    changes: Topic,
    sandbox: SandboxServer,
    folder: Path,
    *,
    secrets: Mapping[str, str] | None = None,
    files: Mapping[str, bytes] | None = None,
    values: Values | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[ServiceProcess]:
    """The container of the chart with these Kafka settings, as a process. ``files`` are those of mounted volumes."""
    config = {
        "kafka": {
            "topics": [changes.name],
            "group_id": changes.group,
            "unreachable_timeout": NO_ANSWER_SECONDS,
            **kafka,
        },
        "avro": {"registry_url": ""},
        "window": {"max_age": "1s"},
        "oms": {"base_url": sandbox.url, "token_url": sandbox.url + TOKEN_PATH},
        "dead_letters": {"topic": f"{changes.name}.dead"},
    }
    objects = chart.template("minimal", {"config": config, "avroSchema": schema_text(), **(values or {})})
    (data,) = [found["data"] for found in chart.of_kind(objects, "ConfigMap") if "config.yaml" in found["data"]]
    mounted = {f"{MOUNTS}/config/{name}": text.encode() for name, text in data.items()} | dict(files or {})
    given = {"oms__api_key": SPECIFIC_KEY, "oms__api_secret": SPECIFIC_SECRET} | dict(secrets or {})
    mounted |= {f"{MOUNTS}/secrets/{name}": text.encode() for name, text in given.items()}
    for name, content in mounted.items():
        path = Path(name.replace(MOUNTS, str(folder)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    settings = _here(chart.settings(objects), folder)
    # Loopback only, so that other machines cannot reach it.
    settings["http"] = {"host": "127.0.0.1", "port": free_port()}
    variables = {found["name"]: found.get("value", "") for found in chart.container(objects)["env"]}
    with running_service(settings, folder, _here(variables, folder) | dict(environment or {})) as service:
        yield service


def _here(value: Any, folder: Path) -> Any:
    """The value with the folder in place of the chart's mounts."""
    if isinstance(value, dict):
        return {name: _here(part, folder) for name, part in value.items() if name != "INVENTORY_REFRESH_CONFIG"}
    return value.replace(MOUNTS, str(folder)) if isinstance(value, str) else value


def assert_works(service: ServiceProcess, changes: Topic, sandbox: SandboxServer) -> None:
    """Changes are read, sent and committed, and a bad one is dead-lettered: consumer and producer have logged in."""
    wait_until(service.is_ready, "ready")
    plan = plan_demo(5, burst_items=100)
    publish(plan.events, bootstrap_servers=changes.bootstrap_servers, topic=changes.name)
    send_bad(changes)
    wait_until(lambda: changes.committed() == changes.end(), "sent and committed")
    dead = Topic(changes.bootstrap_servers, f"{changes.name}.dead", "reader")
    assert b"\x00bad" in {message.value() for message in dead.read_all()}
    assert sandbox.state.summary().items > 100


def send_bad(changes: Topic) -> None:
    producer = Producer({"bootstrap.servers": changes.bootstrap_servers})
    producer.produce(changes.name, b"\x00bad")
    assert producer.flush(REQUEST_SECONDS_MAX) == 0


def refusal(service: ServiceProcess) -> tuple[int, str]:
    code = service.process.wait(WAIT_SECONDS_MAX)
    return code, service.output().strip().splitlines()[-1]


# Client certificates


def mutual_tls(broker: IdentityKafka) -> dict[str, Any]:
    """Values and files of a Secret with a client certificate, mounted by extraVolumes, and a CA bundle."""
    pem = Certificates(Path(broker.folder))
    return {
        "kafka": {
            "bootstrap_servers": broker.mtls_servers,
            "properties": {
                "security.protocol": "SSL",
                "ssl.certificate.location": f"{CLIENT_FOLDER}/tls.crt",
                "ssl.key.location": f"{CLIENT_FOLDER}/tls.key",
            },
        },
        "values": {
            "caBundle": {"secret": "kafka-authority"},
            "extraVolumes": [{"name": "kafka-client", "secret": {"secretName": "kafka-client"}}],
            "extraVolumeMounts": [{"name": "kafka-client", "mountPath": CLIENT_FOLDER, "readOnly": True}],
        },
        "files": {
            f"{MOUNTS}/ca/ca.crt": pem.ca.read_bytes(),
            f"{CLIENT_FOLDER}/tls.crt": pem.client_cert.read_bytes(),
            f"{CLIENT_FOLDER}/tls.key": pem.client_key.read_bytes(),
        },
    }


def test_a_client_certificate_is_enough_for_kafka(
    broker: IdentityKafka, changes: Topic, sandbox: SandboxServer, tmp_path: Path
) -> None:
    setup = mutual_tls(broker)
    setup["values"]["caBundle"]["usedBy"] = ["kafka"]
    with pod(changes=changes, sandbox=sandbox, folder=tmp_path, **setup) as service:
        assert_works(service, changes, sandbox)
        assert service.stop() == 0


# Tokens


def with_tokens(broker: IdentityKafka) -> dict[str, Any]:
    return {
        "kafka": {"bootstrap_servers": broker.token_servers},
        "values": {"caBundle": {"secret": "kafka-authority", "usedBy": ["kafka"]}},
        "files": {f"{MOUNTS}/ca/ca.crt": Certificates(Path(broker.folder)).ca.read_bytes()},
    }


def with_oidc(broker: IdentityKafka, endpoint: TokenEndpoint) -> dict[str, Any]:
    setup = with_tokens(broker)
    setup["kafka"]["properties"] = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.client.id": CLIENT_ID,
        "sasl.oauthbearer.token.endpoint.url": endpoint.url,
    }
    setup["secrets"] = {"kafka__properties__sasl.oauthbearer.client.secret": CLIENT_SECRET}
    return setup


def test_tokens_of_an_oidc_endpoint_log_in_and_are_renewed(
    broker: IdentityKafka, changes: Topic, sandbox: SandboxServer, endpoint: TokenEndpoint, tmp_path: Path
) -> None:
    with pod(changes=changes, sandbox=sandbox, folder=tmp_path, **with_oidc(broker, endpoint)) as service:
        assert_works(service, changes, sandbox)
        before = len(endpoint.given)
        wait_until(lambda: len(endpoint.given) >= before + 2, "the tokens were renewed")
        send_bad(changes)
        wait_until(lambda: changes.committed() == changes.end(), "it still works")
        assert service.stop() == 0
        output = service.output()
    assert CLIENT_SECRET not in output
    assert not [token for token in endpoint.given if token in output]


def test_a_wrong_client_secret_stops_the_start_with_what_to_check(
    broker: IdentityKafka, changes: Topic, sandbox: SandboxServer, endpoint: TokenEndpoint, tmp_path: Path
) -> None:
    setup = with_oidc(broker, endpoint)
    setup["secrets"] = {"kafka__properties__sasl.oauthbearer.client.secret": "wrong"}
    with pod(changes=changes, sandbox=sandbox, folder=tmp_path, **setup) as service:
        code, line = refusal(service)
    assert code == 3
    assert endpoint.refused
    assert "the login with a token failed" in line
    assert "check kafka.token_provider or sasl.oauthbearer.*" in line


def test_a_token_for_another_audience_is_refused_by_the_broker(
    broker: IdentityKafka, changes: Topic, sandbox: SandboxServer, endpoint: TokenEndpoint, tmp_path: Path
) -> None:
    endpoint.audience = "another"
    with pod(changes=changes, sandbox=sandbox, folder=tmp_path, **with_oidc(broker, endpoint)) as service:
        code, line = refusal(service)
    assert (code, "the login with a token failed" in line) == (3, True), line


@pytest.fixture
def plugin(broker: IdentityKafka, tmp_path: Path) -> Path:
    """A folder with an installed package that registers the token provider ``of-tests``."""
    folder = tmp_path / "site"
    info = folder / "tokens_of_tests-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tokens-of-tests\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[inventory_refresh.kafka_tokens]\nof-tests = tokens_of_tests:token\n")
    (folder / "tokens_of_tests.py").write_text(PROVIDER.format(fields=broker, seconds=TOKEN_SECONDS))
    return folder


PROVIDER = """
from pathlib import Path
from tests.support.identity_kafka import IdentityKafka

def token(options):
    assert options["bootstrap.servers"] and options["security.protocol"] == "SASL_SSL"
    with Path(__file__).with_name("asked").open("a") as asked:
        asked.write("x")
    return {fields!r}.token({seconds})
"""


def test_tokens_of_an_installed_provider_log_in_and_are_renewed(
    broker: IdentityKafka, changes: Topic, sandbox: SandboxServer, plugin: Path, tmp_path: Path
) -> None:
    setup = with_tokens(broker)
    setup["kafka"] |= {"token_provider": "of-tests", "properties": {"security.protocol": "SASL_SSL"}}
    path = ":".join([str(plugin), *filter(None, sys.path)])
    with pod(changes=changes, sandbox=sandbox, folder=tmp_path, environment={"PYTHONPATH": path}, **setup) as service:
        assert_works(service, changes, sandbox)
        asked = plugin / "asked"
        before = asked.stat().st_size
        wait_until(lambda: asked.stat().st_size >= before + 2, "the tokens were renewed")
        assert service.stop() == 0


MISTAKES: dict[str, tuple[Callable[[], Values], str]] = {
    "no method": (
        lambda: {"properties": {"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"}},
        "nothing makes the tokens",
    ),
    "a provider that is not installed": (
        lambda: {"properties": {"security.protocol": "SASL_SSL"}, "token_provider": "nobody"},
        "no package with a provider 'nobody' is installed",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_incomplete_setup_ends_the_start_with_exit_code_2(
    mistake: str, broker: IdentityKafka, changes: Topic, sandbox: SandboxServer, tmp_path: Path
) -> None:
    make, words = MISTAKES[mistake]
    kafka = {"bootstrap_servers": broker.token_servers, **make()}
    with pod(kafka, changes, sandbox, tmp_path) as service:
        code, line = refusal(service)
    assert (code, words in line) == (2, True), line
