"""The sandbox's endpoints over a real socket: tokens, API keys, jobs, and its view of the inventory."""

import os
import signal
import subprocess
import sys
import time
from typing import Any

import httpx
import pytest

from consumer.core.oms.job_list import JobList, ListQuery
from consumer.errors import SettingsError
from consumer.oms.job_list import query_string, read_job_list
from consumer.sandbox.oms.app import JOB_LIST_PATH, REFRESH_PATHS, TOKEN_PATH
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import SPECIFIC_KEY, SPECIFIC_SECRET, V5_KEY, V5_SECRET, Package, SandboxSettings
from tests.unit.sandbox.oms_caller import MakeOms, ManualClock, OmsCaller

GOOD = {"sku": "1", "quantity": 1}
GRANT = {"grant_type": "client_credentials"}


@pytest.mark.parametrize(
    ("credentials", "package"),
    [
        pytest.param((SPECIFIC_KEY, SPECIFIC_SECRET), Package.SPECIFIC, id="inventory specific"),
        pytest.param((V5_KEY, V5_SECRET), Package.V5, id="inventory v5"),
    ],
)
def test_an_api_key_and_its_secret_get_a_token_valid_for_an_hour(
    quick_oms: OmsCaller, credentials: tuple[str, str], package: Package
) -> None:
    answer = quick_oms.http.post(TOKEN_PATH, data=GRANT, auth=credentials)
    token = answer.json()
    assert (answer.status_code, token["token_type"], token["expires_in"]) == (200, "Bearer", 3_600)
    assert quick_oms.state.package_of(token["access_token"]) is package


@pytest.mark.parametrize(
    ("auth", "form", "status", "error"),
    [
        pytest.param((SPECIFIC_KEY, "wrong"), GRANT, 401, "invalid_client", id="wrong secret"),
        pytest.param((SPECIFIC_KEY, ""), GRANT, 401, "invalid_client", id="empty secret"),
        pytest.param((SPECIFIC_KEY, V5_SECRET), GRANT, 401, "invalid_client", id="secret of the other key"),
        pytest.param(("unknown", SPECIFIC_SECRET), GRANT, 401, "invalid_client", id="unknown key"),
        pytest.param(("unknown", ""), GRANT, 401, "invalid_client", id="unknown key without a secret"),
        pytest.param((SPECIFIC_KEY, SPECIFIC_SECRET), {}, 400, "invalid_request", id="no form"),
        pytest.param((SPECIFIC_KEY, SPECIFIC_SECRET), {"x": "y"}, 400, "invalid_request", id="no grant type"),
        pytest.param(
            (SPECIFIC_KEY, SPECIFIC_SECRET), {"grant_type": "password"}, 400, "unsupported_grant_type", id="other grant"
        ),
    ],
)
def test_no_token_without_the_right_credentials_and_grant(
    quick_oms: OmsCaller, auth: tuple[str, str], form: dict[str, str], status: int, error: str
) -> None:
    answer = quick_oms.http.post(TOKEN_PATH, data=form, auth=auth)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert (status == 401) == ("WWW-Authenticate" in answer.headers)


@pytest.mark.parametrize(
    "header", ["", "Basic", "Basic !", "Basic bm9jb2xvbg==", "Basic /w==", "Digest x"], ids=lambda header: header
)
def test_a_missing_or_malformed_authorization_header_is_answered_401(quick_oms: OmsCaller, header: str) -> None:
    answer = quick_oms.http.post(TOKEN_PATH, data=GRANT, headers={"Authorization": header})
    assert answer.status_code == 401


@pytest.mark.parametrize("package", Package, ids=str)
def test_each_endpoint_accepts_its_own_key_and_answers_403_to_the_others(make_oms: MakeOms, package: Package) -> None:
    oms = make_oms(package=package)
    body = oms.body("L", [GOOD])
    refused = [oms.send(body, package=other) for other in Package if other is not package]
    assert oms.send(body).status_code == 200
    said = [(answer.status_code, answer.json().get("code", answer.json().get("errorCode"))) for answer in refused]
    assert set(said) <= {(403, 5004), (403, "NOT_AUTHORISED")}
    assert len(said) == 2
    assert oms.state.summary().jobs == 1


@pytest.mark.parametrize("token", ["", "Bearer", "Bearer nonsense", "Basic x"])
def test_a_request_without_a_valid_token_is_answered_401(quick_oms: OmsCaller, token: str) -> None:
    answer = quick_oms.http.post(
        REFRESH_PATHS[Package.SPECIFIC], json={"locationName": "L", "items": [GOOD]}, headers={"Authorization": token}
    )
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token")


def test_a_token_is_refused_once_it_has_expired(make_oms: MakeOms, clock: ManualClock) -> None:
    oms = make_oms(clock=clock, token_seconds=60)
    clock.advance(59.9)
    assert oms.refresh("L", [GOOD]).status_code == 200
    clock.advance(0.1)
    assert oms.refresh("L", [GOOD]).status_code == 401
    oms.renew()
    assert oms.refresh("L", [GOOD]).status_code == 200


def test_the_oldest_token_is_revoked_when_there_are_too_many(make_oms: MakeOms) -> None:
    oms = make_oms(tokens_max=2)
    first = oms.token
    oms.renew()
    assert oms.state.package_of(first) is Package.SPECIFIC
    oms.renew()
    assert oms.state.package_of(first) is None
    assert oms.state.package_of(oms.token) is Package.SPECIFIC


def test_revoked_tokens_are_refused(make_oms: MakeOms) -> None:
    oms = make_oms()
    oms.script(revoke_tokens=True)
    assert oms.refresh("L", [GOOD]).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        pytest.param("GET", "/api/v5/nothing", 404, 5002, id="unknown path"),
        pytest.param("POST", "/inv/api/v5/inventory/refresh/", 404, 5002, id="trailing slash"),
        pytest.param("GET", "/inv/api/v5/inventory/refresh", 405, 5005, id="refresh by GET"),
        pytest.param("POST", "/inv/api/v1/queue/1", 405, 5005, id="get job by POST"),
        pytest.param("GET", TOKEN_PATH, 405, 5005, id="token by GET"),
        pytest.param("GET", "/inv/api/v1/queue/1", 404, 5002, id="unknown job"),
        pytest.param("GET", "/inv/api/v1/queue/abc", 400, 5013, id="jobID that is not a number"),
        pytest.param("GET", "/api/v1/queue/1", 403, 5004, id="job with the other key"),
    ],
)
def test_unknown_paths_and_wrong_methods_are_answered_with_the_oms_codes(
    quick_oms: OmsCaller, method: str, path: str, status: int, code: int
) -> None:
    answer = quick_oms.http.request(method, path, headers=quick_oms.bearer)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_get_job_follows_a_job_from_pending_to_success(make_oms: MakeOms, clock: ManualClock) -> None:
    oms = make_oms(clock=clock, seconds_per_job=1, seconds_per_chunk=10)
    oms.refresh("first", [GOOD])
    job_id = oms.refresh("second", [{"sku": "1", "quantity": 2}]).json()["jobID"]

    def job() -> Any:
        return oms.http.get(f"/inv/api/v1/queue/{job_id}", headers=oms.bearer).json()

    assert job() == {
        "jobID": job_id,
        "type": "REFRESH",
        "status": "PENDING",
        "added": "2023-11-14T22:13:20.000Z",
        "started": None,
        "finished": None,
        "itemCount": 1,
        "success": False,
        "messages": [],
    }
    clock.advance(11)
    assert (job()["status"], job()["started"]) == ("WORKING", "2023-11-14T22:13:31.000Z")
    assert oms.state.inventory("second") == {}
    clock.advance(11)
    assert (job()["status"], job()["success"], job()["finished"]) == ("SUCCESS", True, "2023-11-14T22:13:42.000Z")
    assert oms.state.inventory("second") == {"second": [{"sku": "1", "quantity": 2}]}


def test_a_list_of_jobs_has_the_newest_ones_as_the_service_reads_it(make_oms: MakeOms, clock: ManualClock) -> None:
    oms = make_oms(package=Package.UNIFIED, clock=clock, seconds_per_job=1, seconds_per_chunk=10)
    job_ids = [str(oms.refresh(location, [GOOD]).json()["jobID"]) for location in ("L", "M", "L", "L")]
    clock.advance(12)

    def jobs(query: ListQuery) -> JobList:
        answer = oms.http.get(JOB_LIST_PATH + query_string(query), headers=oms.bearer)
        return read_job_list(query, answer.status_code, answer.headers, answer.content, wall=0.0)

    found = jobs(ListQuery())
    assert [(job.report.job_id, job.location, job.items) for job in found.jobs or ()] == [
        (job_ids[3], "L", 1),
        (job_ids[2], "L", 1),
        (job_ids[1], "M", 1),
        (job_ids[0], "L", 1),
    ]
    assert [job.report.status for job in found.jobs or ()] == ["PENDING", "PENDING", "WORKING", "SUCCESS"]
    assert found.is_complete
    cut = jobs(ListQuery("L", limit=2))
    assert [job.report.job_id for job in cut.jobs or ()] == [job_ids[3], job_ids[2]]
    assert not cut.is_complete


@pytest.mark.parametrize("limit", ["x", "-1", "12345"])
def test_a_list_with_a_bad_limit_is_refused(make_oms: MakeOms, limit: str) -> None:
    oms = make_oms(package=Package.UNIFIED)
    answer = oms.http.get(f"{JOB_LIST_PATH}?limit={limit}", headers=oms.bearer)
    assert answer.status_code == 400


def test_get_job_accepts_leading_zeros(quick_oms: OmsCaller) -> None:
    job_id = quick_oms.refresh("L", [GOOD]).json()["jobID"]
    answer = quick_oms.http.get(f"/inv/api/v1/queue/0{job_id}", headers=quick_oms.bearer)
    assert answer.json()["jobID"] == job_id


@pytest.mark.parametrize(
    ("style", "text"),
    [("integer", '{"jobID": 1234567}'), ("leading-zero", '{"jobID": 01234567}'), ("string", '{"jobID": "1234567"}')],
)
def test_the_job_id_is_written_as_the_settings_say(make_oms: MakeOms, style: str, text: str) -> None:
    assert make_oms(job_id_style=style).refresh("L", [GOOD]).text == text


def test_jobs_finish_without_any_call(make_oms: MakeOms) -> None:
    oms = make_oms(seconds_per_job=0, seconds_per_chunk=0.01)
    oms.refresh("L", [GOOD])
    deadline = time.monotonic() + 60
    while not oms.state._inventory.held():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_inventory_can_be_read_as_a_whole_or_by_location(make_oms: MakeOms) -> None:
    oms = make_oms(time_scale=0)
    oms.refresh("Nord & Süd", [{"sku": "1", "quantity": "7", "attributes": ["B", "A"]}])
    oms.refresh("West", [{"upc": "2", "quantity": 3, "retailPrice": 1.5}])
    nord = {"Nord & Süd": [{"sku": "1", "quantity": 7, "attributes": ["B", "A"]}]}
    west = {"West": [{"upc": "2", "quantity": 3, "retailPrice": 1.5}]}
    assert oms.get("/sandbox/inventory") == {"locations": nord | west}
    assert oms.http.get("/sandbox/inventory", params={"location": "Nord & Süd"}).json() == {"locations": nord}
    assert oms.http.get("/sandbox/inventory", params={"location": "Ost"}).json() == {"locations": {}}


def test_jobs_and_summary_show_the_cost_of_the_requests(make_oms: MakeOms) -> None:
    oms = make_oms(time_scale=0, seconds_per_job=0.5, seconds_per_chunk=1)
    items = [{"sku": str(number), "quantity": 1} for number in range(6_001)]
    oms.refresh("L", items)
    oms.refresh("L", [])
    oms.refresh("M", [GOOD, GOOD])
    jobs = oms.get("/sandbox/jobs")["jobs"]
    assert [(job["locationName"], job["itemCount"], job["chunks"], job["costSeconds"]) for job in jobs] == [
        ("L", 6_001, 3, 3.5),
        ("M", 2, 1, 1.5),
    ]
    summary = oms.get("/sandbox/summary")
    assert summary["requests"]["refresh"] == {"200": 2, "400": 1}
    assert summary["requests"]["token"] == {"200": 1}
    expected = {
        "jobs": 2,
        "jobs_by_status": {"PENDING": 0, "WORKING": 0, "SUCCESS": 2, "FAILED": 0},
        "items": 6_003,
        "repeated_items": 1,
        "chunks": 4,
        "unused_chunk_items": 4 * 3_000 - 6_003,
        "cost_seconds": 5.0,
        "busy_seconds": 5.0,
        "tokens_issued": 1,
        "max_in_flight_per_location": 1,
        "locations": 2,
        "held_items": 6_002,
    }
    assert {name: summary[name] for name in expected} == expected


def test_a_request_to_a_full_queue_is_answered_503_with_the_oms_code_and_not_queued(
    make_oms: MakeOms, clock: ManualClock
) -> None:
    oms = make_oms(clock=clock, queued_items_max=2)
    assert oms.refresh("L", [GOOD, GOOD]).status_code == 200
    refused = oms.refresh("L", [GOOD])
    assert (refused.status_code, refused.json()["code"]) == (503, 5001)
    clock.advance(60)
    assert oms.state.summary().jobs == 1
    assert oms.refresh("L", [GOOD]).status_code == 200


def test_a_request_for_a_location_over_the_limit_is_answered_503(make_oms: MakeOms) -> None:
    oms = make_oms(locations_max=1)
    assert oms.refresh("L", [GOOD]).status_code == 200
    refused = oms.refresh("M", [GOOD])
    assert (refused.status_code, refused.json()["code"]) == (503, 5001)
    assert oms.refresh("L", [GOOD]).status_code == 200


def test_the_page_shows_jobs_and_escapes_their_texts(make_oms: MakeOms) -> None:
    oms = make_oms(time_scale=0)
    oms.refresh("<script>", [GOOD])
    page = oms.http.get("/")
    assert page.headers["Content-Type"].startswith("text/html")
    assert "&lt;script&gt;" in page.text
    assert "<script>" not in page.text
    assert "SUCCESS" in page.text


def test_a_port_in_use_is_an_error_that_says_what_to_change(make_oms: MakeOms) -> None:
    oms = make_oms()
    port = httpx.URL(oms.server.url).port or 0
    with pytest.raises(SettingsError, match="choose another host or port"), SandboxServer(SandboxSettings(port=port)):
        pass


def test_a_server_can_be_stopped_twice_and_no_longer_answers(make_oms: MakeOms) -> None:
    oms = make_oms()
    oms.server.stop()
    oms.server.stop()
    with pytest.raises(httpx.ConnectError):
        oms.http.get("/sandbox/summary")


SERVE = """
from consumer.sandbox.oms.server import serve
from consumer.sandbox.oms.settings import SandboxSettings
serve(SandboxSettings(), announce=lambda url: print(url, flush=True))
print("done")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_serve_runs_until_a_signal_then_returns(number: signal.Signals) -> None:
    command = [sys.executable, "-W", "error", "-c", SERVE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        answer = httpx.get(f"{url}/sandbox/summary", trust_env=False, timeout=60)
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=60)
    assert answer.status_code == 200
    assert (out, err, process.returncode) == ("done\n", "", 0)
