"""Rounds become medians, JSON, tables and pictures."""

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from bench.cases import GIB, Case
from bench.pictures import memory, rates
from bench.report import COLUMNS, PACED_COLUMNS, markdown, paced, rich_tables
from bench.results import (
    MEMORY_POINTS_MAX,
    Bare,
    CaseResult,
    MemoryPoint,
    Results,
    Round,
    from_json,
    percentile,
    plan_of,
    rate_of,
    thinned,
    to_json,
)

CASE = Case("backlog", "what it is", locations=10, items_per_location=1_000, memory_bytes=GIB)
ROUND = Round(
    problems=[],
    seconds=0.1,
    changes_per_second=100_000.0,
    share_of_bare=0.5,
    cpu_seconds=0.02,
    startup_cpu_seconds=1.0,
    peak_bytes=200 * 2**20,
    requests=10,
    items=10_000,
    chunks=12,
    reasons={"full": 9, "age": 1, "bisection": 0},
    sink_cpu_seconds=0.01,
    cpu_share=0.2,
    memory=[MemoryPoint(0.0, 100 * 2**20, 0), MemoryPoint(0.1, 200 * 2**20, 10_000)],
)
BARE = Bare(seconds=0.05, cpu_seconds=0.01, peak_bytes=50.0)
MACHINE = {"cores": 2, "memory_bytes": 8 * GIB, "kernel": "6.1", "processor": "a processor"}
VERSIONS = {"service": "1", "python": "3.13", "polars": "2", "librdkafka": "2.12", "kafka": "4.1"}


def result(*rounds: Round, **changes: object) -> CaseResult:
    made = CaseResult("backlog", "2026-01-02", "abc", plan_of(CASE), rounds=rounds, bares=[BARE, BARE])
    return replace(made, **changes)  # type: ignore[arg-type]


def results(*cases: CaseResult) -> Results:
    return Results(MACHINE, VERSIONS, {case.name: case for case in cases})


def cells(case: CaseResult) -> dict[str, str]:
    return {name: cell(case) for name, cell in COLUMNS.items()}


def test_the_median_is_that_of_the_complete_rounds() -> None:
    broken = replace(ROUND, problems=["killed"], changes_per_second=1.0)
    fast = replace(ROUND, changes_per_second=300_000.0)
    slow = replace(ROUND, changes_per_second=200_000.0)
    assert result(broken, ROUND, fast, slow).median("changes_per_second") == 200_000.0
    assert result(broken).median("changes_per_second") == 1.0
    assert result().median("changes_per_second") is None


def test_cpu_is_per_million_changes() -> None:
    assert result(ROUND).cpu_seconds_per_million == pytest.approx(2.0)


def test_the_rate_ends_with_the_answer_after_which_only_the_tail_is_left() -> None:
    requests = [[0.0, 102.0, 9_000], [0.0, 110.0, 1_000], [0.0, 0.0, 500]]
    assert rate_of(CASE, requests, 100.0) == 1_000.0
    assert rate_of(replace(CASE, tail_share=0.1), requests, 100.0) == 4_500.0
    assert rate_of(CASE, [], 100.0) == 0.0


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0)) == (50.0, 99.0, 100.0)
    assert percentile([7.0], 0.5) == 7.0
    assert percentile([], 0.5) is None


def test_memory_is_thinned_to_the_highest_point_of_each_stretch() -> None:
    points = [MemoryPoint(float(at), at % 10, at) for at in range(1_000)]
    few = thinned(points)
    assert len(few) <= MEMORY_POINTS_MAX
    assert min(point.resident_bytes for point in few) >= 8
    assert thinned([]) == []


def test_the_json_file_is_read_back_as_it_was_written() -> None:
    written = results(result(ROUND), result(name="wide", rounds=[], skipped="no cgroup"))
    assert to_json(from_json(to_json(written))) == to_json(written)
    assert '"cpu_seconds_per_million": 2.0' in to_json(written)


def test_cases_that_are_not_measured_again_stay_if_machine_and_versions_are_the_same() -> None:
    old = results(result(ROUND), result(name="wide"))
    new = results(result(ROUND, ROUND))
    merged = old.merged(new)
    assert list(merged.cases) == ["wide", "backlog"], "in the order of the cases"
    assert len(merged.cases["backlog"].rounds) == 2
    elsewhere = replace(new, machine=MACHINE | {"cores": 4})
    assert old.merged(elsewhere) is elsewhere


def test_a_row_has_the_medians_and_the_range_of_the_share() -> None:
    assert cells(result(ROUND, replace(ROUND, share_of_bare=0.4), replace(ROUND, share_of_bare=0.6))) == {
        "case": "backlog",
        "changes/s": "100,000",
        "of bare loop": "0.50 (0.40 to 0.60)",
        "CPU s per million": "2.0",
        "peak MiB": "200",
        "requests": "10",
        "chunks / fewest": "12 / 10",
        "sent because": "age 1, full 9",
        "outcome": "complete",
    }


def test_a_row_says_why_a_case_was_skipped_or_what_is_wrong() -> None:
    assert cells(result(skipped="no cgroup"))["outcome"] == "skipped: no cgroup"
    broken = replace(ROUND, problems=["3 items never came"])
    row = cells(result(broken, broken))
    assert (row["outcome"], row["changes/s"], row["peak MiB"]) == ("3 items never came", "-", "200")
    assert not result(broken, ROUND).is_complete


def test_only_paced_cases_are_in_the_second_table() -> None:
    slow = replace(ROUND, share_of_bare=None, age_p50_seconds=1.0, age_p99_seconds=5.25, idle_cpu_share=0.01)
    plan = plan_of(CASE) | {"changes_per_second": 50, "max_age_seconds": 5.0}
    trickle = result(slow, name="trickle", plan=plan, bares=[])
    both = results(result(ROUND), trickle)
    assert [case.name for case in paced(both)] == ["trickle"]
    assert [cell(trickle) for cell in PACED_COLUMNS.values()] == [
        "trickle",
        "0.200",
        "0.010",
        "1.00 s",
        "5.25 s",
        "5 s",
    ]
    assert len(rich_tables(both)) == 2
    assert len(rich_tables(results(result(ROUND)))) == 1


def test_the_page_names_machine_versions_and_the_date_of_each_case() -> None:
    page = markdown(results(result(ROUND)))
    assert "2 cores (a processor), 8 GiB" in page
    assert "| `backlog` | what it is | 2026-01-02, 1 round, `abc` |" in page


def texts(picture: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314 - our own


def test_the_picture_of_rates_has_two_bars_for_each_case_with_a_bare_loop() -> None:
    shown = texts(rates(results(result(ROUND), result(ROUND, name="trickle", bares=[]))))
    assert "backlog" in shown
    assert "trickle" not in shown
    assert {"0.20", "0.10"} <= set(shown), "10,000 changes in 0.05 s, and the service's rate"
    broken = texts(rates(results(result(replace(ROUND, problems=["killed"])))))
    assert {"0.20", "not complete"} <= set(broken)


def test_the_picture_of_memory_shows_the_limit_or_says_that_there_was_none() -> None:
    shown = memory(results(result(ROUND)))
    assert "highest 200 MiB" in shown
    assert shown.count("<polyline") == 2
    assert "stroke-dasharray" in shown
    assert "No memory limit" in memory(results(result(skipped="no cgroup")))
