"""What became of a change, put together from members' answers, the topics and the committed offset."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from consumer.dead_letters.of_changes import WHOLE_EVENT, Letter, Letters
from consumer.observe.status import api
from consumer.trace import members
from consumer.trace.fates import ChangeFate, fates, notes
from consumer.trace.members import MemberAnswer
from consumer.trace.records import Event

NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)
NO_LETTERS = Letters({})


def event(offset: int, rejection: str | None = None, line: int = 0) -> Event:
    return Event(("stock", 0, offset, line), 1_000 * offset, {"sku": "a", "quantity": offset}, rejection)


def partition(next_offset: int | None = 10, state: Any = "reading") -> api.PartitionReport:
    return api.PartitionReport(
        topic="stock",
        partition=0,
        committed_offset=1,
        committable_offset=2,
        next_offset=next_offset,
        end_offset=20,
        lag=None,
        state=state,
    )


def change(offset: int, state: Any = "pending", accepted_at: datetime | None = None) -> api.TracedChange:
    request = api.TracedRequest(
        request_id="r-1",
        sent_at=None,
        accepted_at=accepted_at,
        items=1,
        job_id="7",
        job_outcome=None,
        job_ended_at=None,
        job_messages="",
    )
    return api.TracedChange(
        place=api.ChangePlace(topic="stock", partition=0, offset=offset, line=0),
        state=state,
        text=f"{state} at a member",
        next_step=None,
        recorded_at=None,
        read_at=None,
        leaves_by=None,
        value=None,
        coalesced_into=None,
        request=request if accepted_at else None,
    )


def member(
    *changes: api.TracedChange,
    partitions: Sequence[api.PartitionReport] = (),
    waits: Sequence[api.Wait] = (),
) -> MemberAnswer:
    trace = api.Trace(
        now=NOW,
        location="Rome",
        next_send="nothing to send",
        failed=None,
        waits=list(waits),
        changes=list(changes),
        left_out=0,
        complete_since=NOW,
        partitions=list(partitions),
    )
    return MemberAnswer("http://a", trace)


def told(
    *events: Event, letters: Letters = NO_LETTERS, answers: Sequence[MemberAnswer] = (), committed: int = 0
) -> list[tuple[int, str]]:
    return [
        (entry.place[2], entry.state.value)
        for entry in found(*events, letters=letters, answers=answers, committed=committed)
    ]


def found(
    *events: Event, letters: Letters = NO_LETTERS, answers: Sequence[MemberAnswer] = (), committed: int = 0
) -> list[ChangeFate]:
    return fates(events, letters, answers, {("stock", 0): committed})


def letter(**more: Any) -> Letter:
    known: dict[str, Any] = {
        "position": "dead/0/5",
        "reason": "refused_by_oms",
        "detail": "no such sku",
        "request_id": "r-1",
        "job_id": None,
        "written_at": 9.0,
    }
    return Letter(**(known | more))


def test_what_a_member_says_goes_first_and_what_only_a_member_knows_is_told_too() -> None:
    answers = [member(change(3), change(1, "accepted", NOW), partitions=[partition()])]
    assert told(event(3), event(12), answers=answers) == [(1, "accepted"), (3, "pending"), (12, "not_read")]


def test_of_two_members_the_one_that_has_it_pending_is_believed_then_the_later_one() -> None:
    """After a rebalance the old owner remembers that it left, and the new one reads it again."""
    later = NOW.replace(hour=10)
    pending, old, late = member(change(3)), member(change(3, "accepted", NOW)), member(change(3, "accepted", later))
    for answers in ([pending, late], [late, pending]):
        assert told(event(3), answers=answers) == [(3, "pending")]
    for answers in ([old, late], [late, old]):
        (entry,) = found(event(3), answers=answers)
        assert entry.known is not None
        assert entry.known.request is not None
        assert entry.known.request.accepted_at == later


def test_a_dead_letter_tells_what_no_member_remembers_also_one_of_the_whole_event() -> None:
    letters = Letters({("stock", 0, 3, WHOLE_EVENT): letter()})
    (entry,) = found(event(3), letters=letters, answers=[member(partitions=[partition()])])
    assert entry.text == (
        "dead-lettered (refused_by_oms): no such sku, of request r-1 (dead letter dead/0/5, written "
        "1970-01-01T00:00:09.000Z)"
    )
    assert entry.next_step == (
        "correct the cause, then: inventory-refresh dead-letters redrive --topic stock --partition 0 --offset 3"
    )
    assert told(event(3, line=2), letters=letters) == [(3, "dead_lettered")]
    of_line = Letters({("stock", 0, 3, 1): letter()})
    assert told(event(3, line=1), event(3, line=2), letters=of_line) == [(3, "dead_lettered"), (3, "unknown")]


def test_the_dead_letter_of_a_failed_job_is_added_to_what_the_member_says() -> None:
    letters = Letters({("stock", 0, 3, WHOLE_EVENT): letter(reason="job_failed", job_id="7")})
    (entry,) = found(event(3), letters=letters, answers=[member(change(3, "accepted", NOW))])
    assert entry.text == "accepted at a member (dead letter dead/0/5, written 1970-01-01T00:00:09.000Z)"
    (entry,) = found(event(3), letters=letters)
    assert entry.next_step == "correct the cause, then: inventory-refresh dead-letters redrive --job 7"


def test_what_is_not_read_yet_says_how_much_comes_before_it_and_why_reading_stopped() -> None:
    wait = api.Wait(level="bad", what="All requests", why="correct oms.api_key")
    (entry,) = found(event(14), answers=[member(partitions=[partition(10, "paused")], waits=[wait])])
    assert entry.text.startswith(
        "not read yet, or being decoded: 4 records before it; the partition is paused, because"
    )
    assert entry.next_step == "see what the process waits for: All requests: correct oms.api_key"
    answers = [member(partitions=[partition(10)])]
    assert told(event(9), event(10), answers=answers) == [(9, "accepted_job_unknown"), (10, "not_read")]
    (entry,) = found(event(14, "negative_quantity: quantity is -1"), answers=[member(partitions=[partition(None)])])
    assert entry.text.endswith("It will be dead-lettered: negative_quantity: quantity is -1")


def test_what_no_member_remembers_is_accepted_with_an_unknown_job_if_it_has_no_dead_letter() -> None:
    answers = [member(partitions=[partition()])]
    (entry,) = found(event(3), answers=answers)
    assert entry.state == "accepted_job_unknown"
    assert "it left before 2026-11-24T09:00:00.000Z, when the member's memory begins" in entry.text

    (entry,) = found(event(3, "deleted: by upstream"), answers=answers)
    assert entry.state == "dead_lettered"
    assert "Its dead letter was not found" in entry.text

    unreadable = Letters({}, "not authorised")
    assert told(event(3), letters=unreadable, answers=answers) == [(3, "unknown")]


@pytest.mark.parametrize(("committed", "state"), [(4, "accepted_job_unknown"), (3, "unknown"), (0, "unknown")])
def test_without_the_owner_only_what_is_committed_is_known(committed: int, state: str) -> None:
    assert told(event(3), committed=committed) == [(3, state)]


def test_what_is_not_known_is_said() -> None:
    answers = [member(), MemberAnswer("http://b", problem="does not answer: refused")]
    said = list(notes(answers, Letters({}, "not authorised"), {"corrupt": 1_200, "no_location": 1}))
    assert said[0] == "http://b does not answer: refused: what it has is not known"
    assert said[1] == "the dead-letter topic cannot be read: not authorised"
    assert "1,200 corrupt, 1 no_location; any may be of this item" in said[2]
    assert list(notes([member()], NO_LETTERS, {})) == []
    assert "finds no member" in next(notes([], NO_LETTERS, {}))


def test_a_member_that_is_busy_is_asked_again_and_one_of_another_version_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import httpx  # noqa: PLC0415

    monkeypatch.setattr(members, "PAUSE_SECONDS", 0.0)
    trace = member().trace
    assert trace is not None
    answers = iter(
        [
            httpx.Response(503, text="others ask\n"),
            httpx.Response(200, text=trace.model_dump_json()),
            httpx.Response(404, text="not found"),
            httpx.Response(200, text="{}"),
            *[httpx.Response(503, text="others ask\n")] * members.CALLS_MAX,
        ]
    )
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return next(answers)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        said = [members._ask(client, "http://a", {"location": "Store 12", "sku": "a"}) for _ in range(4)]
    assert asked[0] == "http://a/api/trace?location=Store+12&sku=a"
    assert [found.problem for found in said] == [
        None,
        "answers with HTTP 404: not a member of this version",
        "answers, but not as this version does",
        "is busy: others ask",
    ]
    assert said[0].trace == trace
