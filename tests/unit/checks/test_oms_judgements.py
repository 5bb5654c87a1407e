"""Judgements of the OMS's answers."""

import pytest

from consumer.checks.findings import Status
from consumer.checks.oms import judge_clock, judge_jobs, judge_refresh, judge_smart_refresh
from consumer.core.oms.answers import Answer, AnswerKind
from consumer.core.oms.job_list import JobList, ListQuery
from consumer.core.oms.job_schedule import JobReport, JobStatus
from consumer.oms.probe import ProbeAnswer

URL = "https://oms.example"


def refresh(kind: AnswerKind, *, is_own: bool = False) -> tuple[Status, str]:
    answer = Answer(kind, job_id="7" if kind is AnswerKind.ACCEPTED else None, status=400, detail="because")
    found = judge_refresh(ProbeAnswer(answer, is_own), URL)
    assert (found.advice is None) == (found.status is Status.OK)
    return found.status, f"{found.text}; {found.advice}"


def test_only_a_refusal_in_the_own_words_of_the_oms_is_ok() -> None:
    assert refresh(AnswerKind.REFUSED, is_own=True)[0] is Status.OK
    others = {kind: refresh(kind)[0] for kind in AnswerKind}
    warnings = {kind for kind, status in others.items() if status is Status.WARNING}
    assert warnings == {AnswerKind.ACCEPTED, AnswerKind.OVER_QUOTA}
    assert {others[kind] for kind in AnswerKind if kind not in warnings} == {Status.ERROR}


def test_a_job_for_an_empty_request_is_a_warning_that_names_it() -> None:
    status, line = refresh(AnswerKind.ACCEPTED)
    assert status is Status.WARNING
    assert "as job 7" in line


def test_without_smart_refresh_the_service_goes_on_with_refresh() -> None:
    refused = Answer(AnswerKind.REFUSED, status=400, detail="no items")
    assert judge_smart_refresh(ProbeAnswer(refused, is_own=True)).status is Status.OK
    for kind in AnswerKind:
        found = judge_smart_refresh(ProbeAnswer(Answer(kind, status=404, detail="because")))
        assert found.status is Status.WARNING
        assert (found.text, found.advice is None) == ("HTTP 404: because", False)


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        (AnswerKind.WRONG_ADDRESS, "oms.base_url"),
        (AnswerKind.FORBIDDEN, "oms.api"),
        (AnswerKind.UNAUTHORISED, "oms.token_url"),
        (AnswerKind.GATEWAY_PAGE, "oms.headers"),
        (AnswerKind.UNAVAILABLE, "oms.proxy"),
    ],
)
def test_another_answer_is_an_error_that_says_which_setting_to_check(kind: AnswerKind, setting: str) -> None:
    status, line = refresh(kind)
    assert status is Status.ERROR
    assert setting in line
    assert "HTTP 400: because" in line


@pytest.mark.parametrize(
    ("report", "listed", "status", "text"),
    [
        (JobReport("1", JobStatus.SUCCESS), None, Status.OK, "get-job answers"),
        (JobReport("1", unknown=True), None, Status.OK, "get-job answers"),
        (JobReport("1", detail="HTTP 403: no"), None, Status.WARNING, "get-job does not answer: HTTP 403: no"),
        (JobReport("1", unknown=True), JobList(ListQuery(), jobs=()), Status.OK, "get-job and the list of jobs answer"),
        (
            JobReport("1", unknown=True),
            JobList(ListQuery(), detail="HTTP 404"),
            Status.WARNING,
            "get-job answers, but the list of jobs does not: HTTP 404",
        ),
    ],
)
def test_an_unknown_job_is_as_good_an_answer_as_a_known_one(
    report: JobReport, listed: JobList | None, status: Status, text: str
) -> None:
    found = judge_jobs(report, listed)
    assert (found.status, found.text) == (status, text)


@pytest.mark.parametrize(
    ("skew", "status", "words"),
    [
        (None, Status.SKIPPED, "Date"),
        (0.2, Status.OK, "within 1 s"),
        (-29.0, Status.OK, "within 29 s"),
        (31.0, Status.WARNING, "31 s ahead of"),
        (-300.0, Status.WARNING, "300 s behind"),
    ],
)
def test_a_clock_that_is_off_by_more_than_half_a_minute_is_a_warning(
    skew: float | None, status: Status, words: str
) -> None:
    found = judge_clock(skew)
    assert found.status is status
    assert words in found.text
