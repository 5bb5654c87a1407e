"""The records of one item in the source topics: read by time, without a group.

Only what is about the item is kept, and of that the latest, so memory is bounded whatever is read.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from consumer.core.changes.items import (
    ASSIGNMENT,
    CHANGE_ID,
    ITEM_COLUMNS,
    LINE,
    OFFSET,
    TIMESTAMP,
    ChangeId,
    json_values,
)
from consumer.core.trace.query import ItemQuery
from consumer.dead_letters.log_reader import LogReader, Partition
from consumer.dead_letters.of_changes import Place
from consumer.plan.decoding import decoded_parts, decoder_of
from consumer.plan.records import Range, as_backlog, raw_batch
from consumer.ports import Decoded
from consumer.settings import Settings

EVENTS_MAX: Final = 1_000
"""Changes of the item that are kept: the latest that were read."""


@dataclass(frozen=True, slots=True)
class Event:
    """A change of the item in its topic. ``timestamp`` is Kafka's, ms since 1970.

    ``item`` is as in JSON. ``rejection`` says why the service rejects it; None if it does not.
    """

    place: Place
    timestamp: int | None
    item: Mapping[str, Any]
    rejection: str | None = None


@dataclass(slots=True)
class ItemEvents:
    """The changes of the item in a range of records, in the order of each partition; the latest ``EVENTS_MAX``.

    ``messages`` is how many records were read. ``unreadable`` counts, by reason, changes that the service rejects and
    whose item is not known: they may be of this one.
    """

    events: deque[Event] = field(default_factory=lambda: deque(maxlen=EVENTS_MAX))
    found: int = 0
    messages: int = 0
    unreadable: Counter[str] = field(default_factory=Counter)

    def add(self, decoded: Decoded, query: ItemQuery, partitions: Mapping[int, Partition]) -> None:
        """Keep what is about the item."""
        self._add_rows(query.rows_of(decoded.frame), {}, partitions)
        reasons = {reject.change_id: f"{reject.reason}: {reject.detail}" for reject in decoded.rejects}
        known: set[ChangeId] = set()
        if decoded.barriers is not None:
            known.update(ChangeId(*row) for row in decoded.barriers.select(CHANGE_ID).iter_rows())
            self._add_rows(query.rows_of(decoded.barriers), reasons, partitions)
        self.unreadable.update(reject.reason for reject in decoded.rejects if reject.change_id not in known)

    def _add_rows(
        self, rows: pl.DataFrame, reasons: Mapping[ChangeId, str], partitions: Mapping[int, Partition]
    ) -> None:
        self.found += rows.height
        for row in rows.tail(EVENTS_MAX).sort(CHANGE_ID).iter_rows(named=True):
            change_id = ChangeId(*(row[name] for name in CHANGE_ID))
            item = json_values({name: row[name] for name in ITEM_COLUMNS if name in row})
            place = (*partitions[row[ASSIGNMENT]], row[OFFSET], row[LINE])
            self.events.append(Event(place, row[TIMESTAMP], item, reasons.get(change_id)))


def read_events(
    settings: Settings, log: LogReader, found: Range, query: ItemQuery, progress: Callable[[int], None]
) -> ItemEvents:
    """Read the range and keep what is about the item. ``progress`` is called with the number of messages so far.

    Raises BrokerError if Kafka cannot be read, DeadLettersError if a schema stays unavailable.
    """
    ids = {partition: number for number, partition in enumerate(found.starts, start=1)}
    partitions = {number: partition for partition, number in ids.items()}
    events = ItemEvents()
    with closing(decoder_of(settings)) as decoder:
        for piece in as_backlog(log, found):
            for decoded, messages in decoded_parts(decoder, raw_batch(piece.messages, ids)):
                events.add(decoded, query, partitions)
                events.messages += messages
            progress(events.messages)
    return events
