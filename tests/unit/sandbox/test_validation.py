"""Every rule of the OMS for a refresh request, checked against the sandbox over a real socket."""

import json
from typing import Any

import pytest

from consumer.sandbox.oms.app import REFRESH_PATHS
from consumer.sandbox.oms.errors import RefusalError
from consumer.sandbox.oms.validation import count_refresh
from tests.unit.sandbox.oms_caller import MakeOms, OmsCaller

GOOD = {"sku": "1", "quantity": 1}


def item(**fields: object) -> dict[str, Any]:
    return {"locationName": "L", "items": [GOOD, {**GOOD, **fields}]}


def without(*names: str) -> dict[str, Any]:
    return {"locationName": "L", "items": [GOOD, {name: GOOD[name] for name in GOOD if name not in names}]}


ACCEPTED = {
    "the smallest request": {"locationName": "L", "items": [{"sku": "1", "quantity": 0}]},
    "quantity as a string of digits": item(quantity="101"),
    "partNumber alone": {"locationName": "L", "items": [{"partNumber": "1", "quantity": 1}]},
    "upc alone": {"locationName": "L", "items": [{"upc": "1", "quantity": 1}]},
    "every field": item(
        partNumber="p",
        upc="u",
        binID=1,
        ltd=1.5,
        floor=-1,
        safetyStock=0,
        currencyID=1,
        retailPrice=9.99,
        inventoryLocatorName="Aisle 5",
        attributes=["A"],
    ),
    "numbers without a fraction": item(ltd=1, retailPrice=2),
    "locator of 50 characters": item(inventoryLocatorName="é" * 50),
    "63 attributes": item(attributes=[str(number) for number in range(63)]),
    "no attributes": item(attributes=[]),
    "names beyond ASCII": {"locationName": 'Zürich "Süd" 😀', "items": [{"sku": "ß", "quantity": 1}]},
}

REFUSED = {
    "no locationName": ({"items": [GOOD]}, 5011, "locationName is required"),
    "empty locationName": ({"locationName": "", "items": [GOOD]}, 5015, "locationName must be a string"),
    "locationName a number": ({"locationName": 1, "items": [GOOD]}, 5015, "locationName must be a string"),
    "no items": ({"locationName": "L"}, 5011, "items is required"),
    "items empty": ({"locationName": "L", "items": []}, 5003, "1 to 12000 items, not 0"),
    "items an object": ({"locationName": "L", "items": {}}, 5015, "items must be an array"),
    "12,001 items": ({"locationName": "L", "items": [GOOD] * 12_001}, 5003, "1 to 12000 items, not 12001"),
    "an item that is not an object": ({"locationName": "L", "items": [GOOD, 1]}, 5015, "items[1] must be an object"),
    "an unknown field of the request": ({"locationName": "L", "items": [GOOD], "x": 1}, 5015, "x is not a known field"),
    "an unknown field of an item": (item(x=1), 5015, "items[1].x is not a known field"),
    "the request an array": ([], 5015, "must be an object"),
    "no quantity": (without("quantity"), 5011, "items[1].quantity is required"),
    "negative quantity": (item(quantity=-1), 5015, "items[1].quantity must be an integer of at least 0"),
    "negative quantity as a string": (item(quantity="-1"), 5015, "items[1].quantity"),
    "quantity with a fraction": (item(quantity=1.5), 5015, "items[1].quantity"),
    "quantity true": (item(quantity=True), 5015, "items[1].quantity"),
    "quantity null": (item(quantity=None), 5015, "items[1].quantity"),
    "quantity a word": (item(quantity="many"), 5015, "items[1].quantity"),
    "no identifier": (without("sku"), 5011, "items[1]: one of partNumber, upc, sku is required"),
    "empty sku": (item(sku=""), 5015, "items[1].sku must be a string of at least 1 character"),
    "empty upc": (item(upc=""), 5015, "items[1].upc"),
    "empty partNumber": (item(partNumber=""), 5015, "items[1].partNumber"),
    "sku a number": (item(sku=1), 5015, "items[1].sku"),
    "upc null": (item(upc=None), 5015, "items[1].upc"),
    "binID 0": (item(binID=0), 5015, "items[1].binID must be an integer of at least 1"),
    "binID with a fraction": (item(binID=1.5), 5015, "items[1].binID"),
    "ltd a string": (item(ltd="1"), 5015, "items[1].ltd must be a number"),
    "retailPrice a string": (item(retailPrice="9.99"), 5015, "items[1].retailPrice must be a number"),
    "retailPrice true": (item(retailPrice=True), 5015, "items[1].retailPrice"),
    "floor with a fraction": (item(floor=1.5), 5015, "items[1].floor must be an integer"),
    "safetyStock a string": (item(safetyStock="1"), 5015, "items[1].safetyStock must be an integer"),
    "currencyID with a fraction": (item(currencyID=0.5), 5015, "items[1].currencyID must be an integer"),
    "locator of 51 characters": (item(inventoryLocatorName="x" * 51), 5015, "items[1].inventoryLocatorName must be"),
    "64 attributes": (item(attributes=["A"] * 64), 5015, "items[1].attributes must be an array of at most 63 strings"),
    "attributes an object": (item(attributes={}), 5015, "items[1].attributes"),
    "an attribute that is null": (item(attributes=[None]), 5015, "items[1].attributes"),
}

NOT_JSON = {
    "truncated": (b'{"locationName": "L", "items": [{"sku', 5003),
    "plain text": (b"hello", 5003),
    "not UTF-8": (b'{"locationName": "\xff", "items": [{"sku": "1", "quantity": 1}]}', 5003),
    "empty": (b"", 5011),
    "NaN": (b'{"locationName": "L", "items": [{"sku": "1", "quantity": 1, "retailPrice": NaN}]}', 5015),
    "a number over the float range": (
        b'{"locationName": "L", "items": [{"sku": "1", "quantity": 1, "ltd": 1e999}]}',
        5015,
    ),
}


@pytest.mark.parametrize("body", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_a_valid_request_gets_a_job_id(quick_oms: OmsCaller, body: Any) -> None:
    answer = quick_oms.send(body)
    assert answer.status_code == 200, answer.text
    assert isinstance(answer.json()["jobID"], int)


@pytest.mark.parametrize(("body", "code", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_an_invalid_request_is_answered_400_with_its_item_and_field(
    quick_oms: OmsCaller, body: Any, code: int, message: str
) -> None:
    jobs = quick_oms.state.summary().jobs
    answer = quick_oms.send(body)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert message in answer.json()["message"]
    assert quick_oms.state.summary().jobs == jobs


@pytest.mark.parametrize(("body", "code"), NOT_JSON.values(), ids=NOT_JSON.keys())
def test_a_body_that_is_not_json_is_answered_400(quick_oms: OmsCaller, body: Any, code: int) -> None:
    headers = {**quick_oms.bearer, "Content-Type": "application/json"}
    answer = quick_oms.http.post(REFRESH_PATHS[quick_oms.package], content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_a_refusal_has_the_first_invalid_item_and_field_as_keys(quick_oms: OmsCaller) -> None:
    answer = quick_oms.refresh("L", [GOOD, {**GOOD, "binID": 0}, {**GOOD, "floor": "x"}])
    assert (answer.json()["item"], answer.json()["field"]) == (1, "binID")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Content-Type": "text/plain"}, id="text"),
        pytest.param({"Content-Type": ""}, id="no type"),
        pytest.param({"Content-Type": "application/json", "Content-Encoding": "gzip"}, id="compressed"),
    ],
)
def test_a_body_in_another_format_is_answered_415(quick_oms: OmsCaller, headers: dict[str, str]) -> None:
    answer = quick_oms.http.post(
        REFRESH_PATHS[quick_oms.package], content=b"{}", headers={**quick_oms.bearer, **headers}
    )
    assert (answer.status_code, answer.json()["code"]) == (415, 5003)


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
def test_a_body_over_the_byte_limit_is_answered_413_and_the_next_request_is_accepted(
    make_oms: MakeOms, *, chunked: bool
) -> None:
    oms = make_oms(max_body_bytes=2_000_000)
    large = json.dumps({"locationName": "L", "items": [{"sku": "x" * 3_000_000, "quantity": 1}]}).encode()
    content = iter([large[:1_000_000], large[1_000_000:]]) if chunked else large
    headers = {**oms.bearer, "Content-Type": "application/json"}
    answer = oms.http.post(REFRESH_PATHS[oms.package], content=content, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, 5003)
    assert oms.refresh("L", [GOOD]).status_code == 200


def test_the_item_limit_is_a_setting(make_oms: MakeOms) -> None:
    oms = make_oms(max_items=2)
    assert oms.refresh("L", [GOOD] * 2).status_code == 200
    assert oms.refresh("L", [GOOD] * 3).status_code == 400


def test_counting_parses_the_location_and_counts_items_without_checking_them(make_oms: MakeOms) -> None:
    oms = make_oms(validation="count", time_scale=0)
    items: list[dict[str, Any]] = [{"sku": 'a "quantity": b', "quantity": -1}, {"quantity": "x", "upc": "quantity"}]
    assert oms.refresh('Zürich "Süd" \\', items).status_code == 200
    job = oms.get("/sandbox/jobs")["jobs"][0]
    assert (job["locationName"], job["itemCount"], job["status"]) == ('Zürich "Süd" \\', 2, "SUCCESS")
    assert oms.state.inventory() == {}


COUNTED = {
    "compact": (b'{"locationName":"L","items":[{"quantity":1,"sku":"1"},{"sku":"2","quantity":1}]}', 2),
    "with spaces": (b'{ "locationName" : "L" , "items" : [ { "quantity" : 1 , "sku" : "quantity" } ] }', 1),
    "location last": (b'{"items":[{"sku":"1","quantity":1}],"locationName":"L"}', 1),
}


@pytest.mark.parametrize(("body", "count"), COUNTED.values(), ids=COUNTED.keys())
def test_items_are_counted_by_their_quantity_keys(body: Any, count: int) -> None:
    refresh = count_refresh(body, max_items=10)
    assert (refresh.location, refresh.item_count, refresh.items) == ("L", count, None)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"items":[{"quantity":1}]}', id="no location"),
        pytest.param(b'{"locationName":"","items":[{"quantity":1}]}', id="empty location"),
        pytest.param(b'{"locationName":"\\x","items":[{"quantity":1}]}', id="location that is not a string"),
        pytest.param(b'{"locationName":"L","items":[]}', id="no items"),
        pytest.param(b'{"locationName":"L","items":[{"quantity":1},{"quantity":1},{"quantity":1}]}', id="too many"),
    ],
)
def test_counting_still_refuses_bodies_that_cannot_be_counted(body: Any) -> None:
    with pytest.raises(RefusalError):
        count_refresh(body, max_items=2)
