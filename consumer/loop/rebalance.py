"""Rebalances: partitions that are assigned, revoked or lost. The source calls this inside a poll.

A revoke, and a stop, give up partitions in good order (rule 20): nothing new leaves, requests in flight share one
deadline, what was accepted by then is committed, and the rest is forgotten. The next owner reads it again.
"""

from collections.abc import Callable, Sequence

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

WAIT_SECONDS_MAX = 0.05
"""A revoke looks for answers and confirmations at least this often; confirmations wake no one."""


class Rebalance:
    """``ports.RebalanceListener``; ``give_up`` serves a stop, too.

    ``settle`` takes in answers and confirmations (see ``Answers.settle``); it may raise StopError. ``after`` is called
    once the assigned partitions have changed.
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
        after: Callable[[Sequence[int]], None],
        revoke_seconds_max: float,
    ) -> None:
        self._engine = engine
        self._commits = commits
        self._client = client
        self._clock = clock
        self._observer = observer
        self._settle = settle
        self._after = after
        self._revoke_seconds_max = revoke_seconds_max
        self.may_commit = True
        """False after a bug: what is revoked then is dropped without a commit."""

    def on_assigned(self, assignments: Sequence[Assignment]) -> None:
        """Begin each partition at its committed offset, if the log still has that (rule 8)."""
        now = self._clock.monotonic()
        for assignment in assignments:
            self._commits.assignments[assignment.assignment_id] = assignment
            self._assign(assignment, now)
        self._commits.is_fenced = False
        self._after([])
        self._observer.observe(PartitionsAssigned(assignments))

    def on_revoked(self, assignment_ids: Sequence[int]) -> None:
        """Give up these partitions in good order."""
        if self.may_commit:
            self.give_up(assignment_ids, with_dead_letters=True)

    def on_lost(self, assignment_ids: Sequence[int]) -> None:
        """Another member owns these partitions already: forget their rows, commit nothing (rule 20)."""
        self._observer.observe(PartitionsLost(self._forget(assignment_ids)))
        self._commits.is_fenced = False

    def give_up(self, assignment_ids: Sequence[int], *, with_dead_letters: bool) -> None:
        """Settle what is in flight within one deadline, commit, forget. ``with_dead_letters``: wait for those, too."""
        ours = [assignment_id for assignment_id in assignment_ids if assignment_id in self._commits.assignments]
        if not ours:
            return
        self._engine.begin_revoke(ours)
        now = self._clock.monotonic()
        deadline = now + self._revoke_seconds_max
        while now < deadline and self._is_unsettled(ours, with_dead_letters=with_dead_letters):
            self._client.wait(min(WAIT_SECONDS_MAX, deadline - now))
            now = self._clock.monotonic()
            self._settle(now, with_dead_letters)
            self._observer.observe(Heartbeat(now))
        unanswered = self._engine.locations.with_rows_of(ours)
        self._commits.commit(self._commits.moved(now, ours))
        self._observer.observe(PartitionsRevoked(self._forget(ours), unanswered))

    def _assign(self, assignment: Assignment, now: float) -> None:
        committed = assignment.committed
        if committed is None:  # the group has never sent anything of it
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

    def _is_unsettled(self, ours: Sequence[int], *, with_dead_letters: bool) -> bool:
        if self._engine.locations.with_rows_of(ours):
            return True
        return with_dead_letters and bool(self._engine.partitions.unconfirmed)

    def _forget(self, assignment_ids: Sequence[int]) -> list[Assignment]:
        gone = self._commits.forget(assignment_ids)
        self._engine.forget(assignment_ids, self._clock.monotonic())
        self._after(assignment_ids)
        return gone
