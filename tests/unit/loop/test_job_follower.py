"""Following jobs to their end: which are polled, reported, dead-lettered, and abandoned at shutdown."""

from typing import Any

import pytest

from consumer.core.changes.items import RejectReason
from consumer.core.engine import Engine
from consumer.core.limits import EngineLimits
from consumer.core.location.planner import ItemLimits
from consumer.core.oms.answers import Accepted, Retry
from consumer.core.oms.job_list import JobList, ListedJob, ListQuery
from consumer.core.oms.job_schedule import JobLimits, JobOutcome, JobReport, JobStatus
from consumer.loop.job_follower import JobFollower
from tests.support.fakes import Diary, FakeDeadLetters, FakeJobs, FakeObserver, assignment
from tests.support.frames import change, frame

ITEMS = ItemLimits(chunk_items=3, max_items=12, flush_items=3)


class Stage:
    """An engine with requests of three items, and a follower of their jobs."""

    def __init__(
        self,
        *,
        adaptive_items: ItemLimits | None = None,
        unfinished_max: int = 1_000,
        has_lists: bool = False,
        **limits: Any,
    ) -> None:
        self.diary: Diary = []
        self.client = FakeJobs(has_lists=has_lists)
        self.engine = Engine(EngineLimits(items=ITEMS, **limits))
        self.engine.assigned(1, start=0, read_up_to=0)
        self.assignments = {1: assignment(1)}
        self.job_follower = JobFollower(
            client=self.client,
            limits=JobLimits(unfinished_max=unfinished_max),
            engine=self.engine,
            dead_letters=FakeDeadLetters(self.diary),
            observer=FakeObserver(self.diary),
            jitter=lambda: 0.0,
            adaptive_items=adaptive_items,
        )
        self.read = 0

    def accept(self, job_id: str, now: float = 0.0) -> None:
        rows = [change("Rome", f"sku-{at}", offset=at) for at in range(self.read, self.read + 3)]
        self.read += 3
        self.engine.add(frame(rows), [], {1: self.read}, now)
        (request,) = self.engine.due(now)
        self.engine.apply(request.request_id, Accepted(job_id), now)
        self.job_follower.accepted(request, f"here-{request.request_id}", job_id, self.assignments, now)

    def report(self, now: float, job_id: str, status: JobStatus | None, **more: Any) -> None:
        self.client.ready.append(JobReport(job_id, status, **more))
        self.job_follower.turn(now)

    def queried(self, now: float) -> list[str]:
        self.job_follower.turn(now)
        job_ids, self.client.asked = self.client.asked, []
        return job_ids

    def recorded(self, kind: str) -> list[Any]:
        return [entry for name, entry in self.diary if name == kind]


def test_a_job_is_polled_until_its_end_which_is_reported_once() -> None:
    stage = Stage()
    stage.accept("7")
    assert stage.queried(1.0) == []
    assert stage.queried(2.0) == ["7"]
    stage.report(2.1, "7", JobStatus.WORKING)
    assert stage.queried(10.0) == ["7"]
    stage.report(10.1, "7", JobStatus.SUCCESS, added=100.0, started=103.0, finished=108.0)

    (ended,) = stage.recorded("job ended")
    assert (ended.outcome, ended.queued_seconds, ended.processing_seconds) == (JobOutcome.SUCCESS, 3.0, 5.0)
    assert stage.queried(1_000.0) == []
    assert stage.recorded("fetch") == []


def test_the_changes_of_a_failed_job_are_dead_lettered_with_job_id_and_messages() -> None:
    stage = Stage()
    stage.accept("6")
    stage.accept("7")
    stage.queried(2.0)
    stage.report(2.1, "7", JobStatus.FAILED, messages=("no such location", "nothing applied"))

    ((failed,),) = stage.recorded("fetch")
    assert (failed.topic, failed.partition, [change_id.offset for change_id in failed.change_ids]) == (
        "changes",
        0,
        [3, 4, 5],
    )
    assert (failed.reason, failed.job_id, failed.location) == (RejectReason.JOB_FAILED, "7", "Rome")
    assert failed.x_request_id == "here-2"
    assert failed.detail == "no such location; nothing applied"
    before = stage.engine.commit_points(0.0)
    stage.engine.dead_lettered(failed.change_ids)  # their offsets are committed already: confirmations change nothing
    assert stage.engine.commit_points(0.0) == before


def test_a_revoke_does_not_change_what_a_failed_job_dead_letters() -> None:
    stage = Stage()
    stage.accept("7")
    stage.engine.forget([1], 0.0)
    stage.queried(2.0)
    stage.report(2.1, "7", JobStatus.FAILED)

    ((failed,),) = stage.recorded("fetch")
    assert [change_id.offset for change_id in failed.change_ids] == [0, 1, 2]
    assert "without a message" in failed.detail


@pytest.mark.parametrize(
    ("after", "outcome"),
    [pytest.param(86_400.0, JobOutcome.NEVER_FINISHED, id="too old")],
)
def test_a_job_that_never_ends_is_reported_and_no_longer_followed(after: float, outcome: JobOutcome) -> None:
    stage = Stage()
    stage.accept("7")
    stage.job_follower.turn(after)

    assert [ended.outcome for ended in stage.recorded("job ended")] == [outcome]
    assert stage.job_follower.jobs.unfinished == 0


def test_jobs_are_not_polled_while_the_breaker_is_open() -> None:
    stage = Stage()
    stage.accept("7")
    stage.engine.add(frame([change("Oslo", f"o-{at}", offset=at) for at in range(3, 6)]), [], {1: 6}, 0.0)
    (request,) = stage.engine.due(0.0)
    stage.engine.apply(request.request_id, Retry(after_seconds=60.0, whole_oms=True), 0.5)

    assert stage.queried(30.0) == []


def test_job_polls_share_the_rate_limit_and_a_throttled_poll_lowers_it() -> None:
    stage = Stage(max_requests_per_second=4.0)
    stage.accept("7")
    assert stage.queried(10.0) == ["7"]
    stage.report(10.5, "7", None, over_quota=True, http_status=403, detail="over")

    assert (stage.engine.breaker.rate_limiter.limit(10.5) or 9.0) < 4.0


def test_flush_items_follow_the_number_of_unfinished_jobs() -> None:
    stage = Stage(adaptive_items=ITEMS)
    sizes = []
    for number in range(5):
        stage.engine.set_flush_items(3)
        stage.accept(str(number))
        stage.job_follower.turn(1.0)
        sizes.append(stage.engine.flush_items)
    for number in range(5):
        stage.report(100.0, str(number), JobStatus.SUCCESS)

    assert sizes == [6, 9, 12, 12, 12]
    assert stage.engine.flush_items == 3


def test_a_window_that_is_full_after_flush_items_were_lowered_is_sent_at_once() -> None:
    stage = Stage()
    stage.engine.set_flush_items(12)
    stage.engine.add(frame([change("Rome", f"sku-{at}", offset=at) for at in range(6)]), [], {1: 6}, 0.0)
    assert stage.engine.due(0.0) == []
    stage.engine.set_flush_items(6)

    assert [request.items for request in stage.engine.due(0.0)] == [6]


def add_oslo(stage: Stage, count: int = 3) -> None:
    rows = [change("Oslo", f"o-{at}", offset=at) for at in range(stage.read, stage.read + count)]
    stage.read += count
    stage.engine.add(frame(rows), [], {1: stage.read}, 0.0)


def test_nothing_is_sent_while_too_many_jobs_are_unfinished_and_then_it_goes_on() -> None:
    stage = Stage(unfinished_max=2)
    stage.accept("6")
    stage.accept("7")
    add_oslo(stage)
    assert stage.engine.due(1.0) == []
    assert stage.engine.next_deadline(1.0) is None  # or the loop would look again at once, for ever
    reasons = [stage.job_follower.queue_full]

    stage.queried(2.0)
    stage.report(2.1, "6", JobStatus.SUCCESS)
    reasons.append(stage.job_follower.queue_full)
    assert [bool(reason) for reason in reasons] == [True, False]
    assert [request.location for request in stage.engine.due(2.1)] == ["Oslo"]


def test_a_probe_leaves_although_the_queue_is_full_or_no_job_would_be_asked_about_again() -> None:
    stage = Stage(unfinished_max=1)
    add_oslo(stage)
    (request,) = stage.engine.due(0.0)
    stage.accept("7")
    stage.engine.apply(request.request_id, Retry(after_seconds=60.0, whole_oms=True), 0.5)
    assert stage.queried(61.0) == []

    (probe,) = stage.engine.due(61.0)
    stage.engine.apply(probe.request_id, Accepted("8"), 61.5)
    stage.job_follower.accepted(probe, "here-8", "8", stage.assignments, 61.5)
    add_oslo(stage)
    assert stage.engine.due(62.0) == []
    assert stage.queried(62.0) == ["7"]


def test_unfinished_jobs_are_reported_when_the_process_ends() -> None:
    stage = Stage()
    stage.accept("6")
    stage.accept("7")
    stage.queried(2.0)
    stage.report(2.1, "6", JobStatus.SUCCESS)
    stage.job_follower.leave()

    ((abandoned,),) = stage.recorded("jobs abandoned")
    assert (abandoned.job_id, abandoned.location, abandoned.items) == ("7", "Rome", 3)


def listed(*reports: JobReport, **more: Any) -> JobList:
    return JobList(ListQuery(), tuple(map(ListedJob, reports)), http_status=200, **more)


def with_lists(*job_ids: str) -> Stage:
    """A stage whose OMS has lists of jobs, with these unfinished jobs."""
    stage = Stage(has_lists=True)
    for job_id in job_ids:
        stage.accept(job_id)
    return stage


def test_one_call_asks_about_several_jobs_where_the_api_has_a_list() -> None:
    stage = with_lists("7", "8", "9")
    assert stage.queried(2.0) == []
    assert stage.client.asked_lists == [ListQuery(limit=106)]

    stage.client.ready_lists = [
        listed(JobReport("9", JobStatus.PENDING), JobReport("8", JobStatus.SUCCESS), JobReport("7", JobStatus.FAILED))
    ]
    assert stage.queried(2.1) == []
    assert {ended.job.job_id: ended.outcome.value for ended in stage.recorded("job ended")} == {
        "7": "failed",
        "8": "success",
    }
    assert stage.job_follower.jobs.unfinished == 1


def test_a_single_unfinished_job_is_asked_about_by_itself() -> None:
    stage = with_lists("7")
    assert stage.queried(2.0) == ["7"]
    assert stage.client.asked_lists == []


def test_a_job_that_a_list_lacks_is_asked_about_singly_and_never_counts_as_unknown() -> None:
    stage = with_lists("7", "8", "9")
    stage.queried(2.0)
    stage.client.ready_lists = [listed(JobReport("8", JobStatus.PENDING), JobReport("9", JobStatus.PENDING))]
    assert stage.queried(2.1) == ["7"]

    stage.report(2.2, "7", JobStatus.WORKING)
    assert stage.queried(10.0) == ["7"], "the list has none of the jobs that are due: none is asked for within a minute"
    assert stage.recorded("job ended") == []
    assert len(stage.client.asked_lists) == 1


def test_a_list_that_is_refused_is_not_asked_for_again_soon_and_its_jobs_are_asked_about_singly() -> None:
    stage = with_lists("7", "8")
    stage.queried(2.0)
    stage.client.ready_lists = [JobList(ListQuery(), detail="HTTP 403: no", http_status=403)]
    assert stage.queried(2.1) == ["7"]
    assert stage.job_follower.jobs.unavailable_reason is None

    stage.report(2.2, "7", JobStatus.SUCCESS)
    assert stage.queried(5.0) == ["8"]
    assert len(stage.client.asked_lists) == 1


def test_a_list_that_fails_pauses_all_queries_as_a_single_one_does() -> None:
    stage = with_lists("7", "8")
    stage.queried(2.0)
    stage.client.ready_lists = [
        JobList(ListQuery(), detail="HTTP 429: slow down", over_quota=True, retry_after_seconds=30.0, http_status=429)
    ]
    assert stage.queried(2.1) == []
    assert stage.job_follower.jobs.unavailable_reason == "HTTP 429: slow down"
    assert stage.queried(31.0) == []
    stage.queried(33.0)
    assert len(stage.client.asked_lists) == 2


def test_a_list_that_fails_counts_as_one_failure_however_many_jobs_are_due() -> None:
    stage = with_lists("7", "8", "9")
    stage.report(0.5, "8", JobStatus.WORKING)
    assert stage.queried(2.6) == ["8"], "7, which the OMS has overtaken, is due as well: the list is for it"

    stage.client.ready_lists = [JobList(ListQuery(), detail="HTTP 429", over_quota=True, http_status=429)]
    stage.queried(2.7)
    assert stage.job_follower.jobs._failures == 1


def test_while_a_list_is_awaited_a_job_that_is_due_is_asked_about_singly() -> None:
    stage = with_lists("7", "8")
    stage.queried(2.0)
    stage.accept("9", 2.0)
    stage.client.ready = [JobReport("9", JobStatus.WORKING)]
    stage.queried(2.5)
    assert len(stage.client.asked_lists) == 1
