"""Smart refresh: small requests are applied at once, item by item; larger ones become jobs."""

from contextlib import nullcontext
from typing import Any

import httpx
import polars as pl
import pytest

from consumer.core.changes.items import ITEM_KEY, map_text
from consumer.oms.smart_reply import SmartApplied, SmartQueued, SmartUnknown, read_smart_reply
from consumer.sandbox.oms.app import SMART_REFRESH_PATH, UNIFIED_BASE
from consumer.sandbox.oms.settings import Package
from tests.unit.sandbox.oms_caller import MakeOms, ManualClock, OmsCaller

FIRST = {"sku": "0", "binID": 1, "tags": map_text({"Channel": "Web"})}
FIRST_KEY: tuple[Any, ...] = tuple(map(FIRST.get, ITEM_KEY))
ONE = {"sku": "1", "quantity": 1}
TWO = {"sku": "2", "quantity": 2}


def some(count: int) -> list[dict[str, Any]]:
    return [{"sku": str(number), "quantity": number} for number in range(count)]


@pytest.fixture
def oms(make_oms: MakeOms, clock: ManualClock) -> OmsCaller:
    """A sandbox in which a job takes 10 s."""
    return make_oms(package=Package.UNIFIED, clock=clock, seconds_per_job=10, seconds_per_chunk=0)


def test_a_small_request_is_applied_at_once_and_answered_item_by_item(oms: OmsCaller) -> None:
    items = [ONE, {"upc": "u", "quantity": "7", "tags": {"Channel": "Web"}, "floor": 1}]
    assert oms.smart_refresh("L", items).json() == {
        "method": "sync",
        "jobID": None,
        "results": [
            {"sku": "1", "onHand": 1, "success": True, "messages": []},
            {"upc": "u", "tags": {"Channel": "Web"}, "onHand": 7, "success": True, "messages": []},
        ],
    }
    assert oms.state.inventory() == {"L": [ONE, items[1] | {"quantity": 7}]}
    summary = oms.state.summary()
    assert (summary.jobs, summary.chunks, summary.sync_requests, summary.sync_items, summary.items) == (0, 0, 1, 2, 2)
    assert summary.requests["smart-refresh"] == {"200": 1}


@pytest.mark.parametrize("base", ["", UNIFIED_BASE])
@pytest.mark.parametrize("end", ["", "/"])
def test_it_is_served_with_and_without_the_slash_and_below_the_vendors_base(
    oms: OmsCaller, base: str, end: str
) -> None:
    answer = oms.http.post(base + SMART_REFRESH_PATH + end, json=oms.body("L", [ONE]), headers=oms.bearer)
    assert answer.json()["method"] == "sync"


@pytest.mark.parametrize("package", [Package.SPECIFIC, Package.V5])
def test_only_unified_commerce_has_it(make_oms: MakeOms, package: Package) -> None:
    older = make_oms(package=package)
    answer = older.http.post(SMART_REFRESH_PATH, json=older.body("L", [ONE]), headers=older.bearer)
    assert answer.status_code == 403


def test_a_larger_request_becomes_a_job_whose_id_is_text(oms: OmsCaller, clock: ManualClock) -> None:
    assert oms.smart_refresh("L", some(25)).json()["method"] == "sync"
    answer = oms.smart_refresh("L", some(26)).json()
    assert answer == {"method": "async", "jobID": "1234567"}
    assert oms.job(answer["jobID"]).json()["status"] == "WORKING"
    clock.advance(10)
    assert oms.job(answer["jobID"]).json()["itemCount"] == 26


@pytest.mark.parametrize(("limit", "items", "method"), [(0, 1, "async"), (1, 1, "sync"), (1, 2, "async")])
def test_the_threshold_is_a_setting(make_oms: MakeOms, limit: int, items: int, method: str) -> None:
    oms = make_oms(package=Package.UNIFIED, sync_items_max=limit)
    assert oms.smart_refresh("L", some(items)).json()["method"] == method


BAD: dict[str, Any] = {
    "items[1].quantity must be an integer of at least 0": {"sku": "2", "quantity": -1},
    "items[1]: one of partNumber, upc, sku is required": {"binID": 2, "quantity": 1},
    "items[1].quantity is required": {"sku": "2"},
    "items[1].x is not a known field": {"sku": "2", "quantity": 1, "x": 1},
}


@pytest.mark.parametrize(("message", "bad"), BAD.items(), ids=BAD.keys())
def test_an_invalid_item_of_a_small_request_gets_an_error_and_the_others_are_applied(
    oms: OmsCaller, message: str, bad: dict[str, Any]
) -> None:
    answer = oms.smart_refresh("L", [ONE, bad, {"sku": "3", "quantity": 3}])
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["success"] for result in results] == [True, False, True]
    named = {name: value for name, value in bad.items() if name in {"sku", "binID"}}
    assert results[1] | {"messages": [results[1]["messages"][0][: len(message)]]} == {
        **named,
        "success": False,
        "messages": [message],
    }
    assert oms.state.inventory() == {"L": [ONE, {"sku": "3", "quantity": 3}]}


def test_an_item_that_is_no_object_gets_an_error_without_a_name(oms: OmsCaller) -> None:
    results = oms.smart_refresh("L", [7, ONE]).json()["results"]
    assert results[0] == {"success": False, "messages": ["items[0] must be an object"]}
    assert results[1]["success"] is True


@pytest.mark.parametrize(
    "change",
    [{"locationCode": ""}, {"x": 1}, {"items": []}, {"items": "x"}, {"items": [*some(25), {"sku": ""}]}],
    ids=["location", "unknown field", "no items", "items a text", "an item of a large request"],
)
def test_an_invalid_request_is_answered_400_and_applies_nothing(oms: OmsCaller, change: dict[str, Any]) -> None:
    body = oms.body("L", [ONE, {"sku": "2", "quantity": -1}]) | change
    assert oms.http.post(SMART_REFRESH_PATH, json=body, headers=oms.bearer).status_code == 400
    assert oms.state.inventory() == {}


def test_a_sandbox_that_only_counts_holds_what_is_applied_at_once(make_oms: MakeOms) -> None:
    oms = make_oms(package=Package.UNIFIED, validation="count", time_scale=0)
    assert oms.smart_refresh("L", some(2)).json()["method"] == "sync"
    assert oms.smart_refresh("M", some(26)).json()["method"] == "async"
    assert list(oms.state.inventory()) == ["L"]


# Order


def test_a_job_that_is_applied_after_a_newer_sync_request_goes_backwards(oms: OmsCaller, clock: ManualClock) -> None:
    oms.refresh("L", [ONE, TWO])
    clock.advance(1)
    oms.smart_refresh("L", [{"sku": "1", "quantity": 9}])
    assert (oms.state.inventory(), oms.state.summary().backward_items) == ({"L": [{"sku": "1", "quantity": 9}]}, 0)
    clock.advance(9)
    assert oms.state.inventory() == {"L": [ONE, TWO]}
    assert oms.state.summary().backward_items == 1
    applied = oms.get("/sandbox/applied")["applied"]
    assert [(entry["request"], entry["item"]["sku"], entry["wentBackwards"]) for entry in applied] == [
        (2, "1", False),
        (1, "1", True),
        (1, "2", False),
    ]


def test_a_sync_request_after_the_jobs_of_its_location_keeps_the_order(oms: OmsCaller, clock: ManualClock) -> None:
    oms.refresh("L", [ONE])
    clock.advance(10)
    # No call has applied the job yet: it must be before this request all the same.
    oms.smart_refresh("L", [{"sku": "1", "quantity": 9}])
    assert oms.state.inventory() == {"L": [{"sku": "1", "quantity": 9}]}
    assert oms.state.summary().backward_items == 0


def test_another_item_or_another_location_is_never_overtaken(oms: OmsCaller, clock: ManualClock) -> None:
    oms.refresh("L", [ONE])
    oms.smart_refresh("L", [TWO])
    oms.smart_refresh("M", [ONE])
    clock.advance(10)
    assert oms.state.summary().backward_items == 0


def test_it_is_known_when_each_item_was_applied(oms: OmsCaller, clock: ManualClock) -> None:
    start = clock()
    oms.refresh("L", [ONE])
    clock.advance(3)
    oms.smart_refresh("M", [TWO | {"tags": {"Channel": "Web"}}])
    clock.advance(30)
    applied = oms.state.applied()
    assert [(item.location, item.applied_at - start, item.item, item.quantity) for item in applied] == [
        ("M", 3.0, {"sku": "2", "tags": {"Channel": "Web"}}, 2),
        ("L", 10.0, {"sku": "1"}, 1),
    ]
    assert [item.number for item in applied] == [1, 2]
    assert [item.location for item in oms.state.applied(after=1)] == ["L"]
    assert [item.location for item in oms.state.applied("M")] == ["M"]
    assert [entry["location"] for entry in oms.get("/sandbox/applied?after=1")["applied"]] == ["L"]
    assert oms.http.get("/sandbox/applied?after=x").status_code == 400


def test_only_the_last_applied_items_are_kept(make_oms: MakeOms) -> None:
    oms = make_oms(package=Package.UNIFIED, applied_kept_max=3)
    for number in range(3):
        oms.smart_refresh("L", [{"sku": str(number), "quantity": number}, TWO])
    assert [item.number for item in oms.state.applied()] == [5, 6]


def test_what_exceeds_the_limit_of_held_items_is_not_applied(make_oms: MakeOms) -> None:
    oms = make_oms(package=Package.UNIFIED, held_items_max=1)
    assert oms.smart_refresh("L", [ONE, TWO]).status_code == 503
    assert (oms.state.inventory(), oms.state.summary().sync_requests) == ({}, 0)


# Faults


@pytest.mark.parametrize("form", ["no-method", "no-results", "missing-result", "item-error"])
@pytest.mark.parametrize("scripted", [True, False], ids=["scripted", "rule"])
def test_an_answer_may_be_wrong(oms: OmsCaller, form: str, *, scripted: bool) -> None:
    if scripted:
        oms.script({"sync_form": form})
    else:
        oms.add_rules({"fault": "smart_answer", "form": form})
    answer = oms.smart_refresh("L", [ONE, TWO]).json()
    good: list[dict[str, Any]] = [
        {"sku": str(number), "onHand": number, "success": True, "messages": []} for number in (1, 2)
    ]
    error = {"sku": "1", "success": False, "messages": ["items[0] is refused by an injected fault"]}
    assert (
        answer
        == {
            "no-method": {"jobID": None, "results": good},
            "no-results": {"method": "sync", "jobID": None},
            "missing-result": {"method": "sync", "jobID": None, "results": good[:1]},
            "item-error": {"method": "sync", "jobID": None, "results": [error, good[1]]},
        }[form]
    )
    assert oms.state.inventory() == {"L": [TWO] if form == "item-error" else [ONE, TWO]}


@pytest.mark.parametrize(
    ("form", "count", "reply"),
    [
        (None, 2, SmartApplied()),
        (None, 26, SmartQueued("1234567")),
        ("item-error", 2, SmartApplied({FIRST_KEY: "items[0] is refused by an injected fault"})),
        ("no-method", 2, SmartUnknown),
        ("no-results", 2, SmartUnknown),
        ("missing-result", 2, SmartUnknown),
        ("no-method", 26, SmartUnknown),
    ],
)
def test_the_service_reads_its_answers(oms: OmsCaller, form: str | None, count: int, reply: Any) -> None:
    if form is not None:
        oms.add_rules({"fault": "smart_answer", "form": form})
    items = [item | {"tags": {"Channel": "Web"}, "binID": 1} for item in some(count)]
    answer = oms.smart_refresh("L", items)
    rows = pl.DataFrame([item | {"tags": map_text({"Channel": "Web"})} for item in items])
    found = read_smart_reply(answer.content, rows, ITEM_KEY)
    assert found == reply or type(found) is reply


def test_the_answer_of_a_large_request_may_lack_its_method(oms: OmsCaller) -> None:
    oms.add_rules({"fault": "smart_answer", "form": "no-method"})
    assert oms.smart_refresh("L", some(26)).json() == {"jobID": "1234567"}
    assert oms.fault_hits() == {"smart_answer": 1}


@pytest.mark.parametrize("end", [{"reset": "after_queue"}, {"status": 504, "queue": True}], ids=["reset", "504"])
def test_an_answer_may_be_lost_after_the_request_was_applied(make_oms: MakeOms, end: dict[str, Any]) -> None:
    oms = make_oms(package=Package.UNIFIED)
    oms.script(end)
    with pytest.raises(httpx.ReadError) if "reset" in end else nullcontext():
        assert oms.smart_refresh("L", [ONE]).status_code == 504
    assert oms.state.inventory() == {"L": [ONE]}


@pytest.mark.parametrize("end", [{"reset": "before_queue"}, {"status": 504}], ids=["reset", "504"])
def test_or_before_it_was(make_oms: MakeOms, end: dict[str, Any]) -> None:
    oms = make_oms(package=Package.UNIFIED)
    oms.script(end)
    with pytest.raises(httpx.ReadError) if "reset" in end else nullcontext():
        assert oms.smart_refresh("L", [ONE]).status_code == 504
    assert oms.state.inventory() == {}


def test_items_that_a_rule_of_the_oms_refuses_get_an_error_each(oms: OmsCaller) -> None:
    oms.add_rules({"fault": "refuse", "quantity": [2, 3]})
    results = oms.smart_refresh("L", [ONE, TWO, {"sku": "3", "quantity": 3}]).json()["results"]
    assert [result["messages"] for result in results] == [
        [],
        ["items[1].quantity is refused by a rule of this OMS"],
        ["items[2].quantity is refused by a rule of this OMS"],
    ]
    assert oms.state.inventory() == {"L": [ONE]}
    assert oms.fault_hits() == {"refuse": 1}
    assert oms.smart_refresh("L", some(26)).status_code == 400


def test_the_faults_of_refresh_requests_also_hit_smart_refresh(oms: OmsCaller) -> None:
    oms.add_rules({"fault": "limit", "calls": 1, "seconds": 3600})
    assert oms.refresh("L", [ONE]).status_code == 200
    assert oms.smart_refresh("L", [ONE]).status_code == 403
