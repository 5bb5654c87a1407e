"""How full requests are when memory cannot hold full windows, with the engine fed from memory (``bench.fill``)."""

from dataclasses import replace
from typing import Literal

import pytest

from bench.fill import Backlog, Result, Run

SMALL = Backlog(
    locations=48,
    items_per_location=900,
    chunk_items=300,
    changes_per_second=4_000,
    pending_bytes=600_000,
    poll_changes=100,
)
"""Memory for 9,000 changes: 190 of each location."""


@pytest.fixture(scope="module")
def by_location() -> Result:
    return Run(SMALL).run()


def test_the_windows_of_one_partition_fill_although_those_of_all_do_not_fit(by_location: Result) -> None:
    assert by_location.ratio <= 1.05
    assert Run(replace(SMALL, turns=False)).run().ratio > 1.2


def test_each_partition_is_read_within_max_age(by_location: Result) -> None:
    assert by_location.longest_unread_seconds <= SMALL.max_age_seconds


def test_turns_cost_no_chunks_where_each_location_is_in_every_partition() -> None:
    by_item = replace(SMALL, keyed_by="item")

    assert Run(by_item).run().chunks <= 1.05 * Run(replace(by_item, turns=False)).run().chunks


def test_memory_stays_within_the_budget_of_pending_changes(by_location: Result) -> None:
    assert by_location.pending_bytes_max <= 1.1 * SMALL.pending_bytes


@pytest.mark.parametrize("keyed_by", ["location", "item"])
def test_a_backlog_takes_as_many_chunks_with_smart_refresh_as_without(keyed_by: Literal["location", "item"]) -> None:
    backlog = replace(SMALL, keyed_by=keyed_by)
    assert Run(replace(backlog, smart_refresh=True)).run().chunks == Run(backlog).run().chunks
