"""Letters' changes sent back to their topics, each batch in one transaction of Kafka."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from consumer.dead_letters.letters import DeadLetter, redriven_headers
from consumer.errors import BrokerError, SettingsError
from consumer.kafka.errors import error_of, text_of
from consumer.kafka.options import new_client, producer_options
from consumer.settings import KafkaSettings

TRANSACTION_SECONDS_MAX: Final = 30.0
"""After so long the broker aborts what a crash left open: until then the service reads nothing behind it."""
REQUEST_SECONDS_MAX: Final = 15.0
"""How long the broker may take to begin, to take in all messages, or to end a transaction."""
TRIES_MAX: Final = 3
POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Sent:
    """A copy that the broker has taken, not yet committed."""

    letter: DeadLetter
    offset: int


class Publisher:
    """A producer with transactions. Its id is that of the group, so that a second one shuts the first one out."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Raises SettingsError as ``refuse_read_uncommitted``, BrokerError if the broker allows no transactions."""
        refuse_read_uncommitted(settings)
        options = producer_options(settings) | {
            "client.id": "inventory-refresh-redrive",
            "transactional.id": f"{settings.group_id}.redrive",
            "transaction.timeout.ms": round(TRANSACTION_SECONDS_MAX * 1000),
            "delivery.timeout.ms": round(REQUEST_SECONDS_MAX * 1000),
            # Few requests: what others publish is less often between.
            "linger.ms": 50,
            "batch.size": 1_000_000,
        }
        self._producer: Producer = new_client(Producer, options, settings)
        self._is_open = False
        _done(lambda: self._producer.init_transactions(REQUEST_SECONDS_MAX), "begin transactions")

    def send(self, letters: Sequence[DeadLetter]) -> list[Sent]:
        """Begin a transaction and send the letters' changes, in order; the broker has them all when this returns."""
        sent: list[Sent] = []
        failed: list[KafkaError] = []
        _done(self._producer.begin_transaction, "begin a transaction")
        self._is_open = True
        for letter in letters:
            self._produce(letter, sent, failed)
        left = self._producer.flush(REQUEST_SECONDS_MAX)
        if failed or left:
            why = text_of(failed[0]) if failed else f"{left} are not confirmed in time"
            raise BrokerError(f"Kafka does not take the redriven changes: {why}; nothing of this batch was redriven")
        return sent

    def commit(self) -> None:
        """Raises BrokerError where it is not known to be done; redriving again is harmless then."""
        self._is_open = False
        _done(lambda: self._producer.commit_transaction(REQUEST_SECONDS_MAX), "commit a transaction")

    def abort(self) -> None:
        """Nobody will have read what was sent."""
        if self._is_open:
            self._is_open = False
            _done(lambda: self._producer.abort_transaction(REQUEST_SECONDS_MAX), "abort a transaction")

    def _produce(self, letter: DeadLetter, sent: list[Sent], failed: list[KafkaError]) -> None:
        def on_delivery(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                failed.append(error)
            else:
                sent.append(Sent(letter, message.offset() or 0))

        message: dict[str, Any] = {"key": letter.key, "value": letter.value, "headers": redriven_headers(letter)}
        while not failed:
            try:
                self._producer.produce(
                    letter.place.topic, partition=letter.place.partition, on_delivery=on_delivery, **message
                )
            except BufferError:
                self._producer.poll(POLL_SECONDS)  # bounded: each message leaves the queue by its delivery timeout
            except KafkaException as exception:
                raise BrokerError(f"cannot redrive {letter.place}: {text_of(error_of(exception))}") from exception
            else:
                return


def refuse_read_uncommitted(settings: KafkaSettings) -> None:
    """Raises SettingsError if the service would read what was aborted."""
    if str(settings.properties.get("isolation.level", "read_committed")) != "read_committed":
        raise SettingsError(
            'kafka.properties: "isolation.level" is read_uncommitted, and the service would read copies whose '
            "transaction was aborted: take it out, restart the service, then redrive"
        )


def _done(step: Callable[[], object], what: str) -> None:
    """Do one step of a transaction, again where that may help. Raises BrokerError."""
    for left in reversed(range(TRIES_MAX)):
        try:
            step()
        except KafkaException as exception:
            error = error_of(exception)
            if not left or not error.retriable():
                raise BrokerError(f"Kafka does not let redrive {what}: {text_of(error)}") from exception
        else:
            return
