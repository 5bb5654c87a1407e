"""Mutants: each one breaks a single rule on purpose. If the simulation misses one, a checker is blind.

A mutant patches production code for the length of one run. ``rule`` is the number of its rule in docs/protocol.md.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import polars as pl
import pytest

from consumer.core.changes.blocks import Rows
from consumer.core.changes.coalesce import newest_last
from consumer.core.changes.items import ASSIGNMENT, ITEM_KEY, LOCATION, OFFSET
from consumer.core.engine import Engine
from consumer.core.location import window as window_module
from consumer.core.location.backoff import LocationBackoff
from consumer.core.location.bisection import Bisections
from consumer.core.location.in_flight import Flight, InFlightRequests
from consumer.core.location.request import Request
from consumer.core.oms.answers import Accepted, Answer, AnswerKind, Decision, Hold, Retry, decide
from consumer.core.partition.commit_metadata import CommitMetadata, parse_metadata
from consumer.core.partition.offsets import OffsetTracker
from consumer.core.partition.partitions import CommitPoint, Partitions
from consumer.core.partition.recovery import Recoveries
from consumer.loop import loop as loop_module
from consumer.loop.loop import Loop
from consumer.ports import Assignment, Commit, Submission
from tests.simulation.client import Flight as SimulatedFlight
from tests.simulation.client import SimulatedClient
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

    def points(self: Partitions, under_way: Collection[int]) -> list[CommitPoint]:
        return [replace(point, offset=point.mark) for point in original(self, under_way)]

    original = Partitions.commit_points
    patch.setattr(Partitions, "commit_points", points)


@_mutant("3")
def commits_the_consumer_position(patch: Patch) -> None:
    """With nothing pending, the consumer's position is committed, although the decoder may still hold changes."""

    def as_commit(self: Any, point: CommitPoint) -> Commit:
        commit: Commit = original(self, point)
        if point.offset == self._engine.next_offset(point.assignment):
            return replace(commit, offset=self._source.positions[point.assignment])
        return commit

    original = Loop._as_commit
    patch.setattr(Loop, "_as_commit", as_commit)


@_mutant("3")
def forgets_superseded_offsets(patch: Patch) -> None:
    """An older change counts as accepted as soon as a newer change of its item is read."""

    def give(self: Any, rows: pl.DataFrame, rejected: Any, next_offsets: Mapping[int, int]) -> None:
        original_give(self, rows, rejected, next_offsets)
        latest = self.__dict__.setdefault("latest", {})
        for number, offset, *item in rows.sort(OFFSET).select(ASSIGNMENT, OFFSET, LOCATION, *ITEM_KEY).iter_rows():
            older = latest.get((number, *item))
            if older is not None and number in self._held:
                self._held[number].offsets.close(pl.Series([older]))
            latest[number, *item] = offset

    def close(self: Any, offsets: pl.Series) -> None:
        known = offsets.filter(offsets >= self._base)
        if len(known):
            original_close(self, known.filter(self._flags[known - self._base] == 1))

    original_give, original_close = Partitions.give, OffsetTracker.close
    patch.setattr(Partitions, "give", give)
    patch.setattr(OffsetTracker, "close", close)


@_mutant("3")
def forgets_rejects(patch: Patch) -> None:
    """A reject counts as accepted before its dead letter is confirmed."""

    def give(self: Any, rows: pl.DataFrame, rejected: Any, next_offsets: Mapping[int, int]) -> None:
        del rejected
        original(self, rows, [], next_offsets)

    original = Partitions.give
    patch.setattr(Partitions, "give", give)


@_mutant("4")
def read_up_to_goes_backwards(patch: Patch) -> None:
    """A new owner commits its own reading position as ``read_up_to``, although the previous owner had read further."""

    def points(self: Partitions, under_way: Collection[int]) -> list[CommitPoint]:
        return [
            replace(point, mark=max(point.offset, self.next_offset(point.assignment) or 0))
            for point in original(self, under_way)
        ]

    original = Partitions.commit_points
    patch.setattr(Partitions, "commit_points", points)


@_mutant("5", Theme.HANDOVERS)
def foreign_metadata_means_not_in_doubt(patch: Patch) -> None:
    """Metadata written by another tool is read as "no request in doubt"."""

    def parse(metadata: str, *, committed: int) -> CommitMetadata:
        mark = parse_metadata(metadata, committed=committed)
        return mark if metadata.startswith("v1;") else replace(mark, in_doubt=False)

    patch.setattr(loop_module, "parse_metadata", parse)


@_mutant("5", Theme.HANDOVERS)
def clears_inherited_in_doubt(patch: Patch) -> None:
    """A new owner that still waits out the previous owner's requests commits that none is in doubt."""
    patch.setattr(Recoveries, "waiting", lambda _self, _now: set())


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

    patch.setattr(Recoveries, "begin", lambda _self, _number, **_found: None)


@_mutant("7", Theme.HANDOVERS)
def ignores_in_doubt(patch: Patch) -> None:
    """A new owner does not wait out the requests that its predecessor left in doubt."""

    def parse(metadata: str, *, committed: int) -> CommitMetadata:
        return replace(parse_metadata(metadata, committed=committed), in_doubt=False)

    patch.setattr(loop_module, "parse_metadata", parse)


@_mutant("9")
def resets_to_latest(patch: Patch) -> None:
    """A partition without a committed offset is read from its end."""

    def start_of(_self: SimulatedSource, assignment: Assignment) -> int:
        return assignment.high if assignment.committed is None else assignment.committed

    patch.setattr(SimulatedSource, "start_of", start_of)


@_mutant("10")
def budget_pauses_recovery(patch: Patch) -> None:
    """Over ``window.max_pending_changes`` all partitions pause, recovering ones too."""

    def to_pause(self: Any) -> frozenset[int]:
        wanted: frozenset[int] = original(self)
        return frozenset(self.assignments) if self._over_budget else wanted

    original = Engine.to_pause
    patch.setattr(Engine, "to_pause", to_pause)


@_mutant("10")
def offset_limit_pauses_recovery(patch: Patch) -> None:
    """``kafka.max_uncommitted_offsets`` also pauses partitions that have not reached ``read_up_to`` yet."""

    patch.setattr(Recoveries, "unread", lambda _self: set())


@_mutant("10")
def ignores_the_offset_limit(patch: Patch) -> None:
    """``kafka.max_uncommitted_offsets`` pauses no partition."""

    patch.setattr(Partitions, "far", lambda _self: set())


# The fence


@_mutant("11")
def sends_after_a_refused_commit(patch: Patch) -> None:
    """A refused commit counts as made: the round leaves."""

    def commit(self: Loop, points: Collection[CommitPoint]) -> bool:
        original(self, points)
        self._fenced = False
        return True

    original = Loop._commit
    patch.setattr(Loop, "_commit", commit)


@_mutant("12")
def drops_rows_when_a_commit_is_refused(patch: Patch) -> None:
    """The rows of a round whose commit was refused count as accepted."""

    def give_back(self: Any, requests: Sequence[Request]) -> None:
        for request in requests:
            self._flights.land(request.request_id)
            self._partitions.cover(request.rows)

    patch.setattr(Engine, "give_back", give_back)


@_mutant("13")
def workers_ignore_the_fence(patch: Patch) -> None:
    """A worker sends however old the covering commit is."""

    patch.setattr(SimulatedClient, "fence_seconds", float("inf"))


@_mutant("13")
def fence_counts_from_the_commit_reply(patch: Patch) -> None:
    """The age of the covering commit is measured from its reply instead of its call."""

    def submit(self: Any, submission: Submission) -> None:
        original(self, replace(submission, covered_at=self._process.uptime()))

    original = SimulatedClient.submit
    patch.setattr(SimulatedClient, "submit", submit)


@_mutant("13", Theme.TOKENS)
def resends_without_checking_the_fence(patch: Patch) -> None:
    """After a 401 the body is sent again without checking the fence."""

    def answered(self: Any, flight: SimulatedFlight, wire: Wire, answer: Answer) -> None:
        if answer.kind is AnswerKind.UNAUTHORISED:
            flight.submission = replace(flight.submission, covered_at=float("inf"))
        original(self, flight, wire, answer)

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
        return Retry(decision.oms_rest_seconds, whole_oms=True) if isinstance(decision, Hold) else decision

    _decides(patch, instead)


@_mutant("15")
def forgets_holds_on_revoke(patch: Patch) -> None:
    """Revoking a partition ends the holds of its locations."""

    def forget(self: Any, assignments: Collection[int]) -> None:
        original(self, assignments)
        self._pace = LocationBackoff()

    original = Engine.forget
    patch.setattr(Engine, "forget", forget)


@_mutant("16")
def resends_the_same_body(patch: Patch) -> None:
    """A failed request is not planned again: its worker resends the same body."""

    def answer(self: Any, flight: SimulatedFlight, answer: Answer) -> None:
        if answer.kind in {AnswerKind.UNKNOWN, AnswerKind.UNAVAILABLE} and flight.sends < 4:
            flight.sends += 1
            self._process.after(1.0, lambda: self._first_byte(flight, self._wire(flight)))
        else:
            original(self, flight, answer)

    original = SimulatedClient._answer
    patch.setattr(SimulatedClient, "_answer", answer)


@_mutant("17")
def puts_back_rows_of_old_assignments(patch: Patch) -> None:
    """A failed request puts back all of its rows, also those of revoked partitions."""

    def put_back(self: Any, request: Request) -> None:
        window = self._windows.put_back(request.location, request.rows)
        self._agenda.watch(window)
        self._agenda.ready.add(request.location)

    patch.setattr(Engine, "_put_back", put_back)


@_mutant("17")
def accepts_frames_of_old_assignments(patch: Patch) -> None:
    """Rows that were decoded after their partition was revoked are added to the windows."""

    def add(self: Any, *args: Any) -> bool:
        with Patch.context() as within:
            within.setattr(self._partitions, "ours", lambda rows: rows)
            return original(self, *args)

    original = Engine.add
    patch.setattr(Engine, "add", add)


@_mutant("18")
def dead_letters_all_changes_of_an_item(patch: Patch) -> None:
    """When one change of an item is refused, all of its changes are dead-lettered."""

    def refused(self: Any, location: str, part: Any, rows: pl.DataFrame, *, alone: bool, **more: Any) -> bool:
        is_one_item = rows.select(ITEM_KEY).n_unique() == 1
        return original(self, location, part, rows, alone=alone or is_one_item, **more)

    original = Bisections.refused
    patch.setattr(Bisections, "refused", refused)


@_mutant("18")
def sends_the_oldest_change_first(patch: Patch) -> None:
    """The changes of a refused item are sent oldest first, although a newer count may be at the OMS already."""

    def oldest_last(rows: pl.DataFrame, item_key: Sequence[str]) -> pl.DataFrame:
        newest_first = range(rows.height - 1, -1, -1)  # ``reverse`` would lose the type of lists that are all null
        return newest_last(rows, item_key)[list(newest_first)]

    patch.setattr(window_module, "newest_last", oldest_last)


@_mutant("19")
def sends_without_the_newest_count(patch: Patch) -> None:
    """Some changes of an item are sent with their own count, although a newer count may be at the OMS already."""
    patch.setattr(Rows, "body", property(lambda self: self.frame))


@_mutant("19")
def ignores_the_attribute_limit(patch: Patch) -> None:
    """An item is sent with the union of all its attributes, however many there are."""

    patch.setattr(window_module, "split_overfull", lambda rows, _item_key: (rows, rows.clear()))


# Requests and partitions


@_mutant("15")
def sends_two_requests_per_location_at_once(patch: Patch) -> None:
    """A location with a request in flight may send another."""

    def depart(self: Any, request: Request, *args: Any) -> None:
        self._by_location.pop(request.location, None)
        original(self, request, *args)

    def land(self: Any, number: int) -> Flight:
        flight: Flight = self._flights.pop(number)
        self._by_location.pop(flight.request.location, None)
        return flight

    patch.setattr(InFlightRequests, "at", lambda _self, _location: None)
    original = InFlightRequests.depart
    patch.setattr(InFlightRequests, "depart", depart)
    patch.setattr(InFlightRequests, "land", land)


@_mutant("20")
def keeps_rows_of_lost_partitions(patch: Patch) -> None:
    """Pending changes of a lost partition are still sent."""
    patch.setattr(window_module.Windows, "forget", lambda _self, _assignments: None)


@_mutant("20", Theme.HANDOVERS)
def clears_in_doubt_on_revoke(patch: Patch) -> None:
    """The last commit before a handover says that no request is in doubt."""

    def give_up(self: Any, numbers: Sequence[int], **more: Any) -> None:
        with Patch.context() as within:
            within.setattr(
                loop_module, "CommitMetadata", lambda offset, _open, topic_id: CommitMetadata(offset, False, topic_id)
            )
            original(self, numbers, **more)

    original = Loop._give_up
    patch.setattr(Loop, "_give_up", give_up)


def _decides(patch: Patch, instead: Callable[[Decision], Decision]) -> None:
    def decided(answer: Answer, **more: Any) -> Decision:
        return instead(decide(answer, **more))

    patch.setattr(loop_module, "decide", decided)
