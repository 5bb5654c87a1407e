"""The messages of the checks before the start, when Kafka or a setting is wrong."""

import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from structlog.testing import capture_logs

from consumer.app import Service
from consumer.avro.bundled import schema_path
from consumer.errors import BrokerError
from consumer.kafka.source import KafkaSource
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import SandboxSettings
from consumer.settings import KafkaSettings, Scalar, Settings
from tests.support.fleet import CONSUMER, HEARTBEAT_MS, shorten_sessions
from tests.support.service_process import service_config, wait_until
from tests.support.services import SASL_PASSWORD, SASL_USER, Kafka

pytestmark = pytest.mark.integration

MakeTopic = Callable[..., str]
Properties = dict[str, Scalar]

PATIENT_SECONDS = 60.0
"""For a reachable broker on a busy machine."""


def check(servers: str, topic: str, properties: Properties | None = None, *, seconds: float = PATIENT_SECONDS) -> None:
    source = KafkaSource(
        KafkaSettings(
            bootstrap_servers=servers,
            topics=[topic],
            group_id=f"group-{uuid.uuid4().hex[:8]}",
            unreachable_timeout=seconds,
            properties=properties or {},
        )
    )
    try:
        source.check_broker()
    finally:
        source.close()


def refusal(servers: str, topic: str, properties: Properties | None = None, *, seconds: float = PATIENT_SECONDS) -> str:
    """The message with which the check stops the service."""
    with pytest.raises(BrokerError) as raised:
        check(servers, topic, properties, seconds=seconds)
    line = str(raised.value)
    assert "\n" not in line
    return line


def as_user(password: str = SASL_PASSWORD) -> Properties:
    return {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": SASL_USER,
        "sasl.password": password,
    }


@pytest.fixture
def sasl_servers(broker: Kafka) -> str:
    if broker.sasl_servers is None:
        pytest.skip("the broker of KAFKA_BOOTSTRAP_SERVERS has no SASL listener for these tests")
    return broker.sasl_servers


def test_a_broker_that_has_the_topics_passes(kafka: str, topic: MakeTopic) -> None:
    check(kafka, topic())


def test_with_the_protocol_consumer_the_fence_depends_on_the_brokers_session_timeout(
    kafka: str, topic: MakeTopic
) -> None:
    """Rule 13: the fence is computed from the session timeout that the broker returns, not from the assumed one."""
    name = topic()
    with SandboxServer(SandboxSettings(time_scale=0.0)) as sandbox, ExitStack() as stack:
        config = service_config(kafka, name, sandbox, avro={"schema_file": str(schema_path())})
        config["kafka"]["properties"] = {"group.protocol": CONSUMER}
        config["dead_letters"]["topic"] = topic()
        shorten_sessions(kafka, config["kafka"]["group_id"], session_ms=8_000)
        source, _, client = Service(Settings.model_validate(config))._open(stack)
        assert source.check_broker().session_timeout_seconds == 8.0
        assert client._fence_seconds < 8.0 - HEARTBEAT_MS / 1000


def test_the_message_about_a_missing_topic_suggests_topics_with_similar_names(kafka: str, topic: MakeTopic) -> None:
    name = topic()
    line = refusal(kafka, f"{name}s")
    assert line.startswith(f'kafka.topics: there is no topic "{name}s" at {kafka}; did you mean {name}')


def test_an_unreachable_broker_is_reported_with_the_reason_after_the_time_set() -> None:
    began = time.monotonic()
    with capture_logs() as logs:
        line = refusal("127.0.0.1:1", "any", seconds=1.5)
    assert 1.0 < time.monotonic() - began < 25.0, "the default is 30 s"
    assert line.startswith("kafka.bootstrap_servers: no answer from 127.0.0.1:1 within 1.5 s")
    assert "Connection refused" in line
    assert not [event for event in logs if event["log_level"] != "debug"]


def test_refused_credentials_are_reported_at_once_and_without_the_password(sasl_servers: str) -> None:
    began = time.monotonic()
    line = refusal(sasl_servers, "any", as_user("not-the-password"), seconds=90.0)
    assert time.monotonic() - began < 60.0
    assert line.startswith(f"Kafka at {sasl_servers} refuses the credentials")
    assert "not-the-password" not in line


def test_a_wrong_protocol_is_hinted_at(sasl_servers: str) -> None:
    line = refusal(sasl_servers, "any", seconds=3.0)
    assert "security.protocol" in line


def test_a_missing_permission_on_a_topic_is_reported_at_once(sasl_servers: str, topic: MakeTopic) -> None:
    name = topic()
    line = refusal(sasl_servers, name, as_user())
    assert line.startswith(f'these credentials are not permitted to use topic "{name}"')


def test_a_missing_permission_on_the_group_is_reported_at_once(
    sasl_servers: str, topic: MakeTopic, admin: AdminClient
) -> None:
    name = topic()
    allow_to_read(admin, name)
    line = refusal(sasl_servers, name, as_user())
    assert line.startswith('kafka.group_id: these credentials are not permitted to use group "group-')


def allow_to_read(admin: AdminClient, topic: str) -> None:
    topics, user = (ResourceType.TOPIC, topic, ResourcePatternType.LITERAL), (f"User:{SASL_USER}", "*")
    rule = AclBinding(*topics, *user, AclOperation.READ, AclPermissionType.ALLOW)
    admin.create_acls([rule])[rule].result(PATIENT_SECONDS)
    wanted = AclBindingFilter(*topics, *user, AclOperation.READ, AclPermissionType.ALLOW)
    # The broker applies a new rule a little after it has confirmed it.
    wait_until(lambda: bool(admin.describe_acls(wanted).result(PATIENT_SECONDS)), "the broker knows the rule")
