"""When a job in the OMS's list is certainly that of a request whose answer was lost, and has ended."""

from dataclasses import replace

import pytest

from consumer.core.oms.job_list import JobList, ListedJob, ListQuery
from consumer.core.oms.job_schedule import JobReport, JobStatus
from consumer.core.oms.lost_answers import LostAnswer, RecentJobs, has_job_ended

AHEAD = 1_700_000_000.0
LOST = LostAnswer("Rome", items=3, sent_at=100.0, lost_at=130.0, known_job_ids=frozenset({"7"}))


def job(
    job_id: str = "8",
    added: float | None = 110.0,
    status: JobStatus | None = JobStatus.SUCCESS,
    location: str | None = "Rome",
    items: int | None = 3,
) -> ListedJob:
    report = JobReport(job_id, status, added=None if added is None else AHEAD + added)
    return ListedJob(report, location, items)


def listed(*jobs: ListedJob) -> JobList:
    return JobList(ListQuery("Rome"), jobs, is_complete=True)


@pytest.mark.parametrize("status", [JobStatus.SUCCESS, JobStatus.FAILED])
def test_the_only_job_of_its_size_and_time_that_has_ended_is_that_of_the_request(status: JobStatus) -> None:
    assert has_job_ended(LOST, listed(job(status=status), job("7", added=95.0), job("1", added=5.0)), AHEAD)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param((), id="no job"),
        pytest.param((job(status=JobStatus.PENDING),), id="not ended"),
        pytest.param((job(status=JobStatus.WORKING),), id="at work"),
        pytest.param((job(status=None),), id="unreadable status"),
        pytest.param((job("7"),), id="a job that was given to us"),
        pytest.param((job(items=4),), id="another size"),
        pytest.param((job(items=None),), id="no size"),
        pytest.param((job(location="Oslo"),), id="another location"),
        pytest.param((job(location=None),), id="no location"),
        pytest.param((job(added=80.0),), id="added long before it was sent"),
        pytest.param((job(added=150.0),), id="added long after it was lost"),
        pytest.param((job(added=None),), id="no time"),
        pytest.param((job(), job("9")), id="two of them"),
        pytest.param((job(), job("9", items=5)), id="somebody else's job of another size"),
        pytest.param((job(), job("9", added=None)), id="another job without a time"),
    ],
)
def test_anything_else_proves_nothing(found: tuple[ListedJob, ...]) -> None:
    assert not has_job_ended(LOST, listed(*found), AHEAD)


def test_a_list_that_was_cut_or_failed_proves_nothing() -> None:
    assert not has_job_ended(LOST, replace(listed(job()), is_complete=False), AHEAD)
    assert not has_job_ended(LOST, JobList(ListQuery("Rome"), detail="HTTP 503"), AHEAD)


def test_the_clocks_may_differ_by_a_few_seconds() -> None:
    assert has_job_ended(LOST, listed(job(added=91.0)), AHEAD)
    assert has_job_ended(LOST, listed(job(added=139.0)), AHEAD)


def test_only_jobs_that_could_be_taken_for_the_lost_one_are_remembered() -> None:
    recent = RecentJobs()
    recent.add("Rome", "1", 10.0)
    recent.add("Rome", "2", 95.0)
    recent.add("Oslo", "3", 96.0)
    assert recent.of("Rome", sent_at=100.0) == {"2"}

    recent.add("Oslo", "4", 2_000.0)
    assert recent.of("Rome", sent_at=100.0) == frozenset()
