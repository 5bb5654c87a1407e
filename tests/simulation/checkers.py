"""What must hold after every step and at the end of a run. The system under test knows nothing of this.

The rules are those of docs/protocol.md. Not checked, because nothing is guaranteed there:

* requests that the OMS queues later than ``oms.unknown_hold`` after the worker's last fence check (the simulated
  network loses these);
* the order of counts if the changes of an item are spread over partitions;
* counts sent by an owner that found another tool's commit metadata: ``read_up_to`` is lost with it. It may send older
  counts again, and if a barrier then supersedes the newest one, an older one stays;
* items of which a good change was coalesced in place into a bad one: both are dead-lettered, while older changes with
  other fields are still sent;
* the count of a redriven change until the copy of a newer one is sent, which was redriven after it (rule 28);
* items of which a good change was dead-lettered because its location was refused whole;
* the count of a bad change that was accepted in a request with older changes, before the change itself was refused for
  its other fields: it is the newest count.

Retention never deletes uncommitted changes, and offsets are never reset by hand.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from consumer.core.changes.items import CHANGE_ID, ChangeId, RejectReason
from consumer.core.limits import EngineLimits
from consumer.core.oms.answers import AnswerKind
from consumer.core.partition.commit_metadata import parse_metadata
from consumer.errors import StopError
from consumer.facts import Snapshot
from consumer.loop.loop import RECOVERY_DOES_NOT_FIT
from consumer.ports import Answered, Decoded, FailedChanges, Submission
from tests.simulation.plan import FENCE_SECONDS, Entry, EntryKind, FaultKind, SimulationPlan, item_key_of
from tests.simulation.refusals import RefusalChecker
from tests.simulation.world import Violation, World

if TYPE_CHECKING:
    from tests.simulation.broker import Log
    from tests.simulation.oms import Oms, Wire

Line = tuple[int, int]
"""Offset and line of a change."""

SENDS_MAX: Final = 2
HOLD_EARLY_SECONDS: Final = 2.0
"""The process reads its clock, and counts the hold from, a little earlier than this checker."""
NOTHING_TO_SEND: Final = frozenset({EntryKind.TOMBSTONE, EntryKind.GAP})


@dataclass(slots=True)
class _Item:
    """The state of one item."""

    queued: int = 0
    """Number of the newest change whose count the OMS has queued."""
    applied: int = 0
    """Number of the newest change whose count the OMS has applied."""
    dead_lettered_with_newer: bool = False
    """A good change was dead-lettered, with the bad one that superseded it or with its location."""


class Checker:
    """Gets every event that is visible from outside; raises Violation."""

    def __init__(self, world: World, plan: SimulationPlan) -> None:
        self._world = world
        self._plan = plan
        self.logs: Sequence[Log] = ()
        self._changes = {change.number: change for entry in plan.entries for change in entry.changes}
        self._offsets: dict[int, int] = {}
        """By number of the change."""
        self._redriven_to: dict[int, int] = {}
        """By number of the change: the offset of the last copy of its event."""
        self._items: defaultdict[tuple[str, str], _Item] = defaultdict(_Item)
        self._accepted: defaultdict[int, set[Line]] = defaultdict(set)
        """By partition: changes in requests that the OMS has queued, and in delivered dead letters."""
        self._queued: set[int] = set()
        """Numbers of the changes in requests that the OMS has queued."""
        self._overlaid: set[int] = set()
        """Numbers of the changes whose count and fields were laid over such requests (rule 19)."""
        self._superseded: set[int] = set()
        """Numbers of the changes that were dead-lettered because of a barrier."""
        self._barriers: defaultdict[tuple[str, int], dict[tuple[str, str], Line]] = defaultdict(dict)
        """By owner and assignment: the newest barrier of each item that its engine was given. What is redriven after it
        is newer, whatever its number."""
        self._committable_until = [plan.log_start] * plan.partitions
        self._committed = [plan.log_start] * plan.partitions
        self._read_up_to = [plan.log_start] * plan.partitions
        self._lost_metadata: dict[int, tuple[float, int]] = {}
        """By partition: since when ``read_up_to`` is lost, and its last value."""
        self._recovers_to: dict[tuple[str, int], int] = {}
        """By owner and partition: ``read_up_to`` as found at assignment."""
        self._in_flight: dict[tuple[str, int], str] = {}
        self._unknown: dict[tuple[str, str], tuple[int, float]] = {}
        """By owner and location: the request whose outcome was unknown last, and since when."""
        self._worked: set[tuple[str, int]] = set()
        """Owner and id of the requests whose jobs have ended."""
        self._tokens_of: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
        """By owner and request: the fetches of the tokens with which its body was sent."""

    # Events of the broker

    def produced(self, entry: Entry, offset: int) -> None:
        self._offsets |= dict.fromkeys((change.number for change in entry.changes), offset)

    def redriven(self, entry: Entry, offset: int) -> None:
        self._redriven_to |= dict.fromkeys((change.number for change in entry.changes), offset)

    def redrive_ended(self, entries: Sequence[Entry]) -> None:
        """No barrier that can be decoded is newer than what was redriven, unless it was redriven after it."""
        if not self._plan.fixed_partition:
            return
        for change in (change for entry in entries for change in entry.changes):
            for barrier in self._newer_barriers(change):
                entry = self.logs[barrier.partition].entry(self._offsets[barrier.number])
                is_known = entry.schema_known_at <= self._world.now
                if is_known and self._last_offset(barrier) < self._last_offset(change):
                    raise Violation(
                        f"rule 28: {self._described_change(change.number)} is redriven, although "
                        f"{self._described_change(barrier.number)} is newer"
                    )

    def _newer_barriers(self, change: Entry) -> Iterator[Entry]:
        for other in self._changes.values():
            is_newer = other.number > change.number and other.number in self._offsets
            is_of_item = (other.location, other.item) == (change.location, change.item)
            if other.kind is EntryKind.BARRIER and is_newer and is_of_item:
                yield other

    def _last_offset(self, change: Entry) -> int:
        return self._redriven_to.get(change.number, self._offsets[change.number])

    def assigned(self, owner: str, partition: int) -> None:
        """A new owner has read the committed offset and its metadata."""
        self._recovers_to[owner, partition] = self._read_up_to[partition]

    def metadata_lost(self, partition: int) -> None:
        """Another tool has replaced the metadata, so new owners do not know how far the partition was read."""
        self._lost_metadata[partition] = (
            self._world.now,
            max(self._read_up_to[partition], self._lost_metadata.get(partition, (0, 0))[1]),
        )
        self._read_up_to[partition] = self._committed[partition]

    def committed(self, partition: int, offset: int, metadata: str) -> None:
        """A commit was accepted. It must pass no unaccepted change, and neither of its two offsets may go back."""
        until = self._committable(partition)
        if offset > until:
            raise Violation(
                f"rule 3: partition {partition} is committed at {offset}, past {self._described(partition, until)}"
            )
        read_up_to = parse_metadata(metadata, committed=offset).read_up_to
        if offset < self._committed[partition] or read_up_to < self._read_up_to[partition]:
            raise Violation(
                f"rule 4: partition {partition} is committed at {offset}, read up to {read_up_to}, after "
                f"{self._committed[partition]}, read up to {self._read_up_to[partition]}"
            )
        self._committed[partition], self._read_up_to[partition] = offset, read_up_to

    def dead_lettered(self, partition: int, change_id: ChangeId) -> None:
        """The dead letter of this change was delivered."""
        self._accepted[partition].add(change_id[1:])

    # Events of members

    def decoded(self, owner: str, partition_of: Mapping[int, int], decoded: Decoded) -> None:
        """The engine of a member was given these changes."""
        for reject in decoded.rejects:
            assignment_id, offset, line = reject.change_id
            change = self.logs[partition_of[assignment_id]].change(offset, line)
            if change.kind is EntryKind.BARRIER:
                known = self._barriers[owner, assignment_id]
                item = change.location, change.item
                known[item] = max((offset, line), known.get(item, (offset, line)))

    def rejected(self, partition: int, change_id: ChangeId) -> None:
        """A member is about to dead-letter a change that it could not decode, or a barrier."""
        change = self.logs[partition].change(*change_id[1:])
        if change.kind not in {EntryKind.REJECT, EntryKind.BARRIER}:
            raise Violation(f"a valid change is rejected: {self._described_change(change.number)}")

    def changes_failed(self, failed: FailedChanges, refusals: RefusalChecker) -> None:
        """A member is about to dead-letter changes of one location. ``refusals`` is its own checker."""
        log = self.logs[failed.partition]
        if failed.reason is RejectReason.SUPERSEDED_BY_REJECT:
            for _, offset, line in failed.change_ids:
                self._check_superseded(log.change(offset, line), offset)
            return
        others = []
        for change_id in failed.change_ids:
            change = log.change(*change_id[1:])
            if refusals.may_dead_letter(failed.location, change_id):
                self._items[change.location, change.item].dead_lettered_with_newer = True
            else:
                others.append(change)
        self._check_refused(others)

    def _check_superseded(self, change: Entry, offset: int) -> None:
        """What is dead-lettered because of a barrier is older than one, or is redriven with it."""
        self._superseded.add(change.number)
        has_later_copy = self._redriven_to.get(change.number, 0) > offset
        if self._plan.fixed_partition and not has_later_copy and not any(self._newer_barriers(change)):
            raise Violation(f"rule 27: no barrier is newer than {self._described_change(change.number)}")

    def _check_refused(self, changes: Sequence[Entry]) -> None:
        """Bad changes are dead-lettered, together with what they supersede (rule 10), and no others."""
        bad = {(change.location, change.item): change.number for change in changes if change.kind is EntryKind.BAD}
        for change in changes:
            if change.kind is not EntryKind.BAD:
                if change.number > bad.get((change.location, change.item), 0) or not self._plan.has_short_memory:
                    raise Violation(f"rule 18: a good change is dead-lettered: {self._described_change(change.number)}")
                self._items[change.location, change.item].dead_lettered_with_newer = True

    def sent(self, wire: "Wire") -> None:
        """A body leaves a worker."""
        bytes_max = self._plan.request_bytes_max
        if bytes_max is not None and wire.body_bytes > bytes_max:
            raise Violation(f"rule 25: a body of {wire.body_bytes} bytes is sent: {wire}")
        if wire.commit_age_seconds > FENCE_SECONDS:
            raise Violation(f"rule 13: the commit is {wire.commit_age_seconds:.1f} s old when this is sent: {wire}")
        tokens = self._tokens_of[wire.owner, wire.request_id]
        if wire.fetch in tokens:
            raise Violation(f"rule 26: a body is sent again with the same token: {wire}")
        tokens.append(wire.fetch)
        if len(tokens) > SENDS_MAX:
            raise Violation(f"rule 16: a body is sent {len(tokens)} times: {wire}")

    def submitted(self, owner: str, partition_of: Mapping[int, int], submission: Submission) -> None:
        if submission.location in {location for (name, _), location in self._in_flight.items() if name == owner}:
            raise Violation(f"rule 15: {owner} has two requests in flight for {submission.location}")
        self._check_hold(owner, submission.location)
        self._in_flight[owner, submission.request_id] = submission.location
        self._check_no_barrier_is_newer(owner, partition_of, submission)

    def _check_no_barrier_is_newer(self, owner: str, partition_of: Mapping[int, int], submission: Submission) -> None:
        for assignment_id, offset, line in submission.taken.body.select(CHANGE_ID).iter_rows():
            change = self.logs[partition_of[assignment_id]].change(offset, line)
            barrier = self._barriers[owner, assignment_id].get((change.location, change.item))
            if barrier is not None and (offset, line) < barrier:
                raise Violation(
                    f"rule 27: {owner}#{submission.request_id} has {self._described_change(change.number)} at {offset} "
                    f"and had read a barrier at {barrier[0]}"
                )

    def answered(self, owner: str, answered: Answered) -> None:
        location = self._in_flight.pop((owner, answered.request_id))
        if answered.answer.kind in (AnswerKind.UNKNOWN, AnswerKind.UNREADABLE):
            self._unknown[owner, location] = (answered.request_id, self._world.now)
        else:
            self._unknown.pop((owner, location), None)

    def worked(self, wire: "Wire") -> None:
        """The OMS has applied a job."""
        self._worked.add((wire.owner, wire.request_id))

    def _check_hold(self, owner: str, location: str) -> None:
        request_id, since = self._unknown.get((owner, location), (0, float("-inf")))
        is_early = self._world.now - since < self._plan.hold_seconds - HOLD_EARLY_SECONDS
        if is_early and (owner, request_id) not in self._worked:
            raise Violation(f"rule 33: the hold of {location} ends although {owner}#{request_id} may still be queued")

    def snapshot(self, owner: str, snapshot: Snapshot, limits: EngineLimits) -> None:
        """What is read fits the limits and what was in hand; recovery alone may read further than its successor."""
        in_hand, changes_in_hand = self._plan.undecoded_max, self._plan.undecoded_changes_max
        if snapshot.pending_bytes > limits.max_recovery_bytes + changes_in_hand:
            raise Violation(
                f"rule 10: {owner} has {snapshot.pending_bytes} pending changes with a budget of "
                f"{limits.max_pending_bytes}"
            )
        for view in snapshot.partitions:
            start, stop = view.committable_offset or 0, view.next_offset or 0
            until = max(start + limits.max_uncommitted_offsets, self._recovers_to[owner, view.partition]) + in_hand
            if stop > until:
                raise Violation(f"rule 10: {owner} has read partition {view.partition} up to {stop}, past {until}")
            rows = self._rows(view.partition, start, stop)
            if rows > limits.max_uncommitted_bytes + changes_in_hand:
                self._check_recovered(owner, view.partition, stop, rows)

    def _check_recovered(self, owner: str, partition: int, stop: int, rows: int) -> None:
        """So many rows were read past the committable offset only because the previous owner had read them."""
        if stop > self._recovers_to[owner, partition] + self._plan.undecoded_max:
            raise Violation(f"rule 10: {owner} has read {rows} rows of partition {partition} that are not committed")

    def _rows(self, partition: int, start: int, stop: int) -> int:
        """Number of changes between two offsets."""
        log = self.logs[partition]
        changes = (change for offset in range(start, stop) for change in log.entry(offset).changes)
        return sum(change.kind in {EntryKind.CHANGE, EntryKind.BAD} for change in changes)

    def stopped(self, owner: str, error: StopError) -> None:
        """A process stops. What members of equal memory have read can always be read again."""
        had_less_memory = any(fault.kind is FaultKind.LESS_MEMORY for fault in self._plan.faults)
        if str(error) == RECOVERY_DOES_NOT_FIT and not had_less_memory:
            raise Violation(f"rule 10: {owner} has more to read again than fits")

    # Events of the OMS

    def queued(self, wire: "Wire", items: Sequence[Mapping[str, Any]]) -> None:
        """The OMS queues or applies these items of a request; it refuses the others."""
        names = {_name(item) for item in items}
        for item in items:
            change = self._changes[item["quantity"]]
            state = self._items[change.location, change.item]
            self._check_order(wire, change, state.queued, "queued")
            if change.kind is EntryKind.CHANGE:
                state.queued = max(state.queued, change.number)
        for partition, offset, line in wire.rows:
            change = self.logs[partition].change(offset, line)
            if change.item in names:
                self._accepted[partition].add((offset, line))
                self._queued.add(change.number)
                self._overlaid.update(wire.overlaid)

    def applied(self, wire: "Wire", items: Sequence[Mapping[str, Any]]) -> None:
        """The OMS applies these items: those of a job when it works on it, those of smart refresh at once."""
        for item in items:
            change = self._changes[item["quantity"]]
            state = self._items[change.location, change.item]
            self._check_order(wire, change, state.applied, "applied")
            # The count of a bad change may be accepted with older changes before the change itself is refused.
            if change.kind is EntryKind.CHANGE:
                state.applied = max(state.applied, change.number)

    def _check_order(self, wire: "Wire", change: Entry, newest: int, what: str) -> None:
        """The OMS never queues, and never applies, an older count after a newer one."""
        if change.number < newest and not self._may_be_older(wire, change):
            raise Violation(
                f"stale: {wire} is {what} with the count of {self._described_change(change.number)} after the one of "
                f"{self._described_change(newest)}"
            )

    def _may_be_older(self, wire: "Wire", change: Entry) -> bool:
        since, read_up_to = self._lost_metadata.get(change.partition, (0.0, -1))
        without_metadata = (
            wire.assigned_at.get(change.partition, 0.0) >= since and self._offsets[change.number] < read_up_to
        )
        item = self._items[change.location, change.item]
        copy, newer_copy = self._redriven_to.get(change.number), self._redriven_to.get(item.queued)
        is_followed = copy is not None and newer_copy is not None and newer_copy > copy
        return without_metadata or item.dead_lettered_with_newer or is_followed or not self._plan.fixed_partition

    # End of the run

    def unsettled(self, oms: "Oms") -> list[str]:
        """What is not committed or applied yet."""
        behind = [
            f"partition {partition} is committed at {self._committed[partition]} of {log.end}: "
            f"{self._described(partition, self._committable(partition))}"
            for partition, log in enumerate(self.logs)
            if self._committed[partition] < log.end
        ]
        return behind + ([] if oms.idle else ["the OMS has unfinished jobs"])

    def settled(self, oms: "Oms") -> None:
        """Every item at the OMS has the combined effect of all its changes."""
        for (location, name), item in self._items.items():
            key = item_key_of(name)
            state = oms.items.get((location, key.get("partNumber"), key.get("sku"), key.get("binID")))
            fields, attributes = self._expected(location, name)
            found = ({}, set()) if state is None else (dict(state.fields), set(state.attributes))
            if self._has_count_of_bad_change(location, name, found[0], fields):
                fields["quantity"] = found[0]["quantity"]
            is_exempt = item.dead_lettered_with_newer or self._is_superseded_when_sent_again(location, name)
            if self._plan.fixed_partition and not is_exempt and found != (fields, attributes):
                raise Violation(
                    f"at the end the OMS has {found} for {name} in {location} instead of "
                    f"{(fields, attributes)}; the newest change queued is {self._described_change(item.queued)}"
                )

    def _is_superseded_when_sent_again(self, location: str, name: str) -> bool:
        """Whether a change was queued, and superseded by a later owner that had lost the commit metadata."""
        return any(
            change.partition in self._lost_metadata
            and change.number in self._superseded
            and change.number in self._queued
            and (change.location, change.item) == (location, name)
            for change in self._changes.values()
        )

    def _has_count_of_bad_change(
        self, location: str, name: str, found: Mapping[str, Any], expected: Mapping[str, Any]
    ) -> bool:
        """Whether the count is that of a bad change, newer than all good ones, that was accepted with older changes."""
        change = self._changes.get(found.get("quantity", 0))
        return (
            change is not None
            and (change.kind, change.location, change.item) == (EntryKind.BAD, location, name)
            and change.number > expected.get("quantity", 0)
        )

    def _expected(self, location: str, name: str) -> tuple[dict[str, Any], set[str]]:
        fields: dict[str, Any] = {}
        attributes: set[str] = set()
        for change in self._changes.values():
            is_of_item = (change.location, change.item) == (location, name)
            if change.kind is EntryKind.CHANGE and is_of_item and change.number in self._offsets:
                is_gone = change.number in self._superseded and change.number not in self._queued
                if is_gone and change.number not in self._overlaid:
                    continue
                fields |= {key: value for key, value in change.fields.items() if key != "attributes"}
                fields["quantity"] = change.number
                if not is_gone:
                    attributes.update(change.fields.get("attributes", ()))
        return fields, attributes

    # Internals

    def _committable(self, partition: int) -> int:
        """The lowest offset with a change that is neither accepted nor dead-lettered."""
        log, accepted = self.logs[partition], self._accepted[partition]
        until = self._committable_until[partition]
        while until < log.end and all(
            (until, line) in accepted or change.kind in NOTHING_TO_SEND
            for line, change in enumerate(log.entry(until).changes)
        ):
            until += 1
        self._committable_until[partition] = until
        return until

    def _described(self, partition: int, offset: int) -> str:
        log = self.logs[partition]
        if offset >= log.end:
            return f"{partition}@{offset}, the end"
        changes = (
            f"{change.kind} {change.location} {change.item}={change.number}" for change in log.entry(offset).changes
        )
        return f"{partition}@{offset} ({', '.join(changes)})"

    def _described_change(self, number: int) -> str:
        change = self._changes.get(number)
        if change is None:
            return "nothing"
        return f"{change.kind} {change.item}={number} of {self._described(change.partition, self._offsets[number])}"


def _name(item: Mapping[str, Any]) -> str:
    return str(item.get("sku") or item["partNumber"])
