"""How the log looks, and the loop's facts as its events: one event a unit of work, one line an event.

The log goes to standard error, ours and the libraries' alike; standard output belongs to the results of commands.
"""

import logging
import sys
from collections.abc import Sequence
from typing import Final, TextIO, assert_never

import structlog
from structlog.typing import Processor

from consumer.core.engine import Request
from consumer.core.retry import Accepted, Again, AnswerKind, Decision, Hold, Refused, Stop
from consumer.observers import Bystander
from consumer.ports import Answered, Assignment, CommitRefused, Decoded, Reject, Snapshot
from consumer.settings import LogSettings

QUIET: Final = ("httpcore", "httpx", "urllib3", "asyncio")
"""Libraries that log every call at info: only their warnings are of interest."""


def configure_logging(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Route structlog and the standard library's logging to ``stream`` (None: standard error); may be called again."""
    stream = stream if stream is not None else sys.stderr
    console = settings.format == "console" or (settings.format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_shared(),
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(stream, console=console),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        # Without it, loggers made before this call would keep the old configuration.
        cache_logger_on_first_use=False,
    )


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _renderers(stream: TextIO, *, console: bool) -> list[Processor]:
    if console:
        return [
            structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    return [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(sort_keys=False, default=str),
    ]


class EventLog(Bystander):
    """The loop's facts as log events. What happens many times a second is told at debug, or only in metrics."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("inventory_refresh.loop")
        self._names: dict[int, str] = {}
        self._latest = Snapshot(at=0.0)

    def changes_decoded(self, decoded: Decoded) -> None:
        """One event a reason, with the first of its changes as an example: a flood of bad ones floods no log."""
        first: dict[str, Reject] = {}
        counts: dict[str, int] = {}
        for reject in decoded.rejects:
            first.setdefault(reject.reason, reject)
            counts[reject.reason] = counts.get(reject.reason, 0) + 1
        for reason, reject in first.items():
            self._log.warning(
                "changes_rejected",
                reason=str(reason),
                count=counts[reason],
                partition=self._names.get(reject.assignment, ""),
                offset=reject.offset,
                detail=reject.detail,
            )

    def request_sent(self, request: Request, chunks: int) -> None:
        self._log.debug(
            "request_sent",
            request=request.number,
            location=request.location,
            items=request.items,
            chunks=chunks,
            reason=str(request.reason),
        )

    def answered(self, request: Request, answered: Answered, decision: Decision) -> None:
        answer = answered.answer
        about = {
            "request": request.number,
            "location": request.location,
            "items": request.items,
            "seconds": round(answered.seconds, 3),
        }
        if isinstance(decision, Accepted):
            self._log.info("request_accepted", job_id=decision.job_id, changes=request.rows.height, **about)
        elif answer.kind is AnswerKind.NOT_SENT:
            self._log.info("request_not_sent", detail=answer.detail, **about)
        else:
            about |= {"outcome": str(answer.kind), "status": answer.status, "detail": answer.detail}
            self._log.warning("request_not_accepted", then=_in_words(decision), **about)

    def dead_letters_confirmed(self, count: int) -> None:
        self._log.debug("dead_letters_confirmed", count=count)

    def committed(self, partitions: int) -> None:
        self._log.debug("offsets_committed", partitions=partitions)

    def commit_refused(self, refused: CommitRefused) -> None:
        self._log.warning("commit_refused", fenced=refused.fenced, detail=refused.detail)

    def rebalanced(self, kind: str, assignments: Sequence[Assignment], unsettled: int = 0) -> None:
        names = {assignment.number: f"{assignment.topic}/{assignment.partition}" for assignment in assignments}
        if kind == "assigned":
            self._names |= names
        else:
            self._names = {number: name for number, name in self._names.items() if number not in names}
        self._log.info(f"partitions_{kind}", partitions=sorted(names.values()))
        if unsettled:
            self._log.warning("requests_unsettled", count=unsettled, partitions=sorted(names.values()))

    def committed_offset_out_of_range(self, assignment: Assignment) -> None:
        self._log.error(
            "committed_offset_out_of_range",
            partition=f"{assignment.topic}/{assignment.partition}",
            committed=assignment.committed,
            low=assignment.low,
            high=assignment.high,
            detail="changes were lost to retention, or the topic was made anew; reading starts at the earliest",
        )

    def snapshot(self, snapshot: Snapshot) -> None:
        """Tell when sending or decoding stops and goes on; the state itself is for metrics and the status page."""
        before, self._latest = self._latest, snapshot
        if snapshot.sending_stopped != before.sending_stopped:
            if snapshot.sending_stopped:
                self._log.error("sending_stopped", detail=snapshot.sending_stopped)
            else:
                self._log.info("sending_goes_on")
        if snapshot.waiting_for != before.waiting_for:
            if snapshot.waiting_for:
                self._log.warning("decoding_waits", waiting_for=snapshot.waiting_for)
            else:
                self._log.info("decoding_goes_on")


def _in_words(decision: Decision) -> str:
    match decision:
        case Again():
            return f"planned anew after {decision.after_seconds:.1f} s" + (", as all others" * decision.whole_oms)
        case Hold():
            return f"location held for {decision.seconds:.1f} s, then planned anew"
        case Refused():
            return "not sent again as it was"
        case Stop():
            return "nothing is sent until a person has changed something"
        case Accepted():
            return "accepted"
        case _:
            assert_never(decision)
