"""The assigned partitions, and the commits of their offsets, which the loop's thread makes synchronously."""

from collections.abc import Collection, Iterable
from typing import Final

from consumer.core.engine import Engine
from consumer.core.partition.commit_metadata import CommitMetadata, format_metadata
from consumer.core.partition.partitions import CommitPoint
from consumer.facts import Observer, OffsetsCommitted
from consumer.ports import Assignment, Commit, Committed, Source

FENCED: Final = "fenced: waiting for the group to assign partitions again"


class Commits:
    """The assigned partitions and their latest commits.

    ``is_fenced``: a commit was refused because the group no longer knows this member. Nothing may be sent until a poll
    reports partitions as lost or assigned (rule 12).
    """

    def __init__(self, engine: Engine, source: Source, observer: Observer) -> None:
        self._engine = engine
        self._source = source
        self._observer = observer
        self.assignments: dict[int, Assignment] = {}
        self._committed: dict[int, CommitPoint] = {}
        self.is_fenced = False
        self.is_member = True
        """False if the last commit was refused because the group no longer knows this member."""

    def moved(self, now: float, assignment_ids: Collection[int] | None = None) -> list[CommitPoint]:
        """The commit points that differ from the latest commit, only those of ``assignment_ids`` unless it is None."""
        return [
            point
            for point in self._engine.commit_points(now)
            if (assignment_ids is None or point.assignment_id in assignment_ids)
            and self._committed.get(point.assignment_id) != point
        ]

    def commit_all(self, now: float) -> bool:
        """Commit all assigned partitions, moved or not: the fence before a round (rule 11). False if it was refused."""
        return self.commit(self._engine.commit_points(now))

    def commit(self, points: Collection[CommitPoint]) -> bool:
        """Commit these points. False if the commit was refused; then nothing may be sent on the strength of it."""
        if not points:
            return True
        outcome = self._source.commit([self._as_commit(point) for point in points])
        self.is_member = isinstance(outcome, Committed) or outcome.is_member
        if isinstance(outcome, Committed):
            self._committed.update({point.assignment_id: point for point in points})
            self._observer.observe(OffsetsCommitted(len(points)))
            return True
        self.is_fenced = self.is_fenced or outcome.fenced
        self._observer.observe(outcome)
        return False

    def committed_offset(self, assignment: Assignment) -> int | None:
        """The offset committed by this process, otherwise the one found at assignment."""
        point = self._committed.get(assignment.assignment_id)
        return point.offset if point else assignment.committed

    def forget(self, assignment_ids: Iterable[int]) -> list[Assignment]:
        """Drop these assignments. Returns those that existed."""
        known = [assignment_id for assignment_id in assignment_ids if assignment_id in self.assignments]
        for assignment_id in known:
            self._committed.pop(assignment_id, None)
        return [self.assignments.pop(assignment_id) for assignment_id in known]

    def _as_commit(self, point: CommitPoint) -> Commit:
        assignment = self.assignments[point.assignment_id]
        metadata = CommitMetadata(point.read_up_to, point.in_doubt, assignment.topic_id)
        return Commit(assignment, point.offset, format_metadata(metadata))
