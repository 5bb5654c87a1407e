"""Writes dead letters to their topic: rejects as they come, failed changes once their originals are fetched."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from consumer.core.changes.items import ChangeId
from consumer.dead_letters.format import DeadLetter, write_headers
from consumer.dead_letters.originals import Fetched, OriginalFetcher
from consumer.dead_letters.record import Record, RecordPosition
from consumer.errors import DeadLettersError, SettingsError
from consumer.kafka.errors import MESSAGE_TOO_LARGE, error_of, text_of
from consumer.kafka.options import new_client, producer_options
from consumer.kafka.preflight import ErrorLog, Preflight
from consumer.ports import Assignment, FailedChanges, Headers, Reject
from consumer.settings import DeadLetterSettings, KafkaSettings
from consumer.settings.memory import DEFAULT_SHARES

QUEUE_SECONDS_MAX: Final = 60.0
"""If the producer's queue stays full for this long, the topic counts as unwritable."""
LETTER_OVERHEAD_BYTES: Final = 2_048
"""Of a dead letter in the queue, on top of its key and value: headers and objects."""
CLOSE_SECONDS_MAX: Final = 10.0
"""How long closing waits. What is not confirmed by then is not committed, and is read again."""
POLL_SECONDS: Final = 0.1

_log = structlog.get_logger("inventory_refresh.dead_letters")


@dataclass(frozen=True, slots=True)
class _Outgoing:
    change_id: ChangeId
    dead_letter: DeadLetter

    @property
    def size_bytes(self) -> int:
        """Key and value, which the client copies, and the rest of a dead letter."""
        return LETTER_OVERHEAD_BYTES + 2 * (len(self.dead_letter.key or b"") + len(self.dead_letter.value or b""))

    def without_value(self) -> "_Outgoing":
        size = len(self.dead_letter.value or b"")
        return replace(self, dead_letter=replace(self.dead_letter, value=None, value_bytes=size))


class DeadLetterWriter:
    """``ports.DeadLetters`` on Kafka. Use it from one thread."""

    def __init__(
        self,
        kafka: KafkaSettings,
        dead_letters: DeadLetterSettings,
        *,
        schema_id_of: Callable[[bytes, Headers], int | None],
        has_lines: bool = False,
        queue_bytes: int = DEFAULT_SHARES.dead_letter_queue_bytes,
        originals_bytes: int = DEFAULT_SHARES.originals_bytes,
    ) -> None:
        """Connects to nothing yet.

        ``schema_id_of`` gives the schema id in the value and headers of an original, None without one. Rejects
        bring theirs. ``has_lines``: events may have several changes, so every dead letter names its line.
        ``queue_bytes`` is what dead letters may take until they are confirmed, ``originals_bytes`` what fetching takes.
        Raises SettingsError if an option is wrong, or the dead-letter topic is also read for changes.
        """
        if dead_letters.topic in kafka.topics:
            raise SettingsError(
                f'dead_letters.topic: "{dead_letters.topic}" is also in kafka.topics, so dead letters would be read as '
                "changes; name another topic"
            )
        self._kafka = kafka
        self._topic = dead_letters.topic
        self._schema_id_of = schema_id_of
        self._has_lines = has_lines
        self._errors = ErrorLog()
        self._producer: Producer = new_client(Producer, producer_options(kafka), kafka, error_cb=self._errors.add)
        self._originals = OriginalFetcher(kafka, originals_bytes)
        self._queue_bytes_max = queue_bytes
        self._queued_bytes = 0
        self._confirmed: list[ChangeId] = []
        self._too_large: list[_Outgoing] = []
        self._failure: KafkaError | None = None

    def check(self) -> None:
        """Check at startup that the topic exists, so that the first bad change does not stop the service.

        Raises DeadLettersError if it does not exist, BrokerError if Kafka does not answer.
        """
        if not Preflight(self._producer, self._errors, self._kafka).topic_exists(self._topic):
            raise DeadLettersError(
                f'dead_letters.topic: there is no topic "{self._topic}" at {self._kafka.bootstrap_servers}; create it, '
                "or name an existing one: changes that can never be sent are kept there"
            )

    def publish(self, rejects: Sequence[Reject], assignments: Mapping[int, Assignment]) -> None:
        """Produce rejects, without waiting for their delivery. Rejects of earlier assignments are ignored.

        Raises DeadLettersError if the topic is unwritable for so long that the producer's queue stays full.
        """
        for reject in rejects:
            assignment = assignments.get(reject.change_id.assignment_id)
            if assignment is not None:
                self._send(_Outgoing(reject.change_id, _from_reject(reject, assignment)))

    def fetch_and_publish(self, changes: Sequence[FailedChanges]) -> None:
        """Fetch the originals of failed changes on a worker thread; ``confirmed`` produces those that have arrived."""
        self._originals.fetch(changes)

    def fetching(self) -> int:
        """Number of failed changes whose originals have not arrived yet."""
        return self._originals.pending

    def confirmed(self) -> Sequence[ChangeId]:
        """The change of each dead letter that the broker has confirmed since the last call, without waiting.

        Raises DeadLettersError if one could not be delivered.
        """
        self._send_fetched()
        self._producer.poll(0)
        if self._failure is not None:
            raise self._undeliverable(text_of(self._failure))
        too_large, self._too_large = self._too_large, []
        for outgoing in too_large:
            self._send(outgoing.without_value())
        confirmed, self._confirmed = self._confirmed, []
        return confirmed

    def close(self) -> None:
        """Wait up to ``CLOSE_SECONDS_MAX`` for originals and deliveries; not for originals if Kafka is unavailable."""
        deadline = time.monotonic() + CLOSE_SECONDS_MAX
        while self._originals.pending and not self._originals.unavailable and time.monotonic() < deadline:
            self._send_fetched()
            self._producer.poll(POLL_SECONDS)
        self._originals.close()
        if self._originals.pending:
            _log.warning(
                "originals_not_fetched",
                changes=self._originals.pending,
                next_step="refused changes are read again; changes of failed jobs have no dead letters: the log names "
                "the jobs, have their items published again",
            )
        unconfirmed = self._producer.flush(max(deadline - time.monotonic(), POLL_SECONDS))
        if unconfirmed:
            _log.warning(
                "dead_letters_unconfirmed",
                count=unconfirmed,
                next_step="changes that are not committed are read again; a dead letter may appear twice",
            )

    def _send_fetched(self) -> None:
        for fetched in self._originals.take():
            self._send(_Outgoing(fetched.change_id, self._from_fetched(fetched)))

    def _from_fetched(self, fetched: Fetched) -> DeadLetter:
        changes = fetched.changes
        source = RecordPosition(changes.topic, changes.partition, fetched.change_id.offset)
        missing = fetched.original is None
        record = fetched.original or Record(source, key=None, value=changes.items.get(fetched.change_id))
        return DeadLetter(
            source=source,
            reason=changes.reason.value,
            detail=changes.detail,
            key=record.key,
            value=record.value,
            headers=record.headers,
            line=fetched.change_id.line if self._has_lines or fetched.change_id.line else None,
            timestamp=record.timestamp,
            schema_id=None if missing or record.value is None else self._schema_id_of(record.value, record.headers),
            location=changes.location,
            request_id=changes.x_request_id,
            job_id=changes.job_id,
            missing=missing,
        )

    def _send(self, outgoing: _Outgoing) -> None:
        """Produce a dead letter once the queue has room; one that is larger than the queue goes alone."""
        deadline = time.monotonic() + QUEUE_SECONDS_MAX
        room = max(self._queue_bytes_max - outgoing.size_bytes, 0)
        while self._queued_bytes > room or not self._produce(outgoing):
            if time.monotonic() > deadline:
                raise self._undeliverable("the producer's queue stays full")
            self._producer.poll(POLL_SECONDS)

    def _produce(self, outgoing: _Outgoing) -> bool:
        """False if the producer's queue is full."""

        def on_delivery(error: KafkaError | None, _message: Message) -> None:
            self._on_delivery(outgoing, error)

        dead_letter = outgoing.dead_letter
        try:
            self._producer.produce(
                self._topic,
                key=dead_letter.key,
                value=dead_letter.value,
                headers=write_headers(dead_letter),
                on_delivery=on_delivery,
            )
        except BufferError:
            return False
        except KafkaException as exception:
            raise self._undeliverable(text_of(error_of(exception))) from exception
        self._queued_bytes += outgoing.size_bytes
        return True

    def _on_delivery(self, outgoing: _Outgoing, error: KafkaError | None) -> None:
        """The client calls this while it is polled, so nothing may be produced here."""
        self._queued_bytes -= outgoing.size_bytes
        if error is None:
            self._confirmed.append(outgoing.change_id)
        elif error.code() in MESSAGE_TOO_LARGE and outgoing.dead_letter.value is not None:
            self._too_large.append(outgoing)
        else:
            self._failure = error

    def _undeliverable(self, reason: str) -> DeadLettersError:
        return DeadLettersError(
            f'dead_letters.topic: a dead letter cannot be delivered to "{self._topic}": {reason}; make the topic '
            "writable and restart the service: what is not committed is read again"
        )


def _from_reject(reject: Reject, assignment: Assignment) -> DeadLetter:
    return DeadLetter(
        source=RecordPosition(assignment.topic, assignment.partition, reject.change_id.offset),
        reason=reject.reason.value,
        detail=reject.detail,
        key=reject.key,
        value=reject.value,
        headers=reject.headers,
        line=reject.line,
        timestamp=reject.timestamp,
        schema_id=reject.schema_id,
    )
