"""What is asked of Kafka before the service starts, so that what is wrong is said at once, in one line."""

import logging
import time
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]

from consumer.errors import BrokerError
from consumer.kafka.errors import ALL_BROKERS_DOWN, ErrorClass, classify, error_of, text_of
from consumer.kafka.options import ASSUMED, SessionTimes
from consumer.settings import KafkaSettings

Answer = TypeVar("Answer")

ATTEMPT_SECONDS_MAX: Final = 1.0
"""How long one question may take, before the errors that came meanwhile are looked at."""
APPEAR_SECONDS_MAX: Final = 3.0
"""How long a topic may take to appear: brokers hear of a new one one after the other."""
RETRY_SECONDS: Final = 0.1
NEAR_NAMES_MAX: Final = 3
CONFIGS_SECONDS_MAX: Final = 5.0
"""How long the broker may take to tell the group's settings: there is an assumption in their place."""

_log = logging.getLogger("inventory_refresh.kafka")


class ErrorLog:
    """The errors that a client has told by its callback."""

    def __init__(self) -> None:
        self.last: KafkaError | None = None
        """The last one, for people; that no broker is left does not displace the reason why."""
        self.refused: KafkaError | None = None
        """The last one that refused the credentials."""
        self.fatal: KafkaError | None = None
        """After it the client is of no use any more."""

    def add(self, error: KafkaError) -> None:
        if self.last is None or error.code() != ALL_BROKERS_DOWN:
            self.last = error
        if classify(error) is ErrorClass.UNAUTHORISED:
            self.refused = error
        if error.fatal():
            self.fatal = error


class Preflight:
    """Questions to the broker through one client, that have ``kafka.unreachable_timeout`` together.

    Every method raises BrokerError: the broker does not answer, refuses the credentials, or cannot be used.
    """

    def __init__(self, client: Consumer | Producer, errors: ErrorLog, settings: KafkaSettings) -> None:
        self._client = client
        self._errors = errors
        self._settings = settings
        self._deadline = time.monotonic() + settings.unreachable_timeout

    def topic_exists(self, topic: str) -> bool:
        """False if the broker keeps saying, for a few seconds, that it does not know the topic."""
        deadline = time.monotonic() + APPEAR_SECONDS_MAX
        while True:
            known = self._ask(
                lambda seconds: _is_known(self._client.list_topics(topic, timeout=seconds).topics[topic]),
                f'topic "{topic}" may not be used with these credentials',
            )
            if known or time.monotonic() > deadline:
                return known
            time.sleep(RETRY_SECONDS)

    def near_names(self, topic: str) -> Sequence[str]:
        """Topics whose names are much like this one, the likest first."""
        names = self._ask(
            lambda seconds: list(self._client.list_topics(timeout=seconds).topics),
            "topics may not be listed with these credentials",
        )
        return get_close_matches(topic, names, n=NEAR_NAMES_MAX, cutoff=0.5)

    def group_is_usable(self, consumer: Consumer) -> None:
        """The group's committed offsets can be read."""
        partition = TopicPartition(self._settings.topics[0], 0)
        self._ask(
            lambda seconds: _raise_first_error(consumer.committed([partition], timeout=seconds)),
            f'kafka.group_id: group "{self._settings.group_id}" may not be used with these credentials',
        )

    def _ask(self, question: Callable[[float], Answer], forbidden: str) -> Answer:
        """Ask until there is an answer; ``forbidden`` begins the line if the broker does not let us ask."""
        while True:
            left = self._deadline - time.monotonic()
            try:
                return question(max(min(ATTEMPT_SECONDS_MAX, left), RETRY_SECONDS))
            except KafkaException as exception:
                self._judge(error_of(exception), forbidden)
            self._hear(forbidden)
            if self._errors.refused is not None:
                raise BrokerError(self._refused_line(self._errors.refused))
            if left <= 0:
                raise BrokerError(self._unreachable_line())
            time.sleep(RETRY_SECONDS)

    def _hear(self, forbidden: str) -> None:
        """Only when it is polled does a client tell the errors that it met: by its callback, or as a message."""
        message = self._client.poll(0)
        if isinstance(message, Message):
            error = message.error()
            if error is not None:
                self._errors.add(error)
                self._judge(error, forbidden)

    def _judge(self, error: KafkaError, forbidden: str) -> None:
        match classify(error):
            case ErrorClass.PASSING:
                return
            case ErrorClass.UNAUTHORISED:
                raise BrokerError(f"{forbidden}: {text_of(error)}")
            case _:
                raise BrokerError(f"Kafka at {self._settings.bootstrap_servers} cannot be used: {text_of(error)}")

    def _refused_line(self, error: KafkaError) -> str:
        return (
            f"Kafka at {self._settings.bootstrap_servers} refuses the credentials: {text_of(error)}; check "
            "sasl.mechanism, sasl.username and sasl.password in kafka.properties"
        )

    def _unreachable_line(self) -> str:
        reason = text_of(self._errors.last) if self._errors.last is not None else ""
        return (
            f"kafka.bootstrap_servers: no answer from {self._settings.bootstrap_servers} within "
            f"{self._settings.unreachable_timeout:g} s{f' ({reason})' if reason else ''}; {what_to_check(reason)}"
        )


def what_to_check(reason: str) -> str:
    """The next step for people, where no broker answers: ``reason`` is what the client told last, "" if nothing. Pure.

    The client itself names ``ssl.ca.location`` only sometimes: the same failure of a handshake is now ``_SSL``, with
    that hint, now ``_TRANSPORT``, without it.
    """
    if "certificate verify failed" in reason:
        return (
            "check that ssl.ca.location in kafka.properties names the authority of the brokers' certificates, and that "
            "these have not expired and are made out to this address"
        )
    return "check the address, the network, and security.protocol in kafka.properties"


def session_times(admin: AdminClient, group_id: str) -> SessionTimes:
    """The times by which the broker judges a member of this group, with the protocol ``consumer``.

    Where the broker does not tell (the credentials may not describe the group's configs, say), those are ``ASSUMED``,
    with a warning.
    """
    group = ConfigResource(ResourceType.GROUP, group_id)
    try:
        asked = admin.describe_configs([group], request_timeout=CONFIGS_SECONDS_MAX)
        told = asked[group].result(CONFIGS_SECONDS_MAX + 1.0)
        return SessionTimes(
            session_timeout_seconds=float(told["consumer.session.timeout.ms"].value) / 1000,
            heartbeat_interval_seconds=float(told["consumer.heartbeat.interval.ms"].value) / 1000,
        )
    except KafkaException as exception:
        reason = text_of(error_of(exception))
    except TimeoutError:
        reason = "no answer in time"
    except KeyError as missing:
        reason = f"it knows no {missing}"
    _log.warning(
        'the broker does not tell the session timeout of group "%s" (%s): %g s are assumed, its default; if '
        "group.consumer.session.timeout.ms is less, let these credentials describe the group's configs, or set "
        "group.protocol to classic",
        *(group_id, reason, ASSUMED.session_timeout_seconds),
    )
    return ASSUMED


def _is_known(topic: Any) -> bool:
    """Whether the metadata are of an existing topic. Raises KafkaException for every other error than that."""
    if topic.error is None:
        return True
    if topic.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return False
    raise KafkaException(topic.error)


def _raise_first_error(partitions: Sequence[TopicPartition]) -> None:
    for partition in partitions:
        if partition.error is not None:
            raise KafkaException(partition.error)
