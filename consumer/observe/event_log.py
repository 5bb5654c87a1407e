"""The loop's facts as log lines: one event for each thing that an operator may want to find again."""

from collections import Counter
from collections.abc import Sequence

import structlog

from consumer.core.location.request import Request
from consumer.core.oms.answers import Accepted, AnswerKind, Decision, Hold, Refused, Retry, Stop
from consumer.core.oms.job_schedule import Job, JobOutcome, JobResult
from consumer.observe.observers import NullObserver
from consumer.ports import Answered, Assignment, CommitRefused, Decoded, FailedChanges, Snapshot

_log = structlog.get_logger("inventory_refresh.loop")


class EventLog(NullObserver):
    """Logs what it is told. Nothing is logged per change."""

    def __init__(self) -> None:
        self._sending_stopped = ""
        self._waiting_for = ""
        self._job_status_unavailable = ""
        self._partitions: dict[int, str] = {}

    def changes_decoded(self, decoded: Decoded) -> None:
        for reason, count in Counter(reject.reason for reject in decoded.rejects).items():
            first = next(reject for reject in decoded.rejects if reject.reason is reason)
            _log.warning(
                "changes_rejected",
                reason=reason.value,
                count=count,
                first_detail=first.detail,
                first_partition=self._partitions.get(first.change_id.assignment, ""),
                first_offset=first.change_id.offset,
            )

    def request_sent(self, request: Request, chunks: int) -> None:
        _log.debug(
            "request_sent",
            number=request.request_id,
            location=request.location,
            items=request.items,
            chunks=chunks,
            reason=request.reason.value,
        )

    def answered(self, request: Request, answered: Answered, decision: Decision) -> None:
        log = _log.bind(
            number=request.request_id,
            location=request.location,
            items=request.items,
            seconds=round(answered.seconds, 3),
        )
        match decision:
            case Accepted():
                log.info("request_accepted", job_id=decision.job_id, changes=request.changes)
            case Retry() if answered.answer.kind is AnswerKind.NOT_SENT:
                log.info("request_given_back", detail=answered.answer.detail)
            case Retry() | Hold() | Refused() | Stop():
                log.warning(
                    "request_not_accepted",
                    kind=answered.answer.kind.value,
                    status=answered.answer.status,
                    detail=answered.answer.detail,
                    decision=type(decision).__name__.lower(),
                    wait_seconds=_wait_seconds(decision),
                )

    def changes_dead_lettered(self, changes: Sequence[FailedChanges]) -> None:
        for each in changes:
            _log.warning(
                "changes_dead_lettered",
                reason=each.reason.value,
                location=each.location,
                changes=len(each.change_ids),
                partition=f"{each.topic}[{each.partition}]",
                first_offset=each.change_ids[0].offset,
                job_id=each.job_id,
                detail=each.detail,
            )

    def job_ended(self, ended: JobResult) -> None:
        log = _log.info if ended.outcome is JobOutcome.SUCCESS else _log.warning
        log(
            "job_ended",
            job_id=ended.job.job_id,
            location=ended.job.location,
            items=ended.job.items,
            outcome=ended.outcome.value,
            queued_seconds=_rounded(ended.queued_seconds),
            worked_seconds=_rounded(ended.worked_seconds),
            messages=list(ended.messages),
        )

    def jobs_evicted(self, jobs: Sequence[Job]) -> None:
        _log.warning(
            "jobs_evicted",
            jobs=_named(jobs),
            next_step="the OMS is far behind: ask it with inventory-refresh job what became of them",
        )

    def jobs_abandoned(self, jobs: Sequence[Job]) -> None:
        _log.warning(
            "jobs_abandoned",
            jobs=_named(jobs),
            next_step="nobody follows them any more: ask with inventory-refresh job what became of them",
        )

    def commit_refused(self, refused: CommitRefused) -> None:
        _log.warning("commit_refused", fenced=refused.fenced, detail=refused.detail)

    def rebalanced(self, kind: str, assignments: Sequence[Assignment], unsettled: int = 0) -> None:
        _log.info(
            f"partitions_{kind}",
            partitions=[f"{assignment.topic}[{assignment.partition}]" for assignment in assignments],
            requests_unsettled=unsettled,
        )
        for assignment in assignments:
            if kind == "assigned":
                self._partitions[assignment.assignment_id] = f"{assignment.topic}[{assignment.partition}]"
            else:
                self._partitions.pop(assignment.assignment_id, None)

    def committed_offset_out_of_range(self, assignment: Assignment) -> None:
        lost = max(assignment.low - (assignment.committed or 0), 0)
        _log.error(
            "committed_offset_outside_log",
            partition=f"{assignment.topic}[{assignment.partition}]",
            committed=assignment.committed,
            log_start=assignment.low,
            log_end=assignment.high,
            changes_lost_by_retention=lost,
            next_step="counts of that time may be stale: have upstream publish full counts for this topic",
        )

    def snapshot(self, snapshot: Snapshot) -> None:
        if snapshot.sending_stopped != self._sending_stopped:
            self._sending_stopped = snapshot.sending_stopped
            if self._sending_stopped:
                _log.error("sending_stopped", reason=self._sending_stopped)
            else:
                _log.info("sending_again")
        if snapshot.job_status_unavailable != self._job_status_unavailable:
            self._job_status_unavailable = snapshot.job_status_unavailable
            if self._job_status_unavailable:
                _log.warning(
                    "job_status_unavailable",
                    detail=self._job_status_unavailable,
                    next_step="none: it is asked again, more slowly",
                )
            else:
                _log.info("job_status_restored")
        if snapshot.waiting_for != self._waiting_for:
            self._waiting_for = snapshot.waiting_for
            if not self._waiting_for:
                _log.info("decoding_again")


def _named(jobs: Sequence[Job]) -> list[str]:
    return [f"{job.job_id} ({job.location}, {job.items} items)" for job in jobs]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _wait_seconds(decision: Decision) -> float | None:
    match decision:
        case Retry():
            return round(decision.after_seconds, 3)
        case Hold():
            return round(decision.seconds, 3)
        case _:
            return None
