"""Where an item is, as the status server says it."""

import re
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest
from prometheus_client import CollectorRegistry

from consumer.core.changes.items import ITEM_KEY, RejectReason
from consumer.core.oms.answers import AnswerKind
from consumer.core.oms.job_schedule import JobOutcome
from consumer.facts import PartitionsAssigned
from consumer.observe.status import content
from consumer.observe.status.api import json_schema
from tests.support.facts import assignment
from tests.support.frames import change, frame
from tests.support.status_server import running_status_server
from tests.support.status_story import Story
from tests.support.traces import MAX_AGE_SECONDS, TracedEngine, story_of_an_item

WAIT_SECONDS_MAX = 60.0


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
def url(story: Story) -> Iterator[str]:
    with running_status_server(story.board, CollectorRegistry()) as server:
        yield f"{server.url}/api/trace"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "TRACE_SECONDS_MAX", WAIT_SECONDS_MAX)


def asked(traced: TracedEngine, url: str, **query: str) -> dict[str, Any]:
    with traced.answering():
        answer = httpx.get(url, params={"location": "Rome", **query}, timeout=WAIT_SECONDS_MAX)
    assert answer.status_code == 200, answer.text
    schema = json_schema()
    found: dict[str, Any] = answer.json()
    jsonschema.validate(found, {"$ref": schema["paths"]["/api/trace"], "$defs": schema["$defs"]})
    return found


def without_times(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "AT", text)


def of(story: Story, **more: Any) -> TracedEngine:
    return TracedEngine(story.board.questions, story.clock, **more)


def test_every_change_of_the_item_has_its_place_and_its_fate_in_words(story: Story, url: str) -> None:
    found = asked(story_of_an_item(story.board.questions, story.clock), url, sku="B-1")

    waits = (
        "waits in the window of its location, whose next request leaves after the answer to the request in flight; "
        "this change leaves at the latest at AT (in 5 minutes)"
    )
    failed = (
        "in request 0123456789-2, accepted as job 7002 at AT (5 minutes ago), which failed: queue item could not be "
        "processed; nothing of it was applied, and its changes are dead letters"
    )
    newer = "coalesced into the newer change at offset 14, whose count is sent in its place"
    told = [(entry["place"]["offset"], entry["state"], without_times(entry["text"])) for entry in found["changes"]]
    assert told == [
        (14, "pending", waits),
        (13, "pending", f"{newer}; {waits}"),
        (12, "in_flight", "in request 0123456789-3, which the OMS has not answered since AT"),
        (11, "accepted", failed),
        (10, "accepted", "in request 0123456789-1, accepted as job 7001 at AT (10 minutes ago), and applied"),
    ]
    assert found["changes"][0]["value"] == '{"sku": "B-1", "quantity": 7}'
    assert found["changes"][1]["coalesced_into"] == {"topic": "stock", "partition": 0, "offset": 14, "line": 0}
    assert found["changes"][3]["next_step"].endswith("inventory-refresh dead-letters redrive --job 7002")
    request = found["changes"][4]["request"]
    assert (request["request_id"], request["job_id"], request["job_outcome"]) == ("0123456789-1", "7001", "success")
    assert request["sent_at"] < request["accepted_at"] < request["job_ended_at"] < found["now"]


def test_a_location_that_is_held_says_until_when_and_which_request_it_was(story: Story, url: str) -> None:
    traced = of(story)
    traced.read(change("Rome", "a", offset=3))
    traced.answer(traced.send(), AnswerKind.UNKNOWN, status=504, detail="upstream timed out")

    found = asked(traced, url, item="a")
    assert re.fullmatch(r"request 0123456789-1: unknown \(504\) .* ago: upstream timed out", found["failed"])
    assert found["next_send"] == "in 2 minutes: the last request may have been queued"
    (waiting,) = found["changes"]
    text = without_times(waiting["text"])
    assert text.endswith("may have been queued; this change leaves at the latest at AT (in 2 minutes)")
    assert waiting["leaves_by"] > found["now"] > waiting["read_at"]


def test_a_dead_letter_has_its_reason_and_what_to_do(story: Story, url: str) -> None:
    traced = of(story)
    traced.reject(change("Rome", "a", -1, offset=9, assignment=2), RejectReason.NEGATIVE_QUANTITY, "quantity is -1")

    (letter,) = asked(traced, url, sku="a")["changes"]
    assert (letter["state"], letter["text"]) == ("dead_lettered", "dead-lettered (negative_quantity): quantity is -1")
    assert letter["next_step"] == "have upstream correct it, and publish the item's count again"
    assert letter["request"] is None


def test_a_refused_change_can_be_redriven_and_a_superseded_one_points_to_the_newer(story: Story, url: str) -> None:
    traced = of(story)
    traced.read(change("Rome", "a", 5, offset=3), change("Rome", "b", 5, offset=4))
    traced.reject(change("Rome", "b", -1, offset=5), RejectReason.NEGATIVE_QUANTITY, "quantity is -1")
    (superseded, _) = sorted(asked(traced, url, sku="b")["changes"], key=lambda entry: entry["place"]["offset"])
    assert superseded["text"].startswith("dead-lettered (superseded_by_reject): ")
    assert superseded["next_step"] == "see the newer change of the item, which was rejected"

    traced.answer(traced.send(), AnswerKind.REFUSED, status=400, detail="no such sku")
    (refused,) = asked(traced, url, sku="a")["changes"]
    assert refused["text"] == "dead-lettered (refused_by_oms): HTTP 400: no such sku"
    assert refused["next_step"].endswith("dead-letters redrive --topic stock --partition 0 --offset 3")
    assert refused["request"]["request_id"] == "0123456789-1"


def test_a_change_that_is_due_and_cannot_leave_has_no_time_by_which_it_leaves(story: Story, url: str) -> None:
    traced = of(story)
    traced.read(change("Rome", "a", offset=3))
    story.clock.now += MAX_AGE_SECONDS + 1
    (due,) = asked(traced, url, sku="a")["changes"]
    assert due["leaves_by"] is None
    assert due["text"].endswith("whose next request leaves as soon as a request may leave; this change is due")


@pytest.mark.parametrize(
    ("outcome", "said", "next_step"),
    [
        (None, "which has not ended yet", None),
        (JobOutcome.NEVER_FINISHED, "did not end in time", "ask the operators of the OMS"),
        (JobOutcome.UNKNOWN_JOB, "the OMS does not know any more", "ask the operators of the OMS"),
    ],
)
def test_what_became_of_a_job_is_said_as_far_as_it_is_known(
    outcome: JobOutcome | None, said: str, next_step: str | None, story: Story, url: str
) -> None:
    traced = of(story)
    traced.read(change("Rome", "a", offset=3))
    traced.answer(traced.send(), job_id="77")
    if outcome:
        traced.end_job("77", outcome)
    (told,) = asked(traced, url, sku="a")["changes"]
    assert said in told["text"]
    assert (told["next_step"] or "").startswith(next_step or "")


def test_a_recovering_partition_and_jobs_that_are_not_followed_are_said(story: Story, url: str) -> None:
    traced = of(story, read_up_to=100)
    traced.read(change("Rome", "a", offset=3))
    (told,) = asked(traced, url, sku="a")["changes"]
    assert (told["state"], told["leaves_by"]) == ("recovering", None)

    traced = of(story)
    traced.traces._follows_jobs = False
    traced.read(change("Rome", "a", offset=3))
    traced.answer(traced.send(), job_id="77")
    (told,) = asked(traced, url, sku="a")["changes"]
    assert told["text"].endswith("jobs are not followed")
    assert told["next_step"] == "ask the OMS: inventory-refresh job 77"


def test_a_request_of_smart_refresh_is_applied_at_once_but_for_the_items_that_were_refused(
    story: Story, url: str
) -> None:
    traced = of(story)
    traced.read(change("Rome", "a", offset=3), change("Rome", "b", offset=4))
    refused = tuple("b" if name == "sku" else None for name in ITEM_KEY)
    traced.answer(traced.send(), AnswerKind.APPLIED, status=200, refused_items=(refused,), detail="no such sku")

    (applied,) = asked(traced, url, sku="a")["changes"]
    assert without_times(applied["text"]).startswith("in request 0123456789-1, applied at once at AT")
    assert (applied["next_step"], applied["request"]["job_id"]) == (None, None)
    (refused_one,) = asked(traced, url, sku="b")["changes"]
    assert refused_one["state"] == "pending"
    assert "the items that the OMS refuses are being found" in refused_one["text"]


def test_a_change_that_was_sent_and_read_again_is_pending_once(story: Story, url: str) -> None:
    traced = of(story)
    traced.read(change("Rome", "a", offset=3))
    traced.answer(traced.send(), job_id="77")
    traced.traces.observe(PartitionsAssigned([assignment(3, partition=0)]))
    traced.engine.assigned(3, start=3, read_up_to=4, now=story.clock.now)
    traced.engine.add(frame([change("Rome", "a", offset=3, assignment=3)]), [], {3: 4}, story.clock.now)

    (told,) = asked(traced, url, sku="a")["changes"]
    assert (told["place"]["offset"], told["state"]) == (3, "pending")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?sku=a", "location: Field required"),
        ("?location=Rome", "give part_number, upc or sku, or item instead of them"),
        ("?location=Rome&sku=a&item=b", "give part_number, upc or sku, or item instead of them"),
        ("?location=&sku=a", "location: String should have at least 1 character"),
        ("?location=Rome&sku=" + "a" * 201, "sku: String should have at most 200 characters"),
        ("?location=Rome&sku=a&quantity=1", "quantity: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_parameter_is_named(query: str, said: str, url: str) -> None:
    answer = httpx.get(url + query, timeout=WAIT_SECONDS_MAX)
    assert answer.status_code == 400
    assert said in answer.text


def test_without_time_in_the_loop_the_answer_is_503_and_other_pages_are_answered(
    story: Story, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "TRACE_SECONDS_MAX", 0.01)
    late = httpx.get(f"{url}?location=Rome&sku=a", timeout=WAIT_SECONDS_MAX)
    assert (late.status_code, late.headers["Retry-After"]) == (503, "1")
    assert late.text.startswith("the loop had no time to answer")
    while story.board.questions.take():
        pass

    monkeypatch.setattr(content, "TRACE_SECONDS_MAX", WAIT_SECONDS_MAX)
    waiting = [
        threading.Thread(target=lambda: httpx.get(f"{url}?location=Rome&sku=a", timeout=WAIT_SECONDS_MAX))
        for _ in range(2)
    ]
    for thread in waiting:
        thread.start()
    while not story.board.questions._asked.full():
        pass
    full = httpx.get(f"{url}?location=Rome&sku=a", timeout=WAIT_SECONDS_MAX)
    assert (full.status_code, full.text) == (503, "others ask about items at the same time; ask again\n")
    assert httpx.get(url.replace("trace", "partitions"), timeout=WAIT_SECONDS_MAX).status_code == 200
    with of(story).answering():
        for thread in waiting:
            thread.join(WAIT_SECONDS_MAX)
