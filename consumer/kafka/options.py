"""Every option of the Kafka clients, passed explicitly, and what a user may change of them by ``kafka.properties``.

The option names are librdkafka's. Any of its options may be set in ``kafka.properties``, but for those on which the
promise of this service rests: they are refused, with the reason.

Of ``group.protocol`` both are supported. By ``classic``, the default, each member says how long the group waits for it;
by ``consumer`` (KIP-848) the broker decides that, and who has which partition.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaException

from consumer.errors import SettingsError
from consumer.settings import KafkaSettings
from consumer.text import one_line

Options = dict[str, Any]
Client = TypeVar("Client")

COOPERATIVE: Final = "cooperative-sticky"
"""The assignment strategy by which partitions that stay are read on during a rebalance."""

CLASSIC_PROTOCOL: Final = "classic"
CONSUMER_PROTOCOL: Final = "consumer"

OWNED: Final[Mapping[str, str]] = {
    "bootstrap.servers": "set kafka.bootstrap_servers instead",
    "metadata.broker.list": "set kafka.bootstrap_servers instead",
    "group.id": "set kafka.group_id instead",
    "auto.offset.reset": 'it is always "earliest": otherwise changes from before the first start would be passed over',
    "enable.auto.commit": "it is always false: an offset is committed only after a jobID",
    "auto.commit.enable": "it is always false: an offset is committed only after a jobID",
    "enable.auto.offset.store": "it is always false: an offset is committed only after a jobID",
    "enable.partition.eof": "it is always true: a partition's end tells how far there is to read",
}
"""Options of ours, and what to do instead. Rule 9 of docs/protocol.md is one of them."""

BROKERS: Final[Mapping[str, str]] = {
    "session.timeout.ms": "group.consumer.session.timeout.ms",
    "heartbeat.interval.ms": "group.consumer.heartbeat.interval.ms",
    "partition.assignment.strategy": "group.consumer.assignors",
}
"""Options that the protocol ``consumer`` does not know, and the broker's own that decide in their place."""

_CLASSIC: Final[Mapping[str, Any]] = {
    "partition.assignment.strategy": COOPERATIVE,
    "session.timeout.ms": 45_000,
    "heartbeat.interval.ms": 3_000,
}
"""Where a user's properties may differ, with the protocol ``classic``."""

_CONSUMER: Final[Mapping[str, Any]] = {
    "client.id": "inventory-refresh",
    "max.poll.interval.ms": 300_000,
    "isolation.level": "read_committed",
    "allow.auto.create.topics": False,
    # By default the fetcher rests for a second whenever the queue is full, and a fast reader starves.
    "fetch.queue.backoff.ms": 10,
    "fetch.wait.max.ms": 100,
    "fetch.min.bytes": 1,
    "queued.min.messages": 100_000,
    "queued.max.messages.kbytes": 65_536,
    "socket.timeout.ms": 30_000,
    "socket.keepalive.enable": True,
    "reconnect.backoff.ms": 100,
    "reconnect.backoff.max.ms": 5_000,
    "statistics.interval.ms": 10_000,
}
"""Where a user's properties may differ, with either protocol."""

_CONSUMER_ALWAYS: Final[Mapping[str, Any]] = {
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
}

_PRODUCER: Final[Mapping[str, Any]] = {
    "client.id": "inventory-refresh-dead-letters",
    "acks": "all",
    "enable.idempotence": True,
    "compression.type": "lz4",
    "linger.ms": 5,
    # Small, so that only a single message can be too large for the topic, never a batch of good ones.
    "batch.size": 16_384,
    "delivery.timeout.ms": 120_000,
    "queue.buffering.max.messages": 10_000,
    "queue.buffering.max.kbytes": 65_536,
    # How large a message may be is for the topic to say: a producer that refused first would hide the answer.
    "message.max.bytes": 100_000_000,
    "socket.timeout.ms": 30_000,
    "socket.keepalive.enable": True,
    "reconnect.backoff.ms": 100,
    "reconnect.backoff.max.ms": 5_000,
}

_CONNECTION_PREFIXES: Final = (
    "broker.address.",
    "client.dns.",
    "client.rack",
    "connections.",
    "debug",
    "enable.sasl.",
    "enable.ssl.",
    "https.",
    "metadata.",
    "reconnect.",
    "retry.",
    "sasl.",
    "security.",
    "socket.",
    "ssl.",
)
"""Properties about the connection hold for every client; all others are the consumer's alone."""

_SECRET_WORDS: Final = ("password", "secret", "key", "token", "jaas", "oauthbearer.config", "assertion")


@dataclass(frozen=True, slots=True)
class SessionTimes:
    """How long the group waits for a sign of life of a member, and how often the member gives one."""

    session_timeout_seconds: float
    heartbeat_interval_seconds: float


ASSUMED: Final = SessionTimes(session_timeout_seconds=45.0, heartbeat_interval_seconds=5.0)
"""With the protocol ``consumer``, where the broker does not tell: its defaults. A session can be shorter only where
somebody has lowered group.consumer.min.session.timeout.ms too, whose default is 45 s as well."""


@dataclass(frozen=True, slots=True)
class GroupTimes:
    """How long the group waits for a member."""

    session_timeout_seconds: float
    heartbeat_interval_seconds: float
    poll_interval_seconds_max: float


def consumer_options(settings: KafkaSettings) -> Options:
    """The consumer's options: ours, the user's over them, and over all those that are not the user's.

    Raises SettingsError if a property is one of ours, or one that the group protocol leaves to the broker.
    """
    for name in settings.properties:
        if name in OWNED:
            raise SettingsError(f'kafka.properties: "{name}" cannot be set there: {OWNED[name]}')
    protocol = group_protocol(settings)
    if protocol == CONSUMER_PROTOCOL:
        for name in settings.properties:
            if name in BROKERS:
                raise SettingsError(
                    f'kafka.properties: "{name}" cannot be set with group.protocol "{CONSUMER_PROTOCOL}": the broker '
                    f'decides by its {BROKERS[name]}; leave it out, or set group.protocol to "{CLASSIC_PROTOCOL}"'
                )
    ours = dict(_CONSUMER) | (dict(_CLASSIC) if protocol == CLASSIC_PROTOCOL else {})
    always = dict(_CONSUMER_ALWAYS) | {
        "group.protocol": protocol,
        "bootstrap.servers": settings.bootstrap_servers,
        "group.id": settings.group_id,
    }
    return ours | dict(settings.properties) | always


def group_protocol(settings: KafkaSettings) -> str:
    """``CLASSIC_PROTOCOL`` or ``CONSUMER_PROTOCOL``. Raises SettingsError for any other."""
    protocol = str(settings.properties.get("group.protocol", CLASSIC_PROTOCOL)).lower()
    if protocol not in {CLASSIC_PROTOCOL, CONSUMER_PROTOCOL}:
        raise SettingsError(
            f'kafka.properties: "group.protocol" is "{protocol}", but must be {CLASSIC_PROTOCOL} or {CONSUMER_PROTOCOL}'
        )
    return protocol


def is_incremental(options: Options) -> bool:
    """Whether a rebalance tells only of the partitions that come or go; else all go first, and then some come."""
    return options["group.protocol"] == CONSUMER_PROTOCOL or COOPERATIVE in options["partition.assignment.strategy"]


def producer_options(settings: KafkaSettings) -> Options:
    """The dead letters' options: ours, and from the user's properties those about the connection."""
    return dict(_PRODUCER) | connection_options(settings)


def connection_options(settings: KafkaSettings) -> Options:
    """Where the broker is, and how to connect to it."""
    return connection_properties(settings.properties) | {"bootstrap.servers": settings.bootstrap_servers}


def connection_properties(properties: Mapping[str, Any]) -> Options:
    """Those about the connection, which hold for every client."""
    return {name: value for name, value in properties.items() if name.startswith(_CONNECTION_PREFIXES)}


def group_times(settings: KafkaSettings, told: SessionTimes = ASSUMED) -> GroupTimes:
    """What the group's timeouts will be; ``told`` are those of the broker, where it is the broker that decides.

    Raises SettingsError if one is no number, if the member would not be heard of in time, or if a revoke could outlast
    what the group allows between two polls.
    """
    options = consumer_options(settings)
    if options["group.protocol"] == CLASSIC_PROTOCOL:
        told = SessionTimes(_seconds(options, "session.timeout.ms"), _seconds(options, "heartbeat.interval.ms"))
        if told.heartbeat_interval_seconds >= told.session_timeout_seconds:
            raise SettingsError(
                f'kafka.properties: "heartbeat.interval.ms" ({told.heartbeat_interval_seconds:g} s) must be less than '
                f'"session.timeout.ms" ({told.session_timeout_seconds:g} s), best a third of it'
            )
    poll_interval_seconds_max = _seconds(options, "max.poll.interval.ms")
    if settings.revoke_timeout >= poll_interval_seconds_max:
        raise SettingsError(
            f"kafka.revoke_timeout: {settings.revoke_timeout:g} s is too long: it must be less than "
            f"max.poll.interval.ms ({poll_interval_seconds_max:g} s), or the group gives this member up while it "
            "waits for answers"
        )
    return GroupTimes(told.session_timeout_seconds, told.heartbeat_interval_seconds, poll_interval_seconds_max)


def new_client(make: Callable[..., Client], options: Options, settings: KafkaSettings, **callbacks: Any) -> Client:
    """A client of Kafka. Raises SettingsError where it does not take an option."""
    for name in options.keys() & callbacks.keys():
        raise SettingsError(f'kafka.properties: "{name}" cannot be set there: it is a function of this service')
    try:
        return make(options | callbacks, logger=_ClientLog())
    except (KafkaException, TypeError, ValueError) as error:
        reason = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        raise SettingsError(f"kafka.properties: {_redacted(reason, settings)}") from None


class _ClientLog:
    """librdkafka's own lines, into our log.

    Its lines about lost connections are for debugging only: the same facts come as errors, which the adapters log in
    their own words and not more often than is useful.
    """

    _told_as_errors = frozenset({"FAIL", "ERROR"})
    _logger = logging.getLogger("inventory_refresh.kafka.client")

    def log(self, level: int, message: str, *arguments: object) -> None:
        if arguments and arguments[0] in self._told_as_errors:
            level = logging.DEBUG
        self._logger.log(level, message, *arguments)


def _seconds(options: Options, name: str) -> float:
    try:
        return float(options[name]) / 1000
    except ValueError:
        raise SettingsError(f'kafka.properties: "{name}" is {options[name]!r}, but must be milliseconds') from None


def _redacted(text: str, settings: KafkaSettings) -> str:
    """One line, in which no secret of the properties stands."""
    text = one_line(text)
    for name, value in settings.properties.items():
        if str(value) and any(word in name for word in _SECRET_WORDS):
            text = text.replace(str(value), "***")
    return text
