from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest

from consumer.core.changes.coalesce import coalesce, newest_last, split_overfull
from consumer.core.changes.items import ITEM_COLUMNS, ITEM_KEY, OFFSET
from tests.support.frames import change, frame


def coalesced(*changes: dict[str, Any], item_key: Sequence[str] = ITEM_KEY) -> list[dict[str, Any]]:
    """The items as dicts, without what they do not have."""
    items = coalesce(frame(changes), item_key)
    assert items.schema == pl.Schema(ITEM_COLUMNS)
    return [{name: value for name, value in row.items() if value is not None} for row in items.iter_rows(named=True)]


def quantities(*changes: dict[str, Any]) -> dict[str, int]:
    return {row["sku"]: row["quantity"] for row in coalesced(*changes)}


def test_items_with_a_single_change_stay_as_they_are() -> None:
    assert coalesced(change("Rome", "a", 1, offset=0, floor=3), change("Rome", "b", 2, offset=1)) == [
        {"sku": "a", "quantity": 1, "floor": 3},
        {"sku": "b", "quantity": 2},
    ]


def test_an_empty_frame_has_no_items() -> None:
    assert coalesced() == []


def test_the_newest_quantity_wins_and_absent_fields_keep_their_last_value() -> None:
    assert coalesced(
        change("Rome", "a", 1, offset=0, retailPrice=9.5, floor=3),
        change("Rome", "b", 7, offset=1),
        change("Rome", "a", 2, offset=2, floor=4),
        change("Rome", "a", 3, offset=3),
    ) == [
        {"sku": "a", "quantity": 3, "retailPrice": 9.5, "floor": 4},
        {"sku": "b", "quantity": 7},
    ]


def test_attributes_are_united_without_duplicates_oldest_first() -> None:
    assert coalesced(
        change("Rome", "a", 1, offset=0, attributes=["red", "soft"]),
        change("Rome", "a", 2, offset=1),
        change("Rome", "a", 3, offset=2, attributes=["new", "red"]),
        change("Rome", "b", 3, offset=3),
        change("Rome", "b", 4, offset=4, attributes=[]),
    ) == [{"sku": "a", "quantity": 3, "attributes": ["red", "soft", "new"]}, {"sku": "b", "quantity": 4}]


def test_items_keep_the_order_of_their_first_rows() -> None:
    rows = [change("Rome", sku, offset=offset) for offset, sku in enumerate("cabcbd")]

    assert [item["sku"] for item in coalesced(*rows)] == ["c", "a", "b", "d"]


def test_rows_are_one_item_if_the_whole_key_is_equal_nulls_included() -> None:
    assert coalesced(
        change("Rome", "a", 1, offset=0),
        change("Rome", "a", 2, offset=1, binID=1),
        change("Rome", "a", 3, offset=2, binID=2),
        change("Rome", "a", 4, offset=3),
    ) == [
        {"sku": "a", "quantity": 4},
        {"sku": "a", "quantity": 2, "binID": 1},
        {"sku": "a", "quantity": 3, "binID": 2},
    ]


def test_identifiers_outside_the_item_key_are_ordinary_fields() -> None:
    assert coalesced(
        change("Rome", "a", 1, offset=0, upc="1"), change("Rome", "a", 2, offset=1, partNumber="p"), item_key=["sku"]
    ) == [{"partNumber": "p", "upc": "1", "sku": "a", "quantity": 2}]


def test_the_offset_orders_the_changes_of_one_partition_whatever_their_occurred_at() -> None:
    assert quantities(
        change("Rome", "a", 9, offset=9, occurred_at=1),
        change("Rome", "a", 8, offset=8, occurred_at=2),
    ) == {"a": 9}


def test_the_occurred_at_of_their_newest_changes_orders_the_partitions() -> None:
    assert quantities(
        change("Rome", "a", 11, assignment=1, offset=50, occurred_at=100),
        # The older change of partition 2 occurred last of all: that counts for nothing.
        change("Rome", "a", 20, assignment=2, offset=5, occurred_at=900),
        change("Rome", "a", 21, assignment=2, offset=6, occurred_at=99),
        # Each item has its own order.
        change("Rome", "b", 12, assignment=1, offset=51, occurred_at=1),
        change("Rome", "b", 22, assignment=2, offset=7, occurred_at=2),
    ) == {"a": 11, "b": 22}


def test_the_higher_assignment_id_wins_a_tie_between_partitions() -> None:
    rows = [
        change("Rome", "a", 2, assignment=2, offset=0, occurred_at=5),
        change("Rome", "a", 1, assignment=1, offset=9, occurred_at=5),
    ]

    assert quantities(*rows) == {"a": 2}
    assert newest_last(frame(rows), ITEM_KEY)["quantity"].to_list() == [1, 2]


def attributes(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def offsets(rows: pl.DataFrame) -> list[int]:
    return rows[OFFSET].to_list()


def test_an_item_is_sent_with_the_longest_prefix_of_changes_whose_attributes_fit() -> None:
    rows = frame(
        [
            change("Rome", "b", offset=0, attributes=attributes("b", 63)),
            change("Rome", "a", offset=1, attributes=attributes("a", 40)),
            change("Rome", "a", offset=2, attributes=attributes("a", 40) + attributes("x", 23)),
            change("Rome", "a", offset=3, attributes=["one too many"]),
            # Would fit, but a later change must not overtake.
            change("Rome", "a", offset=4),
            change("Rome", "c", offset=5, attributes=attributes("c", 63)),
        ]
    )

    go, stay = split_overfull(rows, ITEM_KEY)

    assert offsets(go) == [0, 1, 2, 5]
    assert offsets(stay) == [3, 4]
    assert go.schema == stay.schema == rows.schema
    assert max(len(item["attributes"]) for item in coalesce(go, ITEM_KEY).iter_rows(named=True)) == 63


def test_the_prefix_is_the_oldest_changes_whatever_the_order_of_the_rows() -> None:
    rows = frame(change("Rome", "a", offset=offset, attributes=attributes(str(offset), 30)) for offset in (3, 1, 2))

    go, stay = split_overfull(rows, ITEM_KEY)

    assert offsets(go) == [1, 2]
    assert offsets(stay) == [3]


def test_a_first_change_with_too_many_attributes_is_still_sent_by_itself() -> None:
    rows = frame(change("Rome", "a", offset=offset, attributes=attributes("a", 64)) for offset in (0, 1))

    go, stay = split_overfull(rows, ITEM_KEY)

    assert (offsets(go), offsets(stay)) == ([0], [1])


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([], id="no rows"),
        pytest.param([change("Rome", "a"), change("Rome", "a", offset=1)], id="no attributes"),
        pytest.param(
            [change("Rome", sku, offset=n, attributes=attributes("a", 63)) for n, sku in enumerate("ab")],
            id="many, but of different items",
        ),
        pytest.param(
            [change("Rome", "a", offset=n, attributes=attributes("a", 63)) for n in range(3)], id="the same again"
        ),
    ],
)
def test_no_change_stays_behind_if_all_attributes_fit(rows: list[dict[str, Any]]) -> None:
    go, stay = split_overfull(frame(rows), ITEM_KEY)

    assert go.equals(frame(rows))
    assert stay.is_empty()
    assert stay.schema == go.schema
