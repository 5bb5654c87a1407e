"""Sends the changes of dead letters back to their topics, each batch in one Kafka transaction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from consumer.dead_letters.format import DeadLetter, redriven_headers
from consumer.dead_letters.record import position_of
from consumer.errors import BrokerError, SettingsError
from consumer.kafka.errors import error_of, text_of
from consumer.kafka.options import new_client, producer_options
from consumer.settings import KafkaSettings

TRANSACTION_SECONDS_MAX: Final = 30.0
"""The broker aborts what a crash left open after this time; until then the service reads nothing past it."""
REQUEST_SECONDS_MAX: Final = 15.0
"""How long the broker may take to begin a transaction, to confirm all its messages, or to end it."""
TRIES_MAX: Final = 3
POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy that the broker has confirmed; its transaction is still open."""

    dead_letter: DeadLetter
    offset: int


class Publisher:
    """A transactional producer. Its transactional id is derived from the group: a second redrive fences the first."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Raises SettingsError like ``require_read_committed``, BrokerError if transactions are not possible."""
        require_read_committed(settings)
        options = producer_options(settings) | {
            "client.id": "inventory-refresh-redrive",
            "transactional.id": f"{settings.group_id}.redrive",
            "transaction.timeout.ms": round(TRANSACTION_SECONDS_MAX * 1000),
            "delivery.timeout.ms": round(REQUEST_SECONDS_MAX * 1000),
            # Few large requests leave less time for other producers to write in between.
            "linger.ms": 50,
            "batch.size": 1_000_000,
        }
        self._producer: Producer = new_client(Producer, options, settings)
        self._is_open = False
        _step(lambda: self._producer.init_transactions(REQUEST_SECONDS_MAX), "initialise transactions")

    def send(self, dead_letters: Sequence[DeadLetter]) -> list[Copy]:
        """Begin a transaction and send the changes, in order. Returns once the broker has confirmed them all."""
        copies: list[Copy] = []
        errors: list[KafkaError] = []
        _step(self._producer.begin_transaction, "begin a transaction")
        self._is_open = True
        for dead_letter in dead_letters:
            self._produce(dead_letter, copies, errors)
        unconfirmed = self._producer.flush(REQUEST_SECONDS_MAX)
        if errors or unconfirmed:
            reason = text_of(errors[0]) if errors else f"{unconfirmed} were not confirmed in time"
            raise BrokerError(f"Kafka does not accept the redriven changes: {reason}; this batch was not redriven")
        return copies

    def commit(self) -> None:
        """Raises BrokerError if the outcome is unknown; it is safe to redrive again then."""
        self._is_open = False
        _step(lambda: self._producer.commit_transaction(REQUEST_SECONDS_MAX), "commit a transaction")

    def abort(self) -> None:
        """Abort the transaction, if one is open: no consumer with read_committed sees what was sent."""
        if self._is_open:
            self._is_open = False
            _step(lambda: self._producer.abort_transaction(REQUEST_SECONDS_MAX), "abort a transaction")

    def _produce(self, dead_letter: DeadLetter, copies: list[Copy], errors: list[KafkaError]) -> None:
        def on_delivery(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                errors.append(error)
            else:
                copies.append(Copy(dead_letter, position_of(message).offset))

        source = dead_letter.source
        message: dict[str, Any] = {
            "key": dead_letter.key,
            "value": dead_letter.value,
            "headers": redriven_headers(dead_letter),
        }
        while not errors:
            try:
                self._producer.produce(source.topic, partition=source.partition, on_delivery=on_delivery, **message)
            except BufferError:
                self._producer.poll(POLL_SECONDS)  # ends: the delivery timeout removes messages from the queue
            except KafkaException as exception:
                raise BrokerError(f"cannot redrive {source}: {text_of(error_of(exception))}") from exception
            else:
                return


def require_read_committed(settings: KafkaSettings) -> None:
    """Raises SettingsError if the service would read records of aborted transactions."""
    if str(settings.properties.get("isolation.level", "read_committed")) != "read_committed":
        raise SettingsError(
            'kafka.properties: "isolation.level" is read_uncommitted, so the service would read copies of aborted '
            "transactions: remove it, restart the service, then redrive"
        )


def _step(call: Callable[[], object], what: str) -> None:
    """Do one step of a transaction, with retries if Kafka says that they may help. Raises BrokerError."""
    for tries_left in reversed(range(TRIES_MAX)):
        try:
            call()
        except KafkaException as exception:
            error = error_of(exception)
            if not tries_left or not error.retriable():
                raise BrokerError(f"redrive cannot {what}: {text_of(error)}") from exception
        else:
            return
