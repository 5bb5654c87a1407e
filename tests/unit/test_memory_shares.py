"""How the memory budget is derived from the container's limit and divided."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from consumer.errors import SettingsError
from consumer.settings.memory import (
    BUDGET_BYTES_MIN,
    FIXED_BYTES,
    GIB,
    MIB,
    PARTS,
    SIDE_COMMAND_BYTES,
    SIDE_COMMAND_LIMIT_BYTES_MIN,
    assumed_limit_bytes,
    budget_bytes,
    memory_shares,
)


@pytest.mark.parametrize(
    ("limit", "budget"),
    [(GIB, 448 * MIB), (512 * MIB, 192 * MIB), (None, 192 * MIB), (64 * MIB, BUDGET_BYTES_MIN)],
)
def test_auto_is_half_of_what_the_fixed_part_leaves_of_the_limit(limit: int | None, budget: int) -> None:
    assert budget_bytes("auto", limit) == budget


def test_a_budget_of_ones_own_may_take_what_the_fixed_part_leaves() -> None:
    assert budget_bytes(896 * MIB, GIB) == 896 * MIB
    assert budget_bytes(4 * GIB, None) == 4 * GIB


def test_a_budget_that_the_container_cannot_hold_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"memory\.budget: 897MiB is more than .* limit of 1GiB leaves: 896MiB"):
        budget_bytes(897 * MIB, GIB)


@pytest.mark.parametrize("budget", [BUDGET_BYTES_MIN, 5_000_001, 192 * MIB, 448 * MIB, 100 * GIB])
def test_the_parts_are_the_whole_budget(budget: int) -> None:
    parts = asdict(memory_shares(budget))
    assert parts.pop("budget_bytes") == budget
    assert sum(parts.values()) == budget
    assert all(count > 0 for count in parts.values())


def test_what_a_part_of_a_large_budget_would_not_use_goes_to_pending_rows() -> None:
    shares = memory_shares(100 * GIB)
    assert all(getattr(shares, part.field) == part.bytes_max for part in PARTS if part.bytes_max)
    assert shares.pending_bytes > 85 * GIB


@pytest.mark.parametrize("limit", [SIDE_COMMAND_LIMIT_BYTES_MIN, GIB, 8 * GIB])
def test_what_the_budget_does_not_take_is_more_than_a_command_next_to_the_service_takes(limit: int) -> None:
    assert limit - FIXED_BYTES - budget_bytes("auto", limit) >= SIDE_COMMAND_BYTES


def test_in_the_bench_the_service_has_left_that_much_of_its_limit_at_its_peak() -> None:
    results = json.loads((Path(__file__).parents[2] / "bench" / "results.json").read_text(encoding="utf-8"))
    limited = [case for case in results["cases"].values() if case["plan"]["memory_bytes"]]
    assert {case["plan"]["memory_bytes"] for case in limited} >= {SIDE_COMMAND_LIMIT_BYTES_MIN, GIB}
    for case in limited:
        for found in case["rounds"]:
            left = case["plan"]["memory_bytes"] - found["peak_bytes"]
            assert left >= SIDE_COMMAND_BYTES, f"{case['name']} has left {left // MIB} MiB"


@pytest.mark.parametrize(
    ("budget", "limit", "assumed"),
    [
        (448 * MIB, GIB, GIB),
        (896 * MIB, GIB, GIB),
        (192 * MIB, None, 512 * MIB),
        (4 * MIB, None, 512 * MIB),
        (GIB, None, 2176 * MIB),
    ],
)
def test_without_a_limit_use_is_judged_by_one_that_suits_the_budget(
    budget: int, limit: int | None, assumed: int
) -> None:
    assert assumed_limit_bytes(budget, limit) == assumed
