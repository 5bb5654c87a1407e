"""Kafka's error codes, each classified once. A code that is not listed is permanent and stops the process."""

# ruff: noqa: SLF001 - librdkafka's own codes are public, though their names begin with an underscore

from enum import Enum, auto
from typing import Final

from confluent_kafka import KafkaError, KafkaException

from consumer.text import one_line

PARTITION_EOF: Final = KafkaError._PARTITION_EOF
UNKNOWN_PARTITION: Final = KafkaError._UNKNOWN_PARTITION
GROUP_GONE: Final = KafkaError._DESTROY
"""What the client returns once it has left its group."""
NOT_FETCHED: Final = KafkaError._STATE
"""What a seek gets while the client does not fetch the partition yet, or any more."""
ILLEGAL_GENERATION: Final = KafkaError.ILLEGAL_GENERATION
"""What a member gets that has joined the group's next generation and not heard of it yet. A broker answers
UNKNOWN_MEMBER_ID to one that is no longer in the group."""
ALL_BROKERS_DOWN: Final = KafkaError._ALL_BROKERS_DOWN
MESSAGE_TOO_LARGE: Final = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)


class ErrorClass(Enum):
    RETRIABLE = auto()
    """May go away by itself: retry; the client reconnects on its own."""
    FENCED = auto()
    """This member is out of the group; a later poll reports its partitions as lost or assigned (rule 12)."""
    FATAL = auto()
    """The client cannot be used any more; a later poll gives the reason."""
    UNAUTHORISED = auto()
    """The credentials are refused, or do not permit this."""
    NO_OFFSETS = auto()
    """There was nothing to commit."""
    PERMANENT = auto()
    """Everything else: it stays until someone changes the configuration or the cluster."""


_RETRIABLE: Final = (
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._IN_PROGRESS,
    KafkaError._MAX_POLL_EXCEEDED,
    KafkaError._MSG_TIMED_OUT,
    KafkaError._PREV_IN_PROGRESS,
    KafkaError._RESOLVE,
    KafkaError._RETRY,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._TRANSPORT,
    KafkaError._WAIT_CACHE,
    KafkaError._WAIT_COORD,
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.FETCH_SESSION_ID_NOT_FOUND,
    KafkaError.INVALID_FETCH_SESSION_EPOCH,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.LISTENER_NOT_FOUND,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.NOT_CONTROLLER,
    KafkaError.NOT_COORDINATOR,
    KafkaError.NOT_ENOUGH_REPLICAS,
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.STALE_MEMBER_EPOCH,
    KafkaError.THROTTLING_QUOTA_EXCEEDED,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.UNSTABLE_OFFSET_COMMIT,
)

_FENCED: Final = (
    KafkaError._ASSIGNMENT_LOST,
    KafkaError._FENCED,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.FENCED_MEMBER_EPOCH,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
)

_UNAUTHORISED: Final = (
    KafkaError._AUTHENTICATION,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
)

_CLASSES: Final = (
    dict.fromkeys(_RETRIABLE, ErrorClass.RETRIABLE)
    | dict.fromkeys(_FENCED, ErrorClass.FENCED)
    | dict.fromkeys(_UNAUTHORISED, ErrorClass.UNAUTHORISED)
    | {KafkaError._FATAL: ErrorClass.FATAL, KafkaError._NO_OFFSET: ErrorClass.NO_OFFSETS}
)


def classify(error: KafkaError, *, renews_tokens: bool = False) -> ErrorClass:
    """Pure. A code that is not listed is PERMANENT.

    With ``renews_tokens`` a failed login may pass: connections log in again whenever a token expires, and the issuer of
    the next one may not answer for a while. That is only so for a client that has logged in before.
    """
    if renews_tokens and error.code() == KafkaError._AUTHENTICATION:
        return ErrorClass.RETRIABLE
    return ErrorClass.FATAL if error.fatal() else _CLASSES.get(error.code(), ErrorClass.PERMANENT)


def error_of(exception: KafkaException) -> KafkaError:
    """The error inside an exception of the client."""
    error: KafkaError = exception.args[0]
    return error


def text_of(error: KafkaError) -> str:
    """The error as one line: its message, and its name to look up."""
    return f"{one_line(error.str())} ({error.name()})"
