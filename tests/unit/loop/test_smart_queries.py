"""Lists of jobs that clear locations for smart refresh, asked for within the quota for background calls."""

from consumer.core.engine import Engine
from consumer.core.limits import EngineLimits
from consumer.core.location.request import Request
from consumer.core.oms.answers import Accepted, Applied
from consumer.core.oms.job_list import JobList, ListedJob, ListPurpose, ListQuery
from consumer.core.oms.job_schedule import JobLimits, JobReport, JobStatus
from consumer.core.oms.smart_refresh import LIST_JOBS_MAX, LIST_LAG_SECONDS
from consumer.loop.job_follower import JobFollower
from tests.support.fakes import Diary, FakeDeadLetters, FakeJobs, FakeObserver, assignment
from tests.support.frames import change, frame

AGE = 60.0
OF_ALL = ListQuery(limit=LIST_JOBS_MAX, purpose=ListPurpose.SMART_REFRESH)


class Stage:
    """An engine that uses smart refresh, and the follower of its jobs."""

    def __init__(self) -> None:
        diary: Diary = []
        self.client = FakeJobs(has_lists=True)
        self.engine = Engine(EngineLimits(smart_refresh=True, max_age_seconds=AGE))
        self.engine.assigned(1, start=0, read_up_to=0)
        self.follower = JobFollower(
            client=self.client,
            limits=JobLimits(),
            engine=self.engine,
            dead_letters=FakeDeadLetters(diary),
            observer=FakeObserver(diary),
            jitter=lambda: 0.0,
        )
        self.now = 0.0
        self.offset = 0

    def sent(self) -> Request:
        """The request with a change of Rome that is due after a minute."""
        rows = [change("Rome", f"sku-{self.offset}", offset=self.offset)]
        self.offset += 1
        self.engine.add(frame(rows), [], {1: self.offset}, self.now)
        self.now += AGE
        (request,) = self.engine.due(self.now)
        return request

    def accepted(self, request: Request, job_id: str) -> None:
        self.engine.apply(request.request_id, Accepted(job_id), self.now)
        self.follower.accepted(request, f"here-{request.request_id}", job_id, {1: assignment(1)}, self.now)

    def turn(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.follower.turn(self.now)


def test_the_first_request_goes_to_refresh_and_a_list_and_the_end_of_its_job_clear_the_location() -> None:
    stage = Stage()
    first = stage.sent()
    assert not first.is_smart
    stage.turn()
    assert stage.client.asked_lists == [OF_ALL]
    stage.client.ready_lists = [JobList(OF_ALL, (), is_complete=True)]
    stage.accepted(first, "7")
    stage.turn(1.0)
    assert stage.engine.smart is not None
    assert not stage.engine.smart.may_use("Rome", 1, stage.now)
    stage.client.ready = [JobReport("7", JobStatus.SUCCESS)]
    stage.turn(1.0)

    second = stage.sent()
    assert second.is_smart
    stage.engine.apply(second.request_id, Applied(), stage.now)
    (point,) = stage.engine.commit_points(stage.now)
    assert point.offset == 2


def test_a_list_that_was_asked_for_to_follow_jobs_clears_no_location() -> None:
    stage = Stage()
    stage.accepted(stage.sent(), "7")
    stage.client.ready_lists = [JobList(ListQuery(), (), is_complete=True)]
    stage.client.ready = [JobReport("7", JobStatus.SUCCESS)]
    stage.turn(LIST_LAG_SECONDS)
    assert not stage.sent().is_smart


def test_a_job_of_another_sender_in_the_list_keeps_its_location_from_smart_refresh() -> None:
    stage = Stage()
    stage.accepted(stage.sent(), "7")
    stage.turn()
    pending = ListedJob(JobReport("8", JobStatus.PENDING), "Rome", 3)
    stage.client.ready_lists = [JobList(OF_ALL, (pending,), is_complete=True)]
    stage.client.ready = [JobReport("7", JobStatus.SUCCESS)]
    stage.turn(1.0)
    assert not stage.sent().is_smart


def test_while_the_oms_fails_no_list_is_asked_for() -> None:
    stage = Stage()
    stage.sent()
    stage.engine.breaker.record_failure(sent_at=stage.now, now=stage.now, backoff_seconds=1.0)
    stage.turn()
    assert stage.client.asked_lists == []


def test_a_list_over_the_quota_slows_all_calls_down() -> None:
    stage = Stage()
    stage.sent()
    stage.turn()
    assert stage.engine.breaker.rate_limiter.limit(stage.now) is None
    stage.client.ready_lists = [JobList(OF_ALL, over_quota=True, http_status=429)]
    stage.turn(1.0)
    assert stage.engine.breaker.rate_limiter.limit(stage.now) is not None
