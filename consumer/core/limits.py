"""What bounds the engine."""

from dataclasses import dataclass, field

from consumer.core.location.planner import ItemLimits
from consumer.core.oms.answers import RetryLimits


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Items, seconds, rows and offsets; ``settings`` has their defaults and bounds for users."""

    items: ItemLimits = field(default_factory=ItemLimits)
    retry: RetryLimits = field(default_factory=RetryLimits)
    max_age_seconds: float = 300.0
    due_within_seconds: float = 1.0
    """A burst read in several polls is one burst: changes due within this time count as due."""
    max_in_flight: int = 8
    max_requests_per_second: float | None = None
    bisection_requests_max: int = 200
    """Further requests that may be spent on finding the bad items of a refused one."""
    max_pending_changes: int = 1_000_000
    max_pending_bytes: int = 96 * 1024 * 1024
    """Of rows in windows, recovering and in flight, with their offsets: above it reading pauses."""
    coalescing_bytes_max: int = 24 * 1024 * 1024
    """Of copies while rows are merged or coalesced in place."""
    max_uncommitted_offsets: int = 5_000_000
    rejected_ratio_max: float = 0.5
    refused_changes_max: int = 100_000
    """The latest changes that the OMS accepted or refused; too many refused ones among them stop the service."""
    refused_changes_min: int = 30_000
    """More than two requests at their largest: one location that the OMS does not know must not stop all others."""
    stopped_retry_seconds: float = 60.0
    """Between two attempts while the OMS refuses the credentials, the permission or the address."""
