"""The partitions assigned to this process, by assignment id: their offsets, recoveries and dead letters in doubt.

An assignment is a partition assigned to this process once. Whatever belongs to one that is gone is ignored (rule 17).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from consumer.core.changes.coalesce import change_ids, holding_change_ids
from consumer.core.changes.items import ARRIVED, ASSIGNMENT, CHANGE_ID, LOCATION, OFFSET, ChangeId
from consumer.core.partition.partition import Partition, PartitionState


@dataclass(frozen=True, slots=True)
class CommitPoint:
    """What may be committed for an assignment: the committable offset, and the metadata that goes with it.

    ``in_doubt``: a request with rows of the partition may be queued at the OMS, now or soon.
    """

    assignment: int
    offset: int
    read_up_to: int
    in_doubt: bool


class Partitions:
    """By assignment id."""

    def __init__(self, item_key: Sequence[str], uncommitted_offsets_max: int) -> None:
        self._item_key = tuple(item_key)
        self._uncommitted_offsets_max = uncommitted_offsets_max
        self._by_id: dict[int, Partition] = {}
        self._released: list[pl.DataFrame] = []
        """``CHANGE_ID`` of covered changes, to be released together: once per commit, not per request."""
        self._unconfirmed: set[ChangeId] = set()

    def __contains__(self, assignment: int) -> bool:
        return assignment in self._by_id

    @property
    def ids(self) -> Collection[int]:
        return self._by_id.keys()

    # Life

    def assign(self, assignment: int, *, start: int | None, read_up_to: int | None, in_doubt_until: float) -> None:
        """Take a partition; see ``Partition`` for the arguments."""
        self._by_id[assignment] = Partition(start=start, read_up_to=read_up_to, in_doubt_until=in_doubt_until)

    def begin_revoke(self, assignments: Collection[int]) -> None:
        """Answers to requests of these are awaited from now on, and nothing else."""
        for assignment in assignments:
            if assignment in self._by_id:
                self._by_id[assignment].begin_revoke()

    def forget(self, assignments: Collection[int]) -> list[int]:
        """Drop these, revoked or lost. Returns those that were assigned."""
        gone = [assignment for assignment in assignments if assignment in self._by_id]
        for assignment in gone:
            self._by_id.pop(assignment).end()
        if gone:
            self._unconfirmed = {change_id for change_id in self._unconfirmed if change_id.assignment in self._by_id}
        return gone

    def drop_stale(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows without those of assignments that are gone (rule 17)."""
        gone = [assignment for assignment in rows[ASSIGNMENT].unique().to_list() if assignment not in self._by_id]
        return rows.filter(~pl.col(ASSIGNMENT).is_in(gone)) if gone else rows

    # Reading

    def track(
        self, rows: pl.DataFrame, rejected: Collection[ChangeId], next_offsets: Mapping[int, int], ends: Collection[int]
    ) -> None:
        """These changes are uncovered now. ``next_offsets`` says how far each assignment was read by them.

        ``ends`` are the assignments that were read to their partition's present end.
        """
        owners, offsets = rows[ASSIGNMENT], rows[OFFSET]
        for assignment, next_offset in next_offsets.items():
            partition = self._by_id.get(assignment)
            if partition is None:
                continue
            tracked = offsets.filter(owners == assignment)
            bad = [change_id.offset for change_id in rejected if change_id.assignment == assignment]
            partition.track(pl.concat([tracked, pl.Series(bad, dtype=pl.Int64)]) if bad else tracked, next_offset)
            partition.read(next_offset, at_end=assignment in ends)
        self._unconfirmed.update(rejected)

    def hold_back(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Keep the rows of recovering partitions; returns the others, which may leave."""
        recovering = self.recovering
        if not recovering:
            return rows
        owners = rows[ASSIGNMENT]
        for assignment in recovering:
            self._by_id[assignment].recovery.add(rows.filter(owners == assignment))
        return rows.filter(~owners.is_in(recovering))

    def end_recoveries(self, now: float) -> list[pl.DataFrame]:
        """Activate the partitions that have nothing left to read again or to wait for. Returns their rows."""
        activated = [partition for partition in self._by_id.values() if partition.end_doubt(now)]
        rows = [partition.recovery.take_all() for partition in activated]
        return [frame for frame in rows if frame is not None]

    def coalesce_recoveries(self) -> None:
        """Make room: drop held-back rows that newer ones make redundant, where that may be worth the work."""
        for partition in self._by_id.values():
            released = partition.recovery.coalesce(self._item_key)
            if released is not None:
                self.release(released)

    @property
    def recovering(self) -> list[int]:
        """Assignments of which nothing may leave yet."""
        return [assignment for assignment, partition in self._by_id.items() if partition.holds_back]

    @property
    def reading_again(self) -> list[int]:
        """Recovering assignments that are not read up to where the previous owner was."""
        return [key for key, partition in self._by_id.items() if partition.state is PartitionState.RECOVERING]

    @property
    def recovery_rows(self) -> int:
        """Rows that are held back."""
        return sum(partition.recovery.rows for partition in self._by_id.values())

    def next_deadline(self) -> float | None:
        """When the next partition becomes active by time alone; None: no such time."""
        times = [partition.next_deadline() for partition in self._by_id.values()]
        return min((time for time in times if time is not None), default=None)

    def first_arrived(self) -> float | None:
        """When the oldest of the held-back rows was read; None without any."""
        times = [partition.recovery.first_arrived() for partition in self._by_id.values()]
        return min((time for time in times if time is not None), default=None)

    def pending(self) -> list[tuple[str, int, float]]:
        """Per location with held-back rows: how many, and when the oldest was read."""
        frames = [partition.recovery.locations() for partition in self._by_id.values() if partition.recovery.rows]
        if not frames:
            return []
        return pl.concat(frames).group_by(LOCATION).agg(pl.len(), pl.col(ARRIVED).min()).rows()

    # Outcomes

    @property
    def unconfirmed(self) -> int:
        """Dead letters that the broker has not confirmed yet."""
        return len(self._unconfirmed)

    def mark_accepted(self, rows: pl.DataFrame) -> None:
        """A jobID covers these rows."""
        self._released.append(holding_change_ids(rows))

    def release(self, released: pl.DataFrame) -> None:
        """Newer changes supersede these (columns ``CHANGE_ID``)."""
        self._released.append(released)

    def mark_rejected(self, rows: pl.DataFrame) -> None:
        """These rows, and the changes that they supersede, become dead letters: uncovered until each is confirmed."""
        self._release_covered()  # what they supersede must be released before it is tracked again
        rejected = change_ids(rows)
        again = rejected.join(holding_change_ids(rows), on=CHANGE_ID, how="anti")
        for (assignment,), part in again.partition_by(ASSIGNMENT, as_dict=True).items():
            self._by_id[assignment].offsets.track_again(part[OFFSET])
        self._unconfirmed.update(ChangeId(*row) for row in rejected.iter_rows())

    def dead_lettered(self, confirmed: Iterable[ChangeId]) -> None:
        """The broker has confirmed these dead letters; unknown ones are ignored."""
        for change_id in confirmed:
            if change_id in self._unconfirmed:
                self._unconfirmed.discard(change_id)
                offset = pl.Series([change_id.offset], dtype=pl.Int64)
                self._by_id[change_id.assignment].offsets.release(offset)

    # Committing

    def commit_points(self, in_doubt: Collection[int], now: float) -> list[CommitPoint]:
        """What may be committed now, for every assignment whose start is known (rules 5 and 6).

        ``in_doubt`` are the assignments with rows that may be queued at the OMS.
        """
        self._release_covered()  # lazily: once per commit, not per request
        points = []
        for assignment, partition in self._by_id.items():
            offset = partition.offsets.committable_offset
            if offset is not None:
                read_up_to = max(partition.read_up_to, offset)
                doubt = assignment in in_doubt or partition.is_in_doubt(now)
                points.append(CommitPoint(assignment, offset, read_up_to, doubt))
        return points

    def next_offset(self, assignment: int) -> int | None:
        """How far the engine was given the partition; None while its start is not known."""
        return self._by_id[assignment].offsets.next_offset

    def update_limits(self) -> None:
        """Note which partitions are read too far past their committable offset."""
        limit = self._uncommitted_offsets_max
        if any(partition.exceeds(limit) for partition in self._by_id.values()):
            self._release_covered()
        for partition in self._by_id.values():
            partition.is_over_limit = partition.exceeds(limit)

    def over_limit(self) -> set[int]:
        """Those, as of the last ``update_limits``."""
        return {assignment for assignment, partition in self._by_id.items() if partition.is_over_limit}

    def state(self, assignment: int) -> PartitionState:
        return self._by_id[assignment].state

    def _release_covered(self) -> None:
        if not self._released:
            return
        released, self._released = pl.concat(self._released), []
        owners, offsets = released[ASSIGNMENT], released[OFFSET]
        for assignment in owners.unique().to_list():
            if assignment in self._by_id:
                self._by_id[assignment].offsets.release(offsets.filter(owners == assignment))
