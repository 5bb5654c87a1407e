"""What must hold after every step, and in the end. Nothing here is known to the system under test.

The rules are those of docs/architecture.md. Excluded are, as nothing can be promised there:

* a request that is queued later than the OMS's own limit after its worker's last look at the fence (the simulated way
  to the OMS loses those);
* the order of counts where an item's changes are spread over partitions;
* what an owner sends that found another tool's metadata beside the committed offset: the read mark is gone with it;
* what becomes of an item of which a good change was coalesced in place into a bad one: both are dead letters, and older
  changes with other fields are still sent;
* whether the count of a bad change stays that went out beside older ones, and was taken with them, before the change
  itself was refused for something else: it is the newest there is.

Retention never takes what is not committed, and nobody sets offsets by hand.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from consumer.core.partition.commit_metadata import parse_metadata
from consumer.facts import Snapshot
from consumer.ports import Answered, Submission
from tests.simulation.plan import Entry, EntryKind, SimulationPlan, item_key_of
from tests.simulation.world import Violation, World

if TYPE_CHECKING:
    from tests.simulation.broker import Log
    from tests.simulation.oms import Oms, Wire

SENDABLE: Final = frozenset({EntryKind.CHANGE, EntryKind.BAD})
DONE_WITH: Final = frozenset({EntryKind.TOMBSTONE, EntryKind.GAP})


@dataclass(slots=True)
class _Item:
    """What has been produced and queued of one item."""

    queued: int = 0
    """The newest change of which the OMS has queued the count."""
    taken_along: bool = False
    """A good change was dead-lettered with a bad one that stood for it."""


class Checker:
    """Told of everything that can be seen from outside; raises Violation."""

    def __init__(self, world: World, plan: SimulationPlan) -> None:
        self._world = world
        self._plan = plan
        self.logs: Sequence[Log] = ()
        self._entries = {entry.number: entry for entry in plan.entries}
        self._offsets: dict[int, int] = {}
        """Of each change, by its number."""
        self._items: defaultdict[tuple[str, str], _Item] = defaultdict(_Item)
        self._covered: defaultdict[int, set[int]] = defaultdict(set)
        """By partition: offsets in requests that the OMS has queued, and dead letters that the broker has."""
        self._clear_until = [plan.log_start] * plan.partitions
        self._committed = [plan.log_start] * plan.partitions
        self._marks = [plan.log_start] * plan.partitions
        self._unmarked: dict[int, tuple[float, int]] = {}
        """By partition: since when owners do not know the mark, and which it was."""
        self._gathers_to: dict[tuple[str, int], int] = {}
        """By owner and partition: the mark that it found."""
        self._in_flight: dict[tuple[str, int], str] = {}

    # The broker tells

    def produced(self, entry: Entry, offset: int) -> None:
        self._offsets[entry.number] = offset

    def assigned(self, owner: str, partition: int) -> None:
        """An owner has read what stands beside the committed offset."""
        self._gathers_to[owner, partition] = self._marks[partition]

    def mark_lost(self, partition: int) -> None:
        """Whoever is given the partition from now on does not know how far it was read."""
        self._unmarked[partition] = (
            self._world.now,
            max(self._marks[partition], self._unmarked.get(partition, (0, 0))[1]),
        )
        self._marks[partition] = self._committed[partition]

    def committed(self, partition: int, offset: int, metadata: str) -> None:
        """A commit is taken: it passes nothing that is not done with, and neither offset nor mark goes back."""
        until = self._clear(partition)
        if offset > until:
            raise Violation(
                f"rule 3: {offset} is committed of partition {partition}, past {self._described(partition, until)}"
            )
        mark = parse_metadata(metadata, committed=offset).read_up_to
        if offset < self._committed[partition] or mark < self._marks[partition]:
            raise Violation(
                f"rule 4: {offset} with mark {mark} is committed of partition {partition} after "
                f"{self._committed[partition]} with mark {self._marks[partition]}"
            )
        self._committed[partition], self._marks[partition] = offset, mark

    def dead_lettered(self, partition: int, offset: int) -> None:
        """The dead-letter topic has this change."""
        self._covered[partition].add(offset)

    # The members tell

    def rejected(self, partition: int, offset: int) -> None:
        """A member means to dead-letter what it could not decode."""
        if self.logs[partition].entry(offset).kind is not EntryKind.REJECT:
            raise Violation(f"a change is rejected: {self._described(partition, offset)}")

    def condemned(self, partition: int, offsets: Sequence[int]) -> None:
        """A member means to dead-letter these together: bad ones, and what they stand for (rule 10)."""
        entries = [self.logs[partition].entry(offset) for offset in offsets]
        bad = {(entry.location, entry.item): entry.number for entry in entries if entry.kind is EntryKind.BAD}
        for entry in entries:
            if entry.kind is not EntryKind.BAD:
                if entry.number > bad.get((entry.location, entry.item), 0) or not self._plan.is_tight:
                    raise Violation(f"rule 18: a good change is dead-lettered: {self._described_change(entry.number)}")
                self._items[entry.location, entry.item].taken_along = True

    def submitted(self, owner: str, submission: Submission) -> None:
        if submission.location in {location for (name, _), location in self._in_flight.items() if name == owner}:
            raise Violation(f"rule 15: {owner} has two requests in flight for {submission.location}")
        self._in_flight[owner, submission.request_id] = submission.location

    def answered(self, owner: str, answered: Answered) -> None:
        del self._in_flight[owner, answered.request_id]

    def snapshot(self, owner: str, snapshot: Snapshot, *, in_hand_max: int) -> None:
        """A partition is read to its mark, then no further past its watermark than the limit and what was in hand."""
        for view in snapshot.partitions:
            far = (view.committable_offset or 0) + self._plan.max_uncommitted_offsets
            until = max(far, self._gathers_to[owner, view.partition]) + in_hand_max
            if (view.next_offset or 0) > until:
                raise Violation(
                    f"rule 10: {owner} has read partition {view.partition} up to {view.next_offset}, past {until}"
                )

    # The OMS tells

    def queued(self, wire: "Wire") -> None:
        for item in wire.items:
            self._check_order(wire, self._entries[item["quantity"]])
        for partition, offset in wire.rows:
            self._covered[partition].add(offset)

    def _check_order(self, wire: "Wire", change: Entry) -> None:
        """The OMS never queues an older count after a newer one."""
        item = self._items[change.location, change.item]
        if change.number < item.queued and not self._may_be_older(wire, change):
            raise Violation(
                f"stale: {wire} is queued with the count of {self._described_change(change.number)}, after that of "
                f"{self._described_change(item.queued)}"
            )
        # The count of a bad change may go out beside older ones, before it is refused itself: it is of no account.
        if change.kind is EntryKind.CHANGE:
            item.queued = max(item.queued, change.number)

    def _may_be_older(self, wire: "Wire", change: Entry) -> bool:
        since, mark = self._unmarked.get(change.partition, (0.0, -1))
        unmarked = wire.given_at.get(change.partition, 0.0) >= since and self._offsets[change.number] < mark
        taken_along = self._items[change.location, change.item].taken_along
        return unmarked or taken_along or not self._plan.fixed_partition

    # In the end

    def unsettled(self, oms: "Oms") -> list[str]:
        """What is still to be done before all is sent, committed and applied."""
        behind = [
            f"partition {partition} is committed up to {self._committed[partition]} of {log.end}: "
            f"{self._described(partition, self._clear(partition))}"
            for partition, log in enumerate(self.logs)
            if self._committed[partition] < log.end
        ]
        return behind + ([] if oms.idle else ["the OMS has jobs to do"])

    def settled(self, oms: "Oms") -> None:
        """The OMS has what all changes of every item amount to."""
        for (location, name), item in self._items.items():
            key = item_key_of(name)
            state = oms.items.get((location, key.get("partNumber"), key.get("sku"), key.get("binID")))
            fields, attributes = self._amount(location, name)
            found = ({}, set()) if state is None else (dict(state.fields), set(state.attributes))
            if self._has_lent_count(location, name, found[0], fields):
                fields["quantity"] = found[0]["quantity"]
            if self._plan.fixed_partition and not item.taken_along and found != (fields, attributes):
                raise Violation(
                    f"in the end the OMS has {found} for {name} in {location}, but its changes amount to "
                    f"{(fields, attributes)}; the newest is {self._described_change(item.queued)}"
                )

    def _has_lent_count(self, location: str, name: str, found: Mapping[str, Any], amount: Mapping[str, Any]) -> bool:
        """Whether the count is that of a bad change newer than all good ones, which only those can have brought."""
        change = self._entries.get(found.get("quantity", 0))
        return (
            change is not None
            and (change.kind, change.location, change.item) == (EntryKind.BAD, location, name)
            and change.number > amount.get("quantity", 0)
        )

    def _amount(self, location: str, name: str) -> tuple[dict[str, Any], set[str]]:
        fields: dict[str, Any] = {}
        attributes: set[str] = set()
        for entry in self._plan.entries:
            if entry.kind is EntryKind.CHANGE and (entry.location, entry.item) == (location, name):
                fields |= {key: value for key, value in entry.fields.items() if key != "attributes"}
                fields["quantity"] = entry.number
                attributes.update(entry.fields.get("attributes", ()))
        return fields, attributes

    # Inside

    def _clear(self, partition: int) -> int:
        """Up to where everything is covered, dead-lettered, or nothing to send."""
        log, covered = self.logs[partition], self._covered[partition]
        until = self._clear_until[partition]
        while until < log.end and (until in covered or log.entry(until).kind in DONE_WITH):
            until += 1
        self._clear_until[partition] = until
        return until

    def _described(self, partition: int, offset: int) -> str:
        log = self.logs[partition]
        if offset >= log.end:
            return f"{partition}@{offset}, the end"
        entry = log.entry(offset)
        return f"{partition}@{offset} ({entry.kind} {entry.location} {entry.item}={entry.number})"

    def _described_change(self, number: int) -> str:
        entry = self._entries.get(number)
        return self._described(entry.partition, self._offsets[number]) if entry else "nothing"
