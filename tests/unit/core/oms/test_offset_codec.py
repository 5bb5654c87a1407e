import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.core.changes.items import ASSIGNMENT, LINE, OFFSET, ChangeId
from consumer.core.oms.offset_codec import pack_changes, pack_offsets, unpack_offsets
from tests.support.frames import change, frame


def series(offsets: list[int]) -> pl.Series:
    return pl.Series(offsets, dtype=pl.Int64)


@given(
    st.lists(st.integers(0, 2**62), max_size=50)
    | st.lists(st.integers(2**40, 2**40 + 300), max_size=50)
    | st.lists(st.integers(2**40, 2**40 + 100_000), max_size=50)
)
def test_packed_offsets_unpack_in_ascending_order(offsets: list[int]) -> None:
    assert unpack_offsets(pack_offsets(series(offsets))) == tuple(sorted(offsets))


@pytest.mark.parametrize("distance", [0, 1, 255, 256, 65_535, 65_536, 2**62])
def test_a_gap_of_any_size_survives_packing(distance: int) -> None:
    assert unpack_offsets(pack_offsets(series([5, 5 + distance]))) == (5, 5 + distance)


@pytest.mark.parametrize(
    ("step", "bytes_max"),
    [
        pytest.param(1, 120, id="consecutive"),
        pytest.param(100, 120, id="every 100th"),
        pytest.param(70_000, 700, id="every 70,000th"),
    ],
)
def test_evenly_spaced_offsets_of_a_large_request_take_few_bytes(step: int, bytes_max: int) -> None:
    offsets = range(10**10, 10**10 + 12_000 * step, step)

    assert len(pack_offsets(series(list(offsets)))) <= bytes_max


def test_offsets_with_random_gaps_take_at_most_two_bytes_per_offset() -> None:
    distances = pl.int_range(12_000, eager=True).hash(seed=1) % 6_000 + 1

    assert len(pack_offsets(distances.cast(pl.Int64).cum_sum())) < 24_000


def test_the_changes_of_a_request_are_packed_by_partition() -> None:
    rows = pl.DataFrame({ASSIGNMENT: [5, 4, 5, 6], OFFSET: [9, 30, 7, 1], LINE: [0] * 4})

    changes = pack_changes(rows, {4: ("stock", 0), 5: ("stock", 1)})

    assert [(packed[:3], unpack_offsets(packed.offsets)) for packed in changes] == [
        ((4, "stock", 0), (30,)),
        ((5, "stock", 1), (7, 9)),
    ]


def test_changes_of_an_unknown_assignment_are_left_out() -> None:
    rows = pl.DataFrame({ASSIGNMENT: [4, 6], OFFSET: [8, 3], LINE: [0, 0]})

    (packed,) = pack_changes(rows, {4: ("stock", 2)})

    assert unpack_offsets(packed.offsets) == (8,)


def test_changes_of_one_partition_are_packed_together() -> None:
    rows = pl.DataFrame({ASSIGNMENT: [4, 4], OFFSET: [8, 3], LINE: [0, 0]})

    (packed,) = pack_changes(rows, {4: ("stock", 2), 9: ("stock", 3)})

    assert (packed[:3], unpack_offsets(packed.offsets)) == ((4, "stock", 2), (3, 8))


def test_the_lines_of_an_event_are_packed_with_their_offsets() -> None:
    lines = [(3, 0), (3, 9_999), (2**40, 1), (3, 7)]
    rows = frame([change("Rome", "a", offset=offset, line=line, assignment=4) for offset, line in lines])

    (packed,) = pack_changes(rows, {4: ("stock", 2)})

    assert packed.change_ids() == tuple(ChangeId(4, *line) for line in sorted(lines))
