"""What is remembered of changes that have left: exact, bounded, oldest forgotten first."""

import subprocess
import sys
from typing import Any

import polars as pl
import pytest

from consumer.core.changes.items import ITEM_KEY, SUPERSEDED, SUPERSEDED_TYPE
from consumer.core.oms.job_schedule import JobOutcome
from consumer.core.trace import memory
from consumer.core.trace.memory import COLUMN_BYTES, FATE_BYTES, FOUND_MAX, Fate, Left, Outcome, TraceMemory
from consumer.core.trace.query import ItemQuery
from tests.support.frames import change, frame

PARTITIONS = {1: ("stock", 0), 2: ("stock", 1)}


def fate(at: float = 5.0, location: str = "Rome", job_id: str = "77") -> Fate:
    return Fate(Outcome.ACCEPTED, at, location, f"r-{at:g}", 1, at - 1, job_id)


def remembering(*rows: dict[str, Any], bytes_max: int = 100_000) -> TraceMemory:
    kept = TraceMemory(ITEM_KEY, bytes_max)
    kept.add(fate(), frame(rows), PARTITIONS)
    return kept


def places(found: list[Left] | Any) -> list[tuple[int, int]]:
    return [(left.partition[1], left.offset) for left in found]


def sku(value: str, location: str = "Rome") -> ItemQuery:
    return ItemQuery(location, ({"sku": value},))


def test_a_change_is_found_by_its_item_with_its_place_and_its_fate() -> None:
    kept = remembering(
        change("Rome", "a", offset=7, line=2),
        change("Rome", "b", offset=8),
        change("Rome", "c", offset=9, assignment=2),
    )

    (left,) = kept.find(sku("a")).changes
    assert (left.partition, left.offset, left.line, left.fate) == (("stock", 0), 7, 2, fate())
    assert places(kept.find(sku("c")).changes) == [(1, 9)]
    assert kept.find(sku("d")).changes == []
    assert kept.find(sku("a", "Milan")).changes == []


def test_every_identifier_finds_an_item_and_several_must_all_match() -> None:
    kept = remembering(
        change("Rome", "a", upc="1", offset=1), change("Rome", "a", upc="2", offset=2), change("Rome", "1", offset=3)
    )

    def found(*alternatives: dict[str, str]) -> list[tuple[int, int]]:
        return sorted(places(kept.find(ItemQuery("Rome", alternatives)).changes))

    assert found({"sku": "a"}) == [(0, 1), (0, 2)]
    assert found({"upc": "1"}) == [(0, 1)]
    assert found({"sku": "a", "upc": "2"}) == [(0, 2)]
    assert found({"partNumber": "a"}) == []
    assert sorted(places(kept.find(ItemQuery.of_any_identifier("Rome", "1")).changes)) == [(0, 1), (0, 3)]


def test_older_changes_of_an_item_in_a_request_name_the_newer_one_of_their_partition() -> None:
    kept = remembering(
        change("Rome", "a", offset=1),
        change("Rome", "a", offset=5),
        change("Rome", "a", offset=3, assignment=2),
        change("Rome", "a", upc="other", offset=9),
    )

    found = {place: left.coalesced_into for left in kept.find(sku("a")).changes for place in places([left])}
    assert found == {(0, 1): (5, 0), (0, 5): None, (1, 3): None, (0, 9): None}


def test_what_was_coalesced_while_it_waited_left_with_its_row() -> None:
    row = change("Rome", "a", offset=5)
    rows = frame([row, change("Rome", "b", offset=6)]).with_columns(
        pl.Series(SUPERSEDED, [[2 * 2**14, 3 * 2**14 + 1], None], dtype=SUPERSEDED_TYPE)
    )
    kept = TraceMemory(ITEM_KEY, 100_000)
    kept.add(fate(), rows, PARTITIONS)

    found = [(left.offset, left.line, left.coalesced_into) for left in kept.find(sku("a")).changes]
    assert found == [(5, 0, None), (3, 1, (5, 0)), (2, 0, (5, 0))]


def test_the_end_of_a_job_is_told_to_every_request_that_it_stands_for() -> None:
    kept = TraceMemory(ITEM_KEY, 100_000)
    for at in (1.0, 2.0):
        kept.add(fate(at), frame([change("Rome", "a", offset=int(at))]), PARTITIONS)
    before = kept.find(sku("a")).changes
    kept.job_ended("77", JobOutcome.FAILED, "x" * 1_000, 9.0)
    kept.job_ended("unknown", JobOutcome.SUCCESS, "", 9.0)

    ended = [left.fate for left in kept.find(sku("a")).changes]
    assert [(found.job_outcome, found.job_ended_at, len(found.job_messages)) for found in ended] == [
        (JobOutcome.FAILED, 9.0, 200)
    ] * 2
    assert [left.fate.job_outcome for left in before] == [None, None]  # answers do not change afterwards


def test_the_oldest_is_forgotten_first_and_the_bytes_stay_within_the_limit() -> None:
    bytes_max = 20 * (FATE_BYTES + 4 * COLUMN_BYTES)
    kept = TraceMemory(ITEM_KEY, bytes_max)
    assert [kept.forgot_at] == [None]
    for at in range(1, 101):
        kept.add(fate(at, job_id=str(at % 7)), frame([change("Rome", "a", offset=at)]), PARTITIONS)
        assert kept.size_bytes <= bytes_max

    found = kept.find(sku("a")).changes
    assert places(found) == [(0, offset) for offset in range(100, 100 - len(kept), -1)]
    assert kept.forgot_at == 100 - len(kept)
    for job in range(7):
        kept.job_ended(str(job), JobOutcome.SUCCESS, "", 200.0)
    assert {left.fate.job_outcome for left in kept.find(sku("a")).changes} == {JobOutcome.SUCCESS}


def test_a_request_that_is_larger_than_the_memory_is_forgotten_at_once() -> None:
    kept = remembering(*(change("Rome", str(offset), offset=offset) for offset in range(1_000)), bytes_max=5_000)
    assert (len(kept), kept.size_bytes, kept.forgot_at) == (0, 0, 5.0)


def test_rows_of_assignments_whose_partition_is_not_known_are_left_out() -> None:
    kept = remembering(change("Rome", "a", offset=1, assignment=9), change("Rome", "a", offset=2))
    assert places(kept.find(sku("a")).changes) == [(0, 2)]
    assert len(remembering(change("Rome", "a", assignment=9))) == 0


def test_an_answer_has_a_limit_and_says_that_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = remembering(*(change("Rome", "a", offset=offset) for offset in range(FOUND_MAX + 1)))
    found = kept.find(sku("a"))
    assert (len(found.changes), found.changes[0].offset, found.is_cut) == (FOUND_MAX, FOUND_MAX, True)

    monkeypatch.setattr(memory, "LOOKS_MAX", 3)
    kept = TraceMemory(ITEM_KEY, 100_000)
    for at in range(1, 6):
        kept.add(fate(at), frame([change("Rome", "a", offset=at)]), PARTITIONS)
        kept.add(fate(at, "Milan"), frame([change("Milan", "a", offset=at)]), PARTITIONS)
    found = kept.find(sku("a"))
    assert (places(found.changes), found.is_cut) == ([(0, 5), (0, 4), (0, 3)], True)


def test_a_small_slice_does_not_keep_its_block_in_memory_and_the_bytes_are_those_that_are_counted() -> None:
    """Measured in a process of its own, since polars' allocations are only seen from outside."""
    script = """
import gc
import polars as pl
from consumer.core.changes.items import ITEM_KEY
from consumer.core.trace.memory import Fate, Outcome, TraceMemory
from tests.support.frames import change, frame

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def add(kept, rows, at):
    fate = Fate(Outcome.ACCEPTED, float(at), f"Store {at}", f"0123456789-{at}", 1, float(at), f"77{at}")
    kept.add(fate, rows, {1: ("stock", 0)})

row = frame([change("Rome", "a" * 30, offset=1)]).select(["locationName", "sku", "quantity", "_assignment", "_offset"])
kept = TraceMemory(ITEM_KEY, 2**40)
for at in range(1_000):
    add(kept, row, at)
gc.collect()
before, counted = resident(), kept.size_bytes
for at in range(20_000):
    block = pl.concat([row] * 2_000) if at % 100 == 0 else block
    add(kept, block.slice(at % 2_000, 1), at)
del block
gc.collect()
print((resident() - before) / (kept.size_bytes - counted))
"""
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert float(done.stdout) < 1.25
