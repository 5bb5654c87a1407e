"""What is kept of the records that are read: what is about the item, and of that the latest."""

from typing import Any

import pytest

from consumer.core.changes.barriers import barrier_columns
from consumer.core.changes.items import ITEM_KEY, ChangeId, RejectReason
from consumer.core.oms.job_list import JobList, ListedJob, ListQuery
from consumer.core.oms.job_schedule import JobReport, JobStatus
from consumer.core.trace.query import ItemQuery
from consumer.ports import Decoded, Reject
from consumer.trace import records
from consumer.trace.candidates import SHOWN_MAX, _candidates
from consumer.trace.records import ItemEvents
from tests.support.frames import change, frame

QUERY = ItemQuery("Rome", ({"sku": "a"},))
PARTITIONS = {1: ("stock", 0), 2: ("stock", 1)}


def decoded(*rows: dict[str, Any], rejects: tuple[Reject, ...] = (), barriers: Any = None) -> Decoded:
    return Decoded(frame(rows), rejects, 0, {}, 0.0, barriers=barriers)


def test_changes_of_the_item_are_kept_with_their_place_and_others_are_not() -> None:
    events = ItemEvents()
    events.add(
        decoded(
            change("Rome", "a", 5, offset=3, line=1),
            change("Rome", "b", 6, offset=4),
            change("Milan", "a", 7, offset=5),
            change("Rome", "a", 8, offset=2, assignment=2),
        ),
        QUERY,
        PARTITIONS,
    )
    assert [(event.place, event.item) for event in events.events] == [
        (("stock", 0, 3, 1), {"sku": "a", "quantity": 5}),
        (("stock", 1, 2, 0), {"sku": "a", "quantity": 8}),
    ]
    assert events.found == 2


def test_a_reject_whose_item_is_known_is_kept_with_its_reason_and_others_are_counted() -> None:
    negative = Reject(ChangeId(1, 3), RejectReason.NEGATIVE_QUANTITY, "quantity is -1", b"")
    other = Reject(ChangeId(1, 4), RejectReason.NEGATIVE_QUANTITY, "quantity is -2", b"")
    corrupt = Reject(ChangeId(1, 5), RejectReason.CORRUPT, "truncated", b"")
    barriers = frame([change("Rome", "a", -1, offset=3), change("Rome", "b", -2, offset=4)])
    events = ItemEvents()
    events.add(
        decoded(rejects=(negative, other, corrupt), barriers=barriers.select(barrier_columns(ITEM_KEY))),
        QUERY,
        PARTITIONS,
    )

    (event,) = events.events
    assert (event.place, event.rejection) == (("stock", 0, 3, 0), "negative_quantity: quantity is -1")
    assert events.unreadable == {"corrupt": 1}


def test_of_many_changes_the_latest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "EVENTS_MAX", 3)
    events = ItemEvents()
    for begin in (0, 5):
        events.add(decoded(*(change("Rome", "a", offset=begin + at) for at in range(5))), QUERY, PARTITIONS)
    assert [event.place[2] for event in events.events] == [7, 8, 9]
    assert events.found == 10


def listed(job_id: int, added: float | None, location: str | None = "Rome") -> ListedJob:
    return ListedJob(JobReport(str(job_id), JobStatus.SUCCESS, added=added), location, items=3)


def test_candidates_are_the_jobs_of_the_location_since_then_the_oldest_first() -> None:
    jobs = (listed(4, 2_000.0), listed(3, 1_500.0), listed(2, 1_000.0, "Milan"), listed(1, 100.0), listed(5, None))
    found = _candidates(JobList(ListQuery("Rome"), jobs), "Rome", 1_500.0)
    assert [job.report.job_id for job in found.jobs] == ["5", "3", "4"]

    many = tuple(listed(at, 2_000.0 + at) for at in range(SHOWN_MAX + 2))
    found = _candidates(JobList(ListQuery("Rome"), many), "Rome", 1_500.0)
    assert (len(found.jobs), found.left_out) == (SHOWN_MAX, 2)


def test_without_a_list_it_is_said_why_there_are_no_candidates() -> None:
    refused = JobList(ListQuery("Rome"), detail="HTTP 403: no permission")
    assert _candidates(refused, "Rome", 0.0).problem == "the OMS does not list its jobs: HTTP 403: no permission"
    assert _candidates(None, "Rome", 0.0).problem == "the OMS did not answer in time"
