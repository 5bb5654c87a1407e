"""Checks of Kafka before the service starts, so that a wrong setting is reported at once, in one line."""

import time
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any, Final

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]

from consumer.errors import BrokerError
from consumer.kafka.calls import RETRY_SECONDS, Answer
from consumer.kafka.errors import ALL_BROKERS_DOWN, ErrorClass, classify, error_of, text_of
from consumer.kafka.options import ASSUMED, SessionTimes
from consumer.kafka.sasl import uses_tokens
from consumer.settings import KafkaSettings

ATTEMPT_SECONDS_MAX: Final = 1.0
"""How long one request may take before the errors reported meanwhile are checked."""
TOPIC_APPEARS_SECONDS_MAX: Final = 3.0
"""How long a new topic may be unknown: brokers learn of it one after the other."""
SIMILAR_TOPICS_MAX: Final = 3
CONFIGS_SECONDS_MAX: Final = 5.0
"""How long the broker may take to return the group's configs; after that, defaults are assumed."""

_log = structlog.get_logger("inventory_refresh.kafka")


class ErrorLog:
    """The errors that a client reported through its error callback."""

    def __init__(self) -> None:
        self.last: KafkaError | None = None
        """The last error, for messages. "All brokers down" does not replace an error that gives the reason."""
        self.unauthorised: KafkaError | None = None
        """The last error that refused the credentials."""
        self.fatal: KafkaError | None = None
        """The error after which the client cannot be used any more."""

    def add(self, error: KafkaError) -> None:
        """The client's error callback."""
        if self.last is None or error.code() != ALL_BROKERS_DOWN:
            self.last = error
        if classify(error) is ErrorClass.UNAUTHORISED:
            self.unauthorised = error
        if error.fatal():
            self.fatal = error


class Preflight:
    """Requests to the broker through one client, which share one deadline, ``kafka.unreachable_timeout``.

    Every method raises BrokerError if the broker does not answer, refuses the credentials, or cannot be used.
    """

    def __init__(self, client: Consumer | Producer, errors: ErrorLog, settings: KafkaSettings) -> None:
        self._client = client
        self._errors = errors
        self._settings = settings
        self._deadline = time.monotonic() + settings.unreachable_timeout

    def topic_exists(self, topic: str) -> bool:
        """Whether the topic exists; False only after ``TOPIC_APPEARS_SECONDS_MAX``."""
        deadline = time.monotonic() + TOPIC_APPEARS_SECONDS_MAX
        while True:
            known = self._ask(
                lambda seconds: _is_known(self._client.list_topics(topic, timeout=seconds).topics[topic]),
                f'these credentials are not permitted to use topic "{topic}"',
            )
            if known or time.monotonic() > deadline:
                return known
            time.sleep(RETRY_SECONDS)

    def similar_topics(self, topic: str) -> Sequence[str]:
        """Existing topics with a similar name, the most similar first."""
        return similar_names(topic, self.cluster().topics)

    def cluster(self) -> Any:
        """The client's metadata of the cluster: its brokers, and the topics that these credentials may describe."""
        return self._ask(
            lambda seconds: self._client.list_topics(timeout=seconds),
            "these credentials are not permitted to list topics",
        )

    def check_group(self, consumer: Consumer) -> None:
        """Check that the group's committed offsets can be read."""
        partition = TopicPartition(self._settings.topics[0], 0)
        self._ask(
            lambda seconds: _raise_first_error(consumer.committed([partition], timeout=seconds)),
            f'kafka.group_id: these credentials are not permitted to use group "{self._settings.group_id}"',
        )

    def _ask(self, request: Callable[[float], Answer], forbidden: str) -> Answer:
        """Call ``request`` (with its timeout in seconds) until there is an answer.

        ``forbidden`` starts the message if the credentials do not permit the request.
        """
        while True:
            left_seconds = self._deadline - time.monotonic()
            try:
                return request(max(min(ATTEMPT_SECONDS_MAX, left_seconds), RETRY_SECONDS))
            except KafkaException as exception:
                self._raise_unless_retriable(error_of(exception), forbidden)
            self._serve_errors(forbidden)
            if self._errors.unauthorised is not None:
                raise BrokerError(self._unauthorised_line(self._errors.unauthorised))
            if left_seconds <= 0:
                raise BrokerError(self._unreachable_line())
            time.sleep(RETRY_SECONDS)

    def _serve_errors(self, forbidden: str) -> None:
        """A client reports its errors only while it is polled: through its callback, or as a message."""
        message = self._client.poll(0)
        if isinstance(message, Message):
            error = message.error()
            if error is not None:
                self._errors.add(error)
                self._raise_unless_retriable(error, forbidden)

    def _raise_unless_retriable(self, error: KafkaError, forbidden: str) -> None:
        match classify(error):
            case ErrorClass.RETRIABLE:
                return
            case ErrorClass.UNAUTHORISED:
                raise BrokerError(f"{forbidden}: {text_of(error)}")
            case _:
                raise BrokerError(f"Kafka at {self._settings.bootstrap_servers} cannot be used: {text_of(error)}")

    def _unauthorised_line(self, error: KafkaError) -> str:
        if uses_tokens(self._settings):
            return (
                f"Kafka at {self._settings.bootstrap_servers}: the login with a token failed: {text_of(error)}; check "
                "kafka.token_provider or sasl.oauthbearer.* in kafka.properties, and that the brokers trust the "
                "issuer, audience and signature of the tokens"
            )
        return (
            f"Kafka at {self._settings.bootstrap_servers} refuses the credentials: {text_of(error)}; check "
            "sasl.mechanism, sasl.username and sasl.password in kafka.properties"
        )

    def _unreachable_line(self) -> str:
        reason = text_of(self._errors.last) if self._errors.last is not None else None
        return (
            f"kafka.bootstrap_servers: no answer from {self._settings.bootstrap_servers} within "
            f"{self._settings.unreachable_timeout:g} s{f' ({reason})' if reason else ''}; {what_to_check(reason)}"
        )


def what_to_check(reason: str | None) -> str:
    """What to check when no broker answers; ``reason`` is the client's last error, None if there was none. Pure.

    The client mentions ``ssl.ca.location`` only sometimes: it reports the same failed handshake either as ``_SSL``,
    with that hint, or as ``_TRANSPORT``, without it.
    """
    if reason is not None and "certificate verify failed" in reason:
        return (
            "check that ssl.ca.location in kafka.properties names the authority that issued the brokers' certificates, "
            "and that these have not expired and are valid for this address"
        )
    return "check the address, the network, and security.protocol in kafka.properties"


def similar_names(name: str, names: Iterable[str]) -> Sequence[str]:
    """Those of the names that are similar, the most similar first. Pure."""
    return get_close_matches(name, list(names), n=SIMILAR_TOPICS_MAX, cutoff=0.5)


def session_times(admin: AdminClient, group_id: str) -> SessionTimes:
    """The group's session timeout and heartbeat interval, which the broker sets with the protocol ``consumer``.

    If the broker does not return them (the credentials may not be permitted to describe the group's configs), logs a
    warning and returns ``ASSUMED``.
    """
    group = ConfigResource(ResourceType.GROUP, group_id)
    try:
        requests = admin.describe_configs([group], request_timeout=CONFIGS_SECONDS_MAX)
        configs = requests[group].result(CONFIGS_SECONDS_MAX + 1.0)
        return SessionTimes(
            session_timeout_seconds=float(configs["consumer.session.timeout.ms"].value) / 1000,
            heartbeat_interval_seconds=float(configs["consumer.heartbeat.interval.ms"].value) / 1000,
        )
    except KafkaException as exception:
        error = text_of(error_of(exception))
    except TimeoutError:
        error = f"no answer within {CONFIGS_SECONDS_MAX:g} s"
    except KeyError as missing:
        error = f"the broker has no config {missing}"
    _log.warning(
        "group_session_timeout_unknown",
        group_id=group_id,
        error=error,
        assumed_seconds=ASSUMED.session_timeout_seconds,
        next_step="if the broker's group.consumer.session.timeout.ms is shorter, permit these credentials to describe "
        "the group's configs, or set group.protocol to classic",
    )
    return ASSUMED


def _is_known(topic: Any) -> bool:
    """Whether the metadata belongs to an existing topic. Raises KafkaException for any error but an unknown topic."""
    if topic.error is None:
        return True
    if topic.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return False
    raise KafkaException(topic.error)


def _raise_first_error(partitions: Sequence[TopicPartition]) -> None:
    for partition in partitions:
        if partition.error is not None:
            raise KafkaException(partition.error)
