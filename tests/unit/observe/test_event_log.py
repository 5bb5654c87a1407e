"""What an operator finds in the log, and what is not logged."""

from structlog.testing import capture_logs

from consumer.core.changes.items import RejectReason
from consumer.core.oms.answers import AnswerKind
from consumer.facts import CommittedOffsetOutOfRange, Fact, OffsetsCommitted, PartitionsAssigned, Snapshot
from consumer.observe.composite import CompositeObserver
from consumer.observe.event_log import EventLog
from tests.support.facts import accepted, assignment, decoded, failed, reject, request


def test_an_accepted_request_is_logged_with_its_job_id_location_and_size() -> None:
    with capture_logs() as logs:
        EventLog().observe(accepted(request(), job_id="77"))

    (event,) = logs
    assert event["event"] == "request_accepted"
    assert (event["job_id"], event["location"], event["items"], event["changes"]) == ("77", "shop", 1, 1)


def test_a_request_that_is_not_accepted_is_a_warning_with_the_answer_and_the_wait() -> None:
    with capture_logs() as logs:
        EventLog().observe(failed(request(), kind=AnswerKind.UNAVAILABLE, status=503, detail="down"))

    (event,) = logs
    assert (event["event"], event["log_level"]) == ("request_not_accepted", "warning")
    assert (event["outcome"], event["http_status"], event["detail"], event["wait_seconds"]) == (
        "unavailable",
        503,
        "down",
        1.0,
    )


def test_a_request_held_back_by_the_fence_is_not_a_warning() -> None:
    with capture_logs() as logs:
        EventLog().observe(failed(request(), kind=AnswerKind.NOT_SENT))

    assert [(event["event"], event["log_level"]) for event in logs] == [("request_not_sent", "info")]


def test_rejects_are_logged_once_per_reason_with_partition_and_offset_of_the_first() -> None:
    log = EventLog()
    with capture_logs() as logs:
        log.observe(PartitionsAssigned([assignment(1, partition=3)]))
        log.observe(
            decoded(
                reject(RejectReason.CORRUPT, offset=7),
                reject(RejectReason.CORRUPT, 8),
                reject(RejectReason.NO_LOCATION, 9),
            )
        )

    found = [(event["reason"], event["count"], event["first_offset"]) for event in logs[1:]]
    assert found == [("corrupt", 2, 7), ("no_location", 1, 9)]
    assert {event["first_partition"] for event in logs[1:]} == {"stock[3]"}


def test_stopped_and_resumed_sending_is_logged_once() -> None:
    log = EventLog()
    with capture_logs() as logs:
        for reason in (None, "credentials refused", "credentials refused", None, None):
            log.observe(Snapshot(at=0.0, sending_stopped=reason))

    assert [(event["event"], event["log_level"]) for event in logs] == [
        ("sending_stopped", "error"),
        ("sending_resumed", "info"),
    ]


def test_a_full_job_queue_is_logged_when_it_fills_and_when_it_has_room_again() -> None:
    log = EventLog()
    with capture_logs() as logs:
        for reason in (None, "1,000 jobs are unfinished", "1,003 jobs are unfinished", None, None):
            log.observe(Snapshot(at=0.0, job_queue_full=reason))

    assert [(event["event"], event["log_level"]) for event in logs] == [
        ("job_queue_full", "warning"),
        ("job_queue_has_room", "info"),
    ]


def test_memory_that_runs_short_is_logged_once() -> None:
    log = EventLog()
    with capture_logs() as logs:
        for pressure in (False, True, True, False, False):
            log.observe(Snapshot(at=0.0, memory_pressure=pressure))

    assert [(event["event"], event["log_level"]) for event in logs] == [
        ("memory_short", "warning"),
        ("memory_sufficient", "info"),
    ]


def test_changes_lost_to_retention_are_an_error_with_their_number_and_the_next_step() -> None:
    with capture_logs() as logs:
        EventLog().observe(CommittedOffsetOutOfRange(assignment(1, committed=100, low=250, high=900)))

    (event,) = logs
    assert (event["log_level"], event["changes_lost"]) == ("error", 150)
    assert event["next_step"]


def test_several_observers_get_every_fact_in_their_order() -> None:
    seen: list[tuple[str, Fact]] = []

    class Listener:
        def __init__(self, name: str) -> None:
            self._name = name

        def observe(self, fact: Fact) -> None:
            seen.append((self._name, fact))

    fact = OffsetsCommitted(partitions=3)
    CompositeObserver(Listener("first"), Listener("second")).observe(fact)

    assert seen == [("first", fact), ("second", fact)]
