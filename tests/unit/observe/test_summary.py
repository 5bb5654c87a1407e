"""The summary of a minute: what moved, and how things stand."""

from dataclasses import replace

from structlog.testing import capture_logs

from consumer.core.changes.items import RejectReason
from consumer.core.oms.answers import AnswerKind
from consumer.core.oms.job_schedule import Job, JobOutcome, JobResult
from consumer.facts import DeadLettersConfirmed, JobEnded, MessagesRead, Snapshot
from consumer.observe.event_log import EventLog
from consumer.observe.summary import Summary
from tests.support.facts import accepted, decoded, failed, partition_view, reject, request
from tests.support.frames import change


def test_a_minute_is_summed_up_in_counts_and_how_things_stand() -> None:
    summary = Summary()
    assert summary.due(Snapshot(at=100.0)) is None
    job = Job("77", "Rome", 12, 1)
    facts = (
        MessagesRead(7),
        MessagesRead(3),
        decoded(reject(RejectReason.CORRUPT), rows=[change("shop", "a"), change("shop", "b")]),
        accepted(replace(request(), items=12)),
        failed(request(), kind=AnswerKind.UNAVAILABLE, status=503),
        JobEnded(JobResult(job, JobOutcome.SUCCESS)),
        JobEnded(JobResult(job, JobOutcome.UNKNOWN_JOB)),
        DeadLettersConfirmed(4),
    )
    for fact in facts:
        summary.add(fact)
    assert summary.due(Snapshot(at=159.9)) is None
    partitions = (replace(partition_view(next_offset=9), end_offset=30), partition_view(1, next_offset=None))
    end = Snapshot(at=160.2, partitions=partitions, pending_changes=5, pending_locations=2, oldest_pending_seconds=3.14)
    assert summary.due(end) == {
        "seconds": 60,
        "messages": 10,
        "changes": 2,
        "rejected": 1,
        "requests_accepted": 1,
        "items": 12,
        "requests_not_accepted": 1,
        "jobs_succeeded": 1,
        "jobs_failed": 1,
        "dead_letters": 4,
        "unread": 21,
        "pending": 5,
        "pending_locations": 2,
        "oldest_pending_seconds": 3.1,
        "unfinished_jobs": 0,
    }


def test_counts_start_over_and_a_minute_in_which_nothing_moved_has_no_summary() -> None:
    summary = Summary()
    summary.due(Snapshot(at=0.0))
    summary.add(MessagesRead(1))
    assert summary.due(Snapshot(at=60.0)) is not None
    assert summary.due(Snapshot(at=120.0)) is None
    summary.add(MessagesRead(2))
    assert summary.due(Snapshot(at=179.0)) is None
    later = summary.due(Snapshot(at=180.0))
    assert later is not None
    assert (later["messages"], later["seconds"], later["unread"]) == (2, 60, None)


def test_an_empty_poll_moves_nothing() -> None:
    summary = Summary()
    summary.due(Snapshot(at=0.0))
    summary.add(MessagesRead(0))
    assert summary.due(Snapshot(at=60.0)) is None


def test_the_log_has_a_summary_each_minute_and_what_is_left_at_the_end() -> None:
    log = EventLog()
    with capture_logs() as logs:
        log.observe(Snapshot(at=0.0))
        log.observe(MessagesRead(3))
        log.observe(Snapshot(at=61.0))
        log.observe(MessagesRead(4))
        log.observe(Snapshot(at=80.0))
        log.close()
        log.close()

    assert [(event["event"], event["messages"], event["seconds"]) for event in logs] == [
        ("summary", 3, 61),
        ("summary", 4, 19),
    ]
