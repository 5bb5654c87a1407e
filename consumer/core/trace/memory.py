"""What has become of the latest changes that have left: a memory of a fixed number of bytes.

Per change it keeps the hashes of its item's identifiers and its position in its partition, in columns; per request the
rest. The oldest is forgotten first. Adding a request costs a few calls of polars, however many changes it has.

Times are seconds since 1970.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import reduce
from operator import and_, or_
from typing import Final

import polars as pl

from consumer.core.changes.items import ASSIGNMENT, IDENTIFIERS, LINE, LINES_MAX, OFFSET, SUPERSEDED, distinct_ids
from consumer.core.oms.job_schedule import JobOutcome
from consumer.core.trace.query import ItemQuery

FATE_BYTES: Final = 1_280
"""Memory of a remembered request besides its columns."""
COLUMN_BYTES: Final = 384
"""Memory of a column besides its numbers. Measured with ``FATE_BYTES``: 1,900 for a request with two columns."""
NUMBER_BYTES: Final = 8
"""Memory of a hash, and of a position."""
OWNER_BYTES: Final = 4
FOUND_MAX: Final = 200
"""Changes in an answer, at most: those that left last."""
LOOKS_MAX: Final = 500
"""Requests of the location that are looked into for an answer, at most: each takes up to 30 us of the loop's time."""
DETAIL_CHARACTERS_MAX: Final = 200

Partition = tuple[str, int]
"""Topic and partition."""


class Outcome(StrEnum):
    """What became of changes that have left."""

    ACCEPTED = "accepted"
    DEAD_LETTERED = "dead_lettered"


@dataclass(slots=True)
class Fate:
    """What became of changes together: of a request that was accepted, or of changes that are dead-lettered.

    ``request_id`` is the request's as the OMS knows it; None if none had the changes. ``job_id`` is None if it was
    applied at once, without a job. ``job_outcome`` is None while the
    job has not ended as far as is known.
    """

    outcome: Outcome
    at: float
    location: str
    request_id: str | None = None
    items: int = 0
    sent_at: float | None = None
    job_id: str | None = None
    reason: str | None = None
    detail: str = ""
    job_outcome: JobOutcome | None = None
    job_ended_at: float | None = None
    job_messages: str = ""


@dataclass(frozen=True, slots=True)
class Left:
    """A change that has left, and its fate. ``coalesced_into`` is the position of a newer one in the same request.

    Between partitions it is not known which is newer: then each partition's newest one has None.
    """

    partition: Partition
    offset: int
    line: int
    fate: Fate
    coalesced_into: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class LeftItem:
    """The changes that were found, those that left last first. ``is_cut``: older ones were not looked for."""

    changes: Sequence[Left]
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class _Remembered:
    """``owners`` are indices of ``partitions``, per change; None: all are of the first."""

    fate: Fate
    partitions: tuple[Partition, ...]
    owners: pl.Series | None
    positions: pl.Series
    hashes: Mapping[str, pl.Series]
    size_bytes: int


class TraceMemory:
    """The latest changes that have left, within ``bytes_max``."""

    def __init__(self, item_key: Sequence[str], bytes_max: int) -> None:
        self._columns = tuple(dict.fromkeys((*IDENTIFIERS, *item_key)))
        self._bytes_max = bytes_max
        self._remembered: deque[_Remembered] = deque()
        """Oldest first."""
        self._by_job: dict[str, list[Fate]] = {}
        self.size_bytes = 0
        self.forgot_at: float | None = None
        """When the latest of what is forgotten had left; None if nothing is."""

    def __len__(self) -> int:
        return len(self._remembered)

    def add(self, fate: Fate, rows: pl.DataFrame, partitions: Mapping[int, Partition]) -> None:
        """Remember these rows. ``partitions`` maps assignment ids; rows of others are left out."""
        remembered = self._packed(fate, rows, partitions)
        if remembered is None:
            return
        self._remembered.append(remembered)
        self.size_bytes += remembered.size_bytes
        if fate.job_id is not None:
            self._by_job.setdefault(fate.job_id, []).append(fate)
        while self.size_bytes > self._bytes_max:
            self._forget_oldest()

    def job_ended(self, job_id: str, outcome: JobOutcome, messages: str, at: float) -> None:
        """The job has ended. It may stand for several requests."""
        for fate in self._by_job.get(job_id, ()):
            fate.job_outcome, fate.job_ended_at = outcome, at
            fate.job_messages = messages[:DETAIL_CHARACTERS_MAX]

    def find(self, query: ItemQuery) -> LeftItem:
        """What is remembered of the item."""
        wanted = [
            {name: _hash(pl.Series([value], dtype=pl.String)).item() for name, value in alternative.items()}
            for alternative in query.alternatives
        ]
        found: list[Left] = []
        looks = 0
        for remembered in reversed(self._remembered):
            if remembered.fate.location != query.location:
                continue
            if looks == LOOKS_MAX or len(found) >= FOUND_MAX:
                return LeftItem(found[:FOUND_MAX], is_cut=True)
            looks += 1
            found += _found_in(remembered, wanted)
        return LeftItem(found[:FOUND_MAX], is_cut=len(found) > FOUND_MAX)

    # Inside

    def _packed(self, fate: Fate, rows: pl.DataFrame, partitions: Mapping[int, Partition]) -> _Remembered | None:
        """The columns as copies: a slice of a block would keep all of the block."""
        present = sorted(distinct_ids(rows[ASSIGNMENT])) if rows.height else []
        known = [found for found in present if found in partitions]
        if len(known) < len(present):
            rows = rows.filter(pl.col(ASSIGNMENT).is_in(known))
        if not rows.height:
            return None
        positions = rows[OFFSET] * LINES_MAX
        if LINE in rows.columns and rows[LINE].max():
            positions += rows[LINE]
        columns = set(rows.columns)
        names = [name for name in self._columns if name in columns and rows[name].null_count() < rows.height]
        hashes = {name: _hash(rows[name]) for name in names}
        owners = None
        if len(known) > 1:
            indices = pl.DataFrame(
                {"id": known, "index": range(len(known))}, schema={"id": pl.Int32, "index": pl.Int32}
            )
            owners = rows[ASSIGNMENT].replace_strict(indices["id"], indices["index"])
        if SUPERSEDED in columns and rows[SUPERSEDED].null_count() < rows.height:
            # What was coalesced while it waited left with its row.
            older = rows.select(pl.int_range(pl.len()).alias("row"), SUPERSEDED).explode(SUPERSEDED).drop_nulls()
            positions = pl.concat([older[SUPERSEDED], positions])
            hashes = {name: pl.concat([column.gather(older["row"]), column]) for name, column in hashes.items()}
            owners = None if owners is None else pl.concat([owners.gather(older["row"]), owners])
        has_owners = owners is not None
        per_change = NUMBER_BYTES * (1 + len(hashes)) + OWNER_BYTES * has_owners
        size = FATE_BYTES + COLUMN_BYTES * (1 + len(hashes) + has_owners) + per_change * len(positions)
        return _Remembered(fate, tuple(partitions[found] for found in known), owners, positions, hashes, size)

    def _forget_oldest(self) -> None:
        forgotten = self._remembered.popleft()
        self.size_bytes -= forgotten.size_bytes
        fate = forgotten.fate
        self.forgot_at = fate.at
        if fate.job_id is not None:
            of_job = [other for other in self._by_job[fate.job_id] if other is not fate]
            if of_job:
                self._by_job[fate.job_id] = of_job
            else:
                del self._by_job[fate.job_id]


def _hash(values: pl.Series) -> pl.Series:
    """64 bits: among a million changes the odds of taking another item for the one that is asked about are 1 to 10^13.

    The same value has the same hash only within one process.
    """
    return values.hash()


def _found_in(remembered: _Remembered, wanted: Sequence[Mapping[str, int]]) -> list[Left]:
    """The changes of a request that match one of the alternatives, the newest first."""
    hashes = remembered.hashes
    possible = [alternative for alternative in wanted if hashes.keys() >= alternative.keys()]
    if not possible:
        return []
    masks = [reduce(and_, (hashes[name] == value for name, value in found.items())) for found in possible]
    rows = reduce(or_, masks).arg_true()
    if not len(rows):
        return []
    positions = remembered.positions.gather(rows).to_list()
    owners = [0] * len(rows) if remembered.owners is None else remembered.owners.gather(rows).to_list()
    items = list(zip(*(column.gather(rows).to_list() for column in hashes.values()), strict=True))
    newest: dict[tuple[object, ...], int] = {}
    for owner, position, item in zip(owners, positions, items, strict=True):
        newest[owner, item] = max(position, newest.get((owner, item), position))
    fate = replace(remembered.fate)  # a job may end while the answer is read elsewhere
    return [
        Left(
            remembered.partitions[owner],
            *_place(position),
            fate,
            None if newest[owner, item] == position else _place(newest[owner, item]),
        )
        for owner, position, item in sorted(zip(owners, positions, items, strict=True), reverse=True)
    ]


def _place(position: int) -> tuple[int, int]:
    offset, line = divmod(position, LINES_MAX)
    return offset, line
