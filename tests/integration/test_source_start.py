"""What is said at the start when Kafka is not as it should be."""

import logging
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

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
"""For a broker that is there, on a busy machine."""


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
    """The line with which the check stops the service."""
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
    if not broker.sasl_servers:
        pytest.skip("the broker of KAFKA_BOOTSTRAP_SERVERS is not one with a listener for these tests")
    return broker.sasl_servers


def test_a_broker_with_the_topics_is_good(kafka: str, topic: MakeTopic) -> None:
    check(kafka, topic())


def test_with_the_protocol_consumer_a_request_may_be_as_old_as_the_brokers_session_allows(
    kafka: str, topic: MakeTopic
) -> None:
    """Rule 13: the fence is reckoned from the session that the broker tells, not from one that is only assumed."""
    name = topic()
    with SandboxServer(SandboxSettings(time_scale=0.0)) as sandbox, ExitStack() as stack:
        config = service_config(kafka, name, sandbox, avro={"schema_file": str(schema_path())})
        config["kafka"]["properties"] = {"group.protocol": CONSUMER}
        config["dead_letters"]["topic"] = topic()
        shorten_sessions(kafka, config["kafka"]["group_id"], session_ms=8_000)
        source, _, client = Service(Settings.model_validate(config))._open(stack)
        assert source.check_broker().session_timeout_seconds == 8.0
        assert client._fence_seconds < 8.0 - HEARTBEAT_MS / 1000


def test_a_missing_topic_is_named_with_those_that_have_a_name_like_it(kafka: str, topic: MakeTopic) -> None:
    name = topic()
    line = refusal(kafka, f"{name}s")
    assert line.startswith(f'kafka.topics: there is no topic "{name}s" at {kafka}; did you mean {name}')


def test_an_unreachable_broker_is_named_after_the_time_that_was_set_with_the_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    began = time.monotonic()
    line = refusal("127.0.0.1:1", "any", seconds=1.5)
    assert 1.0 < time.monotonic() - began < 25.0, "30 s are what it waits by itself"
    assert line.startswith("kafka.bootstrap_servers: no answer from 127.0.0.1:1 within 1.5 s")
    assert "Connection refused" in line
    assert not caplog.records


def test_refused_credentials_are_said_at_once_and_without_the_password(sasl_servers: str) -> None:
    began = time.monotonic()
    line = refusal(sasl_servers, "any", as_user("not-the-password"), seconds=90.0)
    assert time.monotonic() - began < 60.0
    assert line.startswith(f"Kafka at {sasl_servers} refuses the credentials")
    assert "not-the-password" not in line


def test_the_wrong_protocol_is_hinted_at(sasl_servers: str) -> None:
    line = refusal(sasl_servers, "any", seconds=3.0)
    assert "security.protocol" in line


def test_a_topic_that_may_not_be_read_is_said_at_once(sasl_servers: str, topic: MakeTopic) -> None:
    name = topic()
    line = refusal(sasl_servers, name, as_user())
    assert line.startswith(f'topic "{name}" may not be used with these credentials')


def test_a_group_that_may_not_be_used_is_said_at_once(sasl_servers: str, topic: MakeTopic, admin: AdminClient) -> None:
    name = topic()
    allow_to_read(admin, name)
    line = refusal(sasl_servers, name, as_user())
    assert line.startswith('kafka.group_id: group "group-')


def allow_to_read(admin: AdminClient, topic: str) -> None:
    topics, user = (ResourceType.TOPIC, topic, ResourcePatternType.LITERAL), (f"User:{SASL_USER}", "*")
    rule = AclBinding(*topics, *user, AclOperation.READ, AclPermissionType.ALLOW)
    admin.create_acls([rule])[rule].result(PATIENT_SECONDS)
    this = AclBindingFilter(*topics, *user, AclOperation.READ, AclPermissionType.ALLOW)
    # The broker goes by a new rule a little after it was taken.
    wait_until(lambda: bool(admin.describe_acls(this).result(PATIENT_SECONDS)), "the broker knows the rule")
