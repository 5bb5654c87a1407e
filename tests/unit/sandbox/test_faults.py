"""Scripted answers over a real socket: what the client sees, and whether the request was queued."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.unit.sandbox.oms_caller import MakeOms, ManualClock, OmsCaller

GOOD = {"sku": "1", "quantity": 1}

ANSWERS = {
    "an outage reported by the oms": ({"status": 503, "body": {"code": 5001}}, 503, '{"code":5001}', 0),
    "a gateway error although the request was queued": ({"status": 504, "queue": True}, 504, "", 1),
    "a 200 without a jobID": ({"status": 200, "body_text": "<html>"}, 200, "<html>", 0),
    "an answer without a body": ({"status": 204}, 204, "", 0),
    "a token that is refused": ({"status": 401, "body": {"error": "invalid_token"}}, 401, "", 0),
    "a hang and then the job": ({"hang_seconds": 0.05}, 200, "jobID", 1),
    "a hang and then an error": ({"hang_seconds": 0.05, "status": 500}, 500, "", 0),
}


@pytest.mark.parametrize(("script", "status", "text", "jobs"), ANSWERS.values(), ids=ANSWERS.keys())
def test_a_scripted_answer_is_sent_once(
    make_oms: MakeOms, script: dict[str, Any], status: int, text: str, jobs: int
) -> None:
    oms = make_oms(time_scale=0)
    oms.script(script)
    answer = oms.refresh("L", [GOOD])
    assert answer.status_code == status
    assert text in answer.text
    assert oms.state.summary().jobs == jobs
    assert oms.refresh("L", [GOOD]).status_code == 200
    assert oms.state.summary().jobs == jobs + 1


def test_over_quota_is_answered_with_the_gateways_403_and_its_header(make_oms: MakeOms) -> None:
    oms = make_oms()
    oms.script({"quota": True, "retry_after": 2})
    answer = oms.refresh("L", [GOOD])
    assert answer.status_code == 403
    assert answer.headers["X-Mashery-Error-Code"] == "ERR_403_DEVELOPER_OVER_QPS"
    assert answer.headers["Retry-After"] == "2"


def test_scripted_headers_are_sent(make_oms: MakeOms) -> None:
    oms = make_oms()
    oms.script({"status": 302, "headers": {"Location": "/elsewhere"}})
    answer = oms.refresh("L", [GOOD])
    assert (answer.status_code, answer.headers["Location"]) == (302, "/elsewhere")


@pytest.mark.parametrize(
    ("drop", "error"),
    [
        pytest.param("reset", httpx.ReadError, id="reset"),
        pytest.param("close", httpx.RemoteProtocolError, id="close"),
    ],
)
@pytest.mark.parametrize(("when", "jobs"), [("before_queue", 0), ("after_queue", 1)])
def test_a_connection_is_really_dropped(
    make_oms: MakeOms, drop: str, error: type[Exception], when: str, jobs: int
) -> None:
    oms = make_oms(time_scale=0)
    oms.script({drop: when})
    with pytest.raises(error):
        oms.refresh("L", [GOOD] * 3_000)
    summary = oms.state.summary()
    assert (summary.jobs, summary.requests["refresh"]) == (jobs, {"dropped": 1})
    assert oms.refresh("L", [GOOD]).status_code == 200


def test_a_request_whose_client_times_out_is_still_queued(make_oms: MakeOms) -> None:
    oms = make_oms(time_scale=0)
    oms.script({"hang_seconds": 600})
    with pytest.raises(httpx.ReadTimeout):
        oms.http.post(
            "/inv/api/v5/inventory/refresh",
            json={"locationName": "L", "items": [GOOD]},
            headers=oms.bearer,
            timeout=0.05,
        )
    assert oms.state.summary().jobs == 0
    oms.server.stop()  # which ends all delays
    assert oms.state.summary().jobs == 1
    assert oms.state.inventory() == {"L": [GOOD]}


def test_answers_are_used_in_order_and_one_for_a_location_waits_for_that_location(make_oms: MakeOms) -> None:
    oms = make_oms()
    oms.script({"status": 500, "location": "M"}, {"status": 502}, {"status": 503})
    statuses = [oms.refresh(location, [GOOD]).status_code for location in ("L", "L", "L", "M", "M")]
    assert statuses == [502, 503, 200, 500, 200]


def test_an_invalid_request_does_not_use_a_scripted_answer(make_oms: MakeOms) -> None:
    oms = make_oms()
    oms.script({"status": 503})
    assert oms.refresh("L", []).status_code == 400
    assert oms.state.script()[0] == 1
    assert oms.refresh("L", [GOOD]).status_code == 503


def test_clearing_removes_answers_and_delay(make_oms: MakeOms) -> None:
    oms = make_oms()
    oms.script({"status": 503}, delay_seconds=60)
    faults = {"answers_left": 1, "delay_seconds": 60.0, "rules": [], "hits": {}}
    assert oms.get("/sandbox/faults") == faults
    assert oms.http.delete("/sandbox/faults").json() == {**faults, "answers_left": 0, "delay_seconds": 0.0}
    assert oms.refresh("L", [GOOD]).status_code == 200


def test_the_delay_applies_to_every_refresh_request(make_oms: MakeOms) -> None:
    oms = make_oms()
    oms.script(delay_seconds=0.1)
    started = time.monotonic()
    assert [oms.refresh("L", [GOOD]).status_code for _ in range(2)] == [200, 200]
    assert time.monotonic() - started >= 0.2


def test_a_job_can_be_made_to_fail(make_oms: MakeOms) -> None:
    oms = make_oms(time_scale=0)
    oms.script({"fail_job": True})
    job_id = oms.refresh("L", [GOOD]).json()["jobID"]
    job = oms.http.get(f"/inv/api/v1/queue/{job_id}", headers=oms.bearer).json()
    assert (job["status"], job["success"], bool(job["messages"])) == ("FAILED", False, True)
    assert oms.state.inventory() == {}


@pytest.mark.parametrize(
    ("locations", "most_per_location"),
    [pytest.param(["L", "L"], 2, id="one location"), pytest.param(["L", "M"], 1, id="two locations")],
)
def test_concurrent_requests_are_counted(make_oms: MakeOms, locations: list[str], most_per_location: int) -> None:
    oms = make_oms()
    oms.script(delay_seconds=600)
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(oms.refresh, location, [GOOD]) for location in locations]
        while oms.state.summary().max_in_flight < 2:
            time.sleep(0.01)
        oms.server.stop()  # which ends the delay
    assert [answer.result().status_code for answer in answers] == [200, 200]
    summary = oms.state.summary()
    assert (summary.max_in_flight, summary.max_in_flight_per_location) == (2, most_per_location)


def test_a_request_whose_body_was_read_while_the_previous_one_was_answered_counts_as_concurrent(
    make_oms: MakeOms, clock: ManualClock
) -> None:
    state = make_oms(clock=clock).state
    arrived = state.clock()
    clock.advance(1)
    with state.in_flight("L", arrived):
        pass
    with state.in_flight("L", arrived):
        pass
    assert state.summary().max_in_flight_per_location == 2


def test_sequential_requests_never_count_as_concurrent(make_oms: MakeOms) -> None:
    oms = make_oms()
    for _ in range(50):
        oms.refresh("L", [GOOD])
    assert oms.state.summary().max_in_flight_per_location == 1


def test_stopping_the_server_answers_delayed_requests(make_oms: MakeOms) -> None:
    oms = make_oms()
    oms.script({"hang_seconds": 600})
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(oms.refresh, "L", [GOOD])
        while oms.state.script()[0]:
            time.sleep(0.01)
        started = time.monotonic()
        oms.server.stop()
        assert hanging.result(60).status_code == 200
    assert time.monotonic() - started < 60


INVALID_REQUESTS = {
    "two answers at once": {"answers": [{"reset": "before_queue", "status": 500}]},
    "two bodies": {"answers": [{"status": 500, "body": {}, "body_text": ""}]},
    "a body without a status": {"answers": [{"body_text": "x"}]},
    "a body with a status that has none": {"answers": [{"status": 204, "body_text": "x"}]},
    "no such status": {"answers": [{"status": 99}]},
    "a header in two lines": {"answers": [{"status": 500, "headers": {"X-A": "a\r\nb: c"}}]},
    "a header that the server sets": {"answers": [{"status": 500, "headers": {"Content-Length": "1"}}]},
    "a misspelt name": {"answer": []},
    "a delay over the limit": {"answers": [{"hang_seconds": 1e9}]},
    "too many answers": {"answers": [{}] * 10_001},
    "not an object": [],
}


@pytest.mark.parametrize("request_body", INVALID_REQUESTS.values(), ids=INVALID_REQUESTS.keys())
def test_an_invalid_script_is_refused_with_the_reason(quick_oms: OmsCaller, request_body: object) -> None:
    answer = quick_oms.http.post("/sandbox/faults", json=request_body)
    assert (answer.status_code, quick_oms.state.script()[0]) == (400, 0)
    assert answer.json()["message"]


def test_answers_over_the_limit_are_refused_and_change_nothing(make_oms: MakeOms) -> None:
    oms = make_oms()
    oms.script(*[{"status": 500}] * 10_000)
    answer = oms.http.post("/sandbox/faults", json={"answers": [{"status": 500}], "revoke_tokens": True})
    assert answer.status_code == 400
    assert oms.refresh("L", [GOOD]).status_code == 500
