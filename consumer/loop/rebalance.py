"""Rebalances: partitions are assigned, revoked or lost. The source calls this from within a poll, and when it closes.

A revoke and a shutdown hand partitions over (rule 20): nothing new is sent, requests in flight share one deadline for
their answers, what was accepted by then is committed, and the rest is dropped. The next owner reads it again.
"""

from collections.abc import Callable, Sequence
from typing import Final

from consumer.core.engine import Engine
from consumer.core.partition.commit_metadata import parse_metadata
from consumer.facts import (
    CommittedOffsetOutOfRange,
    Heartbeat,
    Observer,
    PartitionsAssigned,
    PartitionsLost,
    PartitionsRevoked,
)
from consumer.loop.commits import Commits
from consumer.ports import Assignment, Clock, RefreshClient

WAIT_SECONDS_MAX: Final = 0.05
"""A revoke checks for confirmations of dead letters at least this often, because only answers interrupt its wait."""


class Rebalance:
    """``ports.RebalanceListener``. The loop calls ``hand_over`` itself when it shuts down.

    ``settle(now, with_dead_letters)`` takes answers and confirmations; it may raise StopError. ``on_change`` is called
    when the assigned partitions have changed, with the ids of those that were dropped.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        commits: Commits,
        client: RefreshClient,
        clock: Clock,
        observer: Observer,
        settle: Callable[[float, bool], None],
        on_change: Callable[[Sequence[int]], None],
        revoke_seconds_max: float,
    ) -> None:
        self._engine = engine
        self._commits = commits
        self._client = client
        self._clock = clock
        self._observer = observer
        self._settle = settle
        self._on_change = on_change
        self._revoke_seconds_max = revoke_seconds_max
        self.may_commit = True
        """False after a bug: partitions that are revoked then are not committed."""

    def on_assigned(self, assignments: Sequence[Assignment]) -> None:
        """Add these partitions to the engine, from their committed offsets on if the log still has those (rule 8)."""
        now = self._clock.monotonic()
        for assignment in assignments:
            self._commits.assignments[assignment.assignment_id] = assignment
            self._assign(assignment, now)
        self._commits.is_fenced = False
        self._on_change([])
        self._observer.observe(PartitionsAssigned(assignments))

    def on_revoked(self, assignment_ids: Sequence[int]) -> None:
        """Hand these partitions over. After a bug, do nothing."""
        if self.may_commit:
            self.hand_over(assignment_ids, with_dead_letters=True)

    def on_lost(self, assignment_ids: Sequence[int]) -> None:
        """Another member may own these partitions already: drop their changes without a commit (rule 20)."""
        self._observer.observe(PartitionsLost(self._forget(assignment_ids)))
        self._commits.is_fenced = False

    def hand_over(self, assignment_ids: Sequence[int], *, with_dead_letters: bool) -> None:
        """Wait for answers until the deadline, commit what was accepted, and drop the rest.

        ``with_dead_letters``: wait for confirmations, too.
        """
        assigned = [assignment_id for assignment_id in assignment_ids if assignment_id in self._commits.assignments]
        if not assigned:
            return
        self._engine.begin_revoke(assigned)
        now = self._clock.monotonic()
        deadline = now + self._revoke_seconds_max
        while now < deadline and self._is_unsettled(assigned, with_dead_letters=with_dead_letters):
            now = self._wait(now, deadline, with_dead_letters=with_dead_letters)
        unanswered = self._engine.locations.requests_with_rows_of(assigned)
        self._commit_at_last(assigned, now, deadline, with_dead_letters=with_dead_letters)
        self._observer.observe(PartitionsRevoked(self._forget(assigned), unanswered))

    def _commit_at_last(self, assigned: Sequence[int], now: float, deadline: float, *, with_dead_letters: bool) -> None:
        """Commit these assignments; repeat that until the deadline if it is refused to a member of the group.

        The group may have a new generation, which this member has joined but not heard of. No other member owns the
        partitions before the hand-over ends. Without the commit, the next owner would send once more what was accepted.
        """
        while not self._commits.commit(self._commits.moved(now, assigned)):
            if now >= deadline or not self._commits.is_member:
                return
            now = self._wait(now, deadline, with_dead_letters=with_dead_letters)

    def _wait(self, now: float, deadline: float, *, with_dead_letters: bool) -> float:
        """Wait a moment and take what has come meanwhile. Returns the time afterwards."""
        self._client.wait(min(WAIT_SECONDS_MAX, deadline - now))
        now = self._clock.monotonic()
        self._settle(now, with_dead_letters)
        self._observer.observe(Heartbeat(now))
        return now

    def _assign(self, assignment: Assignment, now: float) -> None:
        committed = assignment.committed
        if committed is None:  # no member of the group has ever sent a change of it
            self._engine.assigned(assignment.assignment_id, start=None, read_up_to=None, now=now)
            return
        start: int | None = committed
        if not assignment.low <= committed <= assignment.high:
            self._observer.observe(CommittedOffsetOutOfRange(assignment))
            start = None
        metadata = parse_metadata(assignment.metadata, committed=committed)
        self._engine.assigned(
            assignment.assignment_id,
            start=start,
            read_up_to=min(metadata.read_up_to, assignment.high),
            in_doubt=metadata.in_doubt,
            now=now,
        )

    def _is_unsettled(self, assigned: Sequence[int], *, with_dead_letters: bool) -> bool:
        if self._engine.locations.requests_with_rows_of(assigned):
            return True
        return with_dead_letters and bool(self._engine.partitions.unconfirmed)

    def _forget(self, assignment_ids: Sequence[int]) -> list[Assignment]:
        gone = self._commits.forget(assignment_ids)
        self._engine.forget(assignment_ids, self._clock.monotonic())
        self._on_change(assignment_ids)
        return gone
