"""``ports.Decoder`` without Avro: a message is the number of a plan entry. Batches come out in order, with a delay."""

from collections import deque
from typing import TYPE_CHECKING, Any

import polars as pl

from consumer.core.changes.barriers import barrier_columns
from consumer.core.changes.items import (
    CHANGE_ID,
    CHANGE_SCHEMA,
    ITEM_KEY,
    LOCATION,
    OCCURRED_AT,
    ChangeId,
    RejectReason,
)
from consumer.ports import AwaitedSchema, Decoded, RawBatch, Reject
from tests.simulation.plan import Entry, EntryKind, item_key_of

if TYPE_CHECKING:
    from tests.simulation.process import Process

Row = dict[str, Any]


class SimulatedDecoder:
    """Returns batches one at a time, or several joined, like the real decoder."""

    def __init__(self, process: "Process", entries: dict[int, Entry], *, batches_max: int) -> None:
        self._process = process
        self._entries = entries
        self._batches_max = batches_max
        self._queued: deque[RawBatch] = deque()
        self._done: list[tuple[Decoded, int]] = []
        self._pending = 0
        self._working = False

    def room(self) -> bool:
        self._process.enter()
        return self._pending < self._batches_max

    def put(self, batch: RawBatch) -> None:
        self._process.enter()
        self._queued.append(batch)
        self._pending += 1
        if not self._working:
            self._work_later()

    def take(self) -> list[Decoded]:
        self._process.enter()
        done, self._done = self._done, []
        self._pending -= sum(batches for _, batches in done)
        return [decoded for decoded, _ in done]

    def busy(self) -> bool:
        return self._pending > 0

    def blocked_reason(self) -> str | None:
        return None

    def close(self) -> None:
        return None

    def _work_later(self) -> None:
        self._working = True
        self._process.after(self._process.latency(), self._work)

    def _work(self) -> None:
        taken = [self._queued.popleft()]
        while self._queued and self._process.random.random() < 0.5:
            taken.append(self._queued.popleft())
        self._done.append((self._decode(taken), len(taken)))
        self._working = False
        if self._queued:
            self._work_later()

    def _decode(self, batches: list[RawBatch]) -> Decoded:
        rows: list[Row] = []
        barriers: list[Row] = []
        rejects: list[Reject] = []
        next_offsets: dict[int, int] = {}
        ends: dict[int, int] = {}
        awaits: dict[int, AwaitedSchema] = {}
        impatient = {owner for batch in batches for owner in batch.impatient}
        for batch in batches:
            for value, assignment_id, offset in zip(batch.values, batch.assignments, batch.offsets, strict=True):
                assert value is not None
                entry = self._entries[int(value)]
                is_unknown = self._process.world.now < entry.schema_known_at
                if assignment_id in awaits:
                    continue
                if is_unknown and assignment_id not in impatient:
                    awaits[assignment_id] = AwaitedSchema(offset, "")
                    next_offsets[assignment_id] = offset
                    continue
                if is_unknown:
                    rejects.append(Reject(ChangeId(assignment_id, offset), RejectReason.UNKNOWN_SCHEMA, "", value))
                else:
                    _read_lines(entry, assignment_id, offset, rows, barriers, rejects)
                next_offsets[assignment_id] = offset + 1
            for assignment_id, end in batch.ends.items():
                if assignment_id not in awaits:
                    next_offsets[assignment_id] = max(end, next_offsets.get(assignment_id, end))
                    ends[assignment_id] = end
        ends = {assignment_id: end for assignment_id, end in ends.items() if assignment_id not in awaits}
        rows.sort(key=lambda row: row[LOCATION])
        return Decoded(
            frame=pl.DataFrame(rows, schema=CHANGE_SCHEMA, orient="row"),
            rejects=tuple(rejects),
            tombstones=0,
            next_offsets=next_offsets,
            polled_at=batches[0].polled_at,
            ends=ends,
            barriers=pl.DataFrame(barriers, schema=CHANGE_SCHEMA, orient="row").select(barrier_columns(ITEM_KEY)),
            awaits=awaits,
            batches=len(batches),
        )


def _read_lines(
    entry: Entry, assignment_id: int, offset: int, rows: list[Row], barriers: list[Row], rejects: list[Reject]
) -> None:
    """Add each line of an event to the changes, or to the rejects, some of which are barriers."""
    value = str(entry.number).encode()
    for line, change in enumerate(entry.changes):
        change_id = ChangeId(assignment_id, offset, line)
        if change.kind is EntryKind.REJECT:
            rejects.append(Reject(change_id, RejectReason.CORRUPT, "", value))
        elif change.kind is EntryKind.BARRIER:
            rejects.append(Reject(change_id, RejectReason.NEGATIVE_QUANTITY, "", value))
            barriers.append(row_of(change, change_id))
        elif change.kind is not EntryKind.TOMBSTONE:
            rows.append(row_of(change, change_id))


_NOTHING = dict.fromkeys(CHANGE_SCHEMA)


def row_of(entry: Entry, change_id: ChangeId) -> Row:
    """The change as a row of a frame. Items are identified in two ways, as producers do."""
    row: Row = _NOTHING | dict(entry.fields) | item_key_of(entry.item)
    quantity = -entry.number if entry.kind is EntryKind.BARRIER else entry.number
    row |= {LOCATION: entry.location, "quantity": quantity}
    row |= dict(zip(CHANGE_ID, change_id, strict=True)) | {OCCURRED_AT: int(1000 * entry.at)}
    return row
