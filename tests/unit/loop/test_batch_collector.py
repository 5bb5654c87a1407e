"""When what polls bring is decoded, and what is handed over then."""

from collections.abc import Callable, Sequence

import pytest

from consumer.errors import InvariantError
from consumer.loop.batch_collector import BatchCollector
from consumer.ports import Headers, RawBatch


def batch(*offsets: int, ends: dict[int, int] | None = None) -> RawBatch:
    """Messages of assignment 1; value, timestamp and key tell the offset."""

    def origin(position: int) -> tuple[bytes | None, Headers]:
        return str(offsets[position]).encode(), ()

    values = [str(offset).encode() for offset in offsets]
    return RawBatch(values, [1] * len(offsets), list(offsets), list(offsets), ends or {}, origin)


def collector(*batches: RawBatch, polled_at: Sequence[float] = (10.0, 10.1, 10.2)) -> BatchCollector:
    """Due at 5 messages or 20 bytes, or 0.3 s after the first batch; the batches were polled at these times."""
    made = BatchCollector(messages_due=5, bytes_due=20, seconds=0.3)
    for added, at in zip(batches, polled_at, strict=False):
        made.add(added, at)
    return made


@pytest.mark.parametrize(
    ("made", "now", "is_due"),
    [
        pytest.param(collector, 99.0, False, id="nothing"),
        pytest.param(lambda: collector(batch(0)), 10.2, False, id="little, and for a short time"),
        pytest.param(lambda: collector(batch(0)), 10.3, True, id="the time is over"),
        pytest.param(lambda: collector(batch(0), batch(1)), 10.3, True, id="the time counts from the first poll"),
        pytest.param(lambda: collector(batch(0, 1, 2, 3)), 10.0, False, id="one message too few"),
        pytest.param(lambda: collector(batch(0, 1, 2, 3, 4)), 10.0, True, id="many messages in one batch"),
        pytest.param(lambda: collector(batch(0, 1, 2), batch(3, 4)), 10.1, True, id="many messages in several"),
        pytest.param(lambda: collector(batch(10**9), batch(10**8)), 10.1, False, id="19 bytes"),
        pytest.param(lambda: collector(batch(10**9), batch(10**9)), 10.1, True, id="20 bytes"),
        pytest.param(lambda: collector(batch(ends={1: 7})), 10.2, False, id="an end that no one waits for"),
        pytest.param(lambda: collector(batch(ends={1: 7})), 10.3, True, id="an end is handed over in time"),
    ],
)
def test_batches_are_due_by_messages_bytes_or_time(
    *, made: Callable[[], BatchCollector], now: float, is_due: bool
) -> None:
    assert made().is_due(now) is is_due


def test_what_someone_waits_for_is_due_at_once_and_what_comes_after_it_is_not() -> None:
    made = collector(batch(0))
    made.hurry()
    assert made.is_due(10.0)

    made.take()
    made.add(batch(1), 10.1)
    assert not made.is_due(10.2)


def test_no_hurry_outlasts_a_collector_that_is_empty() -> None:
    made = collector()
    made.hurry()
    made.add(batch(0), 10.0)

    assert not made.is_due(10.1)


def test_batches_are_taken_as_one_in_the_order_of_their_polls() -> None:
    made = collector(batch(0, 1), batch(), batch(2))
    taken = made.take()

    assert list(taken.values) == [b"0", b"1", b"2"]
    assert (taken.assignments, taken.offsets, list(taken.timestamps)) == ([1, 1, 1], [0, 1, 2], [0, 1, 2])
    assert [taken.origin(position)[0] for position in range(3)] == [b"0", b"1", b"2"]
    assert made.due_at is None


def test_the_age_of_all_counts_from_the_first_poll() -> None:
    assert collector(batch(0)).take().polled_at == 10.0
    assert collector(batch(0), batch(1), batch(2)).take().polled_at == 10.0


def test_of_several_ends_of_a_partition_the_last_one_counts() -> None:
    made = collector(batch(0, ends={1: 1, 2: 8}), batch(1, ends={1: 2}))

    assert made.take().ends == {1: 2, 2: 8}


def test_taking_nothing_is_a_bug() -> None:
    with pytest.raises(InvariantError):
        collector().take()
