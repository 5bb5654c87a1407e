"""What the command ``trace`` does: print where the changes of an item are, and what has become of them."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.progress import MofNCompleteColumn
from rich.text import Text

from consumer.core.trace.query import ItemQuery
from consumer.dead_letters.log_reader import LogReader
from consumer.dead_letters.of_changes import read_letters
from consumer.observe.members import find_members
from consumer.observe.status import api
from consumer.observe.status.words import counted
from consumer.plan.records import Range, Wanted, range_of
from consumer.settings import Settings
from consumer.status_command import members_of, own_url
from consumer.terminal import console, progress_bar
from consumer.text import escape_unprintable, iso_time
from consumer.trace.candidates import Candidates, candidates
from consumer.trace.fates import ChangeFate, State, fates, notes
from consumer.trace.members import MemberAnswer, ask_members
from consumer.trace.records import ItemEvents, read_events

CLIENT_ID: Final = "inventory-refresh-trace"
SHOWN_MAX: Final = 100
"""Changes in the text, the latest; the JSON has all that are kept."""
_STYLES: Final[Mapping[State, str]] = {
    State.DEAD_LETTERED: "bold red",
    State.UNKNOWN: "yellow",
    State.ACCEPTED: "green",
    State.ACCEPTED_JOB_UNKNOWN: "green",
}


@dataclass(frozen=True, slots=True)
class _Found:
    """Everything that is known of the item."""

    fates: Sequence[ChangeFate]
    events: ItemEvents
    range: Range
    answers: Sequence[MemberAnswer]
    candidates: Candidates | None
    notes: Sequence[str]


def print_trace(
    settings: Settings,
    location: str,
    identifiers: Mapping[str, str],
    since_ms: int,
    members: Sequence[str],
    *,
    as_json: bool,
) -> None:
    """Print where the item is. ``identifiers`` are by column, at least one; all must match.

    The source topics and the dead-letter topic are read from ``since_ms`` on. ``members`` are addresses of status
    pages; without any, those of ``http.members`` are asked, or else the process on this machine.

    Raises SettingsError, BrokerError and DeadLettersError.
    """
    urls, problems = _urls(settings, members)
    found = _find(settings, location, identifiers, since_ms, urls, problems)
    if as_json:
        print(json.dumps(_as_object(location, identifiers, since_ms, found), ensure_ascii=False))  # noqa: T201 - the result of the command
    else:
        _print_text(console(highlight=False, soft_wrap=True), location, identifiers, since_ms, found)


def _urls(settings: Settings, members: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """The addresses to ask, and why others are not known."""
    if members or not settings.http.members:
        return members_of(members or [own_url(settings.http)], "trace"), ()
    found = find_members(settings.http.members)
    return found.urls, found.problems


def _find(
    settings: Settings,
    location: str,
    identifiers: Mapping[str, str],
    since_ms: int,
    urls: Sequence[str],
    problems: Sequence[str],
) -> _Found:
    """Members are asked last: what they have not read by then was certainly not read when its record was."""
    query = ItemQuery(location, (identifiers,))
    with (
        closing(LogReader(settings.kafka, CLIENT_ID)) as log,
        progress_bar("records", MofNCompleteColumn()) as bar,
    ):
        found = range_of(log, settings.kafka.topics, Wanted(since_ms=since_ms))
        task = bar.add_task("records", total=found.offsets)
        events = read_events(settings, log, found, query, lambda read: bar.update(task, completed=read))
        answers = ask_members(urls, location, dict(identifiers))
        committed = log.committed_offsets(list(found.starts))
    places = {event.place for event in events.events} | {
        (change.place.topic, change.place.partition, change.place.offset, change.place.line)
        for answer in answers
        if answer.trace
        for change in answer.trace.changes
    }
    letters = read_letters(settings, since_ms, places)
    found_fates = fates(list(events.events), letters, answers, committed)
    of_no_job = [entry.at or since_ms / 1000 for entry in found_fates if entry.state is State.ACCEPTED_JOB_UNKNOWN]
    return _Found(
        fates=found_fates,
        events=events,
        range=found,
        answers=answers,
        candidates=candidates(settings, location, min(of_no_job)) if of_no_job else None,
        notes=[*problems, *notes(answers, letters, events.unreadable)],
    )


# JSON


def _as_object(location: str, identifiers: Mapping[str, str], since_ms: int, found: _Found) -> dict[str, Any]:
    return {
        "location": location,
        "item": dict(identifiers),
        "since": iso_time(since_ms / 1000),
        "now": iso_time(time.time()),
        "records_read": found.events.messages,
        "changes": [_change_object(fate) for fate in found.fates],
        "left_out": max(found.events.found - len(found.events.events), 0),
        "members": [{"url": answer.url, "problem": answer.problem} for answer in found.answers],
        "candidates": _candidates_object(found.candidates),
        "notes": list(found.notes),
    }


def _change_object(fate: ChangeFate) -> dict[str, Any]:
    topic, partition, offset, line = fate.place
    request = fate.known.request if fate.known else None
    letter = fate.letter
    return {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "line": line,
        "at": None if fate.at is None else iso_time(fate.at),
        "item": _item(fate),
        "state": fate.state.value,
        "text": fate.text,
        "next_step": fate.next_step,
        "leaves_by": _iso(fate.known.leaves_by) if fate.known else None,
        "coalesced_into": fate.known.coalesced_into.model_dump() if fate.known and fate.known.coalesced_into else None,
        "request": request.model_dump(mode="json") if request else None,
        "dead_letter": None
        if letter is None
        else {"position": letter.position, "reason": letter.reason, "detail": letter.detail},
    }


def _candidates_object(found: Candidates | None) -> dict[str, Any] | None:
    if found is None:
        return None
    jobs = [
        {
            "job_id": job.report.job_id,
            "status": job.report.status,
            "added": None if job.report.added is None else iso_time(job.report.added),
            "items": job.items,
        }
        for job in found.jobs
    ]
    return {"jobs": jobs, "left_out": found.left_out, "problem": found.problem}


def _item(fate: ChangeFate) -> Mapping[str, Any] | None:
    if fate.event is not None:
        return fate.event.item
    value = fate.known.value if fate.known else None
    return json.loads(value) if value else None


def _iso(at: Any) -> str | None:
    return None if at is None else iso_time(at.timestamp())


# Text


def _print_text(printed: Console, location: str, identifiers: Mapping[str, str], since_ms: int, found: _Found) -> None:
    names = ", ".join(f"{name} {value}" for name, value in identifiers.items())
    shown = found.fates[-SHOWN_MAX:]
    printed.print(_text(f"{location}, {names}", "bold"))
    asked = sum(answer.problem is None for answer in found.answers)
    printed.print(
        f"{counted(found.events.messages, 'record')} of {counted(len(found.range.starts), 'partition')} read since "
        f"{iso_time(since_ms / 1000)}; {asked} of {counted(len(found.answers), 'member')} answered",
        markup=False,
    )
    for trace in (answer.trace for answer in found.answers if answer.trace):
        if any(change.state in _AT_MEMBER for change in trace.changes):
            _print_waits(printed, trace)
    if not found.fates:
        printed.print("No change of this item was found: is the name exact, and --since long enough?", markup=False)
    left_out = max(found.events.found - len(found.events.events), 0) + len(found.fates) - len(shown)
    if left_out:
        printed.print(f"\n{left_out:,} older changes are left out; see --json and --since", markup=False)
    for fate in shown:
        _print_change(printed, fate)
    if found.candidates is not None:
        _print_candidates(printed, found.candidates)
    for note in found.notes:
        printed.print(_text(f"\nnot known: {note}", "yellow"))


_AT_MEMBER: Final = ("pending", "in_flight", "recovering")


def _print_waits(printed: Console, trace: api.Trace) -> None:
    """Why what is pending of the location has not left."""
    if trace.failed:
        printed.print(_text(f"last not accepted: {trace.failed}"))
    for wait in trace.waits:
        if wait.level != "good":
            printed.print(_text(f"waits: {wait.what}: {wait.why}"))


def _print_change(printed: Console, fate: ChangeFate) -> None:
    topic, partition, offset, line = fate.place
    place = f"{topic}[{partition}], offset {offset}" + (f", line {line}" if line else "")
    at = "time not known" if fate.at is None else iso_time(fate.at)
    item = _item(fate)
    value = json.dumps(item, ensure_ascii=False) if item is not None else "value not read"
    printed.print()
    printed.print(_text(f"{at}  {place}  {value}"))
    printed.print(_text(f"    {fate.text}", _STYLES.get(fate.state, "")))
    if fate.next_step:
        printed.print(_text(f"    do: {fate.next_step}", "bold"))


def _print_candidates(printed: Console, found: Candidates) -> None:
    if found.problem is not None:
        printed.print(_text(f"\nwhich job: {found.problem}"))
        return
    printed.print("\nJobs of the location since then, one of which it may be:" if found.jobs else "\nNo job is listed.")
    for job in found.jobs:
        added = "time not known" if job.report.added is None else iso_time(job.report.added)
        items = "" if job.items is None else f", {counted(job.items, 'item')}"
        printed.print(_text(f"    {added}  job {job.report.job_id}  {job.report.status or 'unknown'}{items}"))
    if found.left_out:
        printed.print(f"    and {found.left_out:,} later ones")


def _text(text: str, style: str = "") -> Text:
    """Text from outside: no markup, nothing that steers the terminal."""
    lines = (escape_unprintable(line) for line in text.split("\n"))
    return Text("\n".join(lines), style=style)
