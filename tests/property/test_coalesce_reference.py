"""Coalescing against the plainest reference: an OMS as a dict, to which changes are applied one by one."""

from collections.abc import Iterable, Mapping
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.core.changes.coalesce import coalesce, newest_last, split_overfull
from consumer.core.changes.items import ASSIGNMENT, ITEM_COLUMNS, ITEM_KEY, OCCURRED_AT, OFFSET
from tests.support.frames import change, frame

LIMIT = 4
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
Change = dict[str, Any]
Item = tuple[Any, ...]

KEYS: list[dict[str, Any]] = [
    {"sku": "x"},
    {"sku": "x", "partNumber": ""},
    {"sku": "x", "partNumber": "", "binID": 1},
    {"sku": None, "upc": "x"},
]
fields = st.fixed_dictionaries(
    {
        "quantity": st.integers(0, 99),
        "ltd": st.none() | st.integers(0, 3).map(float),
        "floor": st.none() | st.integers(0, 3),
        "retailPrice": st.none() | st.integers(0, 3).map(float),
        "inventoryLocatorName": st.none() | st.sampled_from(["A5", "B6"]),
        "attributes": st.none() | st.lists(st.sampled_from("pqrstu"), max_size=LIMIT, unique=True),
        "assignment": st.integers(1, 3),
        "occurred_at": st.integers(0, 4),
    }
)
changes = st.builds(lambda key, fields: change("Rome", **(key | fields)), st.sampled_from(KEYS), fields)


@st.composite
def backlogs(draw: st.DrawFn) -> list[Change]:
    """Changes of few items and partitions, each with its own offset in its partition, in any order."""
    rows = draw(st.lists(changes, max_size=25))
    order = draw(st.permutations(range(len(rows))))
    return [row | {OFFSET: offset} for row, offset in zip(rows, order, strict=True)]


def item_of(row: Mapping[str, Any]) -> Item:
    return tuple(row[name] for name in ITEM_KEY)


def in_order(rows: Iterable[Change]) -> list[Change]:
    """Rule 1, spelled out: partition by partition, ordered by when the item's newest change there occurred."""
    rows = list(rows)
    heads = {}
    for row in sorted(rows, key=lambda row: row[OFFSET]):
        heads[item_of(row), row[ASSIGNMENT]] = row[OCCURRED_AT]
    return sorted(rows, key=lambda row: (heads[item_of(row), row[ASSIGNMENT]], row[ASSIGNMENT], row[OFFSET]))


def applied(rows: Iterable[Mapping[str, Any]]) -> dict[Item, dict[str, Any]]:
    """What the OMS holds after these rows were sent to it one by one."""
    oms: dict[Item, dict[str, Any]] = {}
    for row in rows:
        held = oms.setdefault(item_of(row), {"attributes": set()})
        for name in ITEM_COLUMNS:
            if name == "attributes":
                held[name] = held[name] | set(row[name] or ())
            elif row[name] is not None:
                held[name] = row[name]
    return oms


@unhurried
@given(backlogs())
def test_the_oms_ends_up_as_if_each_change_had_been_sent_in_order(rows: list[Change]) -> None:
    items = coalesce(frame(rows), ITEM_KEY)

    sent = list(items.iter_rows(named=True))
    assert applied(sent) == applied(in_order(rows))
    assert [item_of(item) for item in sent] == list(dict.fromkeys(map(item_of, rows)))


@unhurried
@given(backlogs())
def test_newest_last_orders_every_item_by_rule_1(rows: list[Change]) -> None:
    ordered = list(newest_last(frame(rows), ITEM_KEY).iter_rows(named=True))

    for item in set(map(item_of, rows)):
        expected = [(row[ASSIGNMENT], row[OFFSET]) for row in in_order(rows) if item_of(row) == item]
        assert [(row[ASSIGNMENT], row[OFFSET]) for row in ordered if item_of(row) == item] == expected


@unhurried
@given(backlogs())
def test_an_overfull_item_is_split_after_its_longest_prefix_that_fits(rows: list[Change]) -> None:
    go, stay = split_overfull(frame(rows), ITEM_KEY, LIMIT)

    going, staying = list(go.iter_rows(named=True)), list(stay.iter_rows(named=True))
    expected = in_order(rows)
    for item in set(map(item_of, rows)):
        mine = [row for row in expected if item_of(row) == item]
        prefix = sum(item_of(row) == item for row in going)
        offsets = {row[OFFSET] for row in mine[:prefix]}
        assert {row[OFFSET] for row in going if item_of(row) == item} == offsets
        assert prefix >= 1
        fitting = [n for n in range(1, len(mine) + 1) if len(applied(mine[:n])[item]["attributes"]) <= LIMIT]
        assert prefix == max(fitting)
    assert [row for row in frame(rows).iter_rows(named=True) if row in staying] == staying
    assert len(going) + len(staying) == len(rows)
