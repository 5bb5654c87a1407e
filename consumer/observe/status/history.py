"""The last minutes: the figures of every few seconds, for the chart and for rates."""

from dataclasses import dataclass
from typing import Final

from consumer.facts import Snapshot

SAMPLE_SECONDS: Final = 5.0
SAMPLES_MAX: Final = 181
"""15 minutes, and the sample at their beginning."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The state at one moment (``at``: monotonic seconds), and counts since the process started.

    ``lag`` is None before the broker has reported where the partitions end.
    """

    at: float
    pending_changes: int
    oldest_pending_seconds: float | None
    lag: int | None
    messages_read: int
    changes_accepted: int


class History:
    """The samples of the last 15 minutes. One thread writes; ``samples`` is replaced whole, for other threads."""

    def __init__(self) -> None:
        self.samples: tuple[Sample, ...] = ()
        """Oldest first."""

    def add(self, snapshot: Snapshot, *, messages_read: int, changes_accepted: int) -> None:
        """Take a sample, unless the last one is too recent."""
        if self.samples and snapshot.at < self.samples[-1].at + SAMPLE_SECONDS:
            return
        sample = Sample(
            at=snapshot.at,
            pending_changes=snapshot.pending_changes,
            oldest_pending_seconds=snapshot.oldest_pending_seconds,
            lag=lag(snapshot),
            messages_read=messages_read,
            changes_accepted=changes_accepted,
        )
        self.samples = (*self.samples, sample)[-SAMPLES_MAX:]


def lag(snapshot: Snapshot) -> int | None:
    """How many messages are still to be read, of all partitions together; None if it is not known of any."""
    behind = [
        max(partition.end_offset - partition.next_offset, 0)
        for partition in snapshot.partitions
        if partition.end_offset is not None and partition.next_offset is not None
    ]
    return sum(behind) if behind else None
