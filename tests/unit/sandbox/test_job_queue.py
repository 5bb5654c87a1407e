"""The queue, the times and costs of its jobs, and the items that they set."""

from typing import Any

import pytest

from consumer.sandbox.oms.faults.outcome import JobOverride
from consumer.sandbox.oms.inventory import HeldItem, Inventory
from consumer.sandbox.oms.job_queue import Job, JobQueue, JobStatus
from consumer.sandbox.oms.settings import SandboxSettings


def queue(**settings: Any) -> JobQueue:
    made = SandboxSettings(**{"seconds_per_job": 1, "seconds_per_chunk": 10, **settings})
    return JobQueue(made, Inventory(made))


def add(jobs: JobQueue, location: str, items: list[Any], *, now: float = 0.0, fails: bool = False) -> Job:
    return jobs.add(location, len(items), items, now, JobOverride(fails=fails))


def finish(jobs: JobQueue, now: float) -> None:
    while jobs.finish_next(now):
        pass


def held(jobs: JobQueue, location: str = "L") -> list[HeldItem]:
    return list(jobs.inventory.held().get(location, {}).values())


@pytest.mark.parametrize(
    ("items", "chunks", "cost"),
    [(1, 1, 11), (3_000, 1, 11), (3_001, 2, 21), (6_000, 2, 21), (6_001, 3, 31), (9_000, 3, 31), (12_000, 4, 41)],
)
def test_a_job_costs_its_chunks_full_or_not_and_its_overhead(items: int, chunks: int, cost: float) -> None:
    job = queue().add("L", items, None, 0.0)
    assert (job.chunks, job.cost_seconds) == (chunks, cost)


def test_jobs_are_processed_one_at_a_time_in_order() -> None:
    jobs = queue()
    first, second = add(jobs, "L", [{"sku": "1", "quantity": 1}]), add(jobs, "M", [{"sku": "1", "quantity": 2}], now=5)
    assert (first.started, first.finished) == (0, 11)
    assert (second.started, second.finished) == (11, 22)
    assert [second.status(now) for now in (5, 10.9, 11, 21.9, 22)] == [
        JobStatus.PENDING,
        JobStatus.PENDING,
        JobStatus.WORKING,
        JobStatus.WORKING,
        JobStatus.SUCCESS,
    ]
    assert add(jobs, "L", [{"sku": "1", "quantity": 3}], now=100).started == 100


def test_items_are_applied_when_the_job_finishes_and_not_before() -> None:
    jobs = queue()
    add(jobs, "L", [{"sku": "1", "quantity": 7}])
    finish(jobs, 10.9)
    assert (held(jobs), jobs.busy_seconds, jobs.queued_items) == ([], 0, 1)
    finish(jobs, 11)
    assert (held(jobs), jobs.busy_seconds, jobs.queued_items) == ([{"sku": "1", "quantity": 7}], 11, 0)


def test_the_time_scale_changes_real_times_but_not_costs() -> None:
    job = queue(time_scale=0.1).add("L", 1, None, 0.0)
    assert job.finished == pytest.approx(1.1)
    assert job.cost_seconds == 11


SAME_ITEM = {
    "the quantity is set, not added": (
        [{"sku": "1", "quantity": 5}, {"sku": "1", "quantity": "3"}],
        [{"sku": "1", "quantity": 3}],
    ),
    "an absent field stays": (
        [{"sku": "1", "quantity": 5, "floor": 1, "ltd": 2.5}, {"sku": "1", "quantity": 3, "floor": 2}],
        [{"sku": "1", "quantity": 3, "floor": 2, "ltd": 2.5}],
    ),
    "attributes are merged": (
        [{"sku": "1", "quantity": 5, "attributes": ["A", "B"]}, {"sku": "1", "quantity": 5, "attributes": ["C", "A"]}],
        [{"sku": "1", "quantity": 5, "attributes": ["A", "B", "C"]}],
    ),
    "empty attributes remove none": (
        [{"sku": "1", "quantity": 5, "attributes": ["A"]}, {"sku": "1", "quantity": 5, "attributes": []}],
        [{"sku": "1", "quantity": 5, "attributes": ["A"]}],
    ),
    "attributes of one item are distinct": (
        [{"sku": "1", "quantity": 5, "attributes": ["A", "A"]}],
        [{"sku": "1", "quantity": 5, "attributes": ["A"]}],
    ),
    "another bin is another item": (
        [{"sku": "1", "quantity": 5, "binID": 1}, {"sku": "1", "quantity": 3}],
        [{"sku": "1", "quantity": 5, "binID": 1}, {"sku": "1", "quantity": 3}],
    ),
    "another identifier is another item": (
        [{"sku": "1", "quantity": 5}, {"upc": "1", "quantity": 3}, {"sku": "1", "upc": "1", "quantity": 4}],
        [{"sku": "1", "quantity": 5}, {"upc": "1", "quantity": 3}, {"sku": "1", "upc": "1", "quantity": 4}],
    ),
    "another segment or delivery is another item": (
        [
            {"sku": "1", "quantity": 5, "tags": {"A": "1", "B": "2"}},
            {"sku": "1", "quantity": 3, "deliveryDate": "2027-01-15T12:00:00-0500"},
            {"sku": "1", "quantity": 4},
            {"sku": "1", "quantity": 6, "tags": {"B": "2", "A": "1"}},
        ],
        [
            {"sku": "1", "quantity": 6, "tags": {"A": "1", "B": "2"}},
            {"sku": "1", "quantity": 3, "deliveryDate": "2027-01-15T12:00:00-0500"},
            {"sku": "1", "quantity": 4},
        ],
    ),
}


@pytest.mark.parametrize("together", [True, False], ids=["in one request", "in separate requests"])
@pytest.mark.parametrize(("items", "expected"), SAME_ITEM.values(), ids=SAME_ITEM.keys())
def test_items_after_several_refresh_requests(items: Any, expected: Any, *, together: bool) -> None:
    jobs = queue()
    for request in [items] if together else [[item] for item in items]:
        add(jobs, "L", [dict(item) for item in request])
    finish(jobs, 1_000)
    assert held(jobs) == expected
    assert jobs.inventory.repeated_items == (len(items) - len(expected) if together else 0)


def test_the_same_item_is_held_separately_at_each_location() -> None:
    jobs = queue()
    add(jobs, "L", [{"sku": "1", "quantity": 5}])
    add(jobs, "M", [{"sku": "1", "quantity": 3}])
    finish(jobs, 1_000)
    assert (held(jobs, "L"), held(jobs, "M")) == ([{"sku": "1", "quantity": 5}], [{"sku": "1", "quantity": 3}])


def test_too_many_merged_attributes_are_kept_and_reported() -> None:
    jobs = queue()
    add(jobs, "L", [{"sku": "1", "quantity": 1, "attributes": [str(number) for number in range(63)]}])
    job = add(jobs, "L", [{"sku": "1", "quantity": 1, "attributes": ["more"]}])
    finish(jobs, 1_000)
    assert len(held(jobs)[0]["attributes"]) == 64
    assert job.messages == ["items with more than 63 attributes after merging: 1"]


def test_a_job_with_an_injected_failure_applies_nothing() -> None:
    jobs = queue()
    job = add(jobs, "L", [{"sku": "1", "quantity": 1}], fails=True)
    finish(jobs, 1_000)
    assert (held(jobs), job.status(1_000), jobs.ended[JobStatus.FAILED]) == ([], JobStatus.FAILED, 1)
    assert job.messages


def test_a_job_that_exceeds_the_limit_of_held_items_fails_as_a_whole() -> None:
    jobs = queue(held_items_max=2)
    add(jobs, "L", [{"sku": "1", "quantity": 1}, {"sku": "2", "quantity": 1}])
    job = add(jobs, "M", [{"sku": "1", "quantity": 1}])
    add(jobs, "L", [{"sku": "1", "quantity": 9}])
    finish(jobs, 1_000)
    assert (job.status(1_000), held(jobs, "M")) == (JobStatus.FAILED, [])
    assert "held_items_max" in job.messages[0]
    assert held(jobs)[0]["quantity"] == 9


def test_finished_jobs_over_the_limit_are_forgotten_and_waiting_ones_are_kept() -> None:
    jobs = queue(jobs_kept_max=1)
    job_ids = [add(jobs, "L", [{"sku": "1", "quantity": 1}]).job_id for _ in range(4)]
    finish(jobs, 22)
    assert [jobs.job(job_id) is not None for job_id in job_ids] == [False, True, True, True]
    assert jobs.jobs_added == 4
