"""Facts as log events; docs/logs.md lists them, with their fields and what to do about each."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, assert_never

import structlog

from consumer.core.oms.answers import Accepted, AnswerKind, Applied, Decision, Hold, RefusedWhole, Retry
from consumer.core.oms.job_schedule import Job, JobOutcome, JobResult
from consumer.facts import (
    ChangesDeadLettered,
    ChangesDecoded,
    CommittedOffsetOutOfRange,
    DeadLettersConfirmed,
    Fact,
    Heartbeat,
    HoldShortened,
    JobEnded,
    JobsAbandoned,
    KafkaStatistics,
    LocationViews,
    MessagesRead,
    OffsetsCommitted,
    PartitionsAssigned,
    PartitionsLost,
    PartitionsRevoked,
    PendingByLocation,
    RequestAnswered,
    RequestSent,
    SchemaWaitBegan,
    SchemaWaitEnded,
    SmartRefreshEnded,
    Snapshot,
)
from consumer.observe.summary import Summary
from consumer.ports import Assignment, CommitRefused, Decoded, FailedChanges

_ABANDONED_STEP: Final = "no process follows them now; ask for the outcome with inventory-refresh job JOBID"
_SMART_REFRESH_STEP: Final = (
    "none is urgent: refresh is used instead; docs/oms-answers.md says for how long; or set oms.endpoint: refresh"
)

_log = structlog.get_logger("inventory_refresh.loop")


class EventLog:
    """Logs what an operator may want to find again. Nothing is logged per change."""

    def __init__(self) -> None:
        self._latest = Snapshot(at=0.0)
        self._summary = Summary()
        self._partitions: dict[int, str] = {}
        """Names of the assigned partitions by assignment, for rejects."""

    def close(self) -> None:
        """Log what has moved since the last summary. To be called once, at the end."""
        self._log_summary(self._summary.due(self._latest, at_end=True))

    def observe(self, fact: Fact) -> None:  # noqa: C901, PLR0912 - one case per fact
        self._summary.add(fact)
        match fact:
            case ChangesDecoded():
                self._log_rejects(fact.decoded)
            case ChangesDeadLettered():
                _log_dead_lettered(fact.changes)
            case RequestSent():
                _log.debug(
                    "request_sent",
                    request_id=fact.x_request_id,
                    location=fact.request.location,
                    items=fact.request.items,
                    chunks=fact.request.chunks,
                    reason=fact.request.reason.value,
                )
            case RequestAnswered():
                _log_answer(fact)
            case JobEnded():
                _log_job_end(fact.result)
            case JobsAbandoned():
                _log.warning("jobs_abandoned", jobs=_names(fact.jobs), next_step=_ABANDONED_STEP)
            case PartitionsAssigned():
                self._partitions |= {assignment.assignment_id: _name(assignment) for assignment in fact.assignments}
                _log.info("partitions_assigned", partitions=[_name(assignment) for assignment in fact.assignments])
            case PartitionsRevoked():
                _log.info(
                    "partitions_revoked",
                    partitions=self._forget(fact.assignments),
                    unanswered_requests=fact.unanswered_requests,
                )
            case PartitionsLost():
                _log.info("partitions_lost", partitions=self._forget(fact.assignments))
            case CommittedOffsetOutOfRange():
                _log_out_of_range(fact.assignment)
            case SchemaWaitBegan():
                _log.warning(
                    "schema_awaited",
                    partition=_name(fact.assignment),
                    detail=fact.detail,
                    next_step="none if the schema has just been registered: its partition waits "
                    "(avro.unknown_schema_wait)",
                )
            case HoldShortened():
                _log.info("hold_shortened", location=fact.location, seconds_left=round(fact.seconds_left, 1))
            case SmartRefreshEnded():
                _log.warning("smart_refresh_ended", reason=fact.reason, next_step=_SMART_REFRESH_STEP)
            case SchemaWaitEnded():
                _log_wait_ended(fact)
            case CommitRefused():
                _log.warning("commit_refused", fenced=fact.fenced, detail=fact.detail)
            case Snapshot():
                self._log_differences(self._latest, fact)
                self._latest = fact
                self._log_summary(self._summary.due(fact))
            case (
                MessagesRead()
                | DeadLettersConfirmed()
                | OffsetsCommitted()
                | Heartbeat()
                | PendingByLocation()
                | LocationViews()
                | KafkaStatistics()
            ):
                pass  # too frequent for a log; metrics show them
            case _:
                assert_never(fact)

    @staticmethod
    def _log_summary(fields: Mapping[str, Any] | None) -> None:
        if fields is not None:
            _log.info("summary", **fields)

    def _forget(self, assignments: Sequence[Assignment]) -> list[str]:
        for assignment in assignments:
            self._partitions.pop(assignment.assignment_id, None)
        return [_name(assignment) for assignment in assignments]

    def _log_rejects(self, decoded: Decoded) -> None:
        for reason, count in Counter(reject.reason for reject in decoded.rejects).items():
            first = next(reject for reject in decoded.rejects if reject.reason is reason)
            _log.warning(
                "changes_rejected",
                reason=reason.value,
                count=count,
                first_detail=first.detail,
                first_partition=self._partitions.get(first.change_id.assignment_id),
                first_offset=first.change_id.offset,
            )

    @staticmethod
    def _log_differences(before: Snapshot, now: Snapshot) -> None:
        if now.sending_stopped != before.sending_stopped:
            if now.sending_stopped:
                _log.error("sending_stopped", reason=now.sending_stopped)
            else:
                _log.info("sending_resumed")
        if now.job_status_unavailable != before.job_status_unavailable:
            if now.job_status_unavailable:
                _log.warning(
                    "job_status_unavailable",
                    detail=now.job_status_unavailable,
                    next_step="none: the OMS is asked again, less often",
                )
            else:
                _log.info("job_status_restored")
        EventLog._log_waiting(before, now)

        EventLog._log_set_aside(before, now)

    @staticmethod
    def _log_set_aside(before: Snapshot, now: Snapshot) -> None:
        for location in sorted(now.set_aside.keys() - before.set_aside.keys()):
            _log.warning(
                "location_set_aside",
                location=location,
                detail=now.set_aside[location],
                next_step="add the location to the OMS, or correct its name upstream; else its changes are "
                "dead-lettered after oms.set_aside_max, or at once with oms.dead_letter_locations",
            )
        for location in sorted(before.set_aside.keys() - now.set_aside.keys()):
            _log.info("location_set_aside_ended", location=location)

    @staticmethod
    def _log_waiting(before: Snapshot, now: Snapshot) -> None:
        """What keeps changes waiting, when it begins and when it ends."""
        if now.memory_pressure != before.memory_pressure:
            if now.memory_pressure:
                _log.warning(
                    "memory_short", next_step="none if it is rare; else lower memory.budget or raise the limit"
                )
            else:
                _log.info("memory_sufficient")
        if bool(now.job_queue_full) != bool(before.job_queue_full):
            if now.job_queue_full:
                _log.warning(
                    "job_queue_full",
                    detail=now.job_queue_full,
                    next_step="none: changes wait and are coalesced until the OMS has finished some jobs",
                )
            else:
                _log.info("job_queue_has_room")
        # The decoder itself logs what it waits for.
        if before.decoding_blocked and not now.decoding_blocked:
            _log.info("decoding_resumed")


def _log_wait_ended(fact: SchemaWaitEnded) -> None:
    fields: dict[str, Any] = {"partition": _name(fact.assignment), "seconds": round(fact.seconds, 1)}
    if fact.is_impatient:
        _log.warning(
            "schema_wait_given_up",
            **fields,
            next_step="if the messages are good, register their schema and redrive them; else correct the producer",
        )
    else:
        _log.info("schema_wait_ended", **fields)


def _log_answer(fact: RequestAnswered) -> None:
    request, answer = fact.request, fact.answered.answer
    fields: dict[str, Any] = {
        "request_id": fact.x_request_id,
        "location": request.location,
        "items": request.items,
        "seconds": round(fact.answered.seconds, 3),
    }
    if isinstance(fact.decision, Accepted):
        _log.info("request_accepted", **fields, job_id=fact.decision.job_id, changes=request.changes)
    elif isinstance(fact.decision, Applied) and fact.accepted is not None:
        refused = len(fact.decision.refused_items)
        more = {"items_refused": refused, "detail": answer.detail} if refused else {}
        _log.info("request_applied", **fields, changes=fact.accepted.changes, **more)
    elif answer.kind is AnswerKind.NOT_SENT or (answer.kind is AnswerKind.TOO_LARGE and answer.status is None):
        _log.info("request_not_sent", **fields, detail=answer.detail)
    else:
        _log.warning(
            "request_not_accepted",
            **fields,
            outcome=answer.kind.value,
            http_status=answer.status,
            detail=answer.detail,
            decision=_decision_name(fact.decision),
            wait_seconds=_wait_seconds(fact.decision),
        )


def _log_dead_lettered(failed: Sequence[FailedChanges]) -> None:
    for changes in failed:
        _log.warning(
            "changes_dead_lettered",
            reason=changes.reason.value,
            location=changes.location,
            changes=len(changes.change_ids),
            partition=f"{changes.topic}[{changes.partition}]",
            first_offset=changes.change_ids[0].offset,
            request_id=changes.x_request_id,
            job_id=changes.job_id,
            detail=changes.detail,
        )


def _log_job_end(result: JobResult) -> None:
    fields: dict[str, Any] = {
        "job_id": result.job.job_id,
        "request_id": result.job.x_request_id,
        "location": result.job.location,
        "items": result.job.items,
        "outcome": result.outcome.value,
        "queued_seconds": _rounded(result.queued_seconds),
        "processing_seconds": _rounded(result.processing_seconds),
        "messages": list(result.messages),
    }
    if result.outcome is JobOutcome.SUCCESS:
        _log.info("job_ended", **fields)
    else:
        _log.warning("job_ended", **fields)


def _log_out_of_range(assignment: Assignment) -> None:
    _log.error(
        "committed_offset_out_of_range",
        partition=_name(assignment),
        committed_offset=assignment.committed,
        log_start_offset=assignment.low,
        log_end_offset=assignment.high,
        changes_lost=max(assignment.low - (assignment.committed or 0), 0),
        next_step="counts may be stale: have upstream publish full counts to this topic",
    )


def _name(assignment: Assignment) -> str:
    return f"{assignment.topic}[{assignment.partition}]"


def _names(jobs: Sequence[Job]) -> list[str]:
    return [f"{job.job_id} ({job.location}, {job.items} items)" for job in jobs]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _decision_name(decision: Decision) -> str:
    return "refused_whole" if isinstance(decision, RefusedWhole) else type(decision).__name__.lower()


def _wait_seconds(decision: Decision) -> float | None:
    match decision:
        case Retry() | RefusedWhole():
            return _rounded(decision.after_seconds)
        case Hold():
            return round(decision.seconds, 3)
        case _:
            return None
