import json
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.core.changes.items import ITEM_COLUMNS, json_values, map_text
from consumer.errors import InvariantError
from consumer.oms.apis import APIS
from consumer.oms.body import SMALL_ITEMS, encode, in_body_order

exact = st.integers(-(2**53) + 1, 2**53 - 1)
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
texts = st.none() | st.text(max_size=8)
items = st.fixed_dictionaries(
    {
        "partNumber": texts,
        "upc": texts,
        "sku": texts,
        "binID": st.none() | st.integers(1, 2**53 - 1),
        "quantity": st.integers(0, 2**53 - 1),
        "ltd": numbers,
        "floor": st.none() | exact,
        "safetyStock": st.none() | exact,
        "currencyID": st.none() | exact,
        "retailPrice": numbers,
        "inventoryLocatorName": texts,
        "attributes": st.none() | st.lists(st.text(max_size=4), max_size=3),
        "lotCode": texts,
        "condition": texts,
        "date": texts,
        "serialNumber": texts,
        "externalID": texts,
        "deliveryDate": texts,
        "tags": st.none() | st.dictionaries(st.text(max_size=4), st.text(max_size=8), max_size=3).map(map_text),
    }
)
TAGS_LOOKALIKE = '{"tags":"{}"}' + "\\"
"""A text that looks like a map as polars writes it, unless it is escaped."""


def rows_of(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame([dict.fromkeys(ITEM_COLUMNS) | row for row in rows], schema=dict(ITEM_COLUMNS), orient="row")


def by_words(found: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(item, sort_keys=True) for item in found)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(min_size=1), st.lists(items, min_size=1, max_size=12))
def test_the_body_is_the_json_of_the_items_without_missing_values(location: str, rows: list[dict[str, Any]]) -> None:
    body = json.loads(encode(location, rows_of(*rows)))

    assert list(body) == ["locationName", "items"]
    assert body["locationName"] == location
    expected = [{name: value for name, value in json_values(row).items() if value != []} for row in rows]
    assert by_words(body["items"]) == by_words(expected)


@pytest.mark.parametrize("copies", [1, SMALL_ITEMS + 1], ids=["few", "many"])
def test_tags_are_an_object_whatever_their_names_and_the_other_texts_are(copies: int) -> None:
    tags = {TAGS_LOOKALIKE: TAGS_LOOKALIKE, "Zürich": "\u2028\n\t"}
    row = {"sku": TAGS_LOOKALIKE, "partNumber": ',"tags":"{}"', "quantity": 1, "tags": map_text(tags)}

    body = json.loads(encode(TAGS_LOOKALIKE, rows_of(*[row] * copies, {"sku": "a", "quantity": 1})))

    assert body["items"] == [row | {"tags": tags}] * copies + [{"sku": "a", "quantity": 1}]


def test_a_body_looks_as_in_the_omss_documentation() -> None:
    body = encode("Location 1", rows_of({"partNumber": "101010", "sku": "101010", "quantity": 101}))

    assert body == b'{"locationName": "Location 1","items":[{"partNumber":"101010","sku":"101010","quantity":101}]}'


def test_integers_stay_integers_and_numbers_are_exact() -> None:
    body = encode("Rome", rows_of({"sku": "a", "quantity": 2**53 - 1, "retailPrice": 0.1, "ltd": 1e300}))

    assert b'"quantity":9007199254740991' in body
    assert b'"retailPrice":0.1' in body
    assert json.loads(body)["items"][0]["ltd"] == 1e300


@pytest.mark.parametrize("count", [1, SMALL_ITEMS + 2])
def test_an_api_may_have_other_names_for_the_location_and_for_fields(count: int) -> None:
    rows = [{"sku": f"s{number}", "quantity": 1, "ltd": 0.5 if number % 2 else None} for number in range(count + 1)]
    body = encode("Rome", rows_of(*rows), field_names={"locationName": "locationCode", "ltd": "lTD"})

    content = json.loads(body)
    assert content["locationCode"] == "Rome"
    assert "locationName" not in content
    assert {item["sku"]: item.get("lTD") for item in content["items"]} == {row["sku"]: row["ltd"] for row in rows}
    assert not any("ltd" in item for item in content["items"])


def test_unified_commerce_names_location_and_ltd_as_the_vendors_client_does() -> None:
    assert APIS["unified-commerce"].field_names == {"locationName": "locationCode", "ltd": "lTD"}
    assert not APIS["inventory-v5"].field_names


def test_items_of_all_patterns_are_in_one_body() -> None:
    values: dict[Any, Any] = {pl.String(): "x", pl.Int64(): 1, pl.Float64(): 1.5}
    full = {name: values.get(dtype, ["x"]) for name, dtype in ITEM_COLUMNS.items()} | {"tags": '{"x":"y"}'}
    rows: list[dict[str, Any]] = [full, {"quantity": 1}]
    rows += [{name: full[name], "quantity": 1} for name in ITEM_COLUMNS if name != "quantity"]

    body = json.loads(encode("Rome", rows_of(*rows)))

    assert by_words(body["items"]) == by_words([json_values(row) for row in rows])


def test_a_request_without_items_is_a_bug() -> None:
    with pytest.raises(InvariantError, match="at least one item"):
        encode("Rome", rows_of())


def with_first(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return rows_of(*({"quantity": 1} | row for row in rows))


hostile_texts = st.none() | st.sampled_from(
    [',"floor":null', '{"partNumber":null,', '},{"sku":null', "x,", "{", '"', "\\", '\\",\\"floor\\":null', "null"]
)
hostile_items = st.fixed_dictionaries(
    dict.fromkeys(("partNumber", "upc", "sku", "lotCode"), hostile_texts)
    | {"floor": st.none() | st.just(3), "attributes": st.none() | st.lists(hostile_texts.filter(bool), max_size=3)}
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(hostile_items, min_size=1, max_size=12))
def test_few_items_become_the_same_items_as_many(rows: list[dict[str, Any]]) -> None:
    """Nulls are cut out of the text of few items; no text may look like one."""
    frame = with_first(rows)
    few = encode("Rome", frame)
    assert positions_of(few) == in_order_of(frame)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("consumer.oms.body.SMALL_ITEMS", 0)
        many = encode("Rome", frame)
        assert positions_of(many) == in_order_of(frame)

    def texts_of(body: bytes) -> list[str]:
        return sorted(map(json.dumps, json.loads(body)["items"]))

    assert texts_of(few) == texts_of(many)
    assert len(few) == len(many)


def positions_of(body: bytes) -> list[str | None]:
    return [item.get("sku") for item in json.loads(body)["items"]]


def in_order_of(frame: pl.DataFrame) -> list[str | None]:
    order = in_body_order(frame)
    return order["sku"].to_list() if "sku" in order.columns else [None] * frame.height


def test_columns_without_any_value_may_be_missing() -> None:
    full = rows_of({"sku": "a", "quantity": 1}, {"sku": "b", "quantity": 2, "floor": 3})

    assert encode("Rome", full["sku", "quantity", "floor"]) == encode("Rome", full)
