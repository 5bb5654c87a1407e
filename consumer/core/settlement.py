"""What follows from the answers to requests: for their changes, their location, and the OMS as a whole."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import assert_never

import polars as pl

from consumer.core.changes.blocks import Rows
from consumer.core.changes.coalesce import rows_with_keys
from consumer.core.changes.items import ITEM_COLUMNS
from consumer.core.changes.reject_ratio import RejectRatio
from consumer.core.limits import EngineLimits
from consumer.core.location.locations import Locations
from consumer.core.location.request import Refusal, Request
from consumer.core.location.set_aside import WholeRefusal
from consumer.core.oms.answers import (
    Accepted,
    Answer,
    Applied,
    Decision,
    Hold,
    Refused,
    RefusedWhole,
    Retry,
    Shrink,
    Stop,
    backoff_seconds,
    decide,
)
from consumer.core.oms.breaker import CircuitBreaker
from consumer.core.oms.lost_answers import LostAnswer, RecentJobs
from consumer.core.oms.refused_locations import RefusedLocations
from consumer.core.oms.request_size import RequestSize
from consumer.core.oms.smart_refresh import SmartRefresh, is_about_the_call
from consumer.core.partition.partitions import Partitions


@dataclass(frozen=True, slots=True)
class Settled:
    """The outcome of a request.

    The caller must dead-letter ``refusals``; their offsets stay open until ``Engine.dead_lettered`` confirms them.
    ``fatal_reason`` is not None if the service must stop, because the OMS refuses the service itself and has never
    accepted a request. ``too_many_refused``: so many of the latest changes were refused that the service should stop.
    """

    request: Request
    decision: Decision
    accepted: Request | None = None
    """The request, or what is left of it without refused items, if the OMS has accepted it."""
    refusals: Sequence[Refusal] = ()
    fatal_reason: str | None = None
    too_many_refused: bool = False
    smart_refresh_ended: str | None = None
    """Why smart refresh is not used from now on, for a while or for good; None if nothing has changed."""


class Settlement:
    """Decides what follows from each answer, and applies it. Part of the engine."""

    def __init__(
        self,
        limits: EngineLimits,
        partitions: Partitions,
        locations: Locations,
        breaker: CircuitBreaker,
        request_size: RequestSize,
        item_key: Sequence[str],
        smart: SmartRefresh | None,
    ) -> None:
        self._key_schema = {name: ITEM_COLUMNS[name] for name in item_key}
        self._smart = smart
        self._limits = limits
        self._partitions = partitions
        self._locations = locations
        self._breaker = breaker
        self._request_size = request_size
        self._recent_jobs = RecentJobs()
        self._lost: dict[str, LostAnswer] = {}
        """By location: requests of unknown outcome, with ``only_sender``."""
        self.accepted_since_round = 0
        """Requests accepted since the engine's last round; it resets this."""
        self._refused_ratio = RejectRatio(
            limits.rejected_ratio_max,
            changes_max=limits.refused_changes_max,
            changes_min=limits.refused_changes_min,
        )
        self._ever_accepted = False
        self._refused_locations = RefusedLocations(
            share_max=limits.rejected_ratio_max, share_locations_min=limits.share_locations_min
        )
        self.sending_stopped: str | None = None
        """Why the OMS refuses all requests, such as wrong credentials, until it accepts one again; None otherwise."""
        self.is_access_refused = False
        """It does so whatever the location is: reading more would be in vain."""

    def settle(self, request_id: int, answer: Answer, *, jitter: float, now: float) -> Settled:
        """Decide what follows from an answer, and apply it. ``jitter`` is random in 0 to 1."""
        attempt = max(self._locations.failures(request_id), self._breaker.failures)
        request = self._locations.in_flight(request_id).request
        if self._smart is None or not request.is_smart:
            return self.apply(
                request_id, decide(answer, attempt=attempt, jitter=jitter, limits=self._limits.retry), now
            )
        ended = self._smart.answered(request.location, answer, now)
        if is_about_the_call(answer):
            decision: Decision = Retry(backoff_seconds(attempt, jitter, self._limits.retry), whole_oms=False)
        else:
            decision = decide(answer, attempt=attempt, jitter=jitter, limits=self._limits.retry)
        return replace(self.apply(request_id, decision, now), smart_refresh_ended=ended)

    def apply(self, request_id: int, decision: Decision, now: float) -> Settled:
        """Apply a decision to a request in flight.

        Unless the request was accepted, its changes return to their window (rule 16), except for refused changes and
        those of assignments that have ended (rule 17).
        """
        in_flight = self._locations.in_flight(request_id)
        request, sent_at = in_flight.request, in_flight.sent_at
        self._lost.pop(request.location, None)
        match decision:
            case Accepted() | Applied():
                return self._accept(request, decision, sent_at, now)
            case Refused():
                return self._settled(request, decision, self._refuse(request, decision, sent_at, now))
            case RefusedWhole():
                return self._refuse_whole(request, decision, sent_at, now)
            case Shrink():
                return self._settled(request, decision, self._shrink(request_id, decision, sent_at, now))
            case Retry():
                self._retry(request_id, decision, sent_at, now)
            case Hold():
                self._locations.hold(request_id, now + decision.seconds, now)
                if self._smart:
                    self._smart.outcome_unknown(request.location, now + decision.seconds)
                if self._limits.only_sender:
                    self._remember_lost(request, sent_at, now)
                self._record_failure(sent_at, now, decision.breaker_seconds)
            case Stop():
                self.sending_stopped, self.is_access_refused = decision.detail, True
                self._locations.give_back(request_id, now)
                self._record_failure(sent_at, now, self._limits.stopped_retry_seconds)
                return Settled(request, decision, fatal_reason=None if self._ever_accepted else decision.detail)
            case _:
                assert_never(decision)
        return Settled(request, decision)

    def _accept(self, request: Request, decision: Accepted | Applied, sent_at: float, now: float) -> Settled:
        """The OMS has accepted the request, or all but some items of it: it works, and knows the location."""
        if isinstance(decision, Accepted):
            if self._limits.only_sender:
                self._recent_jobs.add(request.location, decision.job_id, now)
            if self._smart:
                self._smart.queued(request.location, decision.job_id)
        accepted, refused = self._parts(request, decision)
        self.accepted_since_round += 1
        self._partitions.mark_accepted(accepted.taken.present)
        self._record_success(sent_at)
        self._ever_accepted, self.sending_stopped, self.is_access_refused = True, None, False
        self._refused_locations.accepted(request.location)
        self._request_size.on_accepted(decision.body_bytes)
        self._refused_ratio.add(accepted.taken.height, 0)
        if isinstance(decision, Applied) and refused is not None:
            refusals = self._locations.refuse_some(request.request_id, refused, decision.detail, now)
        else:
            refusals = self._locations.accept(request.request_id, now)
        return self._settled(request, decision, refusals, accepted)

    def _parts(self, request: Request, decision: Accepted | Applied) -> tuple[Request, pl.DataFrame | None]:
        """What the OMS has accepted of a request, and the rows of the items that it has refused, if any."""
        if isinstance(decision, Accepted) or not decision.refused_items:
            return request, None
        keys = pl.DataFrame(list(decision.refused_items), schema=self._key_schema, orient="row")
        rows = request.rows
        is_refused = rows_with_keys(rows, keys)
        taken = Rows(rows.filter(~is_refused), overlay=request.taken.overlay)
        return replace(request, taken=taken, items=request.items - keys.height), rows.filter(is_refused)

    def _remember_lost(self, request: Request, sent_at: float, now: float) -> None:
        known = self._recent_jobs.of(request.location, sent_at)
        self._lost[request.location] = LostAnswer(request.location, request.items, sent_at, now, known)

    def lost_answers(self, now: float) -> list[LostAnswer]:
        """What holds their locations, each being the only unknown outcome of its location; none without only_sender."""
        gone = [name for name in self._lost if not self._has_one_unknown_outcome(name, now)]
        for name in gone:
            del self._lost[name]
        return list(self._lost.values())

    def _has_one_unknown_outcome(self, name: str, now: float) -> bool:
        location = self._locations.find(name)
        return location is not None and location.backoff.is_hold(now) and location.backoff.unknown_outcomes == 1

    def end_hold(self, lost: LostAnswer, now: float) -> float | None:
        """The job of this request has ended: its location may send. Returns the seconds left; None if too late."""
        if self._lost.get(lost.location) != lost:
            return None
        del self._lost[lost.location]
        return self._locations.end_hold(lost.location, now)

    def _shrink(self, request_id: int, decision: Shrink, sent_at: float, now: float) -> list[Refusal]:
        if decision.by_gateway:
            if not self._request_size.is_credible(decision.body_bytes):
                self._locations.back_off(request_id, now + decision.after_seconds, now)
                return []
            self._record_success(sent_at)
            self._request_size.on_too_large(decision.body_bytes)
            self._locations.body_sizes.bytes_max = self._request_size.bytes_max
        return self._locations.shrink(request_id, decision.body_bytes, decision.detail, now)

    def _retry(self, request_id: int, decision: Retry, sent_at: float, now: float) -> None:
        if decision.after_seconds is None:
            self._locations.give_back(request_id, now)
        else:
            self._locations.back_off(request_id, now + decision.after_seconds, now)
            if decision.whole_oms:
                self._record_failure(sent_at, now, decision.after_seconds)
        if decision.over_quota:
            self._breaker.rate_limiter.on_throttled(sent_at=sent_at, now=now)

    def _refuse(self, request: Request, decision: Refused, sent_at: float, now: float) -> list[Refusal]:
        """Unless most locations are refused, the OMS works, and the fault is in the content of the request."""
        locations, request_id = self._locations, request.request_id
        location = locations.find(request.location)
        if not (location and location.bisection and location.bisection.any_accepted):
            self._refused_locations.content_refused(request.location)
        reason = self._refused_locations.share_reason()
        if reason is None:
            self._record_success(sent_at)
            return locations.refuse(request_id, decision.detail, decision.named, now)
        self.sending_stopped = reason
        self._record_failure(sent_at, now, decision.after_seconds)
        wait_until = now + decision.after_seconds
        return locations.refuse(request_id, decision.detail, decision.named, now, wait_until=wait_until)

    def _refuse_whole(self, request: Request, decision: RefusedWhole, sent_at: float, now: float) -> Settled:
        """Find out whether it concerns this location, or all of them (rules 30 to 32)."""
        latest, locations = self._refused_locations, self._locations
        if locations.find(request.location) not in locations.set_aside:
            latest.refused(request.location, decision)
        share_reason = latest.share_reason()
        refuses_all = share_reason is not None or latest.may_be_all
        refusals = locations.refuse_whole(request.request_id, _for_location(decision), now, refuses_all=refuses_all)
        for refusal in refusals:
            self._partitions.mark_rejected(refusal.rows)
        stop_reason = latest.stop_reason(locations.are_others_pending)
        if stop_reason or share_reason:
            self.sending_stopped, self.is_access_refused = stop_reason or share_reason, False
        if stop_reason:
            self._record_failure(sent_at, now, self._limits.stopped_retry_seconds)
        elif refuses_all:
            self._record_failure(sent_at, now, decision.after_seconds)
        return Settled(request, decision, refusals=refusals, fatal_reason=None if self._ever_accepted else stop_reason)

    def _settled(
        self, request: Request, decision: Decision, refusals: Sequence[Refusal], accepted: Request | None = None
    ) -> Settled:
        """Offsets of refused changes stay open until their dead letters are confirmed."""
        too_many = False
        for refusal in refusals:
            self._partitions.mark_rejected(refusal.rows)
            too_many = self._refused_ratio.add(refusal.rows.height, refusal.rows.height)
        return Settled(request, decision, accepted, refusals, too_many_refused=too_many)

    def _record_success(self, sent_at: float) -> None:
        self._breaker.record_success(sent_at=sent_at)

    def _record_failure(self, sent_at: float, now: float, backoff_seconds: float) -> None:
        self._breaker.record_failure(sent_at=sent_at, now=now, backoff_seconds=backoff_seconds)


def _for_location(decision: RefusedWhole) -> WholeRefusal:
    """What its location needs to know."""
    return WholeRefusal(
        answer=f"{decision.kind} {decision.status}",
        is_page=decision.is_page,
        detail=decision.detail,
        after_seconds=decision.after_seconds,
        retry_after_seconds=decision.retry_after_seconds,
    )
