"""``ports.Source`` on the simulated broker: callbacks during polls, positions, partition ends, commits."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from consumer.ports import Assignment, Commit, CommitRefused, Committed, Headers, RawBatch, RebalanceListener
from tests.simulation.broker import TOPIC, TOPIC_ID, Broker, GroupOffset, Log
from tests.simulation.group import MemberStatus
from tests.simulation.membership import Call, Event, Membership
from tests.simulation.plan import HEARTBEAT_SECONDS, POLL_SECONDS_MAX, REVOKE_SECONDS_MAX
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from tests.simulation.process import Process

COMMIT_SECONDS_MAX: Final = 3.0
"""Timeout of a commit."""
POLL_SECONDS_MIN: Final = 0.02
"""A poll always takes some time; otherwise a loop that waits for nothing would stop simulated time."""
RETRY_SECONDS: Final = 0.5
"""Interval between attempts to read the committed offsets while the broker cannot be reached."""


class SimulatedSource:
    """The Kafka consumer of one process."""

    def __init__(self, process: "Process", broker: Broker) -> None:
        self._process = process
        self._broker = broker
        self._random = process.random
        self.membership = Membership(
            process,
            broker.group,
            heartbeat_seconds=HEARTBEAT_SECONDS,
            poll_seconds_max=POLL_SECONDS_MAX,
            reachable=self._reachable,
        )
        self._listener: RebalanceListener | None = None
        self._assignments: dict[int, Assignment] = {}
        self.partition_of: dict[int, int] = {}
        """By assignment id, including former assignments of this process."""
        self._id_of: dict[int, int] = {}
        self.positions: dict[int, int] = {}
        self._reported_end: dict[int, int] = {}
        self._paused: set[int] = set()
        self._last_commit: Committed | CommitRefused | None = None

    # ports.Source

    def subscribe(self, listener: RebalanceListener) -> None:
        self._process.enter()
        self._listener = listener
        self.membership.start()

    def poll(self, *, messages_max: int, timeout_seconds: float) -> RawBatch:
        self.membership.polled()
        owned = set(self._assignments)
        at_once = bool(self.membership.calls) or self._has_messages()
        self._process.sleep(max(POLL_SECONDS_MIN, 0.0 if at_once else timeout_seconds) * self._random.uniform(0.5, 1.0))
        while self.membership.calls:
            self._serve(self.membership.calls[0])
            self.membership.done()
            if self._random.random() < 0.5:
                break
        batch = self._fetch(self._random.randint(1, messages_max))
        self._process.check_read(owned.intersection(batch.assignments))
        return batch

    def commit(self, commits: Sequence[Commit]) -> Committed | CommitRefused:
        self._last_commit = self._commit(commits)
        return self._last_commit

    def _commit(self, commits: Sequence[Commit]) -> Committed | CommitRefused:
        offsets = {
            commit.assignment.partition: GroupOffset(commit.offset, commit.metadata)
            for commit in commits
            if commit.assignment.assignment_id in self._assignments
        }
        if not offsets:
            return CommitRefused(fenced=False, detail="none of these partitions is assigned")
        member_id, generation = self.membership.member_id, self.membership.generation
        unanswered = self._process.by_chance(self._process.rates.commit_unanswered)
        self._process.sleep(self._process.latency())
        status = None
        if self._reachable() and not (unanswered and self._random.random() < 0.5):
            status = self._broker.commit(member_id, generation, offsets)
            self._process.note("commits %s: %s", _Offsets(offsets), status.name)
        self._process.stop_by_chance()
        self._process.sleep(self._process.latency())
        if status is None or unanswered or not self._reachable():
            self._process.note("gets no reply to a commit")
            self._process.sleep(COMMIT_SECONDS_MAX)
            return CommitRefused(fenced=False, detail="timed out")
        if status is MemberStatus.OK:
            return Committed()
        return CommitRefused(
            fenced=status is not MemberStatus.REBALANCE_IN_PROGRESS,
            detail=status.name,
            is_member=status is not MemberStatus.UNKNOWN_MEMBER,
        )

    def pause(self, assignment_ids: Sequence[int]) -> None:
        self._paused.update(assignment_ids)

    def resume(self, assignment_ids: Sequence[int]) -> None:
        self._paused.difference_update(assignment_ids)

    @property
    def unpaused(self) -> set[int]:
        """The assignments that are read."""
        return set(self._assignments) - self._paused

    def close(self) -> None:
        self._process.enter()
        if self._id_of:
            self._callbacks().on_revoked(list(self._id_of.values()))
        self.membership.leave()

    # Rebalances

    def _serve(self, call: Call) -> None:
        assignment_ids = [self._id_of[partition] for partition in sorted(call.partitions) if partition in self._id_of]
        match call.event:
            case Event.ASSIGN:
                assigned = self._describe(sorted(call.partitions))
                self._process.note("is assigned %s", [_described(assignment) for assignment in assigned])
                self._callbacks().on_assigned(assigned)
            case Event.REVOKE:
                self._process.note("must give up %s", sorted(call.partitions))
                deadline = self._process.uptime() + REVOKE_SECONDS_MAX
                self._last_commit = None
                self._callbacks().on_revoked(assignment_ids)
                self._check_handed_over(deadline)
                self._forget(assignment_ids)
            case Event.LOST:
                lost = list(self._id_of.values())
                self._process.note("has lost %s", sorted(self._id_of))
                self._callbacks().on_lost(lost)
                self._forget(lost)

    def _check_handed_over(self, deadline: float) -> None:
        """A hand-over ends with a commit, unless its time is over or the group no longer knows the member."""
        outcome = self._last_commit
        if isinstance(outcome, CommitRefused) and outcome.is_member and self._process.uptime() < deadline:
            raise Violation(f"rule 20: {self._process.name} hands over without a commit, refused with {outcome.detail}")

    def _describe(self, partitions: Sequence[int]) -> list[Assignment]:
        if not partitions:
            return []
        self._process.sleep(self._process.latency())
        while not self._reachable():
            self._process.sleep(RETRY_SECONDS)
        found = [self._describe_one(partition) for partition in partitions]
        self._process.sleep(self._process.latency())
        for assignment in found:
            self._assignments[assignment.assignment_id] = assignment
            self._id_of[assignment.partition] = assignment.assignment_id
            self.partition_of[assignment.assignment_id] = assignment.partition
            self.positions[assignment.assignment_id] = self.start_of(assignment)
        return found

    def _describe_one(self, partition: int) -> Assignment:
        log = self._broker.logs[partition]
        committed = self._broker.committed_for_new_owner(partition)
        return Assignment(
            assignment_id=self._process.new_assignment(partition),
            topic=TOPIC,
            partition=partition,
            committed=committed.offset if committed else None,
            metadata=committed.metadata if committed else "",
            low=log.start,
            high=log.end,
            topic_id=TOPIC_ID,
        )

    def start_of(self, assignment: Assignment) -> int:
        """auto.offset.reset is earliest."""
        return assignment.low if assignment.committed is None else assignment.committed

    def _forget(self, assignment_ids: Sequence[int]) -> None:
        for assignment_id in assignment_ids:
            assignment = self._assignments.pop(assignment_id)
            del self._id_of[assignment.partition]
            del self.positions[assignment_id]
            self._reported_end.pop(assignment_id, None)
            self._paused.discard(assignment_id)

    # Messages

    def _readable(self) -> list[int]:
        return (
            [assignment_id for assignment_id in self._assignments if assignment_id not in self._paused]
            if self._reachable()
            else []
        )

    def _has_messages(self) -> bool:
        return any(
            self.positions[assignment_id] < self._log_of(assignment_id).end for assignment_id in self._readable()
        )

    def _fetch(self, messages_max: int) -> RawBatch:
        values: list[bytes] = []
        assignments: list[int] = []
        offsets: list[int] = []
        ends: dict[int, int] = {}
        readable = self._readable()
        self._random.shuffle(readable)
        for assignment_id in readable:
            log = self._log_of(assignment_id)
            found, position = log.messages(self.positions[assignment_id], messages_max - len(values))
            for offset, entry in found:
                values.append(str(entry.number).encode())
                assignments.append(assignment_id)
                offsets.append(offset)
            self.positions[assignment_id] = position
            if (
                position == log.end
                and self._reported_end.get(assignment_id) != position
                and self._random.random() < 0.7
            ):
                self._reported_end[assignment_id] = ends[assignment_id] = position
        return RawBatch(values, assignments, offsets, [None] * len(values), ends, _no_origin)

    def _log_of(self, assignment_id: int) -> Log:
        return self._broker.logs[self._assignments[assignment_id].partition]

    def _reachable(self) -> bool:
        return self._process.world.now >= self._process.disconnected_until

    def _callbacks(self) -> RebalanceListener:
        assert self._listener is not None
        return self._listener


class _Offsets:
    """Formats committed offsets only if the trace is printed."""

    def __init__(self, offsets: dict[int, GroupOffset]) -> None:
        self._offsets = offsets

    def __str__(self) -> str:
        return ", ".join(
            f"{partition}@{committed.offset} ({committed.metadata.removesuffix(';' + TOPIC_ID)})"
            for partition, committed in sorted(self._offsets.items())
        )


def _described(assignment: Assignment) -> str:
    at = f"{assignment.committed} ({assignment.metadata.removesuffix(';' + TOPIC_ID)})"
    return f"{assignment.partition} as #{assignment.assignment_id}, {assignment.low}..{at}..{assignment.high}"


def _no_origin(position: int) -> tuple[bytes | None, Headers]:
    del position
    return None, ()
