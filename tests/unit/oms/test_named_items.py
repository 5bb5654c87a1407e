"""Items that a refusal names: positions and identifiers in all notations, in bounded time."""

import json
import time
from collections.abc import Sequence
from typing import Any

import httpx
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.core.changes.blocks import Rows
from consumer.core.changes.items import ITEM_COLUMNS, ITEM_KEY
from consumer.oms.body import encode, in_body_order
from consumer.oms.named_items import NAMED_MAX, find_named
from consumer.ports import Submission
from tests.support.frames import change, frame
from tests.unit.oms.oms_bench import Bench

SKU = ITEM_KEY.index("sku")


def items_of(count: int) -> pl.DataFrame:
    """Items ``sku-0``, ``sku-1`` and so on; those with an odd number also have a part number and a UPC."""
    rows = [
        {"sku": f"sku-{number}", "quantity": 1}
        | ({"partNumber": f"part {number}", "upc": f"{number:012}"} if number % 2 else {})
        for number in range(count)
    ]
    return pl.DataFrame(rows, schema={name: ITEM_COLUMNS[name] for name in ("sku", "partNumber", "upc", "quantity")})


def named(body: Any, items: pl.DataFrame | None = None) -> list[Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    keys = find_named(raw, items_of(40) if items is None else items, ITEM_KEY)
    return [key[SKU] for key in keys]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"code": 5015, "message": "items[17]: quantity must be an integer"}, id="brackets"),
        pytest.param({"errors": [{"path": "/items/17/quantity"}]}, id="a JSON pointer"),
        pytest.param({"errors": {"$.items[17].sku": ["too short"]}}, id="a JSON path as a name"),
        pytest.param({"errors": [{"field": "items.17.quantity"}]}, id="dots"),
        pytest.param({"detail": [{"loc": ["body", "items", 17, "quantity"]}]}, id="an array"),
        pytest.param({"detail": "at ['items', 17, 'quantity']"}, id="an array in a text"),
        pytest.param({"code": 5015, "index": 17}, id="an index"),
        pytest.param({"itemIndex": "17"}, id="an index as text"),
        pytest.param({"message": "bad item at index 17."}, id="an index in words"),
        pytest.param(b"400: items[17].quantity is bad", id="no JSON"),
        pytest.param(b'{"message": "items[17] is bad", "more": "cut o', id="JSON that is cut off"),
    ],
)
def test_a_position_is_found_in_every_notation(body: Any) -> None:
    assert named(body) == ["sku-17"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"item": 17, "message": "bad"}, id="a number"),
        pytest.param({"row": "17"}, id="a row as text"),
        pytest.param({"message": "item #17 is bad"}, id="in words"),
        pytest.param({"message": "Line 17: bad"}, id="a line"),
    ],
)
def test_a_position_that_may_count_from_one_names_both_items(body: Any) -> None:
    assert named(body) == ["sku-17", "sku-16"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"errors": [{"sku": "sku-7", "message": "unknown"}]}, id="a value"),
        pytest.param({"errors": {"sku-7": "unknown"}}, id="a name"),
        pytest.param({"partNumber": "part 7"}, id="a value of two words"),
        pytest.param({"message": "unknown part 'part 7' at Rome"}, id="two words in quotes"),
        pytest.param({"message": 'it\'s "part 7" that is unknown'}, id="an apostrophe before"),
        pytest.param({"message": "unknown sku-7."}, id="a word before a full stop"),
        pytest.param({"message": "sku=sku-7, upc=?"}, id="after an equals sign"),
        pytest.param({"message": "SKU:sku-7"}, id="after a colon"),
        pytest.param({"message": "(sku-7)"}, id="in brackets"),
        pytest.param({"message": "upc 000000000007 is no UPC"}, id="a upc"),
        pytest.param({"message": "unknown \u201csku-7\u201d"}, id="in curly quotes"),
        pytest.param(b"unknown: <b>sku-7</b>", id="in a page"),
    ],
)
def test_an_identifier_is_found_as_a_value_and_as_a_word(body: Any) -> None:
    assert named(body) == ["sku-7"]


def test_an_identifier_that_came_as_a_number_is_found() -> None:
    items = pl.DataFrame([{"upc": "4006381333931", "quantity": 1}, {"upc": "12", "quantity": 1}])

    assert find_named(b'{"upc": 4006381333931}', items, ["upc"]) == (("4006381333931",),)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"code": 5015, "message": "the request is bad"}, id="no item"),
        pytest.param({"message": "items[40]: bad"}, id="a place that there is not"),
        pytest.param({"message": "items has 12001 items"}, id="a count"),
        pytest.param({"message": "sku-70 and sku- and xsku-7"}, id="parts of identifiers"),
        pytest.param({"index": True, "item": None, "row": 1.5}, id="no numbers"),
        pytest.param({"index": -1, "item": "\u0663"}, id="odd numbers"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(b"[" * 60_000, id="brackets upon brackets"),
    ],
)
def test_a_message_that_names_no_item_names_none(body: Any) -> None:
    assert named(body) == []


def test_a_key_has_its_values_in_the_order_of_the_item_key_and_none_for_missing_ones() -> None:
    items = pl.DataFrame([{"sku": "a", "binID": 3, "quantity": 1}])

    assert find_named(b"items[0]", items, ["binID", "upc", "sku"]) == ((3, None, "a"),)


def test_items_named_by_position_come_first_and_none_is_named_twice() -> None:
    body = {"message": "items[3] (sku-3) and sku-1, also items[2] and items[3]"}

    assert named(body) == ["sku-3", "sku-2", "sku-1"]


def test_a_message_that_repeats_the_request_names_a_bounded_number_of_items() -> None:
    items = items_of(3_000)
    echo = b'{"error": "bad", "request": ' + items.write_json().encode()

    assert len(named(echo[:65_536], items)) == NAMED_MAX


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                name: st.none() | st.sampled_from(["x", "y"])
                for name in ("partNumber", "upc", "inventoryLocatorName", "lotCode")
            }
            | {"attributes": st.sampled_from([None, [], ["a"]]), "binID": st.none() | st.just(1)}
        ),
        min_size=1,
        max_size=12,
    )
)
def test_positions_follow_the_order_of_the_body(rows: Sequence[dict[str, Any]]) -> None:
    full = [dict.fromkeys(ITEM_COLUMNS) | row | {"sku": f"s{number}", "quantity": 1} for number, row in enumerate(rows)]
    items = pl.DataFrame(full, schema=dict(ITEM_COLUMNS), orient="row")
    sent = json.loads(encode("Rome", items))["items"]

    for place, item in enumerate(sent):
        (key,) = find_named(json.dumps({"index": place}).encode(), in_body_order(items), ITEM_KEY)
        assert key == tuple(item.get(name) for name in ITEM_KEY)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"items[" * 11_000, id="half a path, again and again"),
        pytest.param(b"item " + b" " * 65_000 + b"7", id="blanks"),
        pytest.param(json.dumps({"m": ["sku-"] * 8_000}).encode(), id="many values"),
        pytest.param(b"'" * 65_000, id="quotes"),
        pytest.param(b"a=" * 32_000, id="joints"),
    ],
)
def test_no_body_takes_long_to_search(body: bytes) -> None:
    items = items_of(12_000)
    before = time.process_time()

    find_named(body, items, ITEM_KEY)

    # A hundred times the usual time: a search per item, or a regex that backtracks, takes minutes.
    assert time.process_time() - before < 5.0


def test_a_refusal_comes_with_the_items_that_it_names(bench: Bench) -> None:
    bench.oms.refreshes = [httpx.Response(400, json={"code": 5015, "message": "items[1]: bad", "item": "b"})]

    answer = bench.send("a", "b", "c").answer

    assert [key[SKU] for key in answer.named] == ["b"]


@pytest.mark.parametrize(("small_items_max", "second"), [(500, "b"), (0, "c")], ids=["few", "many"])
def test_its_positions_are_those_of_the_body_that_was_sent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, small_items_max: int, second: str
) -> None:
    """Many items are sent pattern by pattern, few in their order."""
    monkeypatch.setattr("consumer.oms.body.SMALL_ITEMS", small_items_max)
    rows = [change("Rome", "a", upc="11"), change("Rome", "b", offset=1), change("Rome", "c", upc="33", offset=2)]
    bench.oms.refreshes = [httpx.Response(400, json={"code": 5015, "message": "items[1]: bad"})]
    bench.client.submit(Submission(1, "Rome", Rows(frame(rows)), bench.clock.now))

    answer = bench.answered().answer

    (request,) = bench.oms.sent_to("oms.example")
    assert json.loads(request.content)["items"][1]["sku"] == second
    assert [key[SKU] for key in answer.named] == [second]


def test_a_refusal_of_one_item_names_none(bench: Bench) -> None:
    bench.oms.refreshes = [httpx.Response(400, json={"message": "items[0]: bad"})]

    assert bench.send("a").answer.named == ()
