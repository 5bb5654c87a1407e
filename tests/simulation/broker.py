"""The simulated broker: the log of every partition, and the group's committed offsets."""

from dataclasses import dataclass, field
from typing import Final

from tests.simulation.checkers import Checker
from tests.simulation.group import Group, MemberStatus
from tests.simulation.plan import Entry, EntryKind, SimulationPlan
from tests.simulation.redrive import redriven
from tests.simulation.world import World

TOPIC: Final = "changes"
TOPIC_ID: Final = "topic-1"
RETENTION_SECONDS: Final = 5.0


@dataclass(slots=True)
class Log:
    """The log of one partition. ``start`` is the log start offset: retention has deleted everything below it."""

    start: int
    entries: list[Entry] = field(default_factory=list)
    first: int = 0
    """The offset of ``entries[0]``."""

    @property
    def end(self) -> int:
        return self.first + len(self.entries)

    def entry(self, offset: int) -> Entry:
        return self.entries[offset - self.first]

    def change(self, offset: int, line: int) -> Entry:
        return self.entry(offset).changes[line]

    def messages(self, position: int, messages_max: int) -> tuple[list[tuple[int, Entry]], int]:
        """Up to ``messages_max`` messages from ``position`` on, and the position after them; gaps are skipped."""
        found: list[tuple[int, Entry]] = []
        while position < self.end and len(found) < messages_max:
            entry = self.entry(position)
            if entry.kind is not EntryKind.GAP:
                found.append((position, entry))
            position += 1
        while position < self.end and self.entry(position).kind is EntryKind.GAP:
            position += 1
        return found, position


@dataclass(frozen=True, slots=True)
class GroupOffset:
    """A committed offset with its metadata."""

    offset: int
    metadata: str


class Broker:
    """Logs and committed offsets; retention deletes some of what was committed."""

    def __init__(self, world: World, plan: SimulationPlan, checker: Checker, group: Group) -> None:
        self._world = world
        self._checker = checker
        self.group = group
        self.logs = [Log(plan.log_start, first=plan.log_start) for _ in range(plan.partitions)]
        self.committed: dict[int, GroupOffset] = {}
        self.foreign_metadata: set[int] = set()
        """Partitions whose offset another tool will commit before the next owner reads it."""
        self.dead_letters: set[tuple[int, int, int]] = set()
        """Partition, offset and line of the changes that have a dead letter."""
        checker.logs = self.logs
        for entry in plan.entries:
            world.at(entry.at, lambda entry=entry: self._produce(entry))  # type: ignore[misc]
        world.after(RETENTION_SECONDS, self._retain)

    def commit(self, member_id: str, generation: int, offsets: dict[int, GroupOffset]) -> MemberStatus:
        """Accept or refuse a commit. Like Kafka, it checks member and generation, but not who owns a partition."""
        status = self.group.status(member_id, generation)
        if status is MemberStatus.OK:
            for partition, committed in sorted(offsets.items()):
                self._checker.committed(partition, committed.offset, committed.metadata)
                self.committed[partition] = committed
        return status

    def committed_for_new_owner(self, partition: int) -> GroupOffset | None:
        """The committed offset as a new owner reads it; another tool may have replaced the metadata just before."""
        found = self.committed.get(partition)
        if found is not None and partition in self.foreign_metadata:
            self.foreign_metadata.discard(partition)
            self._checker.metadata_lost(partition)
            found = self.committed[partition] = GroupOffset(found.offset, "by hand")
        return found

    def redrive(self) -> None:
        """Send the events of dead letters back to their partitions, as far as that is safe."""
        entries: list[Entry] = []
        for partition, offset in redriven(self.logs, self.dead_letters, self._world.now):
            log = self.logs[partition]
            entry = log.entry(offset)
            entries.append(entry)
            self._world.note("redrive", "%d@%d again: %s", partition, log.end, _described(entry))
            self._checker.redriven(entry, log.end)
            log.entries.append(entry)
        self._checker.redrive_ended(entries)

    def _produce(self, entry: Entry) -> None:
        log = self.logs[entry.partition]
        self._world.note("topic", "%d@%d %s", entry.partition, log.end, _described(entry))
        self._checker.produced(entry, log.end)
        log.entries.append(entry)

    def _retain(self) -> None:
        """Delete committed messages now and then, never uncommitted ones."""
        for partition, log in enumerate(self.logs):
            committed = self.committed.get(partition)
            if committed is not None and committed.offset - log.start > RETENTION_LAG:
                log.start = committed.offset - RETENTION_LAG
        self._world.after(RETENTION_SECONDS, self._retain)


def _described(entry: Entry) -> str:
    return ", ".join(f"{change.kind} {change.item}={change.number}" for change in entry.changes)


RETENTION_LAG: Final = 10
"""Committed offsets that retention keeps."""
