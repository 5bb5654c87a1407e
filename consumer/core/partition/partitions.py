"""The partitions that are ours: what of them is open, how far may be committed, which have been read too far.

An assignment is a partition given to this process once. What belongs to one that is gone counts for nothing.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from consumer.core.changes.coalesce import all_offsets, open_offset
from consumer.core.changes.items import ASSIGNMENT, OFFSET, ChangeId
from consumer.core.partition.offsets import OffsetTracker

RESUME_SHARE: Final = 0.75
"""A paused partition resumes below this share of the limit that paused it: pausing throws away what
was fetched ahead."""


@dataclass(frozen=True, slots=True)
class CommitPoint:
    """What may be committed for an assignment: its watermark, read mark, and whether a request may be under way."""

    assignment: int
    offset: int
    mark: int
    open: bool


@dataclass(slots=True)
class _Held:
    """One partition while it is ours."""

    offsets: OffsetTracker
    mark: int
    far: bool = False


class Partitions:
    """Watermarks and read marks of all assignments."""

    def __init__(self, max_uncommitted_offsets: int) -> None:
        self._max_uncommitted_offsets = max_uncommitted_offsets
        self._held: dict[int, _Held] = {}
        self._covered: list[pl.DataFrame] = []
        """Assignments and offsets that jobIDs cover, to be closed together: work a commit, not a request."""
        self._unconfirmed: set[ChangeId] = set()

    def __contains__(self, assignment: int) -> bool:
        return assignment in self._held

    @property
    def numbers(self) -> Collection[int]:
        return self._held.keys()

    @property
    def unconfirmed(self) -> int:
        """Dead letters whose confirmation is awaited."""
        return len(self._unconfirmed)

    def assigned(self, assignment: int, *, start: int | None, mark: int | None) -> None:
        """Take a partition, with its committed offset and the read mark beside it, None where there is none."""
        held = self._held[assignment] = _Held(OffsetTracker(), mark or 0)
        if start is not None:
            held.offsets.start(start)
            held.mark = max(held.mark, start)

    def forget(self, assignments: Collection[int]) -> list[int]:
        """Let these go; returns those that were ours."""
        gone = [number for number in assignments if self._held.pop(number, None)]
        if gone:
            self._unconfirmed = {dead for dead in self._unconfirmed if dead.assignment in self._held}
        return gone

    def ours(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows without those of assignments that are gone (rule 17)."""
        gone = [number for number in rows[ASSIGNMENT].unique().to_list() if number not in self._held]
        return rows.filter(~pl.col(ASSIGNMENT).is_in(gone)) if gone else rows

    def give(self, rows: pl.DataFrame, rejected: Collection[ChangeId], next_offsets: Mapping[int, int]) -> None:
        """Open the offsets of these rows and rejects; ``next_offsets`` says how far each assignment is read by them.

        The mark only ever grows, from the one that was found at the assignment on (rule 4).
        """
        owners, opened = rows[ASSIGNMENT], rows[OFFSET]
        for number, next_offset in next_offsets.items():
            held = self._held.get(number)
            if held is None:
                continue
            offsets = opened.filter(owners == number)
            bad = [change_id.offset for change_id in rejected if change_id.assignment == number]
            held.offsets.give(pl.concat([offsets, pl.Series(bad, dtype=pl.Int64)]) if bad else offsets, next_offset)
            held.mark = max(held.mark, held.offsets.next_offset or 0)
        self._unconfirmed.update(rejected)

    def cover(self, rows: pl.DataFrame) -> None:
        """A jobID covers these rows."""
        self._covered.append(rows.select(ASSIGNMENT, open_offset(rows)))

    def close(self, offsets: pl.DataFrame) -> None:
        """Other rows stand for these assignments and offsets now."""
        self._covered.append(offsets)

    def condemn(self, rows: pl.DataFrame) -> None:
        """These rows, open as they are, become dead letters, and with each the changes that it stands for."""
        self._close_covered()  # what they stand for must count as closed before it is opened again
        offsets = all_offsets(rows)
        free = offsets.join(rows.select(ASSIGNMENT, open_offset(rows)), on=[ASSIGNMENT, OFFSET], how="anti")
        for (number,), part in free.partition_by(ASSIGNMENT, as_dict=True).items():
            self._held[number].offsets.reopen(part[OFFSET])
        self._unconfirmed.update(ChangeId(*row) for row in offsets.iter_rows())

    def dead_lettered(self, confirmed: Iterable[ChangeId]) -> None:
        """The broker has confirmed these dead letters, by assignment and offset; unknown ones are passed over."""
        for dead in confirmed:
            if dead in self._unconfirmed:
                self._unconfirmed.discard(dead)
                self._held[dead.assignment].offsets.close(pl.Series([dead.offset], dtype=pl.Int64))

    def commit_points(self, under_way: Collection[int]) -> list[CommitPoint]:
        """What may be committed now, for every assignment whose start is known."""
        self._close_covered()
        points = []
        for number, held in self._held.items():
            committable_offset = held.offsets.committable_offset
            if committable_offset is not None:
                points.append(
                    CommitPoint(number, committable_offset, max(held.mark, committable_offset), number in under_way)
                )
        return points

    def next_offset(self, assignment: int) -> int | None:
        """How far the partition was given; None while its start is not known."""
        return self._held[assignment].offsets.next_offset

    def far(self) -> set[int]:
        """Those that are read too far past their watermark, until they are clearly nearer again."""
        if any(map(self._is_far, self._held.values())):
            self._close_covered()
        for held in self._held.values():
            held.far = self._is_far(held)
        return {number for number, held in self._held.items() if held.far}

    def mark(self, assignment: int) -> int:
        """The read mark: how far the partition was ever read when requests left."""
        return self._held[assignment].mark

    def _is_far(self, held: _Held) -> bool:
        distance = (held.offsets.next_offset or 0) - (held.offsets.committable_offset or 0)
        return distance > self._max_uncommitted_offsets * (RESUME_SHARE if held.far else 1)

    def _close_covered(self) -> None:
        if not self._covered:
            return
        covered, self._covered = pl.concat(self._covered), []
        owners, offsets = covered[ASSIGNMENT], covered[OFFSET]
        for number in owners.unique().to_list():
            if number in self._held:
                self._held[number].offsets.close(offsets.filter(owners == number))
