"""One location and its life.

A location owns its window, its request in flight, its back-off or hold, and the bisection of a refused request. Its
state follows from what it owns and from the time; ``TRANSITIONS`` lists every change of state that may happen, and
``Location.check`` raises ``InvariantError`` for any other. The diagram in docs/protocol.md is made from this table.

- IDLE: nothing to do. An idle location may be dropped.
- PENDING: changes wait in the window until the planner lets them leave.
- BISECTING: as PENDING, but suspects of a refused request leave before anything else.
- IN_FLIGHT: a request is out. Nothing else of the location leaves until it is answered, even across a revoke.
- BACKING_OFF: the last request surely was not queued; the location waits before the next one.
- HELD: the last request may have been queued; the location waits until it must have been processed.

Times are monotonic seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from consumer.core.location.backoff import LocationBackoff
from consumer.core.location.bisection import Bisection
from consumer.core.location.in_flight import InFlight
from consumer.core.location.window import Window
from consumer.errors import InvariantError


class LocationState(StrEnum):
    """What a location is doing."""

    IDLE = "idle"
    PENDING = "pending"
    BISECTING = "bisecting"
    IN_FLIGHT = "in_flight"
    BACKING_OFF = "backing_off"
    HELD = "held"


class LocationEvent(StrEnum):
    """What can happen to a location."""

    CHANGES_ADDED = "changes added"
    REQUEST_STARTED = "request started"
    RETURNED = "returned to the window"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    NOT_QUEUED = "failed, not queued"
    OUTCOME_UNKNOWN = "outcome unknown"
    WAIT_OVER = "wait over"
    PARTITIONS_GONE = "partitions gone"


_State = LocationState
_Event = LocationEvent
_SENDABLE: Final = frozenset({_State.IDLE, _State.PENDING, _State.BISECTING})
"""Which of these it is depends on what is left in the window, and whether that is suspect."""

TRANSITIONS: Final[Mapping[tuple[LocationState, LocationEvent], frozenset[LocationState]]] = {
    (_State.IDLE, _Event.CHANGES_ADDED): frozenset({_State.PENDING}),
    (_State.PENDING, _Event.CHANGES_ADDED): frozenset({_State.PENDING}),
    (_State.BISECTING, _Event.CHANGES_ADDED): frozenset({_State.BISECTING}),
    (_State.IN_FLIGHT, _Event.CHANGES_ADDED): frozenset({_State.IN_FLIGHT}),
    (_State.BACKING_OFF, _Event.CHANGES_ADDED): frozenset({_State.BACKING_OFF}),
    (_State.HELD, _Event.CHANGES_ADDED): frozenset({_State.HELD}),
    (_State.PENDING, _Event.REQUEST_STARTED): frozenset({_State.IN_FLIGHT}),
    (_State.BISECTING, _Event.REQUEST_STARTED): frozenset({_State.IN_FLIGHT}),
    (_State.IN_FLIGHT, _Event.RETURNED): _SENDABLE,
    (_State.IN_FLIGHT, _Event.ACCEPTED): _SENDABLE,
    (_State.IN_FLIGHT, _Event.REFUSED): _SENDABLE,
    (_State.IN_FLIGHT, _Event.NOT_QUEUED): frozenset({_State.BACKING_OFF, _State.HELD}),
    (_State.IN_FLIGHT, _Event.OUTCOME_UNKNOWN): frozenset({_State.HELD}),
    (_State.BACKING_OFF, _Event.WAIT_OVER): _SENDABLE,
    (_State.HELD, _Event.WAIT_OVER): _SENDABLE,
    (_State.PENDING, _Event.PARTITIONS_GONE): frozenset({_State.PENDING, _State.IDLE}),
    (_State.BISECTING, _Event.PARTITIONS_GONE): _SENDABLE,
    (_State.IN_FLIGHT, _Event.PARTITIONS_GONE): frozenset({_State.IN_FLIGHT}),
    (_State.BACKING_OFF, _Event.PARTITIONS_GONE): frozenset({_State.BACKING_OFF}),
    (_State.HELD, _Event.PARTITIONS_GONE): frozenset({_State.HELD}),
}


@dataclass(eq=False, slots=True)
class Location:
    """``window`` may be empty; ``in_flight`` and ``bisection`` are None if there is none."""

    name: str
    window: Window
    in_flight: InFlight | None = None
    backoff: LocationBackoff = field(default_factory=LocationBackoff)
    bisection: Bisection | None = None
    futile_bisections: int = 0
    """Bisections in a row in which nothing was accepted: each gets half as many requests as the one before."""

    def state(self, now: float) -> LocationState:
        if self.in_flight:
            return _State.IN_FLIGHT
        if self.backoff.is_waiting(now):
            return _State.HELD if self.backoff.is_hold(now) else _State.BACKING_OFF
        if self.bisection:
            return _State.BISECTING
        return _State.PENDING if self.window.rows else _State.IDLE

    def may_send(self, now: float) -> bool:
        """Whether a request of the location may start now."""
        return self.in_flight is None and not self.backoff.is_waiting(now)

    def may_be_dropped(self, now: float) -> bool:
        """Idle, and nothing is remembered that the next refusal depends on."""
        return self.state(now) is _State.IDLE and not self.futile_bisections

    def check(self, before: LocationState, event: LocationEvent, now: float) -> None:
        """Raise InvariantError unless the table allows what the event made of the state."""
        after = self.state(now)
        if after not in TRANSITIONS.get((before, event), frozenset()):
            raise InvariantError(f"location {self.name!r} went from {before} to {after} when: {event}")
