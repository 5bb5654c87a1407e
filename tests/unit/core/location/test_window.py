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
