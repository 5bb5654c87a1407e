"""Mutants: each one breaks a single rule on purpose. If the simulation misses one, a checker is blind.

A mutant patches production code for the length of one run. ``rule`` is the number of its rule in docs/protocol.md.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import polars as pl
import pytest

from consumer.core import settlement as settlement_module
from consumer.core.backpressure import Backpressure
from consumer.core.changes.barriers import BARRIER_OFFSET, of_items
from consumer.core.changes.blocks import Rows
from consumer.core.changes.coalesce import newest_last
from consumer.core.changes.items import ASSIGNMENT, CHANGE_ID, ITEM_KEY, LOCATION, OFFSET
from consumer.core.engine import Engine
from consumer.core.location import bisection as bisection_module
from consumer.core.location import superseded as superseded_module
from consumer.core.location import window as window_module
from consumer.core.location.bisection import Bisection, RefusedRequest
from consumer.core.location.body_sizes import BodySizes
from consumer.core.location.early_requests import EarlyRequests
from consumer.core.location.in_flight import InFlight
from consumer.core.location.location import Location, LocationEvent
from consumer.core.location.locations import Locations
from consumer.core.location.request import Refusal, Request
from consumer.core.location.request_starter import RequestStarter
from consumer.core.location.set_aside import SetAsideLocations
from consumer.core.location.superseded import SupersededChanges
from consumer.core.location.window import Windows
from consumer.core.oms import lost_answers as lost_answers_module
from consumer.core.oms.answers import Accepted, Answer, AnswerKind, Decision, Hold, Refused, Retry, decide
from consumer.core.oms.job_list import JobList
from consumer.core.oms.job_schedule import JobReport, JobStatus
from consumer.core.oms.lost_answers import LostAnswer
from consumer.core.oms.refused_locations import RefusedLocations
from consumer.core.oms.smart_refresh import SmartRefresh
from consumer.core.partition import recovery as recovery_module
from consumer.core.partition.commit_metadata import CommitMetadata, parse_metadata
from consumer.core.partition.offsets import OffsetTracker
from consumer.core.partition.partition import PartitionState
from consumer.core.partition.partitions import CommitPoint, Partitions
from consumer.core.partition.turns import Turns
from consumer.core.partition.uncommitted import UncommittedBytes
from consumer.core.settlement import Settlement
from consumer.dead_letters.redrive import plan as plan_module
from consumer.loop import commits as commits_module
from consumer.loop import rebalance as rebalance_module
from consumer.loop.commits import Commits
from consumer.loop.hold_queries import HoldQueries
from consumer.loop.job_queries import JobQueries
from consumer.loop.loop import Loop
from consumer.loop.rebalance import Rebalance
from consumer.loop.schema_wait import SchemaWait
from consumer.oms.smart_reply import SmartApplied, SmartReply, SmartUnknown, read_smart_reply
from consumer.ports import Assignment, Commit, Decoded, Submission
from tests.simulation import oms as oms_module
from tests.simulation.client import REST_SECONDS, Delivery, SimulatedClient
from tests.simulation.oms import Wire
from tests.simulation.plan import Theme
from tests.simulation.source import SimulatedSource

Patch = pytest.MonkeyPatch


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    rule: str
    apply: Callable[[Patch], None]
    theme: Theme | None
    """The theme of the plans that find it soonest; None if any plan does."""


MUTANTS: Final[dict[str, Mutant]] = {}


def _mutant(rule: str, theme: Theme | None = None) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    def register(apply: Callable[[Patch], None]) -> Callable[[Patch], None]:
        name = apply.__name__
        MUTANTS[name] = Mutant(name, rule, apply, theme)
        return apply

    return register


@contextmanager
def applied(name: str) -> Iterator[None]:
    """Patch in the named mutant; "" patches nothing."""
    with Patch.context() as patch:
        if name:
            MUTANTS[name].apply(patch)
        yield


# Committable offset and commit metadata


@_mutant("3")
def commits_too_early(patch: Patch) -> None:
    """Everything that was read is committed, sent or not."""

    def points(self: Partitions, *args: Any) -> list[CommitPoint]:
        return [replace(point, offset=point.read_up_to) for point in original(self, *args)]

    original = Partitions.commit_points
    patch.setattr(Partitions, "commit_points", points)


@_mutant("3")
def commits_the_consumer_position(patch: Patch) -> None:
    """With nothing pending, the consumer's position is committed, although the decoder may still hold changes."""

    def as_commit(self: Any, point: CommitPoint) -> Commit:
        commit: Commit = original(self, point)
        if point.offset == self._engine.partitions.next_offset(point.assignment_id):
            return replace(commit, offset=self._source.positions[point.assignment_id])
        return commit

    original = Commits._as_commit
    patch.setattr(Commits, "_as_commit", as_commit)


@_mutant("3")
def forgets_superseded_offsets(patch: Patch) -> None:
    """An older change counts as accepted as soon as a newer change of its item is read."""

    def track(self: Any, rows: pl.DataFrame, *args: Any) -> None:
        original_track(self, rows, *args)
        latest = self.__dict__.setdefault("latest", {})
        key = [name for name in ITEM_KEY if name in rows.columns]
        for assignment_id, offset, *values in rows.sort(OFFSET).select(ASSIGNMENT, OFFSET, LOCATION, *key).iter_rows():
            named = dict(zip((LOCATION, *key), values, strict=True))
            item = [named.get(name) for name in (LOCATION, *ITEM_KEY)]
            older = latest.get((assignment_id, *item))
            if older is not None and assignment_id in self._by_id:
                self._by_id[assignment_id].offsets.release(pl.Series([older]))
            latest[assignment_id, *item] = offset

    original_track = Partitions.track
    patch.setattr(Partitions, "track", track)
    _releases_only_open_offsets(patch)


@_mutant("3")
def forgets_rejects(patch: Patch) -> None:
    """A reject counts as accepted before its dead letter is confirmed."""

    def track(self: Any, rows: pl.DataFrame, rejected: Any, *args: Any) -> None:
        del rejected
        original(self, rows, [], *args)

    original = Partitions.track
    patch.setattr(Partitions, "track", track)


@_mutant("3")
def the_first_accepted_line_commits_the_offset(patch: Patch) -> None:
    """An event with several lines counts as accepted as soon as one of them is."""

    def track(self: Any, offsets: Any, next_offset: int) -> None:
        original_track(self, sorted(set(offsets)), next_offset)

    def release(self: Any, offsets: Any) -> None:
        still_open = dict(self._open.lines())
        original_release(self, [offset for offset in set(offsets) if offset in still_open])

    original_track, original_release = OffsetTracker.track, OffsetTracker.release
    patch.setattr(OffsetTracker, "track", track)
    patch.setattr(OffsetTracker, "release", release)


@_mutant("4")
def read_up_to_goes_backwards(patch: Patch) -> None:
    """A new owner commits its own reading position as ``read_up_to``, although the previous owner had read further."""

    def points(self: Partitions, *args: Any) -> list[CommitPoint]:
        return [
            replace(point, read_up_to=max(point.offset, self.next_offset(point.assignment_id) or 0))
            for point in original(self, *args)
        ]

    original = Partitions.commit_points
    patch.setattr(Partitions, "commit_points", points)


@_mutant("5", Theme.HANDOVERS)
def foreign_metadata_means_not_in_doubt(patch: Patch) -> None:
    """Metadata written by another tool is read as "no request in doubt"."""

    def parse(metadata: str, *, committed: int) -> CommitMetadata:
        parsed = parse_metadata(metadata, committed=committed)
        return parsed if metadata.startswith("v1;") else replace(parsed, in_doubt=False)

    patch.setattr(rebalance_module, "parse_metadata", parse)


@_mutant("5", Theme.HANDOVERS)
def clears_inherited_in_doubt(patch: Patch) -> None:
    """A new owner that still waits out the previous owner's requests commits that none is in doubt."""

    def points(self: Any, in_doubt: Collection[int], now: float) -> list[CommitPoint]:
        return [replace(point, in_doubt=point.assignment_id in in_doubt) for point in original(self, in_doubt, now)]

    original = Partitions.commit_points
    patch.setattr(Partitions, "commit_points", points)


@_mutant("6")
def ignores_partition_ends(patch: Patch) -> None:
    """Reaching the end of a partition does not advance it past trailing gaps."""

    def fetch(self: Any, messages_max: int) -> Any:
        batch = original(self, messages_max)
        return replace(batch, ends={})

    original = SimulatedSource._fetch
    patch.setattr(SimulatedSource, "_fetch", fetch)


# Recovery


@_mutant("7")
def skips_recovery(patch: Patch) -> None:
    """A new owner sends from its first row on."""

    def assign(self: Any, assignment_id: int, **more: Any) -> None:
        original(self, assignment_id, **more)
        self._by_id[assignment_id].state = PartitionState.ACTIVE

    original = Partitions.assign
    patch.setattr(Partitions, "assign", assign)


@_mutant("7", Theme.HANDOVERS)
def ignores_in_doubt(patch: Patch) -> None:
    """A new owner does not wait out the requests that its predecessor left in doubt."""

    def parse(metadata: str, *, committed: int) -> CommitMetadata:
        return replace(parse_metadata(metadata, committed=committed), in_doubt=False)

    patch.setattr(rebalance_module, "parse_metadata", parse)


@_mutant("9")
def resets_to_latest(patch: Patch) -> None:
    """A partition without a committed offset is read from its end."""

    def start_of(_self: SimulatedSource, assignment: Assignment) -> int:
        return assignment.high if assignment.committed is None else assignment.committed

    patch.setattr(SimulatedSource, "start_of", start_of)


@_mutant("10")
def budget_pauses_recovery(patch: Patch) -> None:
    """Once half of the budget is used, recovering partitions pause until changes have left."""

    patch.setattr(Backpressure, "_to_recover", lambda _self, _catching_up, _window_bytes: set())


@_mutant("10")
def offset_limit_pauses_recovery(patch: Patch) -> None:
    """``kafka.max_uncommitted_offsets`` also pauses partitions that have not reached ``read_up_to`` yet."""

    def update_backpressure(self: Any, now: float, **arguments: Any) -> frozenset[int]:
        wanted: frozenset[int] = original(self, now, **arguments)
        over_limit: set[int] = self.partitions.over_limit()
        return wanted | over_limit

    original = Engine.update_backpressure
    patch.setattr(Engine, "update_backpressure", update_backpressure)


@_mutant("10")
def ignores_the_offset_limit(patch: Patch) -> None:
    """``kafka.max_uncommitted_offsets`` pauses no partition."""

    patch.setattr(Partitions, "over_limit", lambda _self: set())


@_mutant("10")
def ignores_the_uncommitted_bytes(patch: Patch) -> None:
    """A partition is read further than another member can read it again."""

    patch.setattr(UncommittedBytes, "add", lambda _self, _stop, _size_bytes: None)


@_mutant("10")
def recovers_all_partitions_at_once(patch: Patch) -> None:
    """All recovering partitions are read, however much memory is used."""

    patch.setattr(Backpressure, "_to_recover", lambda _self, catching_up, _window_bytes: set(catching_up))


@_mutant("10")
def recovers_beyond_the_budget(patch: Patch) -> None:
    """A process with more to read again than fits goes on."""

    patch.setattr(Engine, "recovery_does_not_fit", False)


@_mutant("10")
def waits_for_age_at_the_uncommitted_limit(patch: Patch) -> None:
    """What holds the committable offset back waits for its age, although the partition is not read meanwhile."""

    patch.setattr(EarlyRequests, "start_blocking", lambda _self, _requests_max, _offsets, _now, _plan: [])


@_mutant("24")
def gives_no_partition_its_turn_again(patch: Patch) -> None:
    """While memory is short the same partition is read as long as it has a backlog."""

    patch.setattr(Turns, "choose", lambda _self, waiting, _read_bytes, _now: min(waiting))


@_mutant("10")
def waits_for_full_windows_under_pressure(patch: Patch) -> None:
    """Over the budget only full and due windows are sent, although nothing more can be read."""

    patch.setattr(EarlyRequests, "start_fullest", lambda _self, _requests_max, _free_bytes, _now: [])


@_mutant("10")
def polls_although_the_poll_is_put_off(patch: Patch) -> None:
    """Over the budget the loop polls, though it has not paused the partitions yet."""

    def apply_backpressure(self: Loop, now: float) -> None:
        original(self, now)
        self._puts_poll_off = False

    original = Loop._apply_backpressure
    patch.setattr(Loop, "_apply_backpressure", apply_backpressure)


# The fence


@_mutant("11")
def sends_after_a_refused_commit(patch: Patch) -> None:
    """A refused commit counts as made: the round leaves."""

    def commit(self: Commits, points: Collection[CommitPoint]) -> bool:
        original(self, points)
        self.is_fenced = False
        return True

    original = Commits.commit
    patch.setattr(Commits, "commit", commit)


@_mutant("12")
def drops_rows_when_a_commit_is_refused(patch: Patch) -> None:
    """The rows of a round whose commit was refused count as accepted."""

    def give_back(self: Any, requests: Sequence[Request], now: float) -> None:
        for request in requests:
            self.partitions.mark_accepted(request.rows)
            self.locations.accept(request.request_id, now)

    patch.setattr(Engine, "give_back", give_back)


@_mutant("13")
def workers_ignore_the_fence(patch: Patch) -> None:
    """A worker sends however old the covering commit is."""

    patch.setattr(SimulatedClient, "fence_seconds", float("inf"))


@_mutant("13")
def fence_counts_from_the_commit_reply(patch: Patch) -> None:
    """The age of the covering commit is measured from its reply instead of its call."""

    def submit(self: Any, submission: Submission) -> None:
        original(self, replace(submission, commit_started_at=self._process.uptime()))

    original = SimulatedClient.submit
    patch.setattr(SimulatedClient, "submit", submit)


@_mutant("13", Theme.TOKENS)
def resends_without_checking_the_fence(patch: Patch) -> None:
    """After a 401 the body is sent again without checking the fence."""

    def answered(self: Any, delivery: Delivery, wire: Wire, answer: Answer) -> None:
        if answer.kind is AnswerKind.UNAUTHORISED:
            delivery.submission = replace(delivery.submission, commit_started_at=float("inf"))
        original(self, delivery, wire, answer)

    original = SimulatedClient._answered
    patch.setattr(SimulatedClient, "_answered", answered)


# Answers


@_mutant("14")
def treats_unknown_as_accepted(patch: Patch) -> None:
    """A request with an unknown outcome counts as accepted."""

    _decides(patch, lambda decision: Accepted("?") if isinstance(decision, Hold) else decision)


@_mutant("15")
def never_holds(patch: Patch) -> None:
    """A request with an unknown outcome is retried like any other failure."""

    def instead(decision: Decision) -> Decision:
        return Retry(decision.breaker_seconds, whole_oms=True) if isinstance(decision, Hold) else decision

    _decides(patch, instead)


@_mutant("15")
def forgets_holds_on_revoke(patch: Patch) -> None:
    """Revoking a partition ends the holds of its locations."""

    def forget(self: Any, assignment_ids: Collection[int], now: float) -> None:
        original(self, assignment_ids, now)
        for location in self._by_name.values():
            location.backoff.reset()

    original = Locations.forget
    patch.setattr(Locations, "forget", forget)


@_mutant("16")
def resends_the_same_body(patch: Patch) -> None:
    """A failed request is not planned again: its worker resends the same body."""

    def answer(self: Any, delivery: Delivery, answer: Answer) -> None:
        if answer.kind in {AnswerKind.UNKNOWN, AnswerKind.UNAVAILABLE} and delivery.sends < 4:
            delivery.sends += 1
            self._process.after(1.0, lambda: self._first_byte(delivery, self._wire(delivery)))
        else:
            original(self, delivery, answer)

    original = SimulatedClient._answer
    patch.setattr(SimulatedClient, "_answer", answer)


@_mutant("17")
def puts_back_rows_of_old_assignments(patch: Patch) -> None:
    """A failed request puts back all of its rows, also those of revoked partitions."""

    def finish(self: Any, in_flight: InFlight, event: LocationEvent, now: float, rows: Any = None) -> Any:
        returning = in_flight.request.rows if rows is None else rows
        return original(self, in_flight, event, now, returning)

    original = Locations._finish
    patch.setattr(Locations, "_finish", finish)


@_mutant("17")
def accepts_frames_of_old_assignments(patch: Patch) -> None:
    """Rows that were decoded after their partition was revoked are added to the windows."""

    def add(self: Any, *args: Any) -> bool:
        with Patch.context() as within:
            within.setattr(self.partitions, "drop_stale", lambda rows: rows)
            return original(self, *args)

    original = Engine.add
    patch.setattr(Engine, "add", add)


@_mutant("18")
def dead_letters_all_changes_of_an_item(patch: Patch) -> None:
    """When one change of an item is refused, all of its changes are dead-lettered."""

    def refused(self: Any, request: RefusedRequest, *args: Any) -> bool:
        is_one_item = request.rows.select(ITEM_KEY).n_unique() == 1
        return original(self, replace(request, alone=request.alone or is_one_item), *args)

    original = Bisection.refused
    patch.setattr(Bisection, "refused", refused)


@_mutant("18")
def sends_the_oldest_change_first(patch: Patch) -> None:
    """The changes of a refused item are sent oldest first, although a newer count may be at the OMS already."""

    def oldest_last(rows: pl.DataFrame, item_key: Sequence[str]) -> pl.DataFrame:
        newest_first = range(rows.height - 1, -1, -1)  # ``reverse`` would lose the type of lists that are all null
        return newest_last(rows, item_key)[list(newest_first)]

    patch.setattr(bisection_module, "newest_last", oldest_last)


@_mutant("19")
def sends_without_the_newest_count(patch: Patch) -> None:
    """Some changes of an item are sent with their own count, although a newer count may be at the OMS already."""
    patch.setattr(Rows, "body", property(lambda self: self.frame))


@_mutant("19")
def ignores_the_attribute_limit(patch: Patch) -> None:
    """An item is sent with the union of all its attributes, however many there are."""

    for module in (window_module, bisection_module):
        patch.setattr(module, "split_overfull", lambda rows, _item_key: (rows, rows.clear()))


# Requests and partitions


@_mutant("15")
def sends_two_requests_per_location_at_once(patch: Patch) -> None:
    """A location with a request in flight may send another."""

    def start(self: RequestStarter, location: Location, *args: Any) -> Any:
        location.in_flight = None
        return original(self, location, *args)

    original = RequestStarter.start
    patch.setattr(RequestStarter, "start", start)
    patch.setattr(Location, "may_send", lambda self, now: not self.backoff.is_waiting(now))
    patch.setattr(Location, "check", lambda *_args: None)


@_mutant("20")
def hands_over_without_a_commit(patch: Patch) -> None:
    """A hand-over whose commit is refused is not repeated, so the next owner sends again what was accepted."""

    def commit(self: Any, assigned: Any, now: float, deadline: float, *, with_dead_letters: bool) -> None:
        del deadline, with_dead_letters
        self._commits.commit(self._commits.moved(now, assigned))

    patch.setattr(Rebalance, "_commit_at_last", commit)


@_mutant("20")
def keeps_rows_of_lost_partitions(patch: Patch) -> None:
    """Pending changes of a lost partition are still sent."""
    patch.setattr(window_module.Windows, "forget", lambda _self, _assignments: [])


@_mutant("20", Theme.HANDOVERS)
def clears_in_doubt_on_revoke(patch: Patch) -> None:
    """The last commit before a handover says that no request is in doubt."""

    def hand_over(self: Any, assignment_ids: Sequence[int], **more: Any) -> None:
        with Patch.context() as within:
            within.setattr(
                commits_module,
                "CommitMetadata",
                lambda read_up_to, _in_doubt, topic_id: CommitMetadata(read_up_to, False, topic_id),
            )
            original(self, assignment_ids, **more)

    original = Rebalance.hand_over
    patch.setattr(Rebalance, "hand_over", hand_over)


# The OMS's queue


@_mutant("22")
def sends_into_a_full_job_queue(patch: Patch) -> None:
    """Requests leave however many jobs are unfinished."""
    patch.setattr(Engine, "waits_for_jobs", False)


@_mutant("22")
def sends_no_probe_with_a_full_job_queue(patch: Patch) -> None:
    """With a full queue not even a probe leaves, while no job is asked about until a probe was accepted."""
    patch.setattr(Engine, "waits_for_jobs", property(lambda self: self._is_job_queue_full))


@_mutant("29")
def a_job_that_a_list_lacks_is_unknown(patch: Patch) -> None:
    """A job counts as unknown to the OMS when a list, which was cut, does not have it."""

    def found(self: JobQueries, listed: JobList, due: Sequence[str], now: float) -> tuple[list[JobReport], list[str]]:
        reports, missing = original(self, listed, due, now)
        return reports + [JobReport(job_id, unknown=True) for job_id in missing for _ in range(2)], []

    original = JobQueries._found
    patch.setattr(JobQueries, "_found", found)


@_mutant("22")
def a_full_job_queue_stays_full(patch: Patch) -> None:
    """Once the queue was full, nothing leaves any more."""

    def set_full(self: Engine, *, full: bool) -> None:
        self._is_job_queue_full = self._is_job_queue_full or full

    patch.setattr(Engine, "set_job_queue_full", set_full)


# Unknown schemas


@_mutant("23")
def later_messages_overtake(patch: Patch) -> None:
    """While a partition waits for a schema, what is read later of it is decoded and sent.

    The offset tracker would notice it and stop the process, so it is made blind to what was overtaken.
    """

    def settled(self: Any, decoded: Decoded, now: float, assigned: Any) -> Decoded:
        taken = [self._sent.popleft() for _ in range(decoded.batches)]
        retrying = [owner for owner, parked in self._parked.items() if parked.is_retrying]
        for owner, awaited in decoded.awaits.items():
            if owner in assigned:
                self._park(assigned[owner], awaited, taken, now)
        for owner in retrying:
            if owner not in decoded.awaits and any(owner in batch.assignments for batch in taken):
                self._retried(owner, now, assigned)
        return decoded

    def track(self: OffsetTracker, offsets: Any, next_offset: int) -> None:
        original_track(self, [offset for offset in offsets if offset >= (self._next or 0)], next_offset)

    original_track = OffsetTracker.track
    patch.setattr(SchemaWait, "put", lambda self, batch, now: self._send(batch, now))
    patch.setattr(SchemaWait, "_settled", settled)
    patch.setattr(OffsetTracker, "track", track)
    _releases_only_open_offsets(patch)


@_mutant("23")
def rejects_unknown_schemas_at_once(patch: Patch) -> None:
    """No partition waits for a schema that the registry does not know yet."""
    patch.setattr(SchemaWait, "_left", lambda _self, _assignment_id, _now: 0.0)


@_mutant("23")
def waits_for_junk_forever(patch: Patch) -> None:
    """However long a partition has waited, it waits on."""
    patch.setattr(SchemaWait, "_left", lambda _self, _assignment_id, _now: 1.0)


def _releases_only_open_offsets(patch: Patch) -> None:
    def release(self: Any, offsets: Any) -> None:
        still_open = dict(self._open.lines())
        original(self, [offset for offset in offsets if offset in still_open])

    original = OffsetTracker.release
    patch.setattr(OffsetTracker, "release", release)


@_mutant("18")
def bisects_a_gateways_page(patch: Patch) -> None:
    """A gateway's page counts as a refusal of the request's content."""

    def decided(answer: Answer, **more: Any) -> Decision:
        is_page = answer.kind is AnswerKind.GATEWAY_PAGE
        return Refused("page") if is_page else decide(answer, **more)

    patch.setattr(settlement_module, "decide", decided)


# Locations that are refused whole


@_mutant("30", Theme.LOCATIONS)
def dead_letters_a_location_that_was_refused_once(patch: Patch) -> None:
    """What is refused whole is dead-lettered at once, although the location may soon be known."""
    patch.setattr(SetAsideLocations, "_has_ended", lambda *_args: True)


@_mutant("30", Theme.LOCATIONS)
def dead_letters_changes_that_were_not_refused(patch: Patch) -> None:
    """The end of setting a location aside also takes the changes that were read since."""
    patch.setattr(Windows, "take_changes", lambda self, window, _ids: self.take_items(window, self.rows_of(window)))


@_mutant("30", Theme.LOCATIONS)
def dead_letters_a_change_at_the_first_page(patch: Patch) -> None:
    """A change that a gateway refuses alone is dead-lettered, although nothing else of its location was accepted."""
    patch.setattr(Bisection, "_is_bad", lambda *_args: True)


@_mutant("31", Theme.LOCATIONS)
def one_refused_location_stops_all(patch: Patch) -> None:
    """Nothing is sent any more because one location is refused, as by a 403."""
    patch.setattr(RefusedLocations, "stop_reason", lambda self, _pending: self._said and self._said.advice)


@_mutant("32", Theme.LOCATIONS)
def dead_letters_although_most_locations_are_refused(patch: Patch) -> None:
    """Each location's bad changes are found and dead-lettered, whatever the other locations are answered."""
    patch.setattr(RefusedLocations, "share_reason", lambda _self: None)


# Holds that end early


@_mutant("33", Theme.LOST_ANSWERS)
def a_strangers_job_ends_a_hold(patch: Patch) -> None:
    """A job of the same size ends a hold, although others may send."""

    def apply(self: Settlement, request_id: int, decision: Decision, now: float) -> Any:
        in_flight = self._locations.in_flight(request_id)
        settled = original(self, request_id, decision, now)
        if isinstance(decision, Hold):
            self._remember_lost(in_flight.request, in_flight.sent_at, now)
        return settled

    original = Settlement.apply
    patch.setattr(Settlement, "apply", apply)


@_mutant("33", Theme.LOST_ANSWERS)
def a_job_that_has_not_ended_ends_a_hold(patch: Patch) -> None:
    """It is enough that the job is queued."""
    patch.setattr(lost_answers_module, "_ENDED", frozenset(JobStatus))


@_mutant("33", Theme.LOST_ANSWERS)
def a_job_in_the_list_counts_as_acceptance(patch: Patch) -> None:
    """What waits for the location counts as accepted once the job of the lost request is found."""

    def end_hold(self: Engine, lost: LostAnswer, now: float) -> float | None:
        seconds_left = original(self, lost, now)
        location = self.locations.find(lost.location)
        if seconds_left is not None and location is not None:
            self.partitions.mark_accepted(self.locations._windows.rows_of(location.window))
        return seconds_left

    original = Engine.end_hold
    patch.setattr(Engine, "end_hold", end_hold)


@_mutant("33", Theme.LOST_ANSWERS)
def another_members_job_ends_a_hold(patch: Patch) -> None:
    """Holds end early although other members have partitions, too, or had them a moment ago."""
    patch.setattr(HoldQueries, "_clock_ahead", lambda self, now: (self._only_sender.oms_time() or 0.0) - now)


# Smart refresh


@_mutant("34", Theme.SMART_REFRESH)
def a_sync_request_leaves_while_a_job_of_its_location_is_queued(patch: Patch) -> None:
    """Our own unfinished jobs do not matter: smart refresh overtakes them."""
    patch.setattr(SmartRefresh, "queued", lambda *_args: None)


@_mutant("34", Theme.SMART_REFRESH)
def a_sync_request_leaves_while_the_last_owners_job_is_queued(patch: Patch) -> None:
    """A new owner uses smart refresh before a list has shown that nothing of the location is unfinished."""

    def assigned(self: SmartRefresh, _now: float, _doubt_until: float) -> None:
        self._all_listed = True

    patch.setattr(SmartRefresh, "assigned", assigned)


@_mutant("34", Theme.SMART_REFRESH)
def a_sync_request_leaves_after_a_lost_answer(patch: Patch) -> None:
    """A request of unknown outcome may be queued as a job; smart refresh is used once its hold is over."""
    patch.setattr(SmartRefresh, "outcome_unknown", lambda *_args: None)


@_mutant("34", Theme.SMART_REFRESH)
def a_list_that_was_cut_clears_locations(patch: Patch) -> None:
    """The list may lack the job that is still queued."""

    def listed(self: SmartRefresh, jobs: JobList, now: float) -> None:
        original(self, replace(jobs, is_complete=True), now)

    original = SmartRefresh.listed
    patch.setattr(SmartRefresh, "listed", listed)


@_mutant("14", Theme.SMART_REFRESH)
def a_sync_answer_without_all_items_counts(patch: Patch) -> None:
    """What smart refresh says nothing about counts as applied."""

    def read(body: bytes, items: pl.DataFrame, item_key: Sequence[str]) -> SmartReply:
        reply = read_smart_reply(body, items, item_key)
        return SmartApplied() if isinstance(reply, SmartUnknown) else reply

    patch.setattr(oms_module, "read_smart_reply", read)


@_mutant("34", Theme.SMART_REFRESH)
def items_that_smart_refresh_refuses_count_as_accepted(patch: Patch) -> None:
    """An answer that refuses some items counts for the whole request."""
    patch.setattr(Settlement, "_parts", lambda _self, request, _decision: (request, None))


# Size of requests, new tokens


@_mutant("25")
def sends_bodies_of_any_size(patch: Patch) -> None:
    """The worker sends what the planner has chosen, however large its body is."""

    def submit(self: SimulatedClient, submission: Submission) -> None:
        original(self, replace(submission, bytes_max=None))

    original = SimulatedClient.submit
    patch.setattr(SimulatedClient, "submit", submit)


@_mutant("25")
def dead_letters_a_body_that_is_too_large(patch: Patch) -> None:
    """The changes of a request whose body is too large are dead-lettered instead of planned with fewer items."""

    def shrink(self: Locations, request_id: int, _body_bytes: int, detail: str, now: float) -> list[Refusal]:
        in_flight = self.in_flight(request_id)
        rows = self._keep_current(in_flight.request.rows)
        refusals = [Refusal(in_flight.request.location, rows, detail)] if rows.height else []
        return refusals + self._finish(in_flight, LocationEvent.RETURNED, now, rows.clear())

    patch.setattr(Locations, "shrink", shrink)


@_mutant("25")
def plans_the_same_size_again(patch: Patch) -> None:
    """What a body measured is forgotten: the same request is planned again and again."""
    patch.setattr(BodySizes, "within", lambda _self, _location, plan: plan)


@_mutant("26", Theme.TOKENS)
def keeps_the_body_while_a_token_rests(patch: Patch) -> None:
    """A worker waits until the new token may be used, and then sends the body that it kept, without another look."""

    def rest(self: SimulatedClient, delivery: Delivery) -> None:
        def send_again() -> None:
            self._rests_until = 0.0
            wire = self._wire(delivery)
            self._first_byte(delivery, replace(wire, checked_at=checked_at))

        checked_at = self._process.world.now
        self._process.after(REST_SECONDS[-1], send_again)

    patch.setattr(SimulatedClient, "_rest", rest)


# Barriers


@_mutant("27")
def older_changes_leave_after_a_barrier(patch: Patch) -> None:
    """A count that cannot be sent is dead-lettered, and older counts of its item are still sent."""
    patch.setattr(Engine, "_supersede", lambda _self, _barriers, _now: None)


@_mutant("27")
def changes_in_recovery_leave_after_a_barrier(patch: Patch) -> None:
    """A barrier supersedes what waits in windows, but not what waits for its partition's recovery."""
    patch.setattr(Partitions, "take_superseded", lambda _self, _barriers: [])


@_mutant("27")
def failed_requests_put_back_superseded_changes(patch: Patch) -> None:
    """What a barrier has superseded while it was in flight is sent again if its request fails."""
    patch.setattr(SupersededChanges, "without_superseded", lambda _self, _location, returning: returning)


@_mutant("27")
def a_barrier_supersedes_newer_changes(patch: Patch) -> None:
    """Every pending change of the item is dead-lettered with a barrier, newer ones too."""

    def superseded(rows: pl.DataFrame, barriers: pl.DataFrame, item_key: Sequence[str]) -> pl.DataFrame:
        return of_items(rows, barriers, item_key).select(*CHANGE_ID, pl.lit(0, pl.Int64).alias(BARRIER_OFFSET))

    for module in (window_module, superseded_module, recovery_module):
        patch.setattr(module, "superseded_by", superseded)


# Redrive


@_mutant("28")
def redrive_looks_at_one_line_only(patch: Patch) -> None:
    """An event is redriven if the log has no newer change of its first line's item, whatever its other lines are."""

    def judge(events: pl.DataFrame, *args: Any) -> pl.DataFrame:
        return judge_all(events.unique(plan_module.RECORD_ID, keep="first", maintain_order=True), *args)

    judge_all = plan_module.judge
    patch.setattr(plan_module, "judge", judge)


@_mutant("28")
def redrive_ignores_barriers(patch: Patch) -> None:
    """A change is redriven although a newer count of its item was rejected because it cannot be sent."""

    def newest(changes: pl.DataFrame, *args: Any) -> pl.DataFrame:
        return newest_changes(changes.filter(pl.col("quantity") >= 0), *args)

    newest_changes = plan_module.newest_changes
    patch.setattr(plan_module, "newest_changes", newest)


def _decides(patch: Patch, instead: Callable[[Decision], Decision]) -> None:
    def decided(answer: Answer, **more: Any) -> Decision:
        return instead(decide(answer, **more))

    patch.setattr(settlement_module, "decide", decided)
