"""Reads the dead-letter topic."""

from collections.abc import Callable, Iterator

from confluent_kafka import Message

from consumer.dead_letters.format import DeadLetter, parse
from consumer.dead_letters.log_reader import LogReader
from consumer.dead_letters.record import position_of, record_of
from consumer.settings import Settings


class DeadLetterReader:
    """Reads the dead-letter topic from one thread; close it afterwards."""

    def __init__(self, settings: Settings) -> None:
        """Connects to nothing yet. Raises SettingsError if an option is wrong."""
        self._topic = settings.dead_letters.topic
        self._log = LogReader(settings.kafka, "inventory-refresh-dead-letters")
        self.foreign_records = 0
        """Records read so far that are not dead letters of this service."""

    def close(self) -> None:
        self._log.close()

    def read(
        self, since_ms: int | None = None, on_progress: Callable[[int, int], None] = lambda _done, _of: None
    ) -> Iterator[list[DeadLetter]]:
        """The dead letters written at or after this time (None: all) up to the present end, in lists, none empty.

        ``on_progress`` is called with the offsets read, and how many there are, before each list.

        Raises BrokerError if the topic does not exist or cannot be read.
        """
        partitions = self._log.partitions(self._topic)
        bounds = {partition: self._log.bounds(partition) for partition in partitions}
        starts = {partition: low for partition, (low, _) in bounds.items()}
        if since_ms is not None:
            starts = self._log.offsets_at(partitions, since_ms)
        ends = {partition: end for partition, (_, end) in bounds.items()}
        remaining = {partition: max(end - starts[partition], 0) for partition, end in ends.items()}
        total = sum(remaining.values())
        on_progress(0, total)
        for messages in self._log.read(starts, ends):
            for message in messages:
                topic, partition, offset = position_of(message)
                remaining[topic, partition] = ends[topic, partition] - offset - 1
            on_progress(total - sum(remaining.values()), total)
            dead_letters = [found for found in map(dead_letter_of, messages) if found is not None]
            self.foreign_records += len(messages) - len(dead_letters)
            if dead_letters:
                yield dead_letters


def dead_letter_of(message: Message) -> DeadLetter | None:
    """The dead letter in a message of the dead-letter topic; None if this service did not write the message."""
    return parse(record_of(message))
