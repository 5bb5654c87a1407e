import pytest

from consumer.core.location.planner import (
    FlushPlan,
    ItemLimits,
    SendReason,
    chunks,
    plan_at_most,
    plan_items,
    plan_under_pressure,
    plan_whole_chunks,
)

FULL, AGE = SendReason.FULL, SendReason.AGE


@pytest.mark.parametrize(
    ("items", "due", "plan"),
    [
        pytest.param(0, 0, FlushPlan(0, None), id="no items"),
        pytest.param(11_999, 0, FlushPlan(0, None), id="neither full nor due"),
        pytest.param(12_000, 0, FlushPlan(12_000, FULL), id="full"),
        pytest.param(21_000, 0, FlushPlan(12_000, FULL), id="burst of 21,000, first"),
        pytest.param(9_000, 9_000, FlushPlan(9_000, AGE), id="burst of 21,000, second"),
        pytest.param(14_999, 14_999, FlushPlan(12_000, FULL), id="never more than the OMS accepts"),
        pytest.param(6_001, 6_000, FlushPlan(6_000, AGE), id="6,001, the newest not yet due"),
        pytest.param(6_001, 1, FlushPlan(6_000, AGE), id="whole chunks if they include all due items"),
        pytest.param(6_001, 6_001, FlushPlan(6_001, AGE), id="all due"),
        pytest.param(1, 1, FlushPlan(1, AGE), id="one due item"),
        pytest.param(5_900, 5_900, FlushPlan(5_900, AGE), id="5,900 all due are one request"),
        pytest.param(5_900, 3_000, FlushPlan(3_000, AGE), id="5,900, one chunk of them due"),
        pytest.param(
            5_900, 3_001, FlushPlan(5_900, AGE), id="a partial chunk is filled up with items that are not due"
        ),
        pytest.param(2_999, 1, FlushPlan(2_999, AGE), id="less than a chunk"),
    ],
)
def test_the_planner_sends_whole_chunks_unless_due_changes_need_more(items: int, due: int, plan: FlushPlan) -> None:
    assert plan_items(items, due, ItemLimits()) == plan


def test_a_window_that_is_full_at_one_chunk_sends_all_its_whole_chunks() -> None:
    limits = ItemLimits(flush_items=3_000)

    assert plan_items(7_500, 0, limits) == FlushPlan(6_000, FULL)
    assert plan_items(1_500, 0, limits) == FlushPlan(0, None)


def test_a_partial_chunk_counts_as_a_whole_one() -> None:
    assert [chunks(items, 3_000) for items in (0, 1, 3_000, 3_001, 6_001, 12_000)] == [0, 1, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param({"chunk_items": 0}, id="chunks of 0 items"),
        pytest.param({"flush_items": 4_000}, id="flush_items is not a multiple of the chunk size"),
        pytest.param({"flush_items": 15_000}, id="flush_items above the maximum of a request"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="chunk"):
        ItemLimits(**limits)


@pytest.mark.parametrize(
    ("items", "due", "plan"),
    [
        pytest.param(100, 0, FlushPlan(100, SendReason.PRESSURE), id="less than a chunk: all of it"),
        pytest.param(7_000, 0, FlushPlan(6_000, SendReason.PRESSURE), id="whole chunks"),
        pytest.param(12_500, 0, FlushPlan(12_000, SendReason.FULL), id="a full window is still full"),
        pytest.param(100, 100, FlushPlan(100, SendReason.AGE), id="a due change is still due"),
        pytest.param(0, 0, FlushPlan(0, None), id="nothing"),
    ],
)
def test_under_pressure_a_window_need_not_be_full_or_due(items: int, due: int, plan: FlushPlan) -> None:
    assert plan_under_pressure(items, due, ItemLimits()) == plan


@pytest.mark.parametrize(
    ("items", "due", "plan"),
    [
        pytest.param(2_999, 0, FlushPlan(0, None), id="less than a chunk waits"),
        pytest.param(7_000, 0, FlushPlan(6_000, SendReason.PRESSURE), id="whole chunks"),
        pytest.param(100, 100, FlushPlan(100, SendReason.AGE), id="a due change is still due"),
    ],
)
def test_while_others_are_read_only_whole_chunks_leave_early(items: int, due: int, plan: FlushPlan) -> None:
    assert plan_whole_chunks(items, due, ItemLimits()) == plan


@pytest.mark.parametrize(
    ("items", "items_max", "left"),
    [
        pytest.param(12_000, 12_000, 12_000, id="just enough"),
        pytest.param(12_000, 11_999, 9_000, id="fewer whole chunks"),
        pytest.param(12_000, 2_999, 2_999, id="less than a chunk"),
        pytest.param(500, 499, 499, id="a partial chunk"),
        pytest.param(500, 1, 1, id="a single item"),
        pytest.param(0, 1, 0, id="nothing"),
    ],
)
def test_a_plan_is_cut_to_what_a_body_has_room_for(items: int, items_max: int, left: int) -> None:
    planned = FlushPlan(items, FULL if items else None)

    assert plan_at_most(planned, items_max, ItemLimits()) == FlushPlan(left, planned.reason)
