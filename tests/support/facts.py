"""Makers of facts and of what is in them, for tests of observers."""

from collections.abc import Sequence
from typing import Any

from consumer.core.changes.blocks import Rows
from consumer.core.changes.items import ChangeId, RejectReason
from consumer.core.location.planner import SendReason
from consumer.core.location.request import Request
from consumer.core.oms.answers import Accepted, Answer, AnswerKind, Retry
from consumer.facts import ChangesDecoded, PartitionView, RequestAnswered
from consumer.ports import Answered, Assignment, Decoded, Reject
from tests.support.frames import change, frame


def assignment(number: int = 1, partition: int = 0, **more: Any) -> Assignment:
    known: dict[str, Any] = {"committed": 5, "metadata": "", "low": 0, "high": 10, "topic_id": None}
    return Assignment(assignment_id=number, topic="stock", partition=partition, **(known | more))


def partition_view(
    partition: int = 0, *, committable_offset: int | None = 5, next_offset: int | None = 9
) -> PartitionView:
    return PartitionView(
        "stock", partition, committable_offset, committed_offset=4, next_offset=next_offset, paused=False
    )


def request(rows: Sequence[dict[str, Any]] = ()) -> Request:
    rows = rows or [change("shop", "a", arrived=990.0)]
    return Request(
        request_id=1,
        location=str(rows[0]["locationName"]),
        taken=Rows(frame(rows)),
        items=len(rows),
        chunks=1,
        reason=SendReason.AGE,
    )


def reject(reason: RejectReason, offset: int = 7, detail: str = "why") -> Reject:
    return Reject(ChangeId(1, offset), reason=reason, detail=detail, value=b"x")


def decoded(*rejects: Reject, rows: Sequence[dict[str, Any]] = (), tombstones: int = 0) -> ChangesDecoded:
    return ChangesDecoded(
        Decoded(frame=frame(rows), rejects=rejects, tombstones=tombstones, next_offsets={1: 10}, polled_at=0.0)
    )


def accepted(sent: Request, *, job_id: str = "77", seconds: float = 0.3) -> RequestAnswered:
    answer = Answer(AnswerKind.ACCEPTED, job_id=job_id, status=200)
    return RequestAnswered(
        sent, Answered(sent.request_id, answer, seconds, bytes_sent=100), Accepted(job_id), None, sent
    )


def failed(sent: Request, *, kind: AnswerKind, status: int = 0, detail: str = "") -> RequestAnswered:
    answered = Answered(sent.request_id, Answer(kind, status=status, detail=detail), seconds=2.0, bytes_sent=100)
    return RequestAnswered(sent, answered, Retry(after_seconds=1.0, whole_oms=True))
