"""Requests for smart refresh: which go there, when small ones leave, and what follows from their answers."""

from typing import Any

import pytest

from consumer.core.changes.items import ITEM_KEY, OFFSET
from consumer.core.engine import Engine
from consumer.core.limits import EngineLimits
from consumer.core.location.planner import ItemLimits, SendReason
from consumer.core.location.request import Request
from consumer.core.location.small_windows import SmallLimits
from consumer.core.oms.answers import Answer, AnswerKind, Retry
from consumer.core.oms.job_list import JobList
from consumer.core.oms.job_schedule import Job, JobOutcome, JobResult
from consumer.core.oms.smart_refresh import LIST_LAG_SECONDS
from consumer.core.settlement import Settled
from tests.support.frames import change, frame

AGE = 300.0
SMALL_AGE = 10.0
CLEAR_AT = 2 * LIST_LAG_SECONDS


class Stage:
    """An engine with one partition, read to its end; a list has shown that no location has an unfinished job."""

    def __init__(self, *, listed: bool = True, **limits: Any) -> None:
        small = SmallLimits(items=2, max_age_seconds=SMALL_AGE)
        items = ItemLimits(chunk_items=3, max_items=12, flush_items=6)
        self.engine = Engine(EngineLimits(items=items, smart_refresh=True, small=small, max_age_seconds=AGE, **limits))
        self.engine.assigned(1, start=0, read_up_to=None)
        self.offset = 0
        self.now = CLEAR_AT
        if listed:
            smart = self.engine.smart
            assert smart is not None
            smart.may_use("Rome", 1, CLEAR_AT)
            query = smart.next_query(CLEAR_AT)
            assert query is not None
            smart.listed(JobList(query, (), is_complete=True), CLEAR_AT)

    def add(self, *skus: str, location: str = "Rome", at_end: bool = True) -> None:
        rows = [change(location, sku, offset=self.offset + index) for index, sku in enumerate(skus)]
        self.offset += len(rows)
        self.engine.add(frame(rows), [], {1: self.offset}, self.now, [1] if at_end else [])

    def due(self, seconds: float = 0.0) -> list[Request]:
        self.now += seconds
        return self.engine.due(self.now)

    def sent(self, *skus: str, seconds: float = AGE) -> Request:
        self.add(*skus)
        (request,) = self.due(seconds)
        return request

    def settle(self, request: Request, kind: AnswerKind, **more: Any) -> Settled:
        return self.engine.settle(request.request_id, Answer(kind, **more), jitter=0.0, now=self.now)

    @property
    def committable(self) -> int:
        (point,) = self.engine.commit_points(self.now)
        return point.offset


def key(sku: str) -> tuple[str | int | None, ...]:
    """In the order of the default item key."""
    return tuple(sku if name == "sku" else None for name in ITEM_KEY)


def test_a_request_goes_to_smart_refresh_once_a_list_has_cleared_its_location() -> None:
    assert not Stage(listed=False).sent("a").is_smart
    assert Stage().sent("a", seconds=SMALL_AGE).is_smart


def test_what_smart_refresh_has_applied_is_accepted_without_a_job() -> None:
    stage = Stage()
    request = stage.sent("a", "b")
    settled = stage.settle(request, AnswerKind.APPLIED)
    assert settled.accepted == request
    assert stage.committable == 2
    assert stage.sent("c", seconds=AGE).is_smart


def test_while_a_job_of_the_location_is_unfinished_it_goes_to_refresh() -> None:
    stage = Stage()
    stage.settle(stage.sent("a"), AnswerKind.ACCEPTED, job_id="7")
    second = stage.sent("b")
    assert not second.is_smart
    stage.settle(second, AnswerKind.ACCEPTED, job_id="8")
    for job_id in ("7", "8"):
        stage.engine.job_ended(JobResult(Job(job_id, "Rome", 1, 1), JobOutcome.SUCCESS), stage.now)
    assert stage.sent("c").is_smart


def test_items_that_smart_refresh_refuses_are_sent_again_alone_and_only_then_dead_lettered() -> None:
    stage = Stage()
    request = stage.sent("a", "bad", "c")
    settled = stage.settle(request, AnswerKind.APPLIED, refused_items=(key("bad"),), detail="no such sku", status=200)

    assert settled.refusals == []
    assert settled.accepted is not None
    assert (settled.accepted.items, settled.accepted.changes) == (2, 2)
    assert stage.committable == 1, "the refused change is open"
    (alone,) = stage.due(1.0)
    assert (alone.reason, alone.taken.present["sku"].to_list()) == (SendReason.BISECTION, ["bad"])
    settled = stage.settle(alone, AnswerKind.REFUSED, detail="no such sku", status=400)
    (refusal,) = settled.refusals
    assert (refusal.rows["sku"].to_list(), refusal.detail) == (["bad"], "HTTP 400: no such sku")
    assert stage.committable == 1, "until its dead letter is confirmed"


def test_a_refused_item_with_several_changes_is_sent_one_change_at_a_time() -> None:
    stage = Stage()
    request = stage.sent("a", "bad", "bad")
    stage.settle(request, AnswerKind.APPLIED, refused_items=(key("bad"),), status=200)
    (alone,) = stage.due(1.0)
    assert alone.taken.height == 1
    assert alone.taken.present[OFFSET].to_list() == [2], "newest first"


def test_a_part_of_a_bisection_may_be_accepted_in_part_again() -> None:
    stage = Stage()
    stage.settle(stage.sent("a", "b", "c", "d"), AnswerKind.REFUSED, status=400)
    (part,) = stage.due(1.0)
    assert part.taken.present["sku"].to_list() == ["a", "b", "c"]
    stage.settle(part, AnswerKind.APPLIED, refused_items=(key("b"),), status=200)
    sent = []
    while requests := stage.due(1.0):
        (request,) = requests
        sent.append(request.taken.present["sku"].to_list())
        stage.settle(request, AnswerKind.APPLIED)
    assert sent == [["b"], ["d"]]
    assert stage.committable == 4


def test_an_unknown_outcome_keeps_its_location_from_smart_refresh_after_the_hold() -> None:
    stage = Stage()
    stage.settle(stage.sent("a"), AnswerKind.UNREADABLE, status=200)
    (again,) = stage.due(AGE)
    assert not again.is_smart


@pytest.mark.parametrize("kind", [AnswerKind.FORBIDDEN, AnswerKind.WRONG_ADDRESS, AnswerKind.GATEWAY_PAGE])
def test_a_refusal_by_smart_refresh_says_nothing_about_the_location_which_goes_to_refresh(kind: AnswerKind) -> None:
    stage = Stage()
    settled = stage.settle(stage.sent("a"), kind, status=404)
    assert isinstance(settled.decision, Retry)
    assert not settled.decision.whole_oms
    assert settled.fatal_reason is None
    assert stage.engine.sending_stopped is None
    (again,) = stage.due(10.0)
    assert not again.is_smart


def test_the_end_of_smart_refresh_is_reported_once() -> None:
    stage = Stage()
    ended = []
    for sku in "abc":
        request = stage.sent(sku)
        request_settled = stage.settle(request, AnswerKind.UNREADABLE, status=200, detail="no results")
        ended.append(request_settled.smart_refresh_ended)
        stage.engine.breaker.record_success(sent_at=stage.now)
        smart = stage.engine.smart
        assert smart is not None
        smart._unclear.clear()
    assert ended == [None, None, "3 answers in a row could not be read: no results"]


# Small windows


def test_few_changes_of_a_quiet_location_leave_after_a_short_time() -> None:
    stage = Stage()
    stage.add("a", "b")
    assert stage.due(SMALL_AGE - 1.0) == []
    (request,) = stage.due(1.0)
    assert (request.reason, request.items, request.is_smart) == (SendReason.SMALL, 2, True)


def test_the_deadline_of_a_small_window_is_known_so_that_many_leave_one_round_after_another() -> None:
    """They once left in every fourth of a second only, 8 at a time, whatever the OMS could take."""
    stage = Stage(max_in_flight=2)
    for number in range(5):
        stage.add("a", location=f"L{number}")
    assert stage.engine.next_deadline(stage.now) == stage.now + SMALL_AGE
    sent = 0
    stage.now += SMALL_AGE
    while requests := stage.due():
        sent += len(requests)
        for request in requests:
            stage.settle(request, AnswerKind.APPLIED)
        deadline = stage.engine.next_deadline(stage.now)
        assert (deadline is not None and deadline <= stage.now) == (sent < 5)
    assert sent == 5


def test_a_small_window_that_may_not_leave_keeps_no_round_busy() -> None:
    stage = Stage()
    stage.add("a", at_end=False)
    stage.now += SMALL_AGE
    assert stage.engine.next_deadline(stage.now) == CLEAR_AT + AGE
    not_cleared = Stage(listed=False)
    not_cleared.add("a")
    assert not_cleared.due(SMALL_AGE) == []
    deadline = not_cleared.engine.next_deadline(not_cleared.now)
    assert deadline is not None
    assert deadline > not_cleared.now


def test_more_changes_wait_as_usual() -> None:
    stage = Stage()
    stage.add("a", "b", "c")
    assert stage.due(AGE - 1.0) == []
    assert len(stage.due(1.0)) == 1


def test_without_a_list_small_windows_wait_until_there_is_one() -> None:
    stage = Stage(listed=False)
    stage.add("a")
    assert stage.due(SMALL_AGE) == []
    smart = stage.engine.smart
    assert smart is not None
    query = smart.next_query(stage.now)
    assert query is not None
    smart.listed(JobList(query, (), is_complete=True), stage.now)
    (request,) = stage.due(SMALL_AGE)
    assert request.reason is SendReason.SMALL


def test_while_a_partition_has_a_backlog_small_windows_wait() -> None:
    stage = Stage()
    stage.add("a", at_end=False)
    assert stage.due(SMALL_AGE) == []
    stage.add("b")
    (request,) = stage.due(SMALL_AGE)
    assert request.reason is SendReason.SMALL


def test_a_location_whose_window_was_full_lately_waits_as_usual() -> None:
    stage = Stage()
    stage.add(*"abcdef")
    (full,) = stage.due()
    assert full.reason is SendReason.FULL
    stage.settle(full, AnswerKind.APPLIED)
    stage.add("g")
    assert stage.due(SMALL_AGE) == []
    (request,) = stage.due(AGE - SMALL_AGE)
    assert request.reason is SendReason.AGE


def test_small_windows_leave_a_quarter_of_the_quota_to_others() -> None:
    stage = Stage(max_requests_per_second=8.0, max_in_flight=20)
    for number in range(10):
        stage.add("a", location=f"L{number}")
    assert len(stage.due(SMALL_AGE)) == 6
    assert len(stage.due(0.5)) == 4


def test_while_the_oms_fails_a_small_window_is_at_most_a_probe() -> None:
    stage = Stage()
    stage.settle(stage.sent("a", seconds=SMALL_AGE), AnswerKind.UNAVAILABLE, status=503, retry_after_seconds=60.0)
    stage.add("b", location="Oslo")
    stage.add("c", location="Lima")
    assert stage.due(SMALL_AGE) == []
    (probe,) = stage.due(60.0)
    assert probe.reason is SendReason.SMALL


def test_without_smart_refresh_nothing_leaves_because_it_is_small() -> None:
    engine = Engine(EngineLimits(small=SmallLimits(2, SMALL_AGE)))
    engine.assigned(1, start=0, read_up_to=None)
    engine.add(frame([change("Rome", "a", offset=0)]), [], {1: 1}, 0.0, [1])
    assert engine.due(SMALL_AGE) == []
    (request,) = engine.due(AGE)
    assert not request.is_smart
