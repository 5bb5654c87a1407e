"""Get-job: reading its answers, and making the calls."""

import json
import threading
import time
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from consumer.core.oms.answers import AnswerKind
from consumer.core.oms.job_schedule import JobReport, JobStatus
from consumer.errors import InvariantError
from consumer.oms.job_reports import MESSAGES_MAX, read_report
from consumer.text import DETAIL_CHARACTERS_MAX
from tests.unit.oms.oms_bench import ANSWER_SECONDS_MAX, Bench, MakeBench

WALL = 1_700_000_000.0
OVER_QPS = {"X-Mashery-Error-Code": "ERR_403_DEVELOPER_OVER_QPS"}


def read(status: int, body: Any = b"", headers: Mapping[str, str] | None = None) -> JobReport:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_report("77", status, httpx.Headers(headers), raw, wall=WALL)


def test_a_finished_job_is_read_completely() -> None:
    body = {
        "jobID": 77,
        "type": "REFRESH",
        "status": "SUCCESS",
        "added": "2026-01-02T03:04:05Z",
        "started": "2026-01-02T03:04:06.5Z",
        "finished": "2026-01-02T04:04:10+01:00",
        "itemCount": 3,
        "success": True,
        "messages": ["2 items now have more attributes"],
    }

    assert read(200, body) == JobReport(
        "77",
        JobStatus.SUCCESS,
        added=1_767_323_045.0,
        started=1_767_323_046.5,
        finished=1_767_323_050.0,
        messages=("2 items now have more attributes",),
        http_status=200,
    )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b'{"jobID": 77, "status": "PENDING"}', JobStatus.PENDING, id="pending"),
        pytest.param(b'{"jobID": 77, "status": "WORKING"}', JobStatus.WORKING, id="working"),
        pytest.param(b'{"jobID": 77, "status": "FAILED"}', JobStatus.FAILED, id="failed"),
        pytest.param(b'{"jobID": 0077, "status": "SUCCESS"}', JobStatus.SUCCESS, id="leading zeros, no JSON"),
        pytest.param(b'{"jobID": "0077", "status": "SUCCESS"}', JobStatus.SUCCESS, id="leading zeros in a text"),
        pytest.param(b'{"status": "SUCCESS"}', JobStatus.SUCCESS, id="without its jobID"),
        pytest.param(b'{"jobID": 77, "status": " success "}', JobStatus.SUCCESS, id="in other letters"),
    ],
)
def test_a_status_is_read_in_every_form(body: bytes, status: JobStatus) -> None:
    assert read(200, body) == JobReport("77", status, http_status=200)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        pytest.param(200, {"jobID": 77, "status": "DONE"}, "unknown status", id="an unknown word"),
        pytest.param(200, {"jobID": 77}, "unknown status", id="no status"),
        pytest.param(200, {"jobID": 77, "status": 3}, "unknown status", id="a number"),
        pytest.param(200, {"jobID": 78, "status": "SUCCESS"}, "returned job 78 for job 77", id="another job"),
        pytest.param(200, [{"jobID": 77, "status": "SUCCESS"}], "HTTP 200 without a job", id="a list"),
        pytest.param(200, b"<html>Welcome</html>", "Welcome", id="a page"),
        pytest.param(200, b"", "HTTP 200 without a job", id="nothing"),
        pytest.param(302, b"", "HTTP 302", id="a redirect"),
        pytest.param(401, b"", "HTTP 401", id="401"),
        pytest.param(403, {"code": 5004, "message": "not for you"}, "not for you", id="403"),
        pytest.param(404, b"<html>no such page</html>", "HTTP 404", id="an unknown path"),
        pytest.param(400, {"code": 5003}, "HTTP 400", id="400"),
        pytest.param(500, {"code": 5006}, "HTTP 500", id="500"),
        pytest.param(503, b"down", "down", id="503"),
    ],
)
def test_an_answer_without_a_usable_status_is_reported_with_the_reason(status: int, body: Any, words: str) -> None:
    report = read(status, body)

    assert (report.status, report.unknown, report.http_status) == (None, False, status)
    assert words in report.detail


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(404, {"code": 5002, "message": "no such job"}, id="not found"),
        pytest.param(404, {"message": "Job Not Found"}, id="not found, in the newest API's words"),
        pytest.param(400, {"code": 5013, "message": "invalid id"}, id="invalid id"),
        pytest.param(400, {"code": "5012"}, id="id mismatch"),
    ],
)
def test_a_job_that_the_oms_does_not_know_is_reported_as_unknown(status: int, body: Any) -> None:
    report = read(status, body)

    assert (report.status, report.unknown) == (None, True)


@pytest.mark.parametrize(
    ("status", "headers", "over_quota", "seconds"),
    [
        pytest.param(429, {"Retry-After": "17"}, True, 17.0, id="429"),
        pytest.param(403, OVER_QPS | {"Retry-After": "3"}, True, 3.0, id="the gateway's 403"),
        pytest.param(403, {}, False, None, id="another 403"),
        pytest.param(503, {"Retry-After": "60"}, False, 60.0, id="503"),
    ],
)
def test_over_quota_and_retry_after_are_reported(
    status: int, headers: dict[str, str], *, over_quota: bool, seconds: float | None
) -> None:
    report = read(status, {}, headers)

    assert (report.over_quota, report.retry_after_seconds) == (over_quota, seconds)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("2026-01-02T03:04:05Z", 1_767_323_045.0, id="Z"),
        pytest.param("2026-01-02T03:04:05", 1_767_323_045.0, id="no zone is UTC"),
        pytest.param("2026-01-02 03:04:05", 1_767_323_045.0, id="a space"),
        pytest.param("2026-01-02T03:04:05.250Z", 1_767_323_045.25, id="milliseconds"),
        pytest.param("2026-01-02T03:04:05.123456789Z", 1_767_323_045.123456, id="nanoseconds"),
        pytest.param("2026-01-02T03:04:05+02:00", 1_767_315_845.0, id="an offset"),
        pytest.param("2026-01-02T03:04:05-0530", 1_767_342_845.0, id="an offset without a colon"),
        pytest.param(" 2026-01-02T03:04:05Z ", 1_767_323_045.0, id="blanks"),
        pytest.param("yesterday", None, id="words"),
        pytest.param("0001-01-01T00:00:00+23:59", None, id="the year 1"),
        pytest.param("", None, id="empty"),
        pytest.param(1_767_323_045, None, id="a number"),
        pytest.param(None, None, id="null"),
    ],
)
def test_a_time_is_read_as_utc_in_seconds(text: object, seconds: float | None) -> None:
    found = read(200, {"status": "SUCCESS", "added": text}).added

    assert found == (None if seconds is None else pytest.approx(seconds, abs=1e-6))


def test_a_time_without_a_zone_is_utc_wherever_the_service_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        found = read(200, {"status": "SUCCESS", "added": "2026-01-02T03:04:05"}).added
    time.tzset()

    assert found == 1_767_323_045.0


@pytest.mark.parametrize(
    ("messages", "kept"),
    [
        pytest.param([], (), id="none"),
        pytest.param(None, (), id="null"),
        pytest.param("one", ("one",), id="a text alone"),
        pytest.param(["a\nb", {"item": 3}], ("a b", '{"item": 3}'), id="lines and objects"),
    ],
)
def test_messages_become_printable_lines(messages: object, kept: tuple[str, ...]) -> None:
    assert read(200, {"status": "FAILED", "messages": messages}).messages == kept


def test_of_many_long_messages_the_first_are_kept_and_shortened() -> None:
    messages = read(200, {"status": "FAILED", "messages": ["x" * 1_000] * (MESSAGES_MAX + 5)}).messages

    assert len(messages) == MESSAGES_MAX + 1
    assert max(map(len, messages)) == DETAIL_CHARACTERS_MAX
    assert messages[-1] == "and 5 more messages"


# The client


def job(status: str, job_id: object = 77) -> httpx.Response:
    return httpx.Response(200, json={"jobID": job_id, "status": status})


def test_a_question_is_one_call_and_one_report(bench: Bench) -> None:
    bench.oms.refreshes = [job("WORKING")]

    (report,) = bench.asked("77")

    assert report.status is JobStatus.WORKING
    assert bench.oms.bearers == ["token-1"]
    assert bench.client.jobs is not None
    assert bench.client.jobs.reports() == []


def test_every_question_is_answered_once_two_at_a_time(bench: Bench) -> None:
    gate = threading.Barrier(2, timeout=ANSWER_SECONDS_MAX)

    def together(request: httpx.Request) -> httpx.Response:
        gate.wait()
        return job("PENDING", request.url.path.rpartition("/")[2])

    bench.client.check_credentials()
    bench.oms.refreshes = [together] * 4

    reports = bench.asked("1", "2", "3", "4")

    assert sorted(report.job_id for report in reports) == ["1", "2", "3", "4"]


def test_questions_and_requests_share_one_token(bench: Bench) -> None:
    bench.send()
    bench.oms.refreshes = [job("SUCCESS")]
    bench.asked("77")

    assert bench.client.tokens_fetched == 1
    assert bench.oms.bearers == ["token-1", "token-1"]


def test_a_stale_token_is_renewed_once_and_the_call_repeated(bench: Bench) -> None:
    bench.send()
    bench.oms.refreshes = [httpx.Response(401), job("SUCCESS")]
    assert bench.asked("77")[0].status is JobStatus.SUCCESS

    bench.oms.refreshes = [httpx.Response(401), httpx.Response(401)]
    (report,) = bench.asked("77")

    assert (report.status, report.http_status) == (None, 401)
    assert bench.oms.bearers == ["token-1", "token-1", "token-2", "token-2", "token-3"]


def test_a_new_token_is_left_to_the_refresh_requests(bench: Bench) -> None:
    bench.oms.refreshes = [httpx.Response(401)]

    (report,) = bench.asked("77")

    assert report.http_status == 401
    assert bench.send().answer.kind is AnswerKind.ACCEPTED
    assert bench.oms.bearers == ["token-1", "token-1"]


@pytest.mark.parametrize("status", [302, 403, 404, 429, 500, 503])
def test_only_a_401_is_repeated_and_redirects_are_not_followed(bench: Bench, status: int) -> None:
    bench.oms.refreshes = [httpx.Response(status, headers={"Location": "https://elsewhere.example/"})]

    (report,) = bench.asked("77")

    assert report.http_status == status
    assert len(bench.oms.requests) == 2  # the token and the question


def test_a_key_without_permission_for_get_job_may_still_refresh(bench: Bench) -> None:
    bench.oms.refreshes = [httpx.Response(403), httpx.Response(403), httpx.Response(403)]

    bench.asked("77")
    bench.asked("77")

    assert bench.send().answer.repeated is False


@pytest.mark.parametrize(
    "error", [httpx.ConnectError("refused"), httpx.ReadTimeout("silent"), httpx.RemoteProtocolError("gone")]
)
def test_connection_errors_become_reports(bench: Bench, error: Exception) -> None:
    bench.oms.refreshes = [error]

    (report,) = bench.asked("77")

    assert (report.status, report.unknown, report.http_status) == (None, False, None)
    assert type(error).__name__ in report.detail


def test_without_a_token_no_call_is_made(bench: Bench) -> None:
    bench.oms.token_replies = [httpx.Response(429, headers={"Retry-After": "9"})]

    (report,) = bench.asked("77")

    assert bench.oms.bearers == []
    assert (report.status, report.over_quota, report.retry_after_seconds) == (None, True, 9.0)
    assert "oms.token_url" in report.detail


def test_a_token_that_the_oms_echoes_does_not_appear_in_a_report(bench: Bench) -> None:
    bench.oms.refreshes = [httpx.Response(500, text="Bearer token-1 is odd")]

    assert bench.asked("77")[0].detail == "HTTP 500: Bearer *** is odd"


def test_a_bug_in_a_worker_is_raised_by_reports(bench: Bench) -> None:
    bench.oms.refreshes = [httpx.InvalidURL("odd")]

    with pytest.raises(httpx.InvalidURL):
        bench.asked("77")


def test_without_job_tracking_there_is_no_job_client(make_bench: MakeBench) -> None:
    assert make_bench(track_jobs=False).client.jobs is None


def test_no_call_is_made_after_close(bench: Bench) -> None:
    assert bench.client.jobs is not None
    bench.client.close()
    bench.client.close()

    with pytest.raises(InvariantError, match="closed"):
        bench.client.jobs.ask("77")
    for thread in bench.client.jobs._workers._threads:
        assert not thread.is_alive()
