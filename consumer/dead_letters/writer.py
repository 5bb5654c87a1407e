"""The dead-letter topic: what can never be sent is kept there, as it came, with its reason.

A dead letter has the change's own key, value and headers, and after those the headers of ``HEADERS``. A change that is
larger than the topic takes a message goes without its value, with the header ``VALUE_BYTES``: the source topic still
has it, at the offset that the headers name.

What the OMS refused, or could not apply, is found again in its topic first (``recall``); where it is gone from there,
its item as JSON stands in for it, with the header ``GONE``.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from consumer.core.changes.items import ChangeId
from consumer.dead_letters.originals import Fetched, OriginalFetcher
from consumer.errors import DeadLettersError, SettingsError
from consumer.kafka.errors import MESSAGE_TOO_LARGE, error_of, text_of
from consumer.kafka.options import new_client, producer_options
from consumer.kafka.preflight import ErrorLog, Preflight
from consumer.ports import Assignment, FailedChanges, Reject
from consumer.settings import DeadLetterSettings, KafkaSettings

PREFIX: Final = "inventory_refresh."
HEADERS: Final = (
    "reason", "detail", "topic", "partition", "offset", "timestamp", "schema_id", "location", "job_id", "gone",
)  # fmt: skip
"""What stands behind ``PREFIX``, as UTF-8 text; those from ``timestamp`` on only where they are known."""
GONE: Final = f"{PREFIX}gone"
"""The change was no longer in its topic: the value is its item as JSON, or absent where that is not known either."""
VALUE_BYTES: Final = f"{PREFIX}value_bytes"
"""How large the value was that was left out."""

DETAIL_CHARACTERS_MAX: Final = 1_000
QUEUE_SECONDS_MAX: Final = 60.0
"""How long a full queue may stay full before the topic counts as unreachable."""
FLUSH_SECONDS_MAX: Final = 10.0
"""How long leaving waits for what is under way; what is not confirmed by then is not committed, and is read again."""
POLL_SECONDS: Final = 0.1

_log = logging.getLogger("inventory_refresh.kafka")

_Headers = list[tuple[str, str | bytes | None]]


@dataclass(frozen=True, slots=True)
class _Letter:
    change_id: ChangeId
    key: bytes | None
    value: bytes | None
    headers: _Headers

    def without_value(self) -> "_Letter":
        size = len(self.value or b"")
        return replace(self, value=None, headers=[*self.headers, (VALUE_BYTES, str(size))])


class KafkaDeadLetters:
    """``ports.DeadLetters`` on a real broker. Only one thread may call it."""

    def __init__(
        self,
        kafka: KafkaSettings,
        dead_letters: DeadLetterSettings,
        schema_id_of: Callable[[bytes], int | None] = lambda _value: None,
    ) -> None:
        """Connects to nothing yet. ``schema_id_of`` reads a schema's id off the bytes of a change found again.

        Raises SettingsError if an option is wrong, or the topic is read for changes.
        """
        if dead_letters.topic in kafka.topics:
            raise SettingsError(
                f'dead_letters.topic: "{dead_letters.topic}" is also in kafka.topics, so dead letters would be read as '
                "changes; name another topic"
            )
        self._kafka = kafka
        self._topic = dead_letters.topic
        self._errors = ErrorLog()
        self._producer: Producer = new_client(Producer, producer_options(kafka), kafka, error_cb=self._errors.add)
        self._confirmed: list[ChangeId] = []
        self._too_large: list[_Letter] = []
        self._failed: KafkaError | None = None
        self._recall = OriginalFetcher(kafka)
        self._schema_id_of = schema_id_of

    def check(self) -> None:
        """The topic is there, so that the first bad change does not stop the service. To be called at the start.

        Raises DeadLettersError if it is not, BrokerError if Kafka does not answer.
        """
        if not Preflight(self._producer, self._errors, self._kafka).topic_exists(self._topic):
            raise DeadLettersError(
                f'dead_letters.topic: there is no topic "{self._topic}" at {self._kafka.bootstrap_servers}; create it, '
                "or name one that exists: changes that can never be sent are kept there"
            )

    def publish(self, rejects: Sequence[Reject], assignments: Mapping[int, Assignment]) -> None:
        """Send them on their way; those of earlier assignments are passed over.

        Raises DeadLettersError when the topic takes nothing for so long that the queue stays full.
        """
        for reject in rejects:
            assignment = assignments.get(reject.change_id.assignment)
            if assignment is not None:
                headers: _Headers = [*reject.headers, *_reject_headers(reject, assignment)]
                self._send(_Letter(reject.change_id, reject.key, reject.value, headers))

    def fetch_and_publish(self, changes: Sequence[FailedChanges]) -> None:
        """Find these again in their topic, beside the caller; ``confirmed`` sends them on their way when they are."""
        self._recall.ask(changes)

    def fetching(self) -> int:
        """How many changes are still to be found again."""
        return self._recall.waiting()

    def confirmed(self) -> Sequence[ChangeId]:
        """Assignment and offset of each one that the broker has confirmed since the last call; without waiting.

        Raises DeadLettersError when one could not be delivered.
        """
        self._send_found()
        self._producer.poll(0)
        if self._failed is not None:
            raise self._undeliverable(text_of(self._failed))
        too_large, self._too_large = self._too_large, []
        for letter in too_large:
            self._send(letter.without_value())
        confirmed, self._confirmed = self._confirmed, []
        return confirmed

    def close(self) -> None:
        """Wait a little for what is under way."""
        deadline = time.monotonic() + FLUSH_SECONDS_MAX
        while self._recall.waiting() and not self._recall.stuck() and time.monotonic() < deadline:
            self._send_found()
            self._producer.poll(POLL_SECONDS)
        self._recall.close()
        if self._recall.waiting():
            _log.warning(
                "%d changes were not found again in time: those of failed jobs, which the log names, have no dead "
                "letters; the others will be read again",
                self._recall.waiting(),
            )
        left = self._producer.flush(max(deadline - time.monotonic(), POLL_SECONDS))
        if left:
            _log.warning("%d dead letters were not confirmed in time: their changes will be read again", left)

    def _send_found(self) -> None:
        for found in self._recall.found():
            schema_id = None if found.gone or found.value is None else self._schema_id_of(found.value)
            self._send(_letter_of(found, schema_id))

    def _send(self, letter: _Letter) -> None:
        deadline = time.monotonic() + QUEUE_SECONDS_MAX
        while not self._produce(letter):
            if time.monotonic() > deadline:
                raise self._undeliverable("its queue stays full")
            self._producer.poll(POLL_SECONDS)

    def _produce(self, letter: _Letter) -> bool:
        """False if the queue is full."""

        def on_delivery(error: KafkaError | None, _message: Message) -> None:
            self._delivered(letter, error)

        try:
            self._producer.produce(
                self._topic, key=letter.key, value=letter.value, headers=letter.headers, on_delivery=on_delivery
            )
        except BufferError:
            return False
        except KafkaException as exception:
            raise self._undeliverable(text_of(error_of(exception))) from exception
        return True

    def _delivered(self, letter: _Letter, error: KafkaError | None) -> None:
        """Called by the client while it is polled, so nothing is sent from here."""
        if error is None:
            self._confirmed.append(letter.change_id)
        elif error.code() in MESSAGE_TOO_LARGE and letter.value is not None:
            self._too_large.append(letter)
        else:
            self._failed = error

    def _undeliverable(self, reason: str) -> DeadLettersError:
        return DeadLettersError(
            f'dead_letters.topic: a dead letter cannot be delivered to "{self._topic}": {reason}; nothing behind it is '
            "committed: make the topic writable and start again"
        )


def _reject_headers(reject: Reject, assignment: Assignment) -> _Headers:
    return _headers(
        reason=reject.reason.value,
        detail=reject.detail,
        topic=assignment.topic,
        partition=assignment.partition,
        offset=reject.change_id.offset,
        timestamp=reject.timestamp,
        schema_id=reject.schema_id,
    )


def _letter_of(found: Fetched, schema_id: int | None) -> _Letter:
    changes = found.changes
    headers = _headers(
        reason=changes.reason.value,
        detail=changes.detail,
        topic=changes.topic,
        partition=changes.partition,
        offset=found.change_id.offset,
        timestamp=found.timestamp,
        schema_id=schema_id,
        location=changes.location,
        job_id=changes.job_id,
        gone="1" if found.gone else None,
    )
    value = changes.items.get(found.change_id) if found.gone else found.value
    return _Letter(found.change_id, found.key, value, [*found.headers, *headers])


def _headers(*, detail: str, **values: str | int | None) -> _Headers:
    """Headers in the order of ``HEADERS``, without those that are not known."""
    known = {"detail": detail[:DETAIL_CHARACTERS_MAX]} | values
    return [(PREFIX + name, str(known[name]).encode()) for name in HEADERS if known.get(name) is not None]
