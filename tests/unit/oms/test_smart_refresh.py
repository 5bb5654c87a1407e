"""Requests to smart refresh: where they go, and what their answers prove."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from consumer.core.changes.items import ITEM_KEY
from consumer.core.oms.answers import AnswerKind
from consumer.oms.http import REPLY_BYTES_MAX
from tests.unit.oms.oms_bench import Bench, MakeBench

PATH = "/api/commerce/inventory/v5/inventory/smart-refresh/"


@pytest.fixture
def smart(make_bench: MakeBench) -> Bench:
    return make_bench(api="unified-commerce", tenant=1234, base_url="https://oms.example/api", endpoint="smart-refresh")


def key(sku: str) -> tuple[str | int | None, ...]:
    return tuple(sku if name == "sku" else None for name in ITEM_KEY)


def results(
    *refused: str, missing: str = "", message: str = "no such sku"
) -> Callable[[httpx.Request], httpx.Response]:
    """Smart refresh applies all items at once, except for these."""

    def answer(request: httpx.Request) -> httpx.Response:
        items: list[dict[str, Any]] = json.loads(request.content)["items"]
        found = [
            {"sku": item["sku"], "success": item["sku"] not in refused, "messages": [message]}
            for item in items
            if item["sku"] != missing
        ]
        return httpx.Response(200, json={"method": "sync", "jobID": None, "results": found})

    return answer


def test_a_request_for_smart_refresh_goes_there_and_others_to_refresh(smart: Bench) -> None:
    smart.oms.refreshes = [results()]
    smart.send("a", is_smart=True)
    smart.send("a")
    first, second = smart.oms.sent_to("oms.example")
    assert first.url.path == PATH
    assert second.url.path == PATH.replace("smart-refresh/", "refresh")
    assert first.content == second.content
    assert first.headers["x-vol-tenant"] == "1234"


def test_what_is_applied_at_once_has_no_job(smart: Bench) -> None:
    smart.oms.refreshes = [results()]
    answered = smart.send("a", "b", is_smart=True)
    assert (answered.answer.kind, answered.answer.job_id) == (AnswerKind.APPLIED, None)
    assert answered.answer.refused_items == ()
    assert answered.answer.body_bytes == len(smart.oms.sent_to("oms.example")[0].content)


def test_what_is_queued_has_a_job(smart: Bench) -> None:
    smart.oms.refreshes = [httpx.Response(200, json={"method": "async", "jobID": "77"})]
    answered = smart.send("a", is_smart=True)
    assert (answered.answer.kind, answered.answer.job_id) == (AnswerKind.ACCEPTED, "77")


def test_items_with_an_error_are_refused_and_the_others_applied(smart: Bench) -> None:
    smart.oms.refreshes = [results("b")]
    answered = smart.send("a", "b", "c", is_smart=True)
    assert answered.answer.kind is AnswerKind.APPLIED
    assert answered.answer.refused_items == (key("b"),)
    assert answered.answer.detail == "no such sku"


def test_if_all_items_have_an_error_the_request_is_refused(smart: Bench) -> None:
    smart.oms.refreshes = [results("a", "b")]
    answered = smart.send("a", "b", is_smart=True)
    assert (answered.answer.kind, answered.answer.detail) == (AnswerKind.REFUSED, "no such sku")


@pytest.mark.parametrize(
    "reply",
    [
        results(missing="b"),
        httpx.Response(200, json={"method": "sync", "jobID": None}),
        httpx.Response(200, json={"jobID": 42}),
        httpx.Response(200, text="<html>"),
        httpx.Response(204),
    ],
    ids=["a result is missing", "no results", "the answer of refresh", "a page", "nothing"],
)
def test_an_answer_that_does_not_say_what_became_of_each_item_is_unreadable(smart: Bench, reply: Any) -> None:
    smart.oms.refreshes = [reply]
    answered = smart.send("a", "b", is_smart=True)
    assert answered.answer.kind is AnswerKind.UNREADABLE
    assert answered.answer.job_id is None


def test_refusals_and_failures_are_those_of_refresh(smart: Bench) -> None:
    error = {"errorCode": "INVALID_REQUEST_DATA", "message": "no items", "correlationId": "1"}
    smart.oms.refreshes = [httpx.Response(400, json=error), httpx.Response(502), httpx.ReadTimeout("slow")]
    kinds = [smart.send("a", is_smart=True).answer.kind for _ in range(3)]
    assert kinds == [AnswerKind.REFUSED, AnswerKind.UNKNOWN, AnswerKind.UNKNOWN]


def test_the_results_of_many_items_are_read_to_their_end(smart: Bench) -> None:
    skus = [f"sku-{number}" for number in range(300)]
    smart.oms.refreshes = [results(message="x" * 300)]
    answered = smart.send(*skus, is_smart=True)
    assert REPLY_BYTES_MAX < 300 * 300
    assert answered.answer.kind is AnswerKind.APPLIED


def test_after_a_401_the_same_body_is_sent_again_with_a_new_token(smart: Bench) -> None:
    smart.oms.refreshes = [results(), httpx.Response(401), results()]
    smart.send("a", is_smart=True)
    answered = smart.send("b", is_smart=True)
    assert answered.answer.kind is AnswerKind.APPLIED
    _, first, second = smart.oms.sent_to("oms.example")
    assert (first.url, first.content) == (second.url, second.content)
    assert smart.client.tokens_fetched == 2
