"""The partitions assigned to this process: their offsets, recovery, and dead letters that are not confirmed yet.

An assignment is a partition assigned to this process once. What belongs to an assignment that has ended is ignored
(rule 17).
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import polars as pl

from consumer.core.changes.blocks import SizeOf, frame_bytes
from consumer.core.changes.coalesce import change_ids, holding_change_ids
from consumer.core.changes.items import ARRIVED, ASSIGNMENT, CHANGE_ID, LOCATION, OFFSET, ChangeId, distinct_ids
from consumer.core.partition.partition import Partition, PartitionState
from consumer.core.partition.uncommitted import UncommittedLimits

SMALL_ROWS: Final = 256
"""Up to this many rows are looked at one by one: a query for each assignment costs as much as a hundred of them."""


@dataclass(frozen=True, slots=True)
class CommitPoint:
    """What may be committed for an assignment: its committable offset, with the content of the metadata.

    ``in_doubt``: the OMS may still queue a request with changes of the partition.
    """

    assignment_id: int
    offset: int
    read_up_to: int
    in_doubt: bool


class Partitions:
    """All assigned partitions, by assignment id."""

    def __init__(
        self,
        item_key: Sequence[str],
        limits: UncommittedLimits,
        size_of: SizeOf = frame_bytes,
        coalescing_bytes_max: int = 24 * 1024 * 1024,
    ) -> None:
        """``limits`` are those of each partition."""
        self._size_of = size_of
        self._item_key = tuple(item_key)
        self._limits = limits
        self._coalescing_bytes_max = coalescing_bytes_max
        self._by_id: dict[int, Partition] = {}
        self._released: list[pl.DataFrame] = []
        """``CHANGE_ID`` of changes whose offsets are no longer open; released together, once per commit."""
        self._unconfirmed: set[ChangeId] = set()
        """Changes whose dead letters the broker has not confirmed yet."""

    def __contains__(self, assignment_id: int) -> bool:
        return assignment_id in self._by_id

    @property
    def ids(self) -> Collection[int]:
        return self._by_id.keys()

    # Life

    def assign(self, assignment_id: int, *, start: int | None, read_up_to: int | None, in_doubt_until: float) -> None:
        """A partition was assigned. The arguments are those of ``Partition``."""
        self._by_id[assignment_id] = Partition(
            start=start,
            read_up_to=read_up_to,
            in_doubt_until=in_doubt_until,
            limits=self._limits,
            size_of=self._size_of,
        )

    def begin_revoke(self, assignment_ids: Collection[int]) -> None:
        """These assignments are being revoked: no further changes of them may be tracked."""
        for assignment_id in assignment_ids:
            if assignment_id in self._by_id:
                self._by_id[assignment_id].begin_revoke()

    def forget(self, assignment_ids: Collection[int]) -> list[int]:
        """Drop these assignments, which are revoked or lost. Returns the ids of those that existed."""
        gone = [assignment_id for assignment_id in assignment_ids if assignment_id in self._by_id]
        for assignment_id in gone:
            self._by_id.pop(assignment_id).end()
        if gone:
            self._unconfirmed = {change_id for change_id in self._unconfirmed if change_id.assignment_id in self._by_id}
        return gone

    def drop_stale(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows without those of assignments that have ended (rule 17)."""
        gone = [owner for owner in distinct_ids(rows[ASSIGNMENT]) if owner not in self._by_id]
        return rows.filter(~pl.col(ASSIGNMENT).is_in(gone)) if gone else rows

    # Reading

    def track(
        self, rows: pl.DataFrame, rejected: Collection[ChangeId], next_offsets: Mapping[int, int], ends: Collection[int]
    ) -> None:
        """Open the offsets of these changes.

        ``next_offsets`` maps assignment ids to the offset after the last one read; ``ends`` are the assignments that
        were read to the end of their log.
        """
        tracked = _offsets_by_assignment(rows, next_offsets)
        row_bytes = self._size_of(rows) / rows.height if rows.height else 0.0
        for assignment_id, next_offset in next_offsets.items():
            partition = self._by_id.get(assignment_id)
            if partition is None:
                continue
            offsets = tracked.get(assignment_id, ())
            bad = [change_id.offset for change_id in rejected if change_id.assignment_id == assignment_id]
            partition.track([*offsets, *bad] if bad else offsets, next_offset, row_bytes * len(offsets))
            partition.read(next_offset, at_end=assignment_id in ends)
        self._unconfirmed.update(rejected)

    def hold_back(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Keep the rows of recovering partitions until they are active. Returns the other rows, which may be sent."""
        recovering = self.recovering
        if not recovering:
            return rows
        owners = rows[ASSIGNMENT]
        for assignment_id in recovering:
            self._by_id[assignment_id].recovery.add(rows.filter(owners == assignment_id))
        return rows.filter(~owners.is_in(recovering))

    def end_recoveries(self, now: float) -> Iterator[pl.DataFrame]:
        """Activate the partitions whose recovery is complete. Returns the rows that were kept back, in parts."""
        activated = [partition for partition in self._by_id.values() if partition.end_doubt(now)]
        return chain.from_iterable(partition.recovery.take_all() for partition in activated)

    def coalesce_recoveries(self, *, at_once: bool = False) -> None:
        """Make room: drop rows in recovery that newer ones make redundant (see ``Recovery.coalesce``)."""
        for partition in self._by_id.values():
            for released in partition.recovery.coalesce(
                self._item_key, copies_bytes_max=self._coalescing_bytes_max, at_once=at_once
            ):
                self.release(released)

    def take_superseded(self, barriers: pl.DataFrame) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
        """Remove the rows in recovery that are older than a barrier of their item (rule 27).

        Returns them in frames, each with the result of ``barriers.superseded_by``.
        """
        taken = (partition.recovery.take_superseded(barriers, self._item_key) for partition in self._by_id.values())
        return [found for found in taken if found is not None]

    @property
    def recovering(self) -> list[int]:
        """Assignments whose changes must not be sent yet."""
        return [assignment_id for assignment_id, partition in self._by_id.items() if partition.holds_back]

    @property
    def catching_up(self) -> list[int]:
        """Assignments that are not read yet as far as their previous owner had read."""
        return [
            assignment_id
            for assignment_id, partition in self._by_id.items()
            if partition.state is PartitionState.RECOVERING
        ]

    @property
    def recovery_rows(self) -> int:
        """Number of rows in recovery."""
        return sum(partition.recovery.rows for partition in self._by_id.values())

    @property
    def size_bytes(self) -> int:
        """Memory of the held-back rows."""
        return sum(partition.recovery.size_bytes for partition in self._by_id.values())

    def recovery_bytes(self, assignment_ids: Iterable[int]) -> int:
        """Memory of the held-back rows of these assignments."""
        return sum(self._by_id[assignment_id].recovery.size_bytes for assignment_id in assignment_ids)

    def next_deadline(self) -> float | None:
        """When the next partition becomes active without reading further; None if no partition waits only for that."""
        times = [partition.next_deadline() for partition in self._by_id.values()]
        return min((time for time in times if time is not None), default=None)

    def first_arrived(self) -> float | None:
        """When the oldest row in recovery was read; None without one."""
        times = [partition.recovery.first_arrived() for partition in self._by_id.values()]
        return min((time for time in times if time is not None), default=None)

    def pending(self) -> list[tuple[str, int, float]]:
        """For each location with rows in recovery: its name, their number, and when the oldest was read."""
        frames = [partition.recovery.locations() for partition in self._by_id.values() if partition.recovery.rows]
        if not frames:
            return []
        return pl.concat(frames).group_by(LOCATION).agg(pl.len(), pl.col(ARRIVED).min()).rows()

    def matching(self, select: Callable[[pl.DataFrame], pl.DataFrame]) -> list[pl.DataFrame]:
        """What ``select`` leaves of the rows in recovery, frame by frame."""
        return [rows for partition in self._by_id.values() for rows in partition.recovery.matching(select)]

    # Outcomes

    @property
    def unconfirmed(self) -> int:
        """Number of dead letters that the broker has not confirmed yet."""
        return len(self._unconfirmed)

    def mark_accepted(self, rows: pl.DataFrame) -> None:
        """The OMS accepted these rows: their offsets are no longer open."""
        self._released.append(holding_change_ids(rows))

    def release(self, released: pl.DataFrame) -> None:
        """Newer changes supersede these (columns ``CHANGE_ID``): their offsets are no longer open."""
        self._released.append(released)

    def mark_rejected(self, rows: pl.DataFrame) -> None:
        """These rows and the changes that they supersede are to be dead-lettered. Each is open until confirmed."""
        self._release()  # superseded changes must be released before they can be opened again
        rejected = change_ids(rows)
        reopened = rejected.join(holding_change_ids(rows), on=CHANGE_ID, how="anti")
        for (assignment_id,), part in reopened.partition_by(ASSIGNMENT, as_dict=True).items():
            self._by_id[assignment_id].offsets.reopen(part[OFFSET])
        self._unconfirmed.update(ChangeId(*row) for row in rejected.iter_rows())

    def dead_lettered(self, confirmed: Iterable[ChangeId]) -> None:
        """The broker has confirmed these dead letters. Changes of assignments that have ended are ignored."""
        for change_id in confirmed:
            if change_id in self._unconfirmed:
                self._unconfirmed.discard(change_id)
                offset = pl.Series([change_id.offset], dtype=pl.Int64)
                self._by_id[change_id.assignment_id].offsets.release(offset)

    # Committing

    def commit_points(self, in_doubt: Collection[int], now: float) -> list[CommitPoint]:
        """What may be committed now, for each assignment whose start is known (rules 5 and 6).

        ``in_doubt`` are the assignments with changes in a request that the OMS may still queue.
        """
        self._release()
        points = []
        for assignment_id, partition in self._by_id.items():
            offset = partition.offsets.committable_offset
            if offset is not None:
                read_up_to = max(partition.read_up_to, offset)
                is_in_doubt = assignment_id in in_doubt or partition.is_in_doubt(now)
                points.append(CommitPoint(assignment_id, offset, read_up_to, is_in_doubt))
        return points

    def next_offset(self, assignment_id: int) -> int | None:
        """The offset after the last one given to the engine; None while the start is not known."""
        return self._by_id[assignment_id].offsets.next_offset

    def update_limits(self) -> None:
        """Update which partitions were read too far past their committable offset."""
        if any(partition.exceeds_limit for partition in self._by_id.values()):
            self._release()
        for partition in self._by_id.values():
            partition.is_over_limit = partition.exceeds_limit

    def over_limit(self) -> set[int]:
        """Assignments that were read too far past their committable offset, as of the last ``update_limits``."""
        return {assignment_id for assignment_id, partition in self._by_id.items() if partition.is_over_limit}

    def resume_offsets(self) -> dict[int, int]:
        """For each of ``over_limit`` whose changes may be sent: the committable offset that lets reading resume."""
        return {
            assignment_id: partition.resumes_at
            for assignment_id, partition in self._by_id.items()
            if partition.is_over_limit and partition.state is PartitionState.ACTIVE
        }

    def behind(self, bytes_min: float) -> list[int]:
        """Assignments of which more than this was read without reaching the end: they have a backlog."""
        return [found for found, partition in self._by_id.items() if partition.bytes_since_end > bytes_min]

    def read_bytes(self, assignment_id: int) -> float:
        """Memory of the rows that were read of this assignment so far."""
        return self._by_id[assignment_id].read_bytes

    def any_in_doubt(self, now: float) -> bool:
        """Whether a partition is still recovering, or the OMS may still queue a request of its previous owner."""
        return any(partition.holds_back or partition.is_in_doubt(now) for partition in self._by_id.values())

    def are_far(self, assignment_ids: Iterable[int]) -> bool:
        """Whether one of these assignments was read half as far past its committable offset as it may (rule 30)."""
        found = (self._by_id[assignment_id] for assignment_id in assignment_ids if assignment_id in self._by_id)
        return any(partition.is_half_way_to_limit for partition in found)

    def state(self, assignment_id: int) -> PartitionState:
        return self._by_id[assignment_id].state

    def _release(self) -> None:
        """Release the offsets that are no longer open: once per commit, which is cheaper than once per request."""
        if not self._released:
            return
        released, self._released = pl.concat(self._released), []
        for assignment_id, offsets in _offsets_by_assignment(released).items():
            if assignment_id in self._by_id:
                self._by_id[assignment_id].offsets.release(offsets)


def _offsets_by_assignment(
    rows: pl.DataFrame, assignment_ids: Collection[int] | None = None
) -> Mapping[int, Sequence[int] | pl.Series]:
    """The rows' offsets, those of these assignments only; None: of all. Few are listed without queries."""
    owners, offsets = rows[ASSIGNMENT], rows[OFFSET]
    if rows.height > SMALL_ROWS:
        wanted = distinct_ids(owners) if assignment_ids is None else assignment_ids
        return {assignment_id: offsets.filter(owners == assignment_id) for assignment_id in wanted}
    listed: dict[int, list[int]] = {}
    for owner, offset in zip(owners.to_list(), offsets.to_list(), strict=True):
        listed.setdefault(owner, []).append(offset)
    return listed
