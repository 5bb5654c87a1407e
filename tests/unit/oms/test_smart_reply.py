"""What an answer of smart refresh proves: accepted as a job, applied item by item, or nothing at all."""

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.core.changes.items import ITEM_COLUMNS, ITEM_KEY, json_values, map_text
from consumer.oms.http import REPLY_BYTES_MAX
from consumer.oms.smart_reply import SmartApplied, SmartQueued, SmartReply, SmartUnknown, read_smart_reply
from consumer.text import DETAIL_CHARACTERS_MAX

SKU = ITEM_KEY.index("sku")


def items_of(*rows: dict[str, Any]) -> pl.DataFrame:
    """Items with the columns that have a value, as a request has them."""
    names = [name for name in ITEM_COLUMNS if any(name in row for row in rows)]
    return pl.DataFrame(
        [[row.get(name) for name in names] for row in rows],
        schema={name: ITEM_COLUMNS[name] for name in names},
        orient="row",
    )


def key_of(**values: Any) -> tuple[Any, ...]:
    return tuple(values.get(name) for name in ITEM_KEY)


A, B, C = ({"sku": name, "quantity": number} for number, name in enumerate("ABC"))
ITEMS = items_of(A, B, C)


def done(success: bool = True, messages: Any = (), **fields: Any) -> dict[str, Any]:  # noqa: FBT001, FBT002 - a value
    return {**fields, "success": success, "messages": messages}


def read(content: Any, items: pl.DataFrame = ITEMS) -> SmartReply:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return read_smart_reply(body, items, ITEM_KEY)


def sync(*results: Any, **more: Any) -> dict[str, Any]:
    return {"method": "sync", "jobID": None, "results": list(results)} | more


GOOD = [done(sku=name, onHand=1) for name in "ABC"]


@pytest.mark.parametrize(
    ("content", "job_id"),
    [
        pytest.param({"method": "async", "jobID": "4711"}, "4711", id="text"),
        pytest.param({"method": "async", "jobID": 4711}, "4711", id="number"),
        pytest.param(b'{"method": "async", "jobID": 04711}', "4711", id="leading zero"),
        pytest.param({"method": "async", "jobID": "4711", "results": []}, "4711", id="with results"),
    ],
)
def test_an_async_answer_with_a_job_id_accepts_the_request(content: Any, job_id: str) -> None:
    assert read(content) == SmartQueued(job_id)


@pytest.mark.parametrize(
    "results",
    [
        pytest.param(GOOD, id="each item"),
        pytest.param(GOOD[::-1], id="in another order"),
        pytest.param([{"sku": name, "success": True} for name in "ABC"], id="without messages"),
        pytest.param([done(messages=["low stock"], sku=name) for name in "ABC"], id="with a message"),
        pytest.param([done(sku=name, upc=f"u{name}", partNumber=name) for name in "ABC"], id="further identifiers"),
        pytest.param([done(sku=name, upc="", binID=None, tags=None) for name in "ABC"], id="empty fields"),
        pytest.param([done(sku=name, locationCode="L", numResults=1) for name in "ABC"], id="further fields"),
    ],
)
def test_a_sync_answer_with_success_for_every_item_applies_the_request(results: list[Any]) -> None:
    assert read(sync(*results)) == SmartApplied()


def test_items_with_an_error_are_refused_with_the_omss_message_and_the_others_are_applied() -> None:
    bad = [done(False, ["quantity too large", "sorry"], sku="B"), {"sku": "C", "success": False}]
    assert read(sync(GOOD[0], *bad)) == SmartApplied(
        {key_of(sku="B"): "quantity too large; sorry", key_of(sku="C"): "the OMS does not say why"}
    )


@pytest.mark.parametrize(
    ("messages", "shown"),
    [
        (["", None, 7, "x"], "x"),
        ("x\ny", "x y"),
        ({"a": 1}, "the OMS does not say why"),
        (["x" * 10_000], "x" * (DETAIL_CHARACTERS_MAX - 3) + "..."),
    ],
    ids=["others than texts", "a text", "an object", "long"],
)
def test_the_message_of_a_refused_item_is_one_short_line(messages: Any, shown: str) -> None:
    found = read(sync(done(False, messages, sku="A"), *GOOD[1:]))
    assert isinstance(found, SmartApplied)
    (message,) = found.refused.values()
    assert message[:20] == shown[:20]
    assert len(message) <= DETAIL_CHARACTERS_MAX
    assert "\n" not in message


UNREADABLE: dict[str, Any] = {
    "no JSON": b"<html>OK</html>",
    "an empty body": b"",
    "a list": GOOD,
    "cut off": json.dumps(sync(*GOOD)).encode()[:-1],
    "too many brackets": b"[" * 100_000,
    "an empty object": {},
    "no method": {"jobID": None, "results": GOOD},
    "no method, but a jobID": {"jobID": "4711"},
    "another method": {"method": "bulk", "jobID": "4711"},
    "a method that is no text": {"method": ["sync"], "jobID": None, "results": GOOD},
    "async without a jobID": {"method": "async", "jobID": None},
    "async with a jobID of 0": {"method": "async", "jobID": 0},
    "sync with a jobID": sync(*GOOD, jobID="4711"),
    "sync without results": {"method": "sync", "jobID": None},
    "results that are null": {"method": "sync", "jobID": None, "results": None},
    "results that are an object": {"method": "sync", "jobID": None, "results": {"A": True}},
    "no result": sync(),
    "a result less": sync(*GOOD[:2]),
    "a result more": sync(*GOOD, done(sku="D")),
    "a result of another item": sync(*GOOD[:2], done(sku="D")),
    "two results of one item": sync(*GOOD[:2], GOOD[0]),
    "two different results of one item": sync(*GOOD[:2], done(False, sku="A")),
    "a result that names no item": sync(*GOOD[:2], done()),
    "a result with a further field of an item": sync(*GOOD[:2], done(sku="C", lotCode="L")),
    "a result that is null": sync(*GOOD[:2], None),
    "a result that is a list": sync(*GOOD[:2], [True]),
    "a result without success": sync(*GOOD[:2], {"sku": "C"}),
    "success as text": sync(*GOOD[:2], {"sku": "C", "success": "true"}),
    "success as a number": sync(*GOOD[:2], {"sku": "C", "success": 1}),
    "success null": sync(*GOOD[:2], {"sku": "C", "success": None}),
    "an identifier that is an object": sync(*GOOD[:2], done(sku={"C": 1})),
    "an identifier that is true": sync(*GOOD[:2], done(sku=True)),
    "tags that are no map of texts": sync(*GOOD[:2], done(sku="C", tags={"A": {}})),
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_any_other_answer_leaves_the_whole_request_unknown(content: Any) -> None:
    found = read(content)
    assert isinstance(found, SmartUnknown)
    assert found.detail.startswith("the answer of smart refresh cannot be read: ")
    assert len(found.detail) <= DETAIL_CHARACTERS_MAX


LOTS = items_of(
    {"sku": "A", "quantity": 1},
    {"sku": "A", "quantity": 2, "binID": 7},
    {"sku": "A", "quantity": 3, "lotCode": "L", "tags": map_text({"Channel": "Web", "Area": "1"})},
    {"upc": "A", "quantity": 4},
)
OF_LOTS: list[dict[str, Any]] = [
    {"sku": "A"},
    {"sku": "A", "binID": 7},
    {"sku": "A", "lotCode": "L", "tags": {"Area": "1", "Channel": "Web"}},
    {"upc": "A"},
]


@pytest.mark.parametrize("refused", range(4))
def test_items_of_one_part_are_told_apart_by_all_their_fields(refused: int) -> None:
    results = [done(number != refused, **fields) for number, fields in enumerate(OF_LOTS)]
    key = LOTS.select(pl.col(name) if name in LOTS.columns else pl.lit(None).alias(name) for name in ITEM_KEY).row(
        refused
    )
    assert read(sync(*results), LOTS) == SmartApplied({key: "the OMS does not say why"})


@pytest.mark.parametrize(
    "results",
    [
        pytest.param([{"sku": "A"}] * 3 + [{"upc": "A"}], id="only the identifiers"),
        pytest.param(
            [{"sku": "A", "upc": "A"}, *OF_LOTS[1:3], {"sku": "A", "upc": "A", "partNumber": "P"}],
            id="of two items each",
        ),
    ],
)
def test_results_that_may_be_of_several_items_leave_the_whole_request_unknown(results: list[Any]) -> None:
    assert isinstance(read(sync(*(done(**fields) for fields in results)), LOTS), SmartUnknown)


def test_a_result_that_may_be_of_several_items_is_of_the_one_that_has_no_other() -> None:
    results = [done(False, ["no"], sku="A", upc="A"), *(done(**fields) for fields in OF_LOTS[1:])]
    assert read(sync(*results), LOTS) == SmartApplied({key_of(sku="A"): "no"})


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [({"binID": 7}, {"binID": "7"}), ({"binID": 7}, {"binID": 7}), ({"upc": "007"}, {"upc": "007"}), ({}, {"upc": 7})],
    ids=["digits", "number", "zeros stay", "an identifier as a number"],
)
def test_a_number_and_its_digits_are_the_same_value(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert read(sync(done(sku="A", **theirs)), items_of({"sku": "A", "quantity": 1, **ours})) == SmartApplied()


def test_many_results_that_may_be_of_any_item_are_not_compared_one_by_one() -> None:
    rows = [{"sku": str(number), "upc": "U", "quantity": 1} for number in range(200)]
    results = [done(sku=row["sku"], upc="U") for row in rows]
    found = read(sync(*results), items_of(*rows))
    assert isinstance(found, SmartUnknown)
    assert "too many items share an identifier" in found.detail


def test_an_item_key_of_fewer_columns_is_enough() -> None:
    body = json.dumps(sync(done(sku="A", upc="U"), done(False, ["no"], sku="B"))).encode()
    found = read_smart_reply(body, items_of(A, B), ["sku"])
    assert found == SmartApplied({("B",): "no"})


identifiers = st.sampled_from(["A", "B"])
some_items = st.lists(
    st.fixed_dictionaries(
        {"sku": identifiers},
        optional={"upc": identifiers, "binID": st.integers(1, 2), "tags": st.sampled_from([map_text({"T": "1"})])},
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda row: tuple(sorted(row.items())),
)


@given(st.data())
def test_what_an_oms_says_that_repeats_every_field_is_read_as_it_was_meant(data: st.DataObject) -> None:
    rows = data.draw(some_items)
    meant = [data.draw(st.booleans()) for _ in rows]
    results = [done(success, **json_values(row)) for row, success in zip(rows, meant, strict=True)]
    found = read(sync(*data.draw(st.permutations(results))), items_of(*(row | {"quantity": 1} for row in rows)))
    assert isinstance(found, SmartApplied)
    assert set(found.refused) == {key_of(**row) for row, success in zip(rows, meant, strict=True) if not success}


@given(st.data())
def test_a_result_with_identifiers_added_is_never_taken_for_that_of_another_item(data: st.DataObject) -> None:
    rows = data.draw(some_items)
    meant = [data.draw(st.booleans()) for _ in rows]
    results = []
    for row, success in zip(rows, meant, strict=True):
        added: dict[str, Any] = data.draw(
            st.fixed_dictionaries({}, optional={"upc": identifiers, "partNumber": identifiers})
        )
        fields: dict[str, Any] = added | json_values(row)
        results.append(done(success, **fields))
    found = read(sync(*data.draw(st.permutations(results))), items_of(*(row | {"quantity": 1} for row in rows)))
    refused = {key_of(**row) for row, success in zip(rows, meant, strict=True) if not success}
    assert not isinstance(found, SmartQueued)
    assert isinstance(found, SmartUnknown) or set(found.refused) == refused


def test_an_answer_for_the_largest_sync_request_of_the_sandbox_fits() -> None:
    row: dict[str, Any] = dict.fromkeys(ITEM_KEY, "x" * 40) | {"binID": 1, "tags": {"T": "x" * 40}}
    content = sync(*(done(onHand=number, **row) for number in range(25)))
    assert len(json.dumps(content)) < REPLY_BYTES_MAX
