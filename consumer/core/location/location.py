"""One location and its states.

A location owns its window, its request in flight, its back-off or hold, and the bisection of a refused request. Its
state follows from these and from the time. ``TRANSITIONS`` lists the states to which each event may lead, and
``Location.check`` raises ``InvariantError`` for any other. The diagram in docs/protocol.md is generated from it.

- IDLE: nothing is pending. An idle location may be dropped.
- PENDING: changes wait in the window until the planner wants to send them.
- BISECTING: like PENDING, but suspects of a refused request are sent before anything else.
- IN_FLIGHT: a request has no answer yet. Until then nothing else of the location is sent, even after a revoke.
- BACKING_OFF: the last request failed and was certainly not queued; the location waits before it sends again.
- HELD: the last request may have been queued; the location waits until the OMS can no longer queue it.

Times are monotonic seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import polars as pl

from consumer.core.location.backoff import LocationBackoff
from consumer.core.location.bisection import REQUESTS_MIN, Bisection, RefusedRequest
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
    SUPERSEDED = "superseded by a reject"


_State = LocationState
_Event = LocationEvent
_SENDABLE: Final = frozenset({_State.IDLE, _State.PENDING, _State.BISECTING})
"""Which of these it is depends on what is left in the window and in the bisection."""

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
    (_State.PENDING, _Event.SUPERSEDED): frozenset({_State.PENDING, _State.IDLE}),
    (_State.BISECTING, _Event.SUPERSEDED): _SENDABLE,
    (_State.IN_FLIGHT, _Event.SUPERSEDED): frozenset({_State.IN_FLIGHT}),
    (_State.BACKING_OFF, _Event.SUPERSEDED): frozenset({_State.BACKING_OFF}),
    (_State.HELD, _Event.SUPERSEDED): frozenset({_State.HELD}),
}


LOCATION_BYTES: Final = 640
"""Memory of a location besides its rows, with its window and its places in schedules and runs. Measured: 650."""


@dataclass(eq=False, slots=True)
class Location:
    """A location and everything that it owns. ``window`` may be empty."""

    name: str
    window: Window
    in_flight: InFlight | None = None
    backoff: LocationBackoff = field(default_factory=LocationBackoff)
    bisection: Bisection | None = None
    barriers: pl.DataFrame | None = None
    """Barriers read while the request is in flight, of items that it has: should it fail, what is older stays here."""
    item_bytes: float = 0.0
    """Bytes per item of the location's last body that was too large; 0 without one."""
    futile_bisections: int = 0
    """Bisections in a row in which no request was accepted: the next one may take half as many requests."""

    def state(self, now: float) -> LocationState:
        if self.in_flight:
            return _State.IN_FLIGHT
        if self.backoff.is_waiting(now):
            return _State.HELD if self.backoff.is_hold(now) else _State.BACKING_OFF
        if self.bisection:
            return _State.BISECTING
        return _State.PENDING if self.window.rows else _State.IDLE

    def may_send(self, now: float) -> bool:
        """Whether the location may send a request now."""
        return self.in_flight is None and not self.backoff.is_waiting(now)

    def wait_after_refusal(self, until: float, now: float) -> None:
        """Wait, and be sent behind all others then."""
        self.backoff.back_off(until)
        self.window.refused_at = now

    def end_wait(self) -> None:
        """The location may send at once, and need not be sent behind others."""
        self.backoff.reset()
        self.window.refused_at = float("-inf")

    def may_be_dropped(self, now: float) -> bool:
        """Whether the location is idle and has no ``futile_bisections`` to remember."""
        return self.state(now) is _State.IDLE and not self.futile_bisections

    def begin_bisection(
        self,
        refused: RefusedRequest,
        item_key: Sequence[str],
        *,
        chunk_items: int,
        requests_max: int,
        apart_seconds: float,
    ) -> Bisection:
        """Begin to bisect a refused request, with at most ``requests_max`` requests; fewer after futile bisections."""
        requests = min(max(REQUESTS_MIN, requests_max >> self.futile_bisections), requests_max)
        self.bisection = Bisection(
            refused, item_key, chunk_items=chunk_items, requests_max=requests, apart_seconds=apart_seconds
        )
        return self.bisection

    def check(self, before: LocationState, event: LocationEvent, now: float) -> None:
        """Raise InvariantError if the table does not allow that this event led from ``before`` to the present state."""
        after = self.state(now)
        if after not in TRANSITIONS.get((before, event), frozenset()):
            raise InvariantError(f"location {self.name!r} went from {before} to {after} when: {event}")
