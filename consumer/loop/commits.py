"""The assigned partitions, and committing their offsets: the loop's thread makes every commit, synchronously."""

from collections.abc import Collection, Iterable
from typing import Final

from consumer.core.engine import Engine
from consumer.core.partition.commit_metadata import CommitMetadata, format_metadata
from consumer.core.partition.partitions import CommitPoint
from consumer.facts import Observer, OffsetsCommitted
from consumer.ports import Assignment, Commit, Committed, Source

FENCED: Final = "fenced: waiting for the group to assign partitions again"


class Commits:
    """What is assigned, and what of it is committed.

    ``is_fenced``: the broker refused a commit since this member is out of the group. Nothing may be sent until a poll
    reports partitions as lost or assigned (rule 12).
    """

    def __init__(self, engine: Engine, source: Source, observer: Observer) -> None:
        self._engine = engine
        self._source = source
        self._observer = observer
        self.assignments: dict[int, Assignment] = {}
        self._committed: dict[int, CommitPoint] = {}
        self.is_fenced = False

    def moved(self, now: float, assignments: Collection[int] | None = None) -> list[CommitPoint]:
        """Commit points that differ from what is committed; only of ``assignments``, if given."""
        points = self._engine.commit_points(now)
        wanted = points if assignments is None else [point for point in points if point.assignment in assignments]
        return [point for point in wanted if self._committed.get(point.assignment) != point]

    def commit_all(self, now: float) -> bool:
        """Commit every assigned partition, moved or not: the fence before a round (rule 11). False: refused."""
        return self.commit(self._engine.commit_points(now))

    def commit(self, points: Collection[CommitPoint]) -> bool:
        """Commit these points. False: refused, so nothing may be sent on the strength of it."""
        if not points:
            return True
        outcome = self._source.commit([self._as_commit(point) for point in points])
        if isinstance(outcome, Committed):
            self._committed.update({point.assignment: point for point in points})
            self._observer.observe(OffsetsCommitted(len(points)))
            return True
        self.is_fenced = self.is_fenced or outcome.fenced
        self._observer.observe(outcome)
        return False

    def committed_offset(self, assignment: Assignment) -> int | None:
        """The offset committed by this process, else the one found at assignment."""
        point = self._committed.get(assignment.assignment_id)
        return point.offset if point else assignment.committed

    def forget(self, assignment_ids: Iterable[int]) -> list[Assignment]:
        """Drop these; returns those that were assigned."""
        known = [assignment_id for assignment_id in assignment_ids if assignment_id in self.assignments]
        for assignment_id in known:
            self._committed.pop(assignment_id, None)
        return [self.assignments.pop(assignment_id) for assignment_id in known]

    def _as_commit(self, point: CommitPoint) -> Commit:
        assignment = self.assignments[point.assignment]
        metadata = CommitMetadata(point.read_up_to, point.in_doubt, assignment.topic_id)
        return Commit(assignment, point.offset, format_metadata(metadata))
