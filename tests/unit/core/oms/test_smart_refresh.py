"""Which locations may use smart refresh: none of their earlier jobs can be unfinished."""

from itertools import pairwise

import pytest

from consumer.core.oms.answers import Answer, AnswerKind
from consumer.core.oms.job_list import JobList, ListedJob, ListQuery
from consumer.core.oms.job_schedule import JobOutcome, JobReport, JobStatus
from consumer.core.oms.smart_refresh import (
    ITEMS_MAX,
    LIST_JOBS_MAX,
    LIST_LAG_SECONDS,
    LIST_SECONDS_MIN,
    LOCATION_LIST_SECONDS,
    REFUSED_LOCATIONS_MIN,
    REFUSED_SECONDS,
    UNREADABLE_MAX,
    SmartRefresh,
)

ASSIGNED_AT = 100.0
CLEAR_AT = ASSIGNED_AT + LIST_LAG_SECONDS
HOLD = 120.0


class Stage:
    """A process that has just got its partitions."""

    def __init__(self, *, doubt_until: float = 0.0) -> None:
        self.smart = SmartRefresh()
        self.smart.assigned(ASSIGNED_AT, doubt_until)
        self.now = ASSIGNED_AT

    def at(self, now: float) -> "Stage":
        self.now = now
        return self

    def may_use(self, location: str = "Rome", items: int = 1) -> bool:
        return self.smart.may_use(location, items, self.now)

    def asks(self, location: str = "Rome") -> ListQuery | None:
        """The list that is asked for once this location would like to use smart refresh."""
        self.smart.may_use(location, 1, self.now)
        return self.smart.next_query(self.now)

    def list(self, *jobs: tuple[str | None, JobStatus | None], complete: bool = True, location: str = "Rome") -> None:
        """A list is asked for now, for this location, and answered with these jobs."""
        query = self.asks(location)
        assert query is not None
        found = tuple(
            ListedJob(JobReport(str(number), status), name, 3) for number, (name, status) in enumerate(jobs, start=1)
        )
        self.smart.listed(JobList(query, found, complete, http_status=200), self.now)


def listed(*jobs: tuple[str | None, JobStatus | None]) -> Stage:
    """A stage with a list of all locations after the assignment."""
    stage = Stage().at(CLEAR_AT)
    stage.list(*jobs)
    return stage


def test_without_a_list_since_the_assignment_no_location_may() -> None:
    assert not Stage().may_use()
    assert Stage().asks() is None, "what reads the queue may lag behind what writes to it"


def test_after_a_list_without_unfinished_jobs_every_location_may() -> None:
    stage = listed(("Rome", JobStatus.SUCCESS), ("Oslo", JobStatus.FAILED))
    assert stage.may_use("Rome")
    assert stage.may_use("Lima")


def test_the_list_is_one_of_all_locations() -> None:
    query = Stage().at(CLEAR_AT).asks()
    assert query is not None
    assert (query.location, query.limit) == (None, LIST_JOBS_MAX)


@pytest.mark.parametrize("status", [JobStatus.PENDING, JobStatus.WORKING, None])
def test_a_location_with_an_unfinished_job_in_the_list_may_not_until_a_later_list_clears_it(
    status: JobStatus | None,
) -> None:
    stage = listed(("Rome", status))
    assert stage.may_use("Oslo")
    assert not stage.may_use("Rome")
    stage.at(CLEAR_AT + LIST_SECONDS_MIN).list(("Rome", JobStatus.SUCCESS))
    assert stage.may_use("Rome")


def test_a_list_counts_from_when_it_was_asked_for() -> None:
    stage = Stage().at(CLEAR_AT)
    query = stage.asks()
    assert query is not None
    stage.smart.assigned(CLEAR_AT + 1.0, 0.0)
    stage.smart.listed(JobList(query, (), True, http_status=200), CLEAR_AT + 60.0)
    assert not stage.at(CLEAR_AT + 60.0).may_use()


def test_while_a_previous_owner_may_still_queue_requests_no_list_is_asked_for() -> None:
    stage = Stage(doubt_until=ASSIGNED_AT + HOLD)
    assert stage.at(ASSIGNED_AT + HOLD - 1.0).asks() is None
    assert stage.at(ASSIGNED_AT + HOLD).asks() is not None


@pytest.mark.parametrize(
    ("jobs", "complete"), [((), False), (((None, JobStatus.PENDING),), True)], ids=["cut", "of an unknown location"]
)
def test_a_list_that_may_lack_a_job_proves_nothing(
    jobs: tuple[tuple[str | None, JobStatus | None], ...], *, complete: bool
) -> None:
    stage = Stage().at(CLEAR_AT)
    stage.list(*jobs, complete=complete)
    assert not stage.may_use()


def test_where_the_list_of_all_is_cut_each_location_is_asked_about_in_turn() -> None:
    stage = Stage().at(CLEAR_AT)
    stage.list(complete=False)
    stage.may_use("Oslo")
    stage.at(CLEAR_AT + LIST_SECONDS_MIN)
    first = stage.asks("Rome")
    assert first is not None
    assert first.location == "Rome"
    stage.smart.listed(JobList(first, (ListedJob(JobReport("1", JobStatus.PENDING), "Rome", 3),), True), stage.now)
    assert not stage.may_use("Rome")
    second = stage.at(stage.now + LOCATION_LIST_SECONDS).asks("Rome")
    assert second is not None
    assert second.location == "Oslo"
    stage.smart.listed(JobList(second, (), True), stage.now)
    assert stage.may_use("Oslo")
    assert not stage.may_use("Rome")


@pytest.mark.parametrize(
    ("complete", "seconds"), [(False, REFUSED_SECONDS), (True, LIST_LAG_SECONDS)], ids=["cut", "an unfinished job"]
)
def test_a_location_that_its_own_list_does_not_clear_is_not_asked_about_again_soon(
    *, complete: bool, seconds: float
) -> None:
    """Otherwise such locations would use up the quota, two calls a second, for nothing."""
    stage = Stage().at(CLEAR_AT)
    stage.list(complete=False)
    query = stage.at(CLEAR_AT + LIST_SECONDS_MIN).asks()
    assert query is not None
    assert query.location == "Rome"
    pending = ListedJob(JobReport("1", JobStatus.PENDING), "Rome", 3)
    stage.smart.listed(JobList(query, (pending,), complete, http_status=200), stage.now)
    asked_at = stage.now
    assert stage.at(asked_at + seconds - 1.0).asks() is None
    assert not stage.may_use()
    assert stage.at(asked_at + seconds).asks() is not None


def test_while_our_own_job_is_unfinished_its_location_may_not() -> None:
    stage = listed()
    stage.smart.queued("Rome", "7")
    stage.smart.queued("Rome", "8")
    stage.smart.job_ended("7", JobOutcome.SUCCESS, stage.now)
    assert not stage.may_use("Rome")
    assert stage.may_use("Oslo")
    stage.smart.job_ended("8", JobOutcome.FAILED, stage.now)
    assert stage.may_use("Rome")


@pytest.mark.parametrize("outcome", [JobOutcome.NEVER_FINISHED, JobOutcome.UNKNOWN_JOB])
def test_a_job_that_is_followed_no_longer_needs_a_list(outcome: JobOutcome) -> None:
    stage = listed()
    stage.smart.queued("Rome", "7")
    stage.smart.job_ended("7", outcome, stage.now)
    assert not stage.may_use("Rome")
    stage.at(CLEAR_AT + LIST_SECONDS_MIN).list()
    assert stage.may_use("Rome")


def test_after_an_unknown_outcome_a_list_must_be_asked_for_once_nothing_can_be_queued_any_more() -> None:
    stage = listed()
    hold_until = CLEAR_AT + HOLD
    stage.smart.outcome_unknown("Rome", hold_until)
    assert stage.may_use("Oslo")
    assert stage.at(hold_until + LIST_LAG_SECONDS - 1.0).asks("Rome") is None
    assert not stage.may_use("Rome")
    stage.at(hold_until + LIST_LAG_SECONDS).list()
    assert stage.may_use("Rome")


def test_a_list_from_before_the_hold_ends_does_not_clear_its_location() -> None:
    stage = listed()
    stage.smart.queued("Oslo", "7")
    stage.smart.job_ended("7", JobOutcome.UNKNOWN_JOB, stage.now)
    stage.smart.outcome_unknown("Rome", CLEAR_AT + HOLD)
    stage.at(CLEAR_AT + 5.0).list(location="Oslo")
    assert stage.may_use("Oslo")
    assert not stage.at(CLEAR_AT + HOLD + 1.0).may_use("Rome")


def test_a_later_assignment_needs_a_new_list() -> None:
    stage = listed()
    stage.smart.assigned(CLEAR_AT + 1.0, 0.0)
    assert not stage.may_use()


def test_nothing_is_asked_while_no_location_wants_smart_refresh_or_a_list_is_on_its_way() -> None:
    stage = Stage().at(CLEAR_AT)
    assert stage.smart.next_query(CLEAR_AT) is None
    assert stage.asks() is not None
    assert stage.at(CLEAR_AT + 60.0).asks() is None


def test_lists_that_clear_nothing_are_asked_for_ever_more_rarely() -> None:
    stage = Stage().at(CLEAR_AT)
    asked_at = []
    for _ in range(8):
        while (query := stage.asks()) is None:
            stage.now += 0.5
        asked_at.append(stage.now)
        pending = ListedJob(JobReport("1", JobStatus.PENDING), "Rome", 3)
        stage.smart.listed(JobList(query, (pending,), is_complete=True), stage.now)
    waits = [after - before for before, after in pairwise(asked_at)]
    assert waits == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_a_list_that_is_refused_is_not_asked_for_again_soon() -> None:
    stage = Stage().at(CLEAR_AT)
    query = stage.asks()
    assert query is not None
    stage.smart.listed(JobList(query, http_status=403), stage.now)
    assert stage.at(CLEAR_AT + REFUSED_SECONDS - 1.0).asks() is None
    assert stage.at(CLEAR_AT + REFUSED_SECONDS).asks() is not None


def test_a_large_request_goes_to_refresh() -> None:
    stage = listed()
    assert stage.may_use(items=ITEMS_MAX)
    assert not stage.may_use(items=ITEMS_MAX + 1)


def answer(kind: AnswerKind, status: int = 200) -> Answer:
    return Answer(kind, status=status, detail="why")


def test_after_several_unreadable_answers_in_a_row_smart_refresh_is_over() -> None:
    stage = listed()
    for _ in range(UNREADABLE_MAX - 1):
        assert stage.smart.answered("Rome", answer(AnswerKind.UNREADABLE), stage.now) is None
    assert stage.smart.answered("Rome", answer(AnswerKind.APPLIED), stage.now) is None
    for _ in range(UNREADABLE_MAX - 1):
        assert stage.smart.answered("Rome", answer(AnswerKind.UNREADABLE), stage.now) is None
    assert stage.may_use("Rome")
    ended = stage.smart.answered("Rome", answer(AnswerKind.UNREADABLE), stage.now)
    assert ended == "3 answers in a row could not be read: why"
    assert not stage.at(CLEAR_AT + 1e6).may_use("Rome")


def test_a_location_that_smart_refresh_refuses_uses_refresh_for_a_while() -> None:
    stage = listed()
    assert stage.smart.answered("Rome", answer(AnswerKind.FORBIDDEN, 403), stage.now) is None
    assert not stage.may_use("Rome")
    assert stage.may_use("Oslo")
    assert stage.at(CLEAR_AT + REFUSED_SECONDS).may_use("Rome")


def test_if_several_locations_in_a_row_are_refused_nobody_uses_smart_refresh_for_a_while() -> None:
    stage = listed()
    ended = [
        stage.smart.answered(f"L{number}", answer(AnswerKind.WRONG_ADDRESS, 404), stage.now)
        for number in range(REFUSED_LOCATIONS_MIN)
    ]
    assert ended == [None, None, "3 locations in a row were refused: HTTP 404, why"]
    assert not stage.may_use("Rome")
    assert stage.at(CLEAR_AT + REFUSED_SECONDS).may_use("Rome")


def test_a_readable_answer_between_refusals_starts_the_count_again() -> None:
    stage = listed()
    for number in range(REFUSED_LOCATIONS_MIN - 1):
        stage.smart.answered(f"L{number}", answer(AnswerKind.FORBIDDEN, 403), stage.now)
    stage.smart.answered("Rome", answer(AnswerKind.APPLIED), stage.now)
    assert stage.smart.answered("Oslo", answer(AnswerKind.FORBIDDEN, 403), stage.now) is None
    assert stage.may_use("Rome")
