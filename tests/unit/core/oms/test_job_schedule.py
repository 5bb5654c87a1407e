"""Following accepted jobs: few polls, one result per job, and no job blocks the others."""

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf, log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.core.oms.job_schedule import (
    JOB_BYTES,
    QUERIES_IN_FLIGHT_MAX,
    QUERY_SECONDS_MAX,
    QUERY_SECONDS_MIN,
    REFUSED_SECONDS_MAX,
    STALLED_QUERIES,
    Job,
    JobLimits,
    JobOutcome,
    JobReport,
    JobResult,
    JobSchedule,
    JobStatus,
    adaptive_flush_items,
)
from consumer.core.oms.offset_codec import PackedChanges

CALLS = 100


def job(job_id: str, items: int = 1, packed: bytes = b"") -> Job:
    return Job(job_id, "Rome", items, 1, (PackedChanges(1, "stock", 0, packed),))


def following(*job_ids: str, now: float = 0.0, limits: JobLimits | None = None) -> JobSchedule:
    jobs = JobSchedule(limits or JobLimits())
    for job_id in job_ids:
        jobs.follow(job(job_id), now)
    return jobs


def report(jobs: JobSchedule, job_id: str, status: JobStatus | None, now: float, **more: object) -> JobResult | None:
    return jobs.on_report(JobReport(job_id, status, **more), now, 0.0)  # type: ignore[arg-type]


def time_of_next_query(jobs: JobSchedule, job_id: str, now: float) -> float:
    """Advance from deadline to deadline until this job is polled; return that time."""
    for _ in range(100):
        deadline = jobs.next_deadline()
        assert deadline is not None
        now = max(now, deadline)
        if job_id in jobs.due(now, CALLS):
            return now
    raise AssertionError(f"{job_id} is never polled")


# Which job is polled, and when


def test_a_job_is_first_polled_after_the_minimum_delay() -> None:
    jobs = following("1", now=10.0)

    assert jobs.next_deadline() == 10.0 + QUERY_SECONDS_MIN
    assert jobs.due(11.9, CALLS) == []
    assert jobs.due(12.0, CALLS) == ["1"]


def test_a_job_is_not_polled_again_before_its_report_has_arrived() -> None:
    jobs = following("1")
    assert jobs.due(2.0, CALLS) == ["1"]

    assert jobs.due(1_000.0, CALLS) == []


def test_the_waits_between_polls_double_up_to_a_minute_and_jitter_shortens_them() -> None:
    waits = {0.0: [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0], 1.0: [1.5, 3.0, 6.0, 12.0, 24.0, 45.0, 45.0]}
    for jitter, expected in waits.items():
        jobs, now, found = following("1"), 2.0, []
        for _ in expected:
            assert jobs.due(now, CALLS) == ["1"]
            jobs.on_report(JobReport("1", JobStatus.WORKING), now, jitter)
            deadline = jobs.next_deadline()
            assert deadline is not None
            found.append(deadline - now)
            now = deadline

        assert found == pytest.approx(expected)


def test_jobs_behind_a_working_job_are_not_polled() -> None:
    jobs = following("1", "2", "3")

    assert jobs.due(5.0, CALLS) == ["1"]
    assert report(jobs, "1", JobStatus.WORKING, 5.0) is None
    assert jobs.due(6.9, CALLS) == []
    assert jobs.due(7.0, CALLS) == ["1"]


def test_when_a_job_ends_the_next_one_is_polled_at_once() -> None:
    jobs = following("1", "2", "3")
    jobs.due(5.0, CALLS)

    ended = report(jobs, "1", JobStatus.SUCCESS, 5.5)

    assert ended is not None
    assert jobs.due(5.5, CALLS) == ["2"]


def test_when_a_job_fails_the_next_one_is_polled_at_once() -> None:
    jobs = following("1", "2")
    jobs.due(5.0, CALLS)

    ended = report(jobs, "1", JobStatus.FAILED, 5.0, messages=("no such location",))

    assert ended == JobResult(job("1"), JobOutcome.FAILED, messages=("no such location",))
    assert jobs.due(5.0, CALLS) == ["2"]


def test_the_next_job_is_not_polled_before_its_own_minimum_delay() -> None:
    jobs = following("1")
    jobs.due(5.0, CALLS)
    jobs.follow(job("2"), 6.0)
    report(jobs, "1", JobStatus.SUCCESS, 6.1)

    assert jobs.due(7.9, CALLS) == []
    assert jobs.due(8.0, CALLS) == ["2"]


def test_the_caller_limits_the_number_of_polls() -> None:
    jobs = following("1")

    assert jobs.due(5.0, 0) == []
    assert jobs.due(5.0, 1) == ["1"]


def test_jobs_that_the_oms_has_overtaken_are_polled_two_at_a_time() -> None:
    jobs = following("1", "2", "3", "4")
    now = stall(jobs, "1")
    assert jobs.due(now, CALLS) == ["2"]  # polled because the first job may be stuck
    report(jobs, "2", JobStatus.PENDING, now)
    now = time_of_next_query(jobs, "1", now)
    report(jobs, "1", JobStatus.PENDING, now)
    assert jobs.due(now, CALLS) == ["3"]
    report(jobs, "3", JobStatus.PENDING, now)
    now = time_of_next_query(jobs, "1", now)
    report(jobs, "1", JobStatus.PENDING, now)
    assert jobs.due(now, CALLS) == ["4"]

    report(jobs, "4", JobStatus.WORKING, now)

    assert jobs.due(now, CALLS) == ["2", "3"]
    assert len(jobs.due(now, CALLS)) == 0
    assert QUERIES_IN_FLIGHT_MAX == 2


def stall(jobs: JobSchedule, job_id: str, status: JobStatus | None = JobStatus.WORKING) -> float:
    """Poll the first job until it counts as stalled; return that time."""
    now = 0.0
    for _ in range(STALLED_QUERIES):
        now = time_of_next_query(jobs, job_id, now)
        report(jobs, job_id, status, now)
    return now


def test_a_stalled_job_does_not_block_polling_the_others() -> None:
    jobs = following("1", "2", "3")
    now = stall(jobs, "1")

    assert now > 60
    assert jobs.due(now, CALLS) == ["2"]
    assert report(jobs, "2", JobStatus.SUCCESS, now) is not None
    assert jobs.due(now, CALLS) == ["3"]
    assert report(jobs, "3", JobStatus.SUCCESS, now) is not None
    assert [left.job_id for left in jobs.unfinished_jobs()] == ["1"]
    assert time_of_next_query(jobs, "1", now) <= now + QUERY_SECONDS_MAX


def test_a_job_polled_too_early_is_still_polled_promptly_when_its_turn_comes() -> None:
    jobs = following("1", "2")
    now = stall(jobs, "1")
    for _ in range(5):
        assert jobs.due(now, CALLS) == ["2"]
        report(jobs, "2", JobStatus.PENDING, now)
        now = time_of_next_query(jobs, "1", now)
        report(jobs, "1", JobStatus.WORKING, now)
    assert jobs.due(now, CALLS) == ["2"]
    report(jobs, "2", JobStatus.PENDING, now)
    now = time_of_next_query(jobs, "1", now)
    report(jobs, "1", JobStatus.SUCCESS, now)

    assert jobs.due(now, CALLS) == ["2"]
    report(jobs, "2", JobStatus.WORKING, now)
    assert jobs.next_deadline() == now + QUERY_SECONDS_MIN


def test_a_job_whose_polls_always_fail_does_not_block_polling_the_others() -> None:
    jobs = following("1", "2")
    now = stall(jobs, "1", None)

    now = time_of_next_query(jobs, "2", now)

    assert report(jobs, "2", JobStatus.SUCCESS, now) is not None


def test_a_slow_queue_is_polled_twice_a_minute() -> None:
    jobs = following(*map(str, range(500)))
    now, calls = stall(jobs, "0"), 0
    end = now + 3_600
    while now < end:
        for job_id in jobs.due(now, CALLS):
            calls += 1
            report(jobs, job_id, JobStatus.WORKING if job_id == "0" else JobStatus.PENDING, now)
        deadline = jobs.next_deadline()
        assert deadline is not None
        now = max(now, deadline)

    assert 60 <= calls <= 125


# Results


def test_a_job_result_has_the_times_spent_queued_and_working() -> None:
    jobs = following("1")
    jobs.due(5.0, CALLS)

    ended = report(jobs, "1", JobStatus.SUCCESS, 5.0, added=100.0, started=130.5, finished=132.0)

    assert ended == JobResult(job("1"), JobOutcome.SUCCESS, 30.5, 1.5)


def test_missing_or_inconsistent_job_times_are_left_out_of_the_result() -> None:
    jobs = following("1")
    jobs.due(5.0, CALLS)

    ended = report(jobs, "1", JobStatus.SUCCESS, 5.0, started=130.5, finished=130.0)

    assert ended == JobResult(job("1"), JobOutcome.SUCCESS, None, None)


def test_a_job_result_is_returned_once() -> None:
    jobs = following("1")
    jobs.due(5.0, CALLS)
    report(jobs, "1", JobStatus.SUCCESS, 5.0)

    assert report(jobs, "1", JobStatus.SUCCESS, 6.0) is None
    assert (jobs.unfinished, jobs.unfinished_items, jobs.next_deadline()) == (0, 0, None)


def test_a_job_unknown_to_the_oms_is_polled_once_more() -> None:
    jobs = following("1")
    jobs.due(2.0, CALLS)
    assert report(jobs, "1", None, 2.0, unknown=True) is None

    now = time_of_next_query(jobs, "1", 2.0)

    assert report(jobs, "1", None, now, unknown=True) == JobResult(job("1"), JobOutcome.UNKNOWN_JOB)


def test_a_job_is_given_up_only_if_it_is_unknown_twice_in_a_row() -> None:
    jobs, now = following("1"), 0.0
    for unknown in (True, False, True, False):
        now = time_of_next_query(jobs, "1", now)
        assert report(jobs, "1", None if unknown else JobStatus.PENDING, now, unknown=unknown) is None


def test_a_job_that_does_not_end_is_given_up_at_the_maximum_age() -> None:
    jobs = following("1", limits=JobLimits(age_seconds_max=100.0))
    jobs.follow(job("2"), 50.0)

    assert jobs.expired(99.9) == []
    assert jobs.expired(100.0) == [JobResult(job("1"), JobOutcome.NEVER_FINISHED)]
    assert jobs.expired(100.0) == []
    assert [left.job_id for left in jobs.unfinished_jobs()] == ["2"]


def test_a_job_is_not_given_up_while_a_poll_of_it_is_in_flight() -> None:
    jobs = following("1", limits=JobLimits(age_seconds_max=100.0))
    jobs.due(90.0, CALLS)

    assert jobs.expired(101.0) == []
    assert jobs.next_deadline() is None
    assert report(jobs, "1", JobStatus.WORKING, 102.0) is None
    assert [ended.outcome for ended in jobs.expired(102.0)] == [JobOutcome.NEVER_FINISHED]


def test_the_next_deadline_includes_the_maximum_age_of_a_job() -> None:
    jobs = following("1", limits=JobLimits(age_seconds_max=3.0))
    jobs.due(2.0, CALLS)
    report(jobs, "1", JobStatus.WORKING, 2.0)

    assert jobs.next_deadline() == 3.0


def ended(jobs: JobSchedule, job_id: str, now: float) -> None:
    jobs.due(now, CALLS)
    assert report(jobs, job_id, JobStatus.SUCCESS, now)


def test_no_job_is_dropped_however_many_are_unfinished() -> None:
    jobs = JobSchedule(JobLimits(unfinished_max=2, kept_bytes_max=1))
    for number in range(50):
        jobs.follow(job(str(number), packed=bytes(60)), 0.0)

    assert [left.job_id for left in jobs.unfinished_jobs()] == [str(number) for number in range(50)]


def test_the_queue_is_full_at_its_limit_and_has_room_again_when_a_tenth_has_ended() -> None:
    jobs = JobSchedule(JobLimits(unfinished_max=20))
    for number in range(19):
        jobs.follow(job(str(number)), 0.0)
    assert jobs.full_reason() is None

    jobs.follow(job("19"), 0.0)
    assert "20 jobs of this process are unfinished" in (jobs.full_reason() or "")
    for number in range(2):
        ended(jobs, str(number), 10.0 * (1 + number))
        assert jobs.full_reason()
    ended(jobs, "2", 30.0)
    assert jobs.full_reason() is None


def test_a_queue_of_one_job_has_room_again_when_that_has_ended() -> None:
    jobs = JobSchedule(JobLimits(unfinished_max=1))
    assert jobs.full_reason() is None
    jobs.follow(job("1"), 0.0)
    assert jobs.full_reason()
    ended(jobs, "1", 2.0)

    assert jobs.full_reason() is None


def test_the_queue_is_full_too_when_its_jobs_take_too_much_memory() -> None:
    jobs = JobSchedule(JobLimits(kept_bytes_max=40 * JOB_BYTES))
    full = []
    for number in range(20):
        jobs.follow(job(str(number), packed=bytes(JOB_BYTES)), 0.0)
        full.append(jobs.full_reason())
    for number in range(3):
        ended(jobs, str(number), 10.0 * (1 + number))
        full.append(jobs.full_reason())

    assert [bool(reason) for reason in full] == [False] * 19 + [True] * 3 + [False]
    assert "offsets of unfinished jobs" in (full[19] or "")


def test_while_the_oms_tells_nothing_of_jobs_only_their_memory_counts() -> None:
    """A key that may not call get-job must not stop the service after the first thousand requests."""
    jobs = JobSchedule(JobLimits(unfinished_max=1, kept_bytes_max=2 * JOB_BYTES))
    jobs.follow(job("1"), 0.0)
    jobs.due(2.0, CALLS)
    report(jobs, "1", None, 2.0, http_status=403, detail="HTTP 403")
    assert jobs.full_reason() is None

    jobs.follow(job("2"), 3.0)
    assert jobs.full_reason()


def test_a_reused_job_id_stands_for_the_changes_of_both_requests() -> None:
    jobs = following("1")
    first, second = PackedChanges(1, "changes", 0, b"x"), PackedChanges(1, "changes", 1, b"yy")
    jobs.follow(Job("2", "Rome", 3, 1, (first,)), 1.0)
    jobs.follow(Job("2", "Oslo", 7, 2, (second,)), 2.0)

    assert (jobs.unfinished, jobs.unfinished_items) == (2, 11)
    merged = jobs.unfinished_jobs()[1]
    assert (merged.items, merged.chunks, merged.changes) == (10, 3, (first, second))
    ended(jobs, "1", 3.0)
    ended(jobs, "2", 6.0)
    assert (jobs.unfinished, jobs.unfinished_items, jobs._kept_bytes) == (0, 0, 0)


# When the OMS does not answer


def test_polls_without_an_answer_back_off_up_to_a_minute() -> None:
    jobs, now, waits = following(*map(str, range(50))), 2.0, []
    for _ in range(8):
        (job_id,) = jobs.due(now, CALLS)
        report(jobs, job_id, None, now)
        before, now = now, next(at / 2 for at in range(int(2 * now), int(2 * now) + 500) if peek(jobs, at / 2))
        waits.append(now - before)

    assert waits == pytest.approx([2, 4, 8, 16, 32, 60, 60, 60], abs=0.5)


def peek(jobs: JobSchedule, now: float) -> bool:
    deadline = jobs.next_deadline()
    return deadline is not None and deadline <= now


def test_after_a_failure_a_single_poll_probes_the_oms() -> None:
    jobs = following("1", "2", "3", "4")
    now = stall(jobs, "1")
    jobs.due(now, CALLS)
    report(jobs, "2", None, now, detail="HTTP 503")
    assert jobs.unavailable_reason == "HTTP 503"

    now += QUERY_SECONDS_MAX
    assert len(jobs.due(now, CALLS)) == 1
    assert jobs.due(now, CALLS) == []

    report(jobs, "1", JobStatus.WORKING, now)
    assert jobs.unavailable_reason is None


def test_retry_after_is_honoured_even_if_another_poll_succeeds() -> None:
    jobs = following("1", "2", "3")
    now = stall(jobs, "1")
    time_of_next_query(jobs, "2", now)
    now = time_of_next_query(jobs, "1", now)
    report(jobs, "2", None, now, over_quota=True, http_status=429, retry_after_seconds=500.0)
    report(jobs, "1", JobStatus.SUCCESS, now)

    assert jobs.due(now + 499.0, CALLS) == []
    assert jobs.due(now + 500.0, CALLS) != []


@pytest.mark.parametrize(("wish", "wait"), [(1e9, 3_600.0), (inf, 2.0), (0.5, 2.0)])
def test_retry_after_is_bounded_and_never_shortens_a_wait(wish: float, wait: float) -> None:
    jobs = following("1")
    jobs.due(2.0, CALLS)
    report(jobs, "1", None, 2.0, retry_after_seconds=wish)

    assert jobs.next_deadline() == 2.0 + wait


@pytest.mark.parametrize("status", [302, 401, 403, 404, 405])
def test_if_get_job_itself_is_refused_polling_slows_down_to_once_in_15_minutes(status: int) -> None:
    jobs, now, calls = following(*map(str, range(1_000))), 0.0, 0
    while now < 86_000.0:
        for job_id in jobs.due(now, CALLS):
            calls += 1
            report(jobs, job_id, None, now, http_status=status)
        deadline = jobs.next_deadline()
        assert deadline is not None
        now = max(now, deadline)

    assert 86_000 / REFUSED_SECONDS_MAX <= calls <= 86_000 / REFUSED_SECONDS_MAX + 12


def test_a_throttled_poll_does_not_count_as_a_refusal_of_get_job() -> None:
    jobs, now = following("1"), 0.0
    for _ in range(12):
        now = time_of_next_query(jobs, "1", now)
        report(jobs, "1", None, now, http_status=403, over_quota=True)

    assert time_of_next_query(jobs, "1", now) - now <= QUERY_SECONDS_MAX


# Status and request size


def test_unfinished_jobs_are_counted_and_listed_oldest_first() -> None:
    jobs = following("1", now=10.0)
    jobs.follow(job("2", items=5), 20.0)

    assert (jobs.unfinished, jobs.unfinished_items, jobs.oldest_seconds(25.0)) == (2, 6, 15.0)
    assert [left.job_id for left in jobs.unfinished_jobs()] == ["1", "2"]
    assert JobSchedule(JobLimits()).oldest_seconds(25.0) is None


@pytest.mark.parametrize(
    ("unfinished", "chunk", "most", "expected"),
    [
        pytest.param(0, 3_000, 12_000, 3_000, id="idle"),
        pytest.param(1, 3_000, 12_000, 6_000, id="one"),
        pytest.param(3, 3_000, 12_000, 12_000, id="three"),
        pytest.param(50, 3_000, 12_000, 12_000, id="many"),
        pytest.param(50, 3_000, 11_999, 9_000, id="whole chunks only"),
        pytest.param(5, 3_000, 3_000, 3_000, id="one chunk a request"),
    ],
)
def test_requests_grow_with_the_number_of_unfinished_jobs(
    unfinished: int, chunk: int, most: int, expected: int
) -> None:
    assert adaptive_flush_items(unfinished, chunk, most) == expected


# With a model of the OMS


@dataclass
class ModelOms:
    """Processes jobs one at a time, in order; a stuck job is skipped and stays at WORKING."""

    stuck: set[str] = field(default_factory=set)
    free_at: float = 0.0
    times: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, job_id: str, seconds: float, now: float) -> None:
        started = max(now, self.free_at)
        self.free_at = started + (0.0 if job_id in self.stuck else seconds)
        self.times[job_id] = (started, inf if job_id in self.stuck else self.free_at)

    def report(self, job_id: str, now: float) -> JobReport:
        started, finished = self.times[job_id]
        if now < started:
            return JobReport(job_id, JobStatus.PENDING)
        return JobReport(job_id, JobStatus.WORKING if now < finished else JobStatus.SUCCESS)


@dataclass
class Run:
    """Statistics of following all jobs to their ends."""

    ends: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    delays: list[float] = field(default_factory=list)


def follow_all(oms: ModelOms, plan: Iterable[tuple[float, float]], jitters: list[float], latency: float) -> Run:
    """Follow jobs, given as (seconds since the previous one, seconds of work), until only stuck ones remain."""
    jobs, run, now = JobSchedule(JobLimits(age_seconds_max=1e9)), Run(), 0.0
    coming = []
    for number, (gap, seconds) in enumerate(plan):
        now += gap
        coming.append((now, str(number), seconds))
    answers: list[tuple[float, str]] = []
    in_flight: set[str] = set()
    now, turn = 0.0, 0
    coming.reverse()
    while coming or jobs.unfinished > len(oms.stuck):
        deadline = jobs.next_deadline()
        times = [coming[-1][0]] if coming else []
        times += [answers[0][0]] if answers else []
        times += [] if deadline is None else [deadline]
        now = max(now, min(times))
        while coming and coming[-1][0] <= now:
            _, job_id, seconds = coming.pop()
            oms.add(job_id, seconds, now)
            jobs.follow(job(job_id), now)
        while answers and answers[0][0] <= now:
            _, job_id = heapq.heappop(answers)
            in_flight.remove(job_id)
            turn += 1
            ended = jobs.on_report(oms.report(job_id, now), now, jitters[turn % len(jitters)])
            if ended:
                run.ends[job_id] += 1
                run.delays.append(now - oms.times[job_id][1])
        for job_id in jobs.due(now, CALLS):
            assert job_id not in in_flight
            in_flight.add(job_id)
            assert len(in_flight) <= QUERIES_IN_FLIGHT_MAX
            run.calls[job_id] += 1
            heapq.heappush(answers, (now + latency, job_id))
    return run


plans = st.lists(
    st.tuples(st.floats(0, 30) | st.just(0.0), st.floats(0, 5) | st.floats(0, 200)), min_size=1, max_size=60
)
jitters = st.lists(st.floats(0, 1), min_size=1, max_size=7)


@settings(deadline=None, max_examples=300)
@given(plan=plans, jitters=jitters, latency=st.floats(0, 1), stuck=st.sets(st.integers(0, 59), max_size=3))
def test_every_job_result_is_returned_once_and_no_job_is_polled_twice_at_once(
    plan: list[tuple[float, float]], jitters: list[float], latency: float, stuck: set[int]
) -> None:
    oms = ModelOms(stuck={str(number) for number in stuck if number < len(plan)})

    run = follow_all(oms, plan, jitters, latency)

    assert run.ends == {str(number): 1 for number in range(len(plan)) if str(number) not in oms.stuck}


@settings(deadline=None, max_examples=300)
@given(plan=plans, jitters=jitters, latency=st.floats(0, 1))
def test_an_oms_that_works_in_order_needs_few_polls(
    plan: list[tuple[float, float]], jitters: list[float], latency: float
) -> None:
    """At most three polls per job, one more per doubling of its work over a second, and two a minute after that."""
    oms = ModelOms()

    run = follow_all(oms, plan, jitters, latency)

    work = [seconds for _, seconds in plan]
    bound = sum(3 + log2(max(seconds, 1.0)) + seconds / 22 for seconds in work)
    assert run.calls.total() <= bound


def test_a_job_of_a_few_chunks_takes_about_two_polls_and_its_end_is_known_within_seconds() -> None:
    """The usual case: requests of one to four chunks that arrive faster than the OMS processes them."""
    plan = [(0.5, 1.5 + number % 4) for number in range(400)]

    run = follow_all(ModelOms(), plan, [0.0, 0.3, 0.9], 0.1)

    assert run.calls.total() / len(plan) < 2.5
    assert max(run.delays) < 5.0
