"""Small windows of quiet locations, and when they are looked at."""

from consumer.core.location.planner import WAIT, FlushPlan, ItemLimits, SendReason, plan_small
from consumer.core.location.small_windows import SmallLimits, SmallWindows
from consumer.core.location.window import Window

AGE = 10.0
QUIET = 300.0


def small_windows() -> SmallWindows:
    return SmallWindows(SmallLimits(items=2, max_age_seconds=AGE), QUIET)


def window(items: int = 1, *, first_arrived: float = 0.0, name: str = "Rome") -> Window:
    return Window(name, rows=items, items_max=items, first_arrived=first_arrived)


def test_a_window_with_few_items_is_due_when_its_oldest_change_is_old_enough() -> None:
    windows, few = small_windows(), window(2)
    windows.schedule(few)
    assert not windows.is_due(AGE - 0.1)
    assert windows.take_due(AGE - 0.1) is None
    assert windows.take_due(AGE) is few


def test_a_window_with_more_items_is_not_looked_at() -> None:
    windows = small_windows()
    windows.schedule(window(3))
    assert windows.take_due(AGE) is None


def test_a_window_that_has_grown_meanwhile_waits_as_usual() -> None:
    windows, growing = small_windows(), window(2)
    windows.schedule(growing)
    growing.add(1, 5.0)
    assert windows.take_due(AGE) is None


def test_a_window_that_was_sent_and_filled_again_is_due_by_its_new_changes() -> None:
    windows, again = small_windows(), window()
    windows.schedule(again)
    again.first_arrived = 5.0
    assert windows.take_due(AGE) is None
    assert windows.take_due(5.0 + AGE) is again


def test_a_window_that_could_not_leave_is_looked_at_again_later() -> None:
    windows, held = small_windows(), window()
    windows.schedule(held)
    assert windows.take_due(AGE) is held
    assert windows.take_due(AGE) is None
    assert windows.take_due(1.5 * AGE) is held


def test_a_window_that_is_gone_is_forgotten() -> None:
    windows, gone = small_windows(), window()
    windows.schedule(gone)
    windows.drop(gone)
    assert windows.take_due(AGE) is None


def test_the_window_that_is_due_for_longest_comes_first() -> None:
    windows, older, younger = small_windows(), window(name="Rome"), window(first_arrived=1.0, name="Oslo")
    windows.schedule(younger)
    windows.schedule(older)
    assert windows.take_due(2 * AGE) is older
    assert windows.take_due(2 * AGE) is younger


def test_a_location_is_quiet_again_some_time_after_its_last_full_window() -> None:
    windows = small_windows()
    assert windows.is_quiet("Rome", 0.0)
    windows.started("Rome", SendReason.FULL, 0.0)
    windows.started("Oslo", SendReason.PRESSURE, 10.0)
    windows.started("Lima", SendReason.AGE, 10.0)
    assert not windows.is_quiet("Rome", QUIET)
    assert windows.is_quiet("Lima", 10.0)
    assert windows.is_quiet("Rome", QUIET + 0.1)
    assert not windows.is_quiet("Oslo", QUIET + 0.1)


def test_what_was_busy_long_ago_is_forgotten() -> None:
    windows = small_windows()
    for number in range(1_000):
        windows.started(f"L{number}", SendReason.FULL, float(number))
    assert len(windows._busy_at) <= QUIET + 1


def test_all_of_a_small_window_leaves_however_young_its_changes_are() -> None:
    plan = plan_small(25)
    assert plan(25, 0, ItemLimits()) == FlushPlan(25, SendReason.SMALL)
    assert plan(26, 26, ItemLimits()) == WAIT
