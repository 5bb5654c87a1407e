"""``ports.Source`` on the simulated broker, as the real one behaves: callbacks in a poll, positions, ends, commits."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from consumer.ports import Assignment, Commit, CommitRefused, Committed, Headers, RawBatch, RebalanceListener
from tests.simulation.broker import TOPIC, TOPIC_ID, Broker, GroupOffset, Log
from tests.simulation.group import Standing
from tests.simulation.membership import Call, Event, Membership
from tests.simulation.plan import HEARTBEAT_SECONDS, POLL_SECONDS_MAX

if TYPE_CHECKING:
    from tests.simulation.process import Process

COMMIT_SECONDS_MAX: Final = 3.0
"""How long a commit waits for the broker's word."""
POLL_SECONDS_MIN: Final = 0.02
"""A turn takes time: without, a loop that has nothing to wait for would stop the world."""
ASK_AGAIN_SECONDS: Final = 0.5
"""Between two tries to read the committed offsets from a broker that is out of reach."""


class SimulatedSource:
    """A consumer of one process."""

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
        """Of each assignment that this process ever had."""
        self._number_of: dict[int, int] = {}
        self.positions: dict[int, int] = {}
        self._told_end: dict[int, int] = {}
        self._paused: set[int] = set()

    # ports.Source

    def subscribe(self, listener: RebalanceListener) -> None:
        self._process.enter()
        self._listener = listener
        self.membership.start()

    def poll(self, *, messages_max: int, timeout_seconds: float) -> RawBatch:
        self.membership.polled()
        at_once = bool(self.membership.calls) or self._has_messages()
        self._process.sleep(max(POLL_SECONDS_MIN, 0.0 if at_once else timeout_seconds) * self._random.uniform(0.5, 1.0))
        while self.membership.calls:
            self._serve(self.membership.calls[0])
            self.membership.done()
            if self._random.random() < 0.5:
                break
        return self._fetch(self._random.randint(1, messages_max))

    def commit(self, commits: Sequence[Commit]) -> Committed | CommitRefused:
        offsets = {
            commit.assignment.partition: GroupOffset(commit.offset, commit.metadata)
            for commit in commits
            if commit.assignment.assignment_id in self._assignments
        }
        if not offsets:
            return CommitRefused(fenced=False, detail="none of these partitions is assigned any more")
        member_id, generation = self.membership.member_id, self.membership.generation
        unanswered = self._process.by_chance(self._process.rates.commit_unanswered)
        self._process.sleep(self._process.latency())
        standing = None
        if self._reachable() and not (unanswered and self._random.random() < 0.5):
            standing = self._broker.commit(member_id, generation, offsets)
            self._process.note("commits %s: %s", _Offsets(offsets), standing.name)
        self._process.stop_by_chance()
        self._process.sleep(self._process.latency())
        if standing is None or unanswered or not self._reachable():
            self._process.note("has no answer to a commit")
            self._process.sleep(COMMIT_SECONDS_MAX)
            return CommitRefused(fenced=False, detail="timed out")
        if standing is Standing.WELL:
            return Committed()
        return CommitRefused(fenced=standing is not Standing.REBALANCING, detail=standing.name)

    def pause(self, numbers: Sequence[int]) -> None:
        self._paused.update(numbers)

    def resume(self, numbers: Sequence[int]) -> None:
        self._paused.difference_update(numbers)

    def close(self) -> None:
        self._process.enter()
        if self._number_of:
            self._told().on_revoked(list(self._number_of.values()))
        self.membership.leave()

    # Rebalances

    def _serve(self, call: Call) -> None:
        numbers = [self._number_of[partition] for partition in sorted(call.partitions) if partition in self._number_of]
        match call.event:
            case Event.ASSIGN:
                given = self._describe(sorted(call.partitions))
                self._process.note("is assigned %s", [_described(each) for each in given])
                self._told().on_assigned(given)
            case Event.REVOKE:
                self._process.note("is to give up %s", sorted(call.partitions))
                self._told().on_revoked(numbers)
                self._forget(numbers)
            case Event.LOST:
                lost = list(self._number_of.values())
                self._process.note("has lost %s", sorted(self._number_of))
                self._told().on_lost(lost)
                self._forget(lost)

    def _describe(self, partitions: Sequence[int]) -> list[Assignment]:
        if not partitions:
            return []
        self._process.sleep(self._process.latency())
        while not self._reachable():
            self._process.sleep(ASK_AGAIN_SECONDS)
        found = [self._describe_one(partition) for partition in partitions]
        self._process.sleep(self._process.latency())
        for each in found:
            self._assignments[each.assignment_id] = each
            self._number_of[each.partition] = each.assignment_id
            self.partition_of[each.assignment_id] = each.partition
            self.positions[each.assignment_id] = self.start_of(each)
        return found

    def _describe_one(self, partition: int) -> Assignment:
        log = self._broker.logs[partition]
        committed = self._broker.describe(partition)
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

    def _forget(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            gone = self._assignments.pop(number)
            del self._number_of[gone.partition]
            del self.positions[number]
            self._told_end.pop(number, None)
            self._paused.discard(number)

    # Messages

    def _readable(self) -> list[int]:
        return [number for number in self._assignments if number not in self._paused] if self._reachable() else []

    def _has_messages(self) -> bool:
        return any(self.positions[number] < self._log_of(number).end for number in self._readable())

    def _fetch(self, messages_max: int) -> RawBatch:
        values: list[bytes] = []
        assignments: list[int] = []
        offsets: list[int] = []
        ends: dict[int, int] = {}
        readable = self._readable()
        self._random.shuffle(readable)
        for number in readable:
            log = self._log_of(number)
            found, position = log.messages(self.positions[number], messages_max - len(values))
            for offset, entry in found:
                values.append(str(entry.number).encode())
                assignments.append(number)
                offsets.append(offset)
            self.positions[number] = position
            if position == log.end and self._told_end.get(number) != position and self._random.random() < 0.7:
                self._told_end[number] = ends[number] = position
        return RawBatch(values, assignments, offsets, [None] * len(values), ends, _no_origin)

    def _log_of(self, number: int) -> Log:
        return self._broker.logs[self._assignments[number].partition]

    def _reachable(self) -> bool:
        return self._process.world.now >= self._process.cut_off_until

    def _told(self) -> RebalanceListener:
        assert self._listener is not None
        return self._listener


class _Offsets:
    """Formats what was committed, if anybody reads it."""

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
