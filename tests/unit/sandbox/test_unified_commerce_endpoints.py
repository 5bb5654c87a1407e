"""What the sandbox has for Unified Commerce only: the tenant, paths below /api, jobs with their owner."""

from typing import Any

import pytest

from consumer.sandbox.oms.app import JOB_LIST_PATH, JOB_PATHS, REFRESH_PATHS, TENANT_PATH, UNIFIED_BASE
from consumer.sandbox.oms.settings import TENANT, Package
from tests.unit.sandbox.oms_caller import MakeOms, OmsCaller

GOOD = {"sku": "1", "quantity": 1}


@pytest.fixture
def oms(make_oms: MakeOms) -> OmsCaller:
    return make_oms(package=Package.UNIFIED, time_scale=0)


def tenant_path(tenant: object) -> str:
    return TENANT_PATH.format(tenant_id=tenant)


def test_the_tenant_is_served_by_the_host_that_was_asked(oms: OmsCaller) -> None:
    # As the vendor's client asks: with the token, but without the tenant's header.
    headers = {"Authorization": f"Bearer {oms.token}", "Host": "t10001.example:8443"}
    answer = oms.http.get(tenant_path(TENANT), headers=headers)
    assert answer.status_code == 200
    assert answer.json() == {"id": TENANT, "name": "sandbox", "domain": "t10001.example:8443", "sites": []}


def test_another_tenant_and_a_call_without_a_token_are_refused(oms: OmsCaller) -> None:
    other = oms.http.get(tenant_path(7), headers=oms.bearer)
    assert (other.status_code, other.json()["errorCode"]) == (403, "NOT_AUTHORISED")
    assert oms.http.get(tenant_path(TENANT)).status_code == 401
    assert oms.http.get(tenant_path(TENANT), headers={"Authorization": "Bearer undefined"}).status_code == 401


def test_a_token_of_an_older_api_does_not_see_the_tenant(make_oms: MakeOms) -> None:
    older = make_oms(package=Package.V5)
    assert older.http.get(tenant_path(TENANT), headers=older.bearer).status_code == 403


def test_the_paths_also_work_below_the_vendors_base(oms: OmsCaller) -> None:
    body = oms.body("L", [GOOD])
    job_id = oms.http.post(UNIFIED_BASE + REFRESH_PATHS[Package.UNIFIED], json=body, headers=oms.bearer).json()["jobID"]
    job = oms.http.get(UNIFIED_BASE + JOB_PATHS[Package.UNIFIED].format(job_id=job_id), headers=oms.bearer).json()
    listed = oms.http.get(UNIFIED_BASE + JOB_LIST_PATH, headers=oms.bearer).json()
    assert listed == [job]
    assert (job["jobID"], job["locationCode"], job["tenantID"], job["hasData"]) == (job_id, "L", TENANT, True)
    assert set(oms.state.summary().requests) == {"token", "refresh", "job"}


def test_below_the_vendors_base_refusals_have_the_same_form(oms: OmsCaller) -> None:
    path = UNIFIED_BASE + REFRESH_PATHS[Package.UNIFIED]
    refused = oms.http.post(path, json=oms.body("L", []), headers=oms.bearer)
    assert (refused.status_code, refused.json()["errorCode"]) == (400, "BAD_REQUEST")


@pytest.mark.parametrize(
    ("types", "listed"), [("", 1), ("?types=REFRESH", 1), ("?types=ADJUST&types=REFRESH", 1), ("?types=ADJUST", 0)]
)
def test_a_list_of_jobs_has_only_the_types_that_were_asked_for(oms: OmsCaller, types: str, listed: int) -> None:
    oms.refresh("L", [GOOD])
    assert len(oms.http.get(JOB_LIST_PATH + types, headers=oms.bearer).json()) == listed


GRANULAR: dict[str, Any] = {
    "lotCode": "l",
    "condition": "c",
    "date": "d",
    "serialNumber": "s",
    "externalID": "e",
    "deliveryDate": "2027-01-15T12:00:00-0500",
    "tags": {"Channel": "Web"},
    "lTD": 1.5,
}


def test_granular_fields_are_accepted_and_kept(oms: OmsCaller) -> None:
    oms.refresh("L", [GOOD | GRANULAR])
    assert oms.state.inventory() == {"L": [GOOD | GRANULAR]}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tags": {}}, "items[0].tags must be an object of at least 1 string"),
        ({"tags": "Web"}, "items[0].tags must be an object"),
        ({"tags": ["Web"]}, "items[0].tags must be an object"),
        ({"tags": {"Channel": ""}}, "items[0].tags must be an object"),
        ({"tags": {"": "Web"}}, "items[0].tags must be an object"),
        ({"tags": {"Channel": None}}, "items[0].tags must be an object"),
        ({"tags": None}, "items[0].tags must be an object"),
        ({"deliveryDate": ""}, "items[0].deliveryDate must be a string of at least 1 character"),
        ({"deliveryDate": 20270115}, "items[0].deliveryDate must be a string"),
    ],
)
def test_granular_fields_with_another_value_are_refused(oms: OmsCaller, fields: dict[str, Any], message: str) -> None:
    refused = oms.refresh("L", [GOOD | fields])
    assert refused.status_code == 400
    assert message in refused.json()["message"]


@pytest.mark.parametrize("name", GRANULAR)
def test_the_older_apis_know_no_granular_field(make_oms: MakeOms, name: str) -> None:
    refused = make_oms(package=Package.V5).refresh("L", [GOOD | {name: GRANULAR[name]}])
    assert (refused.status_code, refused.json()["field"]) == (400, name)
