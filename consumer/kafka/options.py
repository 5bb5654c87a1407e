"""Every option of the Kafka clients, passed explicitly, and which of them ``kafka.properties`` may override.

The option names are librdkafka's. Any of its options may be set in ``kafka.properties``, except those on which the
guarantees of this service depend: they are refused, with the reason.

Both values of ``group.protocol`` are supported. With ``classic``, the default, each member sets how long the group
waits for it. With ``consumer`` (KIP-848) the broker sets that, and assigns the partitions.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog
from confluent_kafka import KafkaException

from consumer.errors import SettingsError
from consumer.kafka.sasl import check_sasl, login_hint, sasl_options, without_mechanism
from consumer.kafka.tokens import TokenSource, load_provider
from consumer.settings import KafkaSettings
from consumer.settings.memory import DEFAULT_SHARES, KIB
from consumer.text import one_line

Options = dict[str, Any]
Client = TypeVar("Client")

COOPERATIVE: Final = "cooperative-sticky"
"""The assignment strategy that keeps reading, during a rebalance, the partitions that stay."""

CLASSIC_PROTOCOL: Final = "classic"
CONSUMER_PROTOCOL: Final = "consumer"

OWNED: Final[Mapping[str, str]] = {
    "bootstrap.servers": "set kafka.bootstrap_servers instead",
    "metadata.broker.list": "set kafka.bootstrap_servers instead",
    "group.id": "set kafka.group_id instead",
    "auto.offset.reset": 'it is always "earliest": otherwise changes from before the first start would be skipped',
    "enable.auto.commit": "it is always false: an offset is committed only after a jobID",
    "auto.commit.enable": "it is always false: an offset is committed only after a jobID",
    "enable.auto.offset.store": "it is always false: an offset is committed only after a jobID",
    "enable.partition.eof": "it is always true: recovery ends at a partition's end",
}
"""Options that users cannot set, and what to do instead. ``auto.offset.reset`` is rule 9 of docs/protocol.md."""

BROKERS: Final[Mapping[str, str]] = {
    "session.timeout.ms": "group.consumer.session.timeout.ms",
    "heartbeat.interval.ms": "group.consumer.heartbeat.interval.ms",
    "partition.assignment.strategy": "group.consumer.assignors",
}
"""Options that do not exist with the protocol ``consumer``, and the broker's options that replace them."""

_CLASSIC: Final[Mapping[str, Any]] = {
    "partition.assignment.strategy": COOPERATIVE,
    "session.timeout.ms": 45_000,
    "heartbeat.interval.ms": 3_000,
}
"""Defaults that a user's properties override, with the protocol ``classic``."""

_CONSUMER: Final[Mapping[str, Any]] = {
    "client.id": "inventory-refresh",
    "max.poll.interval.ms": 300_000,
    "isolation.level": "read_committed",
    "allow.auto.create.topics": False,
    # By default the fetcher pauses for a second whenever the queue is full, and a fast reader starves.
    "fetch.queue.backoff.ms": 10,
    "fetch.wait.max.ms": 50,
    "fetch.min.bytes": 1,
    # Fetches of this size keep the queue small and warm: larger ones make the kernel clear fresh pages all the time.
    "max.partition.fetch.bytes": 262_144,
    "socket.timeout.ms": 30_000,
    "socket.keepalive.enable": True,
    "reconnect.backoff.ms": 100,
    "reconnect.backoff.max.ms": 5_000,
    "statistics.interval.ms": 10_000,
}
"""Defaults that a user's properties override, with either protocol."""

QUEUED_MESSAGES_MAX: Final = 50_000
"""Messages fetched ahead, at most: a tenth of a second's worth at full speed. Measured: with 50,000 in place of 500,000
and smaller fetches a fast reader takes a third less CPU and 40 % less memory."""
MESSAGE_OVERHEAD_BYTES: Final = 256
"""Of librdkafka, for every message in a queue."""
MESSAGE_BYTES_MIN: Final = 128
"""Messages are taken to be at least this large: librdkafka bounds a queue by the bytes of its messages alone, and many
small ones would take several times that. With half of this, a thousand locations cost a tenth more CPU."""

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
    # Small, so that only a single message can be too large for the topic, never a batch of smaller ones.
    "batch.size": 16_384,
    "delivery.timeout.ms": 120_000,
    # The writer counts what is in the queue, since a dead letter costs more than the client knows of.
    "queue.buffering.max.messages": 10_000,
    "queue.buffering.max.kbytes": 131_072,
    # The topic decides how large a message may be: a limit of the producer would hide the topic's answer.
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
"""Properties with these prefixes configure the connection of every client; all others apply to the consumer only."""

_SECRET_WORDS: Final = ("password", "secret", "key", "token", "jaas", "oauthbearer.config", "assertion")


@dataclass(frozen=True, slots=True)
class SessionTimes:
    """How long the group waits for a member's heartbeat, and how often the member sends one."""

    session_timeout_seconds: float
    heartbeat_interval_seconds: float


ASSUMED: Final = SessionTimes(session_timeout_seconds=45.0, heartbeat_interval_seconds=5.0)
"""The broker's defaults, used with the protocol ``consumer`` if the broker does not return its configs. A session can
be shorter only if group.consumer.min.session.timeout.ms was lowered too, whose default is also 45 s."""


@dataclass(frozen=True, slots=True)
class GroupTimes:
    """How long the group waits for a member."""

    session_timeout_seconds: float
    heartbeat_interval_seconds: float
    poll_interval_seconds_max: float


def consumer_options(settings: KafkaSettings, queue_bytes: int = DEFAULT_SHARES.consumer_queue_bytes) -> Options:
    """The consumer's options: our defaults, overridden by the user's properties, overridden by the fixed options.

    ``queue_bytes`` is what fetched messages may take until they are polled.

    Raises SettingsError if a property is a fixed option, or one that the group protocol leaves to the broker.
    """
    for name in settings.properties:
        if name in OWNED:
            raise SettingsError(f'kafka.properties: "{name}" cannot be set there: {OWNED[name]}')
    check_sasl(settings)
    protocol = group_protocol(settings)
    if protocol == CONSUMER_PROTOCOL:
        for name in settings.properties:
            if name in BROKERS:
                raise SettingsError(
                    f'kafka.properties: "{name}" cannot be set with group.protocol "{CONSUMER_PROTOCOL}": the broker '
                    f'uses its own {BROKERS[name]}; leave it out, or set group.protocol to "{CLASSIC_PROTOCOL}"'
                )
    ours = dict(_CONSUMER) | queue_options(queue_bytes) | (dict(_CLASSIC) if protocol == CLASSIC_PROTOCOL else {})
    always = dict(_CONSUMER_ALWAYS) | {
        "group.protocol": protocol,
        "bootstrap.servers": settings.bootstrap_servers,
        "group.id": settings.group_id,
    }
    return ours | dict(settings.properties) | sasl_options(settings) | always


def queue_options(queue_bytes: int) -> Options:
    """The options of a consumer's queue of fetched messages that takes at most about this many bytes.

    Half is for messages, with the object that librdkafka has for each of them and does not count. Half is for fetches
    on their way: it asks for more while the queue has room, and then takes all that comes (``fetch.max.bytes`` follows
    these options). The bytes bound the whole queue, the messages only that of each partition.
    """
    messages = queue_bytes // 2 // (MESSAGE_BYTES_MIN + MESSAGE_OVERHEAD_BYTES)
    return {
        "queued.min.messages": max(min(messages, QUEUED_MESSAGES_MAX), 1),
        "queued.max.messages.kbytes": max(messages * MESSAGE_BYTES_MIN // KIB, 1),
    }


def group_protocol(settings: KafkaSettings) -> str:
    """``CLASSIC_PROTOCOL`` or ``CONSUMER_PROTOCOL``. Raises SettingsError for any other."""
    protocol = str(settings.properties.get("group.protocol", CLASSIC_PROTOCOL)).lower()
    if protocol not in {CLASSIC_PROTOCOL, CONSUMER_PROTOCOL}:
        raise SettingsError(
            f'kafka.properties: "group.protocol" is "{protocol}", but must be {CLASSIC_PROTOCOL} or {CONSUMER_PROTOCOL}'
        )
    return protocol


def is_incremental(options: Options) -> bool:
    """Whether a rebalance revokes only the partitions that move; if not, it revokes all and assigns some again."""
    return options["group.protocol"] == CONSUMER_PROTOCOL or COOPERATIVE in options["partition.assignment.strategy"]


def producer_options(settings: KafkaSettings) -> Options:
    """The options of the dead letters' producer: our own, and the user's connection properties."""
    return dict(_PRODUCER) | connection_options(settings)


def connection_options(settings: KafkaSettings) -> Options:
    """The broker's address, and how to connect to it."""
    servers = {"bootstrap.servers": settings.bootstrap_servers}
    return connection_properties(settings.properties) | sasl_options(settings) | servers


def connection_properties(properties: Mapping[str, Any]) -> Options:
    """The properties that configure the connection, for every client."""
    return {name: value for name, value in properties.items() if name.startswith(_CONNECTION_PREFIXES)}


def group_times(settings: KafkaSettings, broker_times: SessionTimes = ASSUMED) -> GroupTimes:
    """The group's timeouts; ``broker_times`` are used with the protocol ``consumer``, where the broker sets them.

    Raises SettingsError if a timeout is not a number, if the heartbeat interval is not shorter than the session
    timeout, or if a revoke could take longer than the group allows between two polls.
    """
    options = consumer_options(settings)
    times = broker_times
    if options["group.protocol"] == CLASSIC_PROTOCOL:
        times = SessionTimes(_seconds(options, "session.timeout.ms"), _seconds(options, "heartbeat.interval.ms"))
        if times.heartbeat_interval_seconds >= times.session_timeout_seconds:
            raise SettingsError(
                f'kafka.properties: "heartbeat.interval.ms" ({times.heartbeat_interval_seconds:g} s) must be less than '
                f'"session.timeout.ms" ({times.session_timeout_seconds:g} s), ideally a third of it'
            )
    poll_interval_seconds_max = _seconds(options, "max.poll.interval.ms")
    if settings.revoke_timeout >= poll_interval_seconds_max:
        raise SettingsError(
            f"kafka.revoke_timeout: {settings.revoke_timeout:g} s is too long: it must be less than "
            f"max.poll.interval.ms ({poll_interval_seconds_max:g} s), or the group removes this member while it waits "
            "for answers"
        )
    return GroupTimes(times.session_timeout_seconds, times.heartbeat_interval_seconds, poll_interval_seconds_max)


def new_client(make: Callable[..., Client], options: Options, settings: KafkaSettings, **callbacks: Any) -> Client:
    """A Kafka client that logs to our log, with tokens of ``kafka.token_provider`` if that is set.

    Raises SettingsError if it rejects an option or cannot log in with it, BrokerError if the provider has no token.
    """
    callbacks |= token_callback(options, settings)
    for name in options.keys() & callbacks.keys():
        raise SettingsError(f'kafka.properties: "{name}" cannot be set there: it is a callback of this service')
    try:
        return make(options | callbacks, logger=_ClientLog())
    except (ImportError, KafkaException, SystemError, TypeError, ValueError) as error:
        reason = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        if isinstance(error, SystemError):  # a login of the client's own failed; at most the cause says why
            reason = f"the client could not log in: {error.__cause__ or login_hint(options)}"
        hint = without_mechanism(reason, settings.properties)
        raise SettingsError(f"kafka.properties: {_redacted(reason, settings)}{hint}") from None


def token_callback(options: Options, settings: KafkaSettings) -> dict[str, TokenSource]:
    """The callback that gives a client of these options its tokens, if ``kafka.token_provider`` is set.

    Raises SettingsError if there is no such provider, BrokerError if it has no token.
    """
    name = settings.token_provider
    return {} if name is None else {"oauth_cb": TokenSource(name, load_provider(name), options)}


class _ClientLog:
    """The logger that librdkafka's own log lines go to, each as one event ``kafka_client``.

    Lines about lost connections are logged at debug level: the same failures also reach the error callback, and are
    logged from there, less often.
    """

    _also_errors = frozenset({"FAIL", "ERROR"})
    _log = structlog.get_logger("inventory_refresh.kafka.client")

    def log(self, level: int, text: str, *arguments: object) -> None:
        """Called by the client like ``logging.Logger.log``: level, "%s [%s] %s", facility, client name, message."""
        facility, client, message = arguments if len(arguments) == 3 else (None, None, text)
        if facility in self._also_errors:
            level = logging.DEBUG
        self._log.log(level, "kafka_client", facility=facility, client=client, message=message)


def _seconds(options: Options, name: str) -> float:
    try:
        return float(options[name]) / 1000
    except ValueError:
        raise SettingsError(f'kafka.properties: "{name}" is {options[name]!r}, but must be milliseconds') from None


def _redacted(text: str, settings: KafkaSettings) -> str:
    """The text as one line, with the secrets of the properties replaced by ***."""
    text = one_line(text)
    for name, value in settings.properties.items():
        if str(value) and any(word in name for word in _SECRET_WORDS):
            text = text.replace(str(value), "***")
    return text
