"""What is pending of an item, wherever it waits; asking changes nothing."""

import pytest

from consumer.core.changes.items import ChangeId
from consumer.core.oms.answers import AnswerKind
from consumer.core.trace import pending
from consumer.core.trace.pending import Place
from tests.support.frames import change
from tests.support.traces import TracedEngine


def found(traced: TracedEngine, sku: str = "a") -> list[tuple[int, Place]]:
    return [(entry.change_id.offset, entry.place) for entry in traced.trace(sku).pending.changes]


def test_a_change_waits_in_its_window_then_is_in_flight_and_comes_back_if_its_request_fails() -> None:
    traced = TracedEngine()
    traced.read(
        change("Rome", "a", 5, offset=3, binID=7), change("Rome", "b", offset=4), change("Milan", "a", offset=5)
    )

    (entry,) = traced.trace("a").pending.changes
    assert (entry.change_id, entry.place, entry.arrived) == (ChangeId(1, 3), Place.WINDOW, traced.clock.now)
    assert entry.item == {"sku": "a", "quantity": 5, "binID": 7}
    assert found(traced, "none") == []

    traced = TracedEngine()
    traced.read(change("Rome", "a", offset=3))
    request = traced.send()
    traced.read(change("Rome", "a", offset=6))
    assert found(traced) == [(3, Place.IN_FLIGHT), (6, Place.WINDOW)]
    traced.answer(request, AnswerKind.UNAVAILABLE, status=503)
    assert found(traced) == [(3, Place.WINDOW), (6, Place.WINDOW)]
    assert traced.trace("a").failed.kind is AnswerKind.UNAVAILABLE  # type: ignore[union-attr]


def test_a_change_of_a_recovering_partition_is_held_back() -> None:
    traced = TracedEngine(read_up_to=100)
    traced.read(change("Rome", "a", offset=3), change("Milan", "a", offset=4))
    assert found(traced) == [(3, Place.RECOVERING)]


def test_an_older_change_names_the_newer_one_whose_count_is_sent_across_partitions_too() -> None:
    traced = TracedEngine()
    traced.read(
        change("Rome", "a", 1, offset=3, occurred_at=10),
        change("Rome", "a", 2, offset=4, occurred_at=30),
        change("Rome", "a", 3, offset=9, assignment=2, occurred_at=20),
        change("Rome", "a", 4, offset=5, upc="other item"),
    )
    coalesced = {entry.change_id: entry.coalesced_into for entry in traced.trace("a").pending.changes}
    assert coalesced == {
        ChangeId(1, 3): ChangeId(1, 4),
        ChangeId(1, 4): None,
        ChangeId(2, 9): ChangeId(1, 4),
        ChangeId(1, 5): None,
    }


def test_what_was_coalesced_while_it_waited_is_named_with_what_stands_for_it() -> None:
    traced = TracedEngine(max_pending_bytes=3_000)
    for offset in range(100):
        traced.read(change("Rome", "a", offset, offset=offset))
    latest = traced.trace("a").pending
    assert len(latest.changes) == 100
    without_item = [entry for entry in latest.changes if not entry.item]
    assert without_item
    assert all(entry.coalesced_into is not None for entry in without_item)
    assert {entry.change_id.offset for entry in latest.changes} == set(range(100))


def test_an_item_that_changes_all_the_time_has_the_latest_changes_in_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pending, "CHANGES_MAX", 3)
    traced = TracedEngine()
    for offset in range(10):
        traced.read(change("Rome", "a", offset=offset))
    latest = traced.trace("a").pending
    assert [entry.change_id.offset for entry in latest.changes] == [7, 8, 9]
    assert latest.left_out == 7

    traced = TracedEngine()
    traced.read(change("Rome", "a", offset=1), change("Rome", "a", offset=2))
    traced.send()
    traced.read(change("Rome", "a", offset=3), change("Rome", "a", offset=4))
    assert [entry.change_id.offset for entry in traced.trace("a").pending.changes] == [2, 3, 4]
    assert traced.trace("a").pending.left_out == 1
