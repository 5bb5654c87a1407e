"""The OMS's newest API: what differs on the wire."""

import json

import httpx
import pytest

from consumer.core.changes.blocks import Rows
from consumer.core.oms.answers import AnswerKind
from consumer.ports import Submission
from tests.support.frames import change, frame
from tests.unit.oms.oms_bench import Bench, MakeBench


@pytest.fixture
def unified(make_bench: MakeBench) -> Bench:
    return make_bench(api="unified-commerce", tenant=1234, base_url="https://oms.example/api")


def test_a_refresh_has_the_tenant_header_and_the_location_code(unified: Bench) -> None:
    rows = frame([change("R1", "a", lotCode="L-1", condition="New"), change("R1", "a", 2, lotCode="L-2", offset=1)])
    unified.client.submit(Submission(1, "R1", Rows(rows), unified.clock.now))

    answered = unified.answered()

    assert (answered.answer.kind, answered.answer.job_id) == (AnswerKind.ACCEPTED, "42")
    (request,) = unified.oms.sent_to("oms.example")
    assert str(request.url) == "https://oms.example/api/commerce/inventory/v5/inventory/refresh"
    assert request.headers["x-vol-tenant"] == "1234"
    content = json.loads(request.content)
    assert content["locationCode"] == "R1"
    assert sorted(content["items"], key=lambda item: item["quantity"]) == [
        {"sku": "a", "quantity": 1, "lotCode": "L-1", "condition": "New"},
        {"sku": "a", "quantity": 2, "lotCode": "L-2"},
    ]


def test_its_token_request_has_a_json_body(unified: Bench) -> None:
    assert unified.client.check_credentials() is None

    (request,) = unified.oms.sent_to("auth.example")
    assert request.headers["Content-Type"] == "application/json"
    assert "Authorization" not in request.headers
    assert json.loads(request.content) == {
        "client_id": "the-key",
        "client_secret": "the-secret",
        "grant_type": "client_credentials",
    }


def test_its_secret_is_masked_in_every_form(make_bench: MakeBench) -> None:
    bench = make_bench(api="unified-commerce", tenant=1, credentials=lambda: ("the-key", 'top"secret'))
    bench.oms.token_replies = [httpx.Response(503, text='top"secret and top\\"secret')]

    assert bench.client.check_credentials() == "no token from oms.token_url: *** and ***"


@pytest.mark.parametrize("api", ["inventory-specific", "inventory-v5"])
def test_the_older_apis_get_no_tenant_header(make_bench: MakeBench, api: str) -> None:
    bench = make_bench(api=api)

    bench.send()

    assert all("x-vol-tenant" not in request.headers for request in bench.oms.requests)


@pytest.mark.parametrize(
    ("api", "url"),
    [
        ("inventory-specific", "https://oms.example/inv/api/v1/queue/77"),
        ("inventory-v5", "https://oms.example/api/v1/queue/77"),
        ("unified-commerce", "https://oms.example/commerce/inventory/v1/queue/77"),
    ],
)
def test_every_api_has_its_own_get_job_path(make_bench: MakeBench, api: str, url: str) -> None:
    bench = make_bench(api=api, tenant=1234 if api == "unified-commerce" else None)
    bench.oms.refreshes = [httpx.Response(200, json={"jobID": 77, "status": "PENDING"})]

    bench.asked("77")

    (request,) = bench.oms.sent_to("oms.example")
    assert (request.method, str(request.url), request.content) == ("GET", url, b"")
    assert request.headers.get("x-vol-tenant") == ("1234" if api == "unified-commerce" else None)
    assert "Content-Type" not in request.headers
