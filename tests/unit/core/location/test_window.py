"""What leaves a window: the oldest items, however their rows are spread over blocks."""

from collections.abc import Sequence

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.core.changes.items import ARRIVED
from consumer.core.location.planner import FlushPlan, ItemLimits, SendReason
from consumer.core.location.window import Window, Windows
from tests.support.frames import change, frame

LIMITS = ItemLimits(chunk_items=1, max_items=1000, flush_items=1)


def filled(*blocks: Sequence[float]) -> tuple[Windows, Window]:
    """A window of items with these arrivals, a block for each group of them."""
    window = Window("Rome")
    windows = Windows(["sku"], lambda _: window)
    offset = 0
    for arrivals in blocks:
        rows = []
        for arrived in sorted(arrivals):
            rows.append(change("Rome", f"sku-{offset}", offset=offset, arrived=arrived))
            offset += 1
        windows.put_back(window, frame(rows))
    return windows, window


def taken(windows: Windows, window: Window, items: int) -> pl.DataFrame:
    found = windows.take(
        window, due_arrived=0.0, limits=LIMITS, plan=lambda *_: FlushPlan(items=items, reason=SendReason.FULL)
    )
    assert found is not None
    return found.rows.frame


@given(st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=8), min_size=1, max_size=5), st.data())
def test_the_oldest_items_leave_first_from_blocks_that_overlap(blocks: list[list[int]], data: st.DataObject) -> None:
    arrivals = sorted(float(arrived) for block in blocks for arrived in block)
    windows, window = filled(*blocks)
    items = data.draw(st.integers(1, len(arrivals)))

    first = taken(windows, window, items)

    assert sorted(first[ARRIVED]) == arrivals[:items]
    assert window.rows == windows.rows == len(arrivals) - items
    assert window.first_arrived == (arrivals[items] if window.rows else float("inf"))
    if window.rows:
        assert sorted(taken(windows, window, window.rows)[ARRIVED]) == arrivals[items:]


@pytest.mark.parametrize("items", [1, 2, 3, 4])
def test_the_first_taken_row_is_the_oldest(items: int) -> None:
    windows, window = filled([3.0, 9.0], [1.0, 4.0])

    found = windows.take(
        window, due_arrived=0.0, limits=LIMITS, plan=lambda *_: FlushPlan(items=items, reason=SendReason.FULL)
    )

    assert found is not None
    assert found.rows.first_arrived() == 1.0


def test_only_windows_with_new_rows_are_coalesced_again() -> None:
    """Over the budget, coalescing took a third of the time of a backlog of distinct items."""
    by_name = {name: Window(name) for name in ("Rome", "Oslo")}
    windows = Windows(["sku"], by_name.__getitem__)
    rows = [(name, sku) for name in by_name for sku in ("a", "a", "b")]
    windows.add(frame([change(name, sku, offset=at, arrived=0.0) for at, (name, sku) in enumerate(rows)]))
    assert [window.location for window in windows.coalesce()[0]] == ["Oslo", "Rome"]
    assert windows.coalesce()[0] == []

    windows.add(frame([change("Rome", "b", offset=9, arrived=1.0)]))
    assert windows.coalesce()[0] == [by_name["Rome"]]
    windows.put_back(by_name["Oslo"], frame([change("Oslo", "a", offset=8, arrived=1.0)]))
    assert windows.coalesce()[0] == [by_name["Oslo"]]
    assert {name: window.rows for name, window in by_name.items()} == {"Rome": 2, "Oslo": 2}


def test_coalescing_moves_no_rows_of_a_window_whose_items_are_distinct() -> None:
    """Moving them would need their memory again, when there is none."""
    windows, window = filled([1.0, 2.0], [3.0])
    before = [span.block for span in windows._blocks.spans("Rome")]

    _, released = windows.coalesce()

    assert [span.block for span in windows._blocks.spans("Rome")] == before
    assert [frame.height for frame in released] == [0]
    assert (window.rows, window.items_max) == (3, 3)
