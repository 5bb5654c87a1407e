"""What moved in the last minute, for one line of the log.

No I/O and no clock here: times are those of the snapshots, in seconds on the monotonic clock.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from consumer.core.oms.job_schedule import JobOutcome
from consumer.facts import (
    ChangesDecoded,
    DeadLettersConfirmed,
    Fact,
    JobEnded,
    MessagesRead,
    RequestAnswered,
    Snapshot,
)

SUMMARY_SECONDS: Final = 60.0

COUNTS: Final = (
    "messages",
    "changes",
    "rejected",
    "requests_accepted",
    "items",
    "requests_not_accepted",
    "jobs_succeeded",
    "jobs_failed",
    "dead_letters",
)
"""What is counted since the last summary, in the order in which it is logged."""


class Summary:
    """Counts facts, and at most once a minute returns the fields of a summary; nothing if nothing moved."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._began_at: float | None = None
        """None before the first snapshot."""

    def add(self, fact: Fact) -> None:
        """Count a fact."""
        match fact:
            case MessagesRead():
                self._counts["messages"] += fact.count
            case ChangesDecoded():
                self._counts["changes"] += fact.decoded.frame.height
                self._counts["rejected"] += len(fact.decoded.rejects)
            case RequestAnswered() if fact.accepted is not None:
                self._counts["requests_accepted"] += 1
                self._counts["items"] += fact.accepted.items
            case RequestAnswered():
                self._counts["requests_not_accepted"] += 1
            case JobEnded():
                succeeded = fact.result.outcome is JobOutcome.SUCCESS
                self._counts["jobs_succeeded" if succeeded else "jobs_failed"] += 1
            case DeadLettersConfirmed():
                self._counts["dead_letters"] += fact.count
            case _:
                pass

    def due(self, snapshot: Snapshot, *, at_end: bool = False) -> Mapping[str, Any] | None:
        """The fields of a summary if a minute is over, or ``at_end`` whatever has moved since; then counts start over.

        None: it is not yet time, or nothing has moved.
        """
        if self._began_at is None:
            self._began_at = snapshot.at
        seconds = snapshot.at - self._began_at
        if seconds < SUMMARY_SECONDS and not at_end:
            return None
        counts, self._counts = self._counts, Counter()
        self._began_at = snapshot.at
        if not counts.total():
            return None
        return {"seconds": round(seconds)} | {name: counts[name] for name in COUNTS} | _standing(snapshot)


def _standing(snapshot: Snapshot) -> dict[str, Any]:
    """How things stand at the end of the minute."""
    lags = [
        partition.end_offset - partition.next_offset
        for partition in snapshot.partitions
        if partition.end_offset is not None and partition.next_offset is not None
    ]
    return {
        "unread": max(sum(lags), 0) if lags else None,
        "pending": snapshot.pending_changes,
        "pending_locations": snapshot.pending_locations,
        "oldest_pending_seconds": None
        if snapshot.oldest_pending_seconds is None
        else round(snapshot.oldest_pending_seconds, 1),
        "unfinished_jobs": snapshot.unfinished_jobs,
    }
