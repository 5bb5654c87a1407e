import pytest

from consumer.core.location.planner import FlushPlan, ItemLimits, SendReason, chunks, plan_items

FULL, AGE = SendReason.FULL, SendReason.AGE


@pytest.mark.parametrize(
    ("items", "due", "plan"),
    [
        pytest.param(0, 0, FlushPlan(0, None), id="nothing waits"),
        pytest.param(11_999, 0, FlushPlan(0, None), id="not full and not due waits"),
        pytest.param(12_000, 0, FlushPlan(12_000, FULL), id="full"),
        pytest.param(21_000, 0, FlushPlan(12_000, FULL), id="burst of 21,000, first"),
        pytest.param(9_000, 9_000, FlushPlan(9_000, AGE), id="burst of 21,000, second"),
        pytest.param(14_999, 14_999, FlushPlan(12_000, FULL), id="never more than the OMS takes"),
        pytest.param(6_001, 6_000, FlushPlan(6_000, AGE), id="6,001 of which the newest is not yet due"),
        pytest.param(6_001, 1, FlushPlan(6_000, AGE), id="whole chunks go when they cover the due ones"),
        pytest.param(6_001, 6_001, FlushPlan(6_001, AGE), id="all due"),
        pytest.param(1, 1, FlushPlan(1, AGE), id="the last one on its own deadline"),
        pytest.param(5_900, 5_900, FlushPlan(5_900, AGE), id="5,900 all due are one request"),
        pytest.param(5_900, 3_000, FlushPlan(3_000, AGE), id="5,900 of which one chunk is due"),
        pytest.param(5_900, 3_001, FlushPlan(5_900, AGE), id="a begun chunk takes along what waits"),
        pytest.param(2_999, 1, FlushPlan(2_999, AGE), id="less than a chunk goes as it is"),
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
        pytest.param({"chunk_items": 0}, id="no chunk"),
        pytest.param({"flush_items": 4_000}, id="flush between chunks"),
        pytest.param({"flush_items": 15_000}, id="flush above what a request takes"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="chunk"):
        ItemLimits(**limits)
