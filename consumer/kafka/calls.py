"""Calls of the Kafka client whose exceptions become BrokerError, with or without retries."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import structlog
from confluent_kafka import KafkaError, KafkaException

from consumer.errors import BrokerError
from consumer.kafka.errors import ErrorClass, classify, error_of, text_of

Answer = TypeVar("Answer")

RETRY_SECONDS: Final = 0.1
"""Pause before a call is repeated."""

_log = structlog.get_logger("inventory_refresh.kafka")


@contextmanager
def broker_errors(action: str, *, ignored_code: int | None = None) -> Iterator[None]:
    """Turn KafkaException into BrokerError("Kafka: cannot <action>: ..."), unless it has ``ignored_code``.

    Other exceptions pass unchanged, such as those of a rebalance listener that the client calls.
    """
    try:
        yield
    except KafkaException as exception:
        error = error_of(exception)
        if error.code() != ignored_code:
            raise BrokerError(f"Kafka: cannot {action}: {text_of(error)}") from exception


def call_until(deadline: float, action: str, call: Callable[[], Answer], *, also_retried: int | None = None) -> Answer:
    """Call until there is an answer, with a pause and a warning after each failure.

    Retries what is RETRIABLE or FENCED, and the code ``also_retried``. Raises BrokerError, as ``broker_errors`` does,
    for any other error, and for the first error after the deadline (in monotonic seconds).
    """
    while True:
        with broker_errors(action):
            try:
                return call()
            except KafkaException as exception:
                error = error_of(exception)
                if time.monotonic() > deadline or not (_is_retried(error) or error.code() == also_retried):
                    raise
        _log.warning("kafka_call_retried", action=action, error=text_of(error))
        time.sleep(RETRY_SECONDS)


def _is_retried(error: KafkaError) -> bool:
    return classify(error) in {ErrorClass.RETRIABLE, ErrorClass.FENCED}
