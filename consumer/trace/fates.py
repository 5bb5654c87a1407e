"""What became of each change: what members say, and what the topics say where no member knows. No I/O here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from consumer.dead_letters.log_reader import Partition
from consumer.dead_letters.of_changes import Letter, Letters, Place
from consumer.observe.status import api
from consumer.observe.status.traces import letter_next_step, letter_text
from consumer.text import iso_time
from consumer.trace.members import MemberAnswer
from consumer.trace.records import Event


class State(StrEnum):
    """Where a change is, or what has become of it."""

    NOT_READ = "not_read"
    RECOVERING = "recovering"
    PENDING = "pending"
    IN_FLIGHT = "in_flight"
    ACCEPTED = "accepted"
    ACCEPTED_JOB_UNKNOWN = "accepted_job_unknown"
    DEAD_LETTERED = "dead_lettered"
    UNKNOWN = "unknown"


_PENDING: Final = (State.PENDING, State.IN_FLIGHT, State.RECOVERING)


@dataclass(frozen=True, slots=True)
class ChangeFate:
    """A change of the item, and what became of it.

    ``event`` is None if its record was not read: it is older than what was read, or not there any more. ``known`` is
    what a member says of it, ``letter`` its dead letter.
    """

    place: Place
    state: State
    text: str
    next_step: str | None = None
    event: Event | None = None
    known: api.TracedChange | None = None
    letter: Letter | None = None

    @property
    def at(self) -> float | None:
        """When it was published, or read if that is not known; seconds since 1970."""
        if self.event and self.event.timestamp is not None:
            return self.event.timestamp / 1000
        time = (self.known.recorded_at or self.known.read_at) if self.known else None
        return time.timestamp() if isinstance(time, datetime) else None


def fates(
    events: Sequence[Event],
    letters: Letters,
    answers: Sequence[MemberAnswer],
    committed: Mapping[Partition, int],
) -> list[ChangeFate]:
    """What became of each change: of those that were read, and of those that only members know. The oldest first.

    ``committed`` are the group's committed offsets, 0 without one.
    """
    traces = [answer.trace for answer in answers if answer.trace is not None]
    known = _known_by_members(traces)
    owners = {(report.topic, report.partition): (trace, report) for trace in traces for report in trace.partitions}
    found = [_fate_of(event, known.get(event.place), letters, owners, committed) for event in events]
    read = {event.place for event in events}
    found += [
        _of_member(place, change, None, letters.of(place)) for place, change in known.items() if place not in read
    ]
    return sorted(found, key=lambda entry: (entry.at or 0.0, entry.place))


def _known_by_members(traces: Sequence[api.Trace]) -> dict[Place, api.TracedChange]:
    """By place; of several members that know it the one that has it pending, else the one that saw it leave last."""
    known: dict[Place, api.TracedChange] = {}
    for trace in traces:
        for change in trace.changes:
            where = change.place
            place = (where.topic, where.partition, where.offset, where.line)
            if place not in known or _rank(change) > _rank(known[place]):
                known[place] = change
    return known


def _rank(change: api.TracedChange) -> tuple[bool, float]:
    accepted_at = change.request.accepted_at if change.request else None
    return State(change.state) in _PENDING, accepted_at.timestamp() if accepted_at else 0.0


_Owners = Mapping[Partition, tuple[api.Trace, api.PartitionReport]]


def _fate_of(
    event: Event, known: api.TracedChange | None, letters: Letters, owners: _Owners, committed: Mapping[Partition, int]
) -> ChangeFate:
    place = event.place
    letter = letters.of(place)
    if known is not None:
        return _of_member(place, known, event, letter)
    if letter is not None:
        next_step = letter_next_step(letter.reason, letter.job_id, *place[:3])
        return ChangeFate(place, State.DEAD_LETTERED, _letter_text(letter), next_step, event, letter=letter)
    owner = owners.get(place[:2])
    if owner is not None:
        return _of_owner(event, *owner, letters)
    if place[2] < committed.get(place[:2], 0):
        return _left_unseen(event, "no member that has its partition now answered", letters)
    return ChangeFate(
        place,
        State.UNKNOWN,
        "not accepted as of the last commit. Whether it was read is not known: no member that has its partition "
        "answered",
        "start the service, or name its members with --member",
        event,
    )


def _of_member(place: Place, known: api.TracedChange, event: Event | None, letter: Letter | None) -> ChangeFate:
    """What a member says goes first; the dead letter of a failed job is added to it."""
    text = known.text
    if letter is not None and known.state == "accepted":
        text = f"{text} ({_letter_place(letter)})"
    return ChangeFate(place, State(known.state), text, known.next_step, event, known, letter)


def _of_owner(event: Event, trace: api.Trace, report: api.PartitionReport, letters: Letters) -> ChangeFate:
    """The member that has the partition knows nothing of the change: it has not read it yet, or not any more."""
    place, offset = event.place, event.place[2]
    if report.next_offset is None or offset >= report.next_offset:
        before = "" if report.next_offset is None else f"{offset - report.next_offset:,} records before it; "
        text = f"not read yet, or being decoded: {before}the partition is {_STATES[report.state]}"
        if event.rejection:
            text += f". It will be dead-lettered: {event.rejection}"
        return ChangeFate(place, State.NOT_READ, text, _if_stuck(trace, report), event)
    since = _time(trace.complete_since)
    return _left_unseen(event, f"it left before {since}, when the member's memory begins, or another sent it", letters)


_STATES: Final = {
    "reading": "being read",
    "paused": "paused, because enough is pending or something else has to come first",
    "recovering": "recovering: what its previous owner had read is read again first",
}


def _if_stuck(trace: api.Trace, report: api.PartitionReport) -> str | None:
    """What the process waits for that keeps it from reading."""
    waits = [f"{wait.what}: {wait.why}" for wait in trace.waits if wait.level == "bad"]
    return f"see what the process waits for: {'; '.join(waits)}" if waits and report.state != "reading" else None


def _left_unseen(event: Event, why: str, letters: Letters) -> ChangeFate:
    """A change that has left and that no member remembers."""
    place = event.place
    if event.rejection:
        text = f"rejected: {event.rejection}. Its dead letter was not found; {why}"
        return ChangeFate(place, State.DEAD_LETTERED, text, "correct it upstream, and have it published again", event)
    if letters.problem is not None:
        text = f"accepted or dead-lettered, which only the dead-letter topic could show; {why}"
        return ChangeFate(place, State.UNKNOWN, text, None, event)
    text = f"accepted, job unknown: it is done with and has no dead letter; {why}"
    return ChangeFate(place, State.ACCEPTED_JOB_UNKNOWN, text, None, event)


def _letter_text(letter: Letter) -> str:
    by = [f"request {letter.request_id}"] if letter.request_id else []
    by += [f"job {letter.job_id}"] if letter.job_id else []
    of = f", of {' and '.join(by)}" if by else ""
    return f"{letter_text(letter.reason, letter.detail)}{of} ({_letter_place(letter)})"


def _letter_place(letter: Letter) -> str:
    at = f", written {iso_time(letter.written_at)}" if letter.written_at is not None else ""
    return f"dead letter {letter.position}{at}"


def _time(at: datetime) -> str:
    return iso_time(at.timestamp())


def notes(answers: Sequence[MemberAnswer], letters: Letters, unreadable: Mapping[str, int]) -> Iterator[str]:
    """What is not known, and why."""
    for answer in answers:
        if answer.problem is not None:
            yield f"{answer.url} {answer.problem}: what it has is not known"
    if not answers:
        yield "http.members finds no member: correct it, or give --member; what is pending is not known"
    if letters.problem is not None:
        yield f"the dead-letter topic cannot be read: {letters.problem}"
    if unreadable:
        counts = ", ".join(f"{count:,} {reason}" for reason, count in sorted(unreadable.items()))
        yield (
            f"changes that are rejected and whose item is not known: {counts}; any may be of this item. See "
            "inventory-refresh dead-letters list"
        )
