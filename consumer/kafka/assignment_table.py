"""The assignments of this member, and how far each has been read.

The life of an assignment, from the callbacks and polls of ``kafka.source``:

    add ---> record_read, for every poll ---> remove
                |                              (revoked, lost)
                +--> discontinuous: remove, and add the partition again under a new id

Plain data: nothing here calls the Kafka client or waits.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from consumer.ports import Assignment

PartitionKey = int | tuple[str, int]
"""A partition's number if there is only one topic, else topic and number."""


class OffsetRange(NamedTuple):
    """The first and the last offset read of an assignment in one poll."""

    first: int
    last: int


@dataclass(slots=True)
class _Entry:
    assignment: Assignment
    next_offset: int
    """The offset that the next message must have, or exceed where the log has gaps."""


class AssignmentTable:
    """Looks assignments up by id and by partition. An id that is not in the table belongs to an earlier assignment."""

    def __init__(self, topics: Collection[str]) -> None:
        """``topics`` are all that the consumer subscribes to."""
        self._single_topic = len(topics) == 1
        self._entries: dict[int, _Entry] = {}
        self._ids: dict[PartitionKey, int] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, assignment_id: int) -> bool:
        return assignment_id in self._entries

    @property
    def assignments(self) -> list[Assignment]:
        return [entry.assignment for entry in self._entries.values()]

    def get(self, assignment_id: int) -> Assignment | None:
        entry = self._entries.get(assignment_id)
        return None if entry is None else entry.assignment

    def topics(self, assignment_ids: Iterable[int]) -> dict[int, str]:
        """The topics of these assignments. Raises KeyError for an unknown id."""
        return {assignment_id: self._entries[assignment_id].assignment.topic for assignment_id in assignment_ids}

    def next_offset(self, assignment_id: int) -> int:
        """The offset after the last one read; at first the one where reading starts. Raises KeyError."""
        return self._entries[assignment_id].next_offset

    def add(self, assignments: Iterable[Assignment]) -> None:
        """From now on, messages of these partitions belong to these assignments."""
        for assignment in assignments:
            self._entries[assignment.assignment_id] = _Entry(assignment, start_offset(assignment))
            self._ids[self._key(assignment.topic, assignment.partition)] = assignment.assignment_id

    def remove(self, assignment_ids: Iterable[int]) -> None:
        """Messages of these partitions belong to no assignment any more. Raises KeyError for an unknown id."""
        for assignment_id in assignment_ids:
            assignment = self._entries.pop(assignment_id).assignment
            del self._ids[self._key(assignment.topic, assignment.partition)]

    def ids_of(self, partitions: Iterable[tuple[str, int]]) -> list[int]:
        """The assignment ids of these partitions (topic, number), without those that are not assigned."""
        found = (self._ids.get(self._key(topic, partition)) for topic, partition in partitions)
        return [assignment_id for assignment_id in found if assignment_id is not None]

    def ids_of_messages(self, topics: Iterable[str], partitions: Iterable[int]) -> list[int | None]:
        """The assignment id of each message, by its topic and partition; None if not assigned any more (rule 17).

        Runs in C for speed; ``topics`` is not read if there is only one.
        """
        keys: Iterable[PartitionKey] = partitions if self._single_topic else zip(topics, partitions, strict=True)
        return list(map(self._ids.get, keys))

    def snapshot(self) -> Mapping[PartitionKey, int]:
        """The assignment id of each partition at this moment, for ``reassigned_since``."""
        return self._ids.copy()

    def reassigned_since(self, snapshot: Mapping[PartitionKey, int]) -> set[int]:
        """Assignments whose partition had another assignment at the time of the snapshot."""
        if snapshot == self._ids:
            return set()
        return {current for key, current in self._ids.items() if snapshot.get(key, current) != current}

    def discontinuous(
        self, ranges: Mapping[int, OffsetRange], ends: Mapping[int, int], reassigned: Collection[int]
    ) -> set[int]:
        """Assignments whose partition does not continue where it was read to (rule 8).

        ``ranges`` and ``ends`` are what one poll read: the messages' offsets by assignment, and the partition's end
        where it was reached. Two cases:

        - Offsets went backwards: the log was truncated, or the topic was recreated.
        - A partition that was revoked and assigned again within the poll (``reassigned``) does not start at its start
          offset. So what was read may still belong to the previous assignment. The client discards such messages; if
          it ever failed to, the committable offset would pass the changes in between.
        """
        found = {
            assignment_id
            for assignment_id, (first, last) in ranges.items()
            if first < self.next_offset(assignment_id) or last < first
        }
        for assignment_id in reassigned:
            first = ranges[assignment_id].first if assignment_id in ranges else ends.get(assignment_id)
            if first is not None and first != self.next_offset(assignment_id):
                found.add(assignment_id)
        return found

    def record_read(self, ranges: Mapping[int, OffsetRange], ends: Mapping[int, int]) -> dict[int, int]:
        """Record what one poll read. Returns the ends again, each at least the assignment's next offset.

        The client may report an end before the last messages of the same poll.
        """
        for assignment_id, (_, last) in ranges.items():
            self._entries[assignment_id].next_offset = last + 1
        for assignment_id, end in ends.items():
            entry = self._entries[assignment_id]
            entry.next_offset = max(entry.next_offset, end)
        return {assignment_id: self.next_offset(assignment_id) for assignment_id in ends}

    def _key(self, topic: str, partition: int) -> PartitionKey:
        return partition if self._single_topic else (topic, partition)


def offset_ranges(assignment_ids: Sequence[int], offsets: Sequence[int]) -> dict[int, OffsetRange]:
    """The first and last offset of each assignment, where message i has assignment id i and offset i. Pure."""
    last = dict(zip(assignment_ids, offsets, strict=True))
    first = dict(zip(reversed(assignment_ids), reversed(offsets), strict=True))
    return {assignment_id: OffsetRange(first[assignment_id], last[assignment_id]) for assignment_id in last}


def start_offset(assignment: Assignment) -> int:
    """Where reading starts: at the committed offset if it lies within the log, else at the log's start. Pure.

    A committed offset at the log's end lies within it. The engine sees from the assignment that the committed offset
    is out of range, and reports that.
    """
    committed = assignment.committed
    if committed is not None and assignment.low <= committed <= assignment.high:
        return committed
    return assignment.low
