"""While the OMS is well, no change waits longer than ``max_age``, however the changes come."""

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.core.engine import Engine
from consumer.core.limits import EngineLimits
from consumer.core.location.planner import ItemLimits
from consumer.core.oms.answers import Accepted
from tests.support.frames import change, frame

TICK_SECONDS = 0.5
MAX_AGE_SECONDS = 4.0
LIMITS = EngineLimits(
    items=ItemLimits(chunk_items=3, max_items=12, flush_items=6), max_age_seconds=MAX_AGE_SECONDS, max_in_flight=4
)

poll = st.lists(st.tuples(st.sampled_from("ABCD"), st.integers(0, 9)), max_size=15)


@given(polls=st.lists(poll, max_size=25))
@settings(deadline=None)
def test_no_change_waits_past_max_age_and_requests_are_whole_chunks_unless_a_change_is_due(
    polls: list[list[tuple[str, int]]],
) -> None:
    engine = Engine(LIMITS)
    engine.assigned(1, start=0, read_up_to=None)
    offset = 0
    for tick in range(len(polls) + int(MAX_AGE_SECONDS / TICK_SECONDS) + 1):
        now = tick * TICK_SECONDS
        changes = polls[tick] if tick < len(polls) else []
        rows = [change(location, f"sku-{item}", offset=offset + at) for at, (location, item) in enumerate(changes)]
        offset += len(rows)
        engine.add(frame(rows), [], {1: offset}, now)
        while requests := engine.due(now):
            for request in requests:
                due = now - request.taken.first_arrived() >= MAX_AGE_SECONDS
                assert due or request.items % LIMITS.items.chunk_items == 0
                engine.apply(request.request_id, Accepted("1"), now)
        oldest = engine.oldest_arrival()
        assert oldest is None or now - oldest < MAX_AGE_SECONDS

    assert engine.pending_changes == 0
