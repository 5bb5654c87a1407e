"""The life of one partition."""

import polars as pl
import pytest

from consumer.core.partition.partition import TRANSITIONS, Partition, PartitionEvent, PartitionState
from consumer.core.partition.uncommitted import UncommittedLimits
from consumer.errors import InvariantError

DOUBT_UNTIL = 120.0


def partition(*, start: int | None = 5, read_up_to: int | None = 9, in_doubt_until: float = DOUBT_UNTIL) -> Partition:
    limits = UncommittedLimits(offsets_max=100, bytes_max=1_000)
    return Partition(start=start, read_up_to=read_up_to, in_doubt_until=in_doubt_until, limits=limits)


def in_state(state: PartitionState) -> Partition:
    found = partition()
    if state is PartitionState.RECOVERING:
        return found
    if state is PartitionState.REVOKING:
        found.begin_revoke()
        return found
    if state is PartitionState.GONE:
        found.end()
        return found
    found.read(9, at_end=False)
    if state is PartitionState.ACTIVE:
        found.end_doubt(DOUBT_UNTIL)
    return found


@pytest.mark.parametrize("state", PartitionState)
def test_each_state_can_be_reached(state: PartitionState) -> None:
    assert in_state(state).state is state


@pytest.mark.parametrize(("state", "event"), [(state, event) for state in PartitionState for event in PartitionEvent])
def test_the_table_alone_decides_what_an_event_makes_of_a_state(state: PartitionState, event: PartitionEvent) -> None:
    found = in_state(state)
    after = TRANSITIONS.get((state, event))
    if after is None:
        with pytest.raises(InvariantError, match=event.value):
            found._apply(event)
        assert found.state is state
    else:
        found._apply(event)
        assert found.state is after


def test_a_partition_recovers_until_it_has_read_what_its_previous_owner_had() -> None:
    found = partition()
    found.read(8, at_end=False)
    assert (found.state, found.holds_back) == (PartitionState.RECOVERING, True)

    found.read(9, at_end=False)
    assert (found.state, found.holds_back) == (PartitionState.IN_DOUBT, True)


def test_the_end_of_the_partition_ends_reading_again_too() -> None:
    found = partition(read_up_to=1_000)
    found.read(6, at_end=True)

    assert found.state is PartitionState.IN_DOUBT


def test_a_partition_waits_for_the_requests_of_its_previous_owner() -> None:
    found = in_state(PartitionState.IN_DOUBT)
    assert found.next_deadline() == DOUBT_UNTIL
    assert not found.end_doubt(DOUBT_UNTIL - 1)

    assert found.end_doubt(DOUBT_UNTIL)
    assert (found.state, found.holds_back, found.next_deadline()) == (PartitionState.ACTIVE, False, None)


@pytest.mark.parametrize(("start", "read_up_to"), [(None, None), (7, 7), (7, 3)])
def test_a_partition_with_nothing_to_read_again_or_to_wait_for_is_active_at_once(
    start: int | None, read_up_to: int | None
) -> None:
    found = partition(start=start, read_up_to=read_up_to, in_doubt_until=0.0)

    assert found.end_doubt(0.0)
    assert found.state is PartitionState.ACTIVE


def test_the_doubt_about_the_previous_owner_does_not_end_with_reading() -> None:
    found = partition(read_up_to=5)

    assert found.state is PartitionState.IN_DOUBT
    assert found.is_in_doubt(DOUBT_UNTIL - 1)
    assert not found.is_in_doubt(DOUBT_UNTIL)


def test_changes_of_a_partition_that_is_being_revoked_are_a_bug() -> None:
    found = in_state(PartitionState.REVOKING)

    with pytest.raises(InvariantError, match="being revoked"):
        found.track(pl.Series([5], dtype=pl.Int64), 6)


def test_read_up_to_never_decreases() -> None:
    found = partition()
    found.track(pl.Series([5, 6], dtype=pl.Int64), 7)
    assert found.read_up_to == 9

    found.track(pl.Series([8, 9, 10], dtype=pl.Int64), 11)
    assert found.read_up_to == 11


def test_every_state_but_the_last_can_be_left() -> None:
    assert {state for state, _ in TRANSITIONS} == set(PartitionState) - {PartitionState.GONE}
    assert set(TRANSITIONS.values()) == set(PartitionState) - {PartitionState.RECOVERING}
    assert {event for _, event in TRANSITIONS} == set(PartitionEvent)
