"""The limits of the engine, as the settings and the memory budget have them."""

from consumer.core.limits import UNCOMMITTED_SHARE, EngineLimits
from consumer.core.location.location import LOCATION_BYTES
from consumer.core.location.planner import ItemLimits
from consumer.core.location.set_aside import CHANGE_ID_BYTES, SetAsideLimits
from consumer.core.location.small_windows import SmallLimits
from consumer.core.oms.answers import RetryLimits
from consumer.settings.memory import MemoryShares
from consumer.settings.models import Settings


def engine_limits(settings: Settings, shares: MemoryShares) -> EngineLimits:
    """The limits of the service with these settings and these parts of the memory budget."""
    flush_items = settings.window.flush_items
    return EngineLimits(
        items=ItemLimits(
            chunk_items=settings.oms.chunk_items,
            max_items=settings.oms.max_items,
            flush_items=settings.oms.chunk_items if flush_items == "auto" else flush_items,
        ),
        retry=RetryLimits(
            backoff_seconds_min=settings.oms.backoff_min,
            backoff_seconds_max=settings.oms.backoff_max,
            unknown_hold_seconds=settings.oms.unknown_hold,
        ),
        set_aside=SetAsideLimits(
            seconds_max=settings.oms.set_aside_max,
            dead_letter=frozenset(settings.oms.dead_letter_locations),
            change_bytes=CHANGE_ID_BYTES,
        ),
        only_sender=settings.oms.only_sender,
        smart_refresh=settings.oms.endpoint == "smart-refresh",
        small=SmallLimits(settings.window.small_items, settings.window.small_max_age),
        max_age_seconds=settings.window.max_age,
        request_bytes_max=settings.oms.max_request_bytes,
        max_in_flight=settings.oms.max_in_flight,
        max_requests_per_second=settings.oms.max_requests_per_second,
        bisection_requests_max=settings.oms.bisection_requests_max,
        max_pending_bytes=shares.pending_bytes,
        location_bytes=LOCATION_BYTES,
        coalescing_bytes_max=shares.coalescing_bytes,
        in_hand_bytes_max=shares.decoder_bytes + shares.parked_bytes,
        turn_bytes_min=shares.consumer_queue_bytes,
        max_uncommitted_offsets=settings.kafka.max_uncommitted_offsets,
        max_uncommitted_bytes=int(UNCOMMITTED_SHARE * shares.pending_bytes),
        rejected_ratio_max=settings.dead_letters.max_ratio,
    )
