"""The limits of the engine."""

from dataclasses import dataclass, field
from typing import Final

from consumer.core.location.planner import ItemLimits
from consumer.core.location.set_aside import SetAsideLimits
from consumer.core.location.small_windows import SmallLimits
from consumer.core.oms.answers import RetryLimits
from consumer.core.oms.refused_locations import SHARE_LOCATIONS_MIN
from consumer.core.oms.smart_refresh import LIST_LAG_SECONDS

UNCOMMITTED_SHARE: Final = 0.5
"""Of the memory for pending rows: what a partition may be read past its committable offset. A new owner holds all of
that back at once, and half of its memory may be in use by then."""


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Limits in items, seconds, changes and offsets. ``settings`` explains them and has the bounds for users."""

    items: ItemLimits = field(default_factory=ItemLimits)
    retry: RetryLimits = field(default_factory=RetryLimits)
    set_aside: SetAsideLimits = field(default_factory=SetAsideLimits)
    only_sender: bool = False
    """Nobody else sends refresh requests, so that a job may end a hold early (rule 33)."""
    smart_refresh: bool = False
    """Requests go to smart refresh where they may (rule 34)."""
    small: SmallLimits = field(default_factory=SmallLimits)
    """With ``smart_refresh``."""
    list_lag_seconds: float = LIST_LAG_SECONDS
    max_age_seconds: float = 300.0
    due_within_seconds: float = 1.0
    """Changes due within this time count as due, so that a burst read in several polls leaves in one request."""
    max_in_flight: int = 8
    max_requests_per_second: float | None = None
    bisection_requests_max: int = 200
    """Requests that one bisection may take."""
    max_pending_bytes: int = 96 * 1024 * 1024
    """Memory of rows in windows, recovering and in flight: above it reading pauses."""
    location_bytes: int = 0
    """Memory of a location with pending changes besides its rows."""
    coalescing_bytes_max: int = 24 * 1024 * 1024
    """Memory of copies while rows are merged or coalesced in place."""
    in_hand_bytes_max: int = 24 * 1024 * 1024
    """Memory of rows that are still to come when reading pauses, because the decoder has them or they are parked."""
    turns_share: float = 0.5
    """Of the memory for pending rows: above it partitions with a backlog are read in turns. The rest is for the windows
    of the one that is read, so that they fill before anything must leave."""
    turn_bytes_min: int = 12 * 1024 * 1024
    """Memory of rows that one partition is read before the next has its turn: as much as the client fetches ahead."""
    max_uncommitted_offsets: int = 1_000_000
    max_uncommitted_bytes: int = 48 * 1024 * 1024
    """How far a partition is read past its committable offset, in memory of its rows. Must be at most
    ``UNCOMMITTED_SHARE`` of ``max_pending_bytes`` for a new owner to be sure to have room."""
    rejected_ratio_max: float = 0.5
    share_locations_min: int = SHARE_LOCATIONS_MIN
    """If a larger share than ``rejected_ratio_max`` of at least this many locations is refused whole, nothing is
    dead-lettered (rule 32)."""
    request_bytes_max: int | None = None
    """Largest body of a request; None while no limit is known."""
    credible_bytes_min: int = 4_096
    """No server refuses a smaller body for its size, whatever answers 413."""
    refused_changes_max: int = 100_000
    """If too large a share of this many latest changes was refused by the OMS, the service stops."""
    refused_changes_min: int = 30_000
    """The share is ignored below this many changes. That is more than two of the largest requests, because a single
    location that the OMS does not know must not stop the others."""
    stopped_retry_seconds: float = 60.0
    """The wait between probes while the OMS refuses the credentials, the permission or the address."""

    @property
    def max_recovery_bytes(self) -> int:
        """Memory of rows of partitions that are still to be read again; the process stops above it.

        What one previous owner had read and what all others leave in use is the memory for pending rows; each may be
        a little more, by what was in hand.
        """
        return self.max_pending_bytes + self.in_hand_bytes_max
