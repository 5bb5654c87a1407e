"""The list of jobs: asking for it, and reading its answers."""

import json
import time
from typing import Any

import httpx
import pytest

from consumer.core.changes.blocks import Rows
from consumer.core.changes.items import ITEM_KEY
from consumer.core.oms.job_list import JobList, ListQuery
from consumer.core.oms.job_schedule import Job, JobLimits, JobSchedule, JobStatus
from consumer.errors import InvariantError
from consumer.loop.job_queries import JobQueries
from consumer.oms.client import build_client
from consumer.oms.job_list import query_string, read_job_list
from consumer.ports import Submission
from consumer.sandbox.oms.app import UNIFIED_TOKEN_PATH
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import UNIFIED_KEY, UNIFIED_SECRET, SandboxSettings
from tests.support.frames import change, frame
from tests.support.service_process import wait_until
from tests.unit.oms.oms_bench import ANSWER_SECONDS_MAX, SETTINGS, Bench, MakeBench

OVER_QPS = {"X-Mashery-Error-Code": "ERR_403_DEVELOPER_OVER_QPS", "Retry-After": "9"}
UNIFIED = {"api": "unified-commerce", "tenant": 7}


def job(job_id: int, status: str = "SUCCESS", location: str | None = "Rome", **more: Any) -> dict[str, Any]:
    named = {} if location is None else {"locationCode": location}
    return {"jobID": job_id, "type": "REFRESH", "status": status, "itemCount": 3, **named, **more}


def read(
    body: Any, status: int = 200, *, query: ListQuery | None = None, headers: dict[str, str] | None = None
) -> JobList:
    raw = json.dumps(body).encode()
    return read_job_list(query or ListQuery("Rome"), status, httpx.Headers(headers), raw, wall=0.0)


def listed(bench: Bench, query: ListQuery) -> JobList:
    assert bench.client.jobs is not None
    bench.client.jobs.ask_list(query)
    deadline = time.monotonic() + ANSWER_SECONDS_MAX
    while not (lists := bench.client.jobs.lists()):
        assert time.monotonic() < deadline, "no list came"
        time.sleep(0.002)
    return lists[0]


def test_jobs_of_a_list_are_read_with_location_size_and_times() -> None:
    (found,) = read([job(77, "WORKING", added="2026-01-02T03:04:05Z", messages=["slow"])]).jobs or ()

    assert (found.report.job_id, found.report.status, found.location, found.items) == ("77", "WORKING", "Rome", 3)
    assert (found.report.added, found.report.messages) == (1_767_323_045.0, ("slow",))


@pytest.mark.parametrize(
    ("body", "jobs", "is_complete"),
    [
        pytest.param([], 0, True, id="no job"),
        pytest.param([job(1), job(2, "FAILED")], 2, True, id="two jobs"),
        pytest.param([job(1, type="ADJUST")], 0, True, id="no refresh"),
        pytest.param([{"status": "SUCCESS"}], 0, False, id="without a jobID"),
        pytest.param([job(at) for at in range(1, 101)], 100, False, id="cut at its limit"),
    ],
)
def test_a_list_is_complete_if_it_cannot_lack_a_refresh(
    body: Any,
    jobs: int,
    is_complete: bool,  # noqa: FBT001
) -> None:
    found = read(body)
    assert (len(found.jobs or ()), found.is_complete) == (jobs, is_complete)


def test_an_answer_without_a_list_has_no_jobs_and_says_why() -> None:
    page = read({"jobs": []})
    assert (page.jobs, page.is_complete) == (None, False)
    assert "without a list" in page.detail

    throttled = read({}, 403, headers=OVER_QPS)
    assert (throttled.jobs, throttled.over_quota, throttled.retry_after_seconds) == (None, True, 9.0)


def test_the_query_names_location_type_and_limit() -> None:
    assert query_string(ListQuery("Rome & Co/1", 5)) == "?locationCode=Rome%20%26%20Co%2F1&types=REFRESH&limit=5"
    assert query_string(ListQuery()) == "?types=REFRESH&limit=100"


def test_a_list_is_asked_for_with_token_and_tenant_and_again_after_a_401(make_bench: MakeBench) -> None:
    bench = make_bench(**UNIFIED)
    bench.send()  # so the token is not new
    bench.oms.refreshes = [httpx.Response(401), httpx.Response(200, json=[job(8, "PENDING")])]

    (found,) = listed(bench, ListQuery("Rome")).jobs or ()

    assert found.report.status is JobStatus.PENDING
    request = bench.oms.sent_to("oms.example")[-1]
    assert (request.method, str(request.url)) == (
        "GET",
        "https://oms.example/commerce/inventory/v1/queue?locationCode=Rome&types=REFRESH&limit=100",
    )
    assert (request.headers["x-vol-tenant"], bench.oms.bearers) == (
        "7",
        ["token-1", "token-1", "token-2"],
    )


def test_an_api_without_lists_cannot_be_asked_for_one(make_bench: MakeBench) -> None:
    jobs = make_bench().client.jobs
    assert jobs is not None
    assert not jobs.has_lists
    with pytest.raises(InvariantError):
        jobs.ask_list(ListQuery())


def test_thirty_jobs_of_the_sandbox_are_followed_with_a_few_calls() -> None:
    with SandboxServer(SandboxSettings(seconds_per_job=0.05, seconds_per_chunk=0.05)) as server:
        urls = {"base_url": server.url, "token_url": server.url + UNIFIED_TOKEN_PATH}
        tenant = {"api": "unified-commerce", "tenant": server.settings.tenant}
        client = build_client(
            SETTINGS.model_copy(update=urls | tenant | {"timeout": ANSWER_SECONDS_MAX}),
            ITEM_KEY,
            monotonic=time.monotonic,
            wall=time.time,
            fence_seconds=ANSWER_SECONDS_MAX,
            credentials=lambda: (UNIFIED_KEY, UNIFIED_SECRET),
        )
        assert client.jobs is not None
        schedule, queries = JobSchedule(JobLimits()), JobQueries(client.jobs)
        for number in range(30):
            rows = Rows(frame([change(f"store {number}", "a")]))
            client.submit(Submission(number, f"store {number}", rows, time.monotonic()))
        accepted = calls = 0

        def has_followed_all() -> bool:
            nonlocal accepted, calls
            now = time.monotonic()
            for answered in client.answers():
                accepted += 1
                schedule.follow(Job(answered.answer.job_id or "", "store", 1, 1), now)
            reports, calls_made = queries.reports(now)
            for report in reports:
                schedule.on_report(report, now, 0.5)
            calls += calls_made + queries.ask(schedule.due(now, 10), schedule.unfinished, now)
            return accepted == 30 and not schedule.unfinished

        wait_until(has_followed_all, "all jobs have ended")
        client.close()
        assert calls < 10
