"""What becomes of messages: decoded as the service does, and counted. Nothing is sent."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from consumer.avro.batches import BatchDecoder
from consumer.avro.fields import FieldPlan
from consumer.avro.lines import TooManyRowsError
from consumer.avro.wire import SchemaRef
from consumer.core.changes.items import ASSIGNMENT, OFFSET
from consumer.dead_letters.record import Record
from consumer.ports import Decoded, RawBatch

PART_MESSAGES_MAX: Final = 50
"""Messages decoded at once: they take several times their size until they are counted."""


@dataclass
class Tried:
    """What became of messages; counts are of messages unless they say otherwise.

    ``schemas`` counts the messages of each schema (None: not framed), and ``refusals`` says which of these cannot be
    read. ``reasons`` counts rejects, of which a message may have several, and ``examples`` has the first of each
    reason, with its position. ``filled`` are the columns in which a change has a value, ``ignored`` counts values that
    could not be used by column.
    """

    messages: int = 0
    changed: int = 0
    skipped: int = 0
    rejected: int = 0
    schemas: Counter[SchemaRef | None] = field(default_factory=Counter)
    refusals: dict[SchemaRef, str] = field(default_factory=dict)
    plans: list[FieldPlan] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    filled: set[str] = field(default_factory=set)
    ignored: Counter[str] = field(default_factory=Counter)


def try_records(decoder: BatchDecoder, records: Sequence[Record]) -> Tried:
    """Raises as ``BatchDecoder.decode``, except TooManyRowsError."""
    tried = Tried(messages=len(records))
    for record in records:
        if record.value is None:
            continue
        schema = decoder.schema_of(record.value, record.headers)
        tried.schemas[schema.ref] += 1
        if schema.ref is not None and schema.refusal is not None:
            tried.refusals[schema.ref] = schema.refusal
        if schema.plan is not None and not any(schema.plan is plan for plan in tried.plans):
            tried.plans.append(schema.plan)
    for first in range(0, len(records), PART_MESSAGES_MAX):
        part = records[first : first + PART_MESSAGES_MAX]
        for decoded in _decoded(decoder, part):
            _count(tried, decoded)
    return tried


def _decoded(decoder: BatchDecoder, records: Sequence[Record]) -> Iterator[tuple[Sequence[Record], Decoded]]:
    try:
        yield records, decoder.decode([_batch(records)])
    except TooManyRowsError:
        for record in records:
            yield [record], decoder.decode([_batch([record])])


def _batch(records: Sequence[Record]) -> RawBatch:
    """Each record as the only one of its assignment, whose id is its index: they may be of many partitions."""
    return RawBatch(
        values=[record.value for record in records],
        assignments=list(range(len(records))),
        offsets=[record.position.offset for record in records],
        timestamps=[record.timestamp for record in records],
        ends={},
        origin=lambda at: (records[at].key, records[at].headers),
        topics={index: record.position.topic for index, record in enumerate(records)},
    )


def _count(tried: Tried, decoded: tuple[Sequence[Record], Decoded]) -> None:
    records, result = decoded
    frame = result.frame
    tried.changed += frame.select(ASSIGNMENT, OFFSET).n_unique() if frame.height else 0
    tried.skipped += result.tombstones + sum(result.skipped.values())
    tried.rejected += len({reject.change_id.assignment_id for reject in result.rejects})
    for reject in result.rejects:
        position = records[reject.change_id.assignment_id].position
        tried.reasons[reject.reason.value] += 1
        tried.examples.setdefault(reject.reason.value, f"{position}: {reject.detail}")
    tried.filled |= {name for name in frame.columns if frame[name].null_count() < frame.height}
    tried.ignored.update(result.ignored)
