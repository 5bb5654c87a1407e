"""Options of the Kafka clients, and what users may change."""

import logging

import pytest
from confluent_kafka import Consumer
from structlog.testing import capture_logs

from consumer.dead_letters.writer import DeadLetterWriter
from consumer.errors import SettingsError
from consumer.kafka.options import (
    BROKERS,
    OWNED,
    GroupTimes,
    SessionTimes,
    _ClientLog,
    consumer_options,
    group_times,
    is_incremental,
    new_client,
    producer_options,
)
from consumer.kafka.source import KafkaSource
from consumer.settings import DeadLetterSettings, KafkaSettings, Scalar
from consumer.settings.memory import MIB


def settings(properties: dict[str, Scalar] | None = None, revoke_timeout: float = 30.0) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers="127.0.0.1:1", topics=["changes"], revoke_timeout=revoke_timeout, properties=properties or {}
    )


@pytest.mark.parametrize("name", sorted(OWNED))
def test_a_fixed_option_is_refused_by_name(name: str) -> None:
    with pytest.raises(SettingsError, match=f'kafka.properties: "{name}" cannot be set there: '):
        KafkaSource(settings({name: "anything"}))


def test_the_fixed_options_have_these_values() -> None:
    options = consumer_options(settings())
    assert {name: options[name] for name in OWNED if name in options} == {
        "bootstrap.servers": "127.0.0.1:1",
        "group.id": "inventory-refresh",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
    }


def test_the_users_properties_override_our_defaults() -> None:
    options = consumer_options(settings({"fetch.queue.backoff.ms": 50, "check.crcs": True}))
    assert (options["fetch.queue.backoff.ms"], options["check.crcs"]) == (50, True)


@pytest.mark.parametrize(
    ("queue_bytes", "messages", "kbytes"), [(28 * MIB, 38_229, 4_778), (64 * MIB, 50_000, 10_922), (1, 1, 1)]
)
def test_what_is_fetched_ahead_follows_the_memory_budget(queue_bytes: int, messages: int, kbytes: int) -> None:
    options = consumer_options(settings(), queue_bytes)
    assert (options["queued.min.messages"], options["queued.max.messages.kbytes"]) == (messages, kbytes)
    assert consumer_options(settings({"queued.min.messages": 7}), queue_bytes)["queued.min.messages"] == 7


def test_the_dead_letters_producer_takes_the_users_connection_properties_only() -> None:
    properties: dict[str, Scalar] = {"security.protocol": "SASL_SSL", "ssl.ca.location": "ca.pem", "fetch.min.bytes": 9}
    options = producer_options(settings(properties))
    assert options["security.protocol"] == "SASL_SSL"
    assert options["ssl.ca.location"] == "ca.pem"
    assert "fetch.min.bytes" not in options
    assert options["acks"] == "all"
    assert options["enable.idempotence"] is True


def test_by_default_the_group_is_classic_and_rebalances_incrementally() -> None:
    options = consumer_options(settings())
    assert options["group.protocol"] == "classic"
    assert options["partition.assignment.strategy"] == "cooperative-sticky"
    assert is_incremental(options)
    assert not is_incremental(consumer_options(settings({"partition.assignment.strategy": "range,roundrobin"})))


@pytest.mark.parametrize("name", sorted(BROKERS))
def test_with_the_protocol_consumer_an_option_set_by_the_broker_is_refused_and_the_brokers_option_named(
    name: str,
) -> None:
    with pytest.raises(SettingsError, match=f'"{name}" cannot be set with group.protocol .*{BROKERS[name]}'):
        KafkaSource(settings({"group.protocol": "consumer", name: "1"}))


def test_with_the_protocol_consumer_options_set_by_the_broker_are_left_out() -> None:
    options = consumer_options(settings({"group.protocol": "consumer"}))
    assert options["group.protocol"] == "consumer"
    assert not set(options) & set(BROKERS)
    assert is_incremental(options)


def test_with_the_protocol_consumer_the_groups_times_come_from_the_broker() -> None:
    consumer = settings({"group.protocol": "consumer"})
    assert group_times(consumer, SessionTimes(20.0, 2.0)) == GroupTimes(20.0, 2.0, 300.0)
    assert group_times(consumer) == GroupTimes(45.0, 5.0, 300.0)


def test_with_the_protocol_classic_the_groups_times_come_from_the_properties() -> None:
    assert group_times(settings({"session.timeout.ms": "10000"})) == GroupTimes(10.0, 3.0, 300.0)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        pytest.param(
            settings(revoke_timeout=300.0), "revoke_timeout: 300 s is too long", id="revoke as long as a poll"
        ),
        pytest.param(settings({"session.timeout.ms": "soon"}), "\"session.timeout.ms\" is 'soon'", id="no number"),
        pytest.param(settings({"heartbeat.interval.ms": 45_000}), "ideally a third of it", id="heartbeat too slow"),
        pytest.param(settings({"group.protocol": "raft"}), "must be classic or consumer", id="unknown protocol"),
        pytest.param(settings({"no.such.option": 1}), "No such configuration property", id="unknown"),
        pytest.param(settings({"fetch.min.bytes": -5}), "fetch.min.bytes", id="out of range"),
        pytest.param(settings({"throttle_cb": "text"}), "kafka.properties: ", id="a callback"),
        pytest.param(settings({"stats_cb": "text"}), '"stats_cb" cannot be set there', id="a callback of the service"),
    ],
)
def test_a_wrong_option_is_reported_in_one_line(wrong: KafkaSettings, line: str) -> None:
    with pytest.raises(SettingsError, match=line) as raised:
        KafkaSource(wrong)
    assert "\n" not in str(raised.value)


def test_a_topic_pattern_is_refused() -> None:
    with pytest.raises(SettingsError, match="is a pattern"):
        KafkaSource(settings().model_copy(update={"topics": ["^changes-.*"]}))


def test_an_error_message_contains_no_secret() -> None:
    secret = settings({"sasl.password": "hunter2"})

    def refuse(*arguments: object, **keywords: object) -> Consumer:
        raise ValueError("cannot log in with hunter2")

    with pytest.raises(SettingsError, match=r"cannot log in with \*\*\*"):
        new_client(refuse, {}, secret)


def test_the_dead_letter_topic_must_not_be_a_source_topic() -> None:
    with pytest.raises(SettingsError, match=r"dead_letters\.topic"):
        DeadLetterWriter(settings(), DeadLetterSettings(topic="changes"), schema_id_of=lambda _value, _headers: None)


def test_a_log_line_of_the_client_is_one_event_with_its_parts() -> None:
    with capture_logs() as logs:
        _ClientLog().log(logging.WARNING, "%s [%s] %s", "SESSTMOUT", "rdkafka#consumer-1", "Session timed out")
    assert logs == [
        {
            "event": "kafka_client",
            "log_level": "warning",
            "facility": "SESSTMOUT",
            "client": "rdkafka#consumer-1",
            "message": "Session timed out",
        }
    ]


def test_a_log_line_about_an_error_that_the_callback_reports_too_is_for_debugging() -> None:
    with capture_logs() as logs:
        _ClientLog().log(logging.ERROR, "%s [%s] %s", "FAIL", "rdkafka#consumer-1", "Connection refused")
    assert [event["log_level"] for event in logs] == ["debug"]


def test_a_login_that_fails_while_the_client_is_made_is_a_wrong_setting() -> None:
    def make(options: object, **more: object) -> object:
        raise SystemError("a callback returned a result with an exception set") from RuntimeError("no AWS credentials")

    with pytest.raises(SettingsError, match=r"kafka\.properties: the client could not log in: no AWS credentials"):
        new_client(make, {}, settings())


def test_a_login_with_aws_that_fails_without_a_cause_says_what_it_needs() -> None:
    def make(options: object, **more: object) -> object:
        raise SystemError("a callback returned a result with an exception set")

    properties = {"sasl.oauthbearer.metadata.authentication.type": "aws_iam"}
    with pytest.raises(SettingsError, match=r"could not log in: with aws_iam it needs credentials of AWS.*role of the"):
        new_client(make, properties, settings())
    with pytest.raises(SettingsError, match=r"could not log in: check the options that begin with sasl\."):
        new_client(make, {}, settings())
