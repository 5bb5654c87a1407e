"""The state of the process in one line, and what waits and why: for people who have never seen the code."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from consumer.core.location.location import LocationState
from consumer.core.location.views import LocationView
from consumer.core.oms.breaker import BreakerState
from consumer.facts import Snapshot
from consumer.observe.status.api import Level, Wait
from consumer.observe.status.board import StatusBoard
from consumer.observe.status.history import SAMPLE_SECONDS, Sample, lag
from consumer.observe.status.words import ahead, counted, duration

NAMES_MAX: Final = 3
RATE_SECONDS: Final = 60.0
"""Rates are averages of about this long."""
LAG_MIN: Final = 1_000
LAG_SECONDS_MIN: Final = 10.0
"""A service that is behind by fewer messages, or by less than it reads in this time, is not catching up."""

_BREAKER: Final = {
    BreakerState.OPEN: "OMS unavailable: requests are paused and will be retried; no data is lost",
    BreakerState.HALF_OPEN: "OMS unavailable: one request at a time is sent as a probe; no data is lost",
}


@dataclass(frozen=True, slots=True)
class Rates:
    """Averages of the last minute, per second; None if there are fewer than two samples.

    ``lag_shrinks`` is by how much the lag gets smaller; negative while it grows.
    """

    messages: float | None = None
    changes: float | None = None
    lag_shrinks: float | None = None


def rates(samples: Sequence[Sample]) -> Rates:
    """The rates of the last minute."""
    if not samples:
        return Rates()
    last = samples[-1]
    recent = [sample for sample in samples if sample.at >= last.at - RATE_SECONDS - SAMPLE_SECONDS / 2]
    first, seconds = recent[0], last.at - recent[0].at
    if not seconds:
        return Rates()
    return Rates(
        messages=(last.messages_read - first.messages_read) / seconds,
        changes=(last.changes_accepted - first.changes_accepted) / seconds,
        lag_shrinks=_lag_shrinks(recent),
    )


def _lag_shrinks(recent: Sequence[Sample]) -> float | None:
    """Per second. The first samples of a process, and those after a rebalance, may not know the lag yet."""
    known = [(sample.at, sample.lag) for sample in recent if sample.lag is not None]
    if len(known) < 2:
        return None
    (first_at, first_lag), (last_at, last_lag) = known[0], known[-1]
    return (first_lag - last_lag) / (last_at - first_at)


def health(board: StatusBoard) -> tuple[Level, str]:
    """The most urgent thing in one line."""
    snapshot = board.latest
    stalled, not_ready = board.stalled(), board.not_ready()
    if stalled:
        return "bad", f"Stalled: {stalled}; the liveness probe restarts the process"
    if snapshot.sending_stopped:
        return "bad", f"Nothing is sent until this is corrected: {snapshot.sending_stopped}"
    if not_ready:
        return "waiting", f"Not ready: {not_ready}"
    reason = next(_impediments(snapshot), None) or _catching_up(snapshot, rates(board.history.samples))
    if reason:
        return "waiting", reason
    return "good", f"All is well: {_well(snapshot)}"


def _well(snapshot: Snapshot) -> str:
    if not snapshot.partitions:
        return "a spare member, without partitions at present"
    if not snapshot.pending_changes:
        return "everything that was read has been accepted by the OMS"
    what = f"{counted(snapshot.pending_changes, 'change')} of {counted(snapshot.pending_locations, 'location')}"
    return f"{what} waiting, the oldest for {duration(snapshot.oldest_pending_seconds or 0.0)}"


def _impediments(snapshot: Snapshot) -> Iterator[str]:
    """What keeps the service waiting, or working below its best, until it passes; the most urgent first."""
    if snapshot.decoding_blocked:
        yield f"Decoding is blocked: {snapshot.decoding_blocked}"
    if snapshot.breaker is not BreakerState.CLOSED:
        yield _BREAKER[snapshot.breaker]
    if snapshot.memory_pressure:
        yield "Memory is short: reading pauses until enough has been sent"
    if snapshot.job_queue_full:
        yield f"Waiting for the OMS to finish jobs: {snapshot.job_queue_full}; changes wait and no data is lost"
    if snapshot.job_status_unavailable:
        reason = snapshot.job_status_unavailable
        yield f"Requests are accepted, but the OMS does not report the status of jobs: {reason}"
    if snapshot.set_aside_locations:
        yield f"The OMS refuses {_set_aside_names(snapshot)} whole and accepts others: set aside, and probed"


def _set_aside_names(snapshot: Snapshot) -> str:
    """The locations by name while they are few."""
    if snapshot.set_aside_locations > NAMES_MAX:
        return counted(snapshot.set_aside_locations, "location")
    return ", ".join(sorted(snapshot.set_aside))


def _catching_up(snapshot: Snapshot, at: Rates) -> str | None:
    if any(partition.recovering for partition in snapshot.partitions):
        return "Taking over partitions: changes that the previous owner had read are read again, then sent"
    behind = lag(snapshot) or 0
    if behind < max(LAG_MIN, LAG_SECONDS_MIN * (at.messages or 0.0)):
        return None
    text = f"Catching up: {counted(behind, 'change')}"
    if at.lag_shrinks is None:
        return text
    if at.lag_shrinks <= 0:
        return f"{text}, and they are not getting fewer at present"
    return f"{text}, about {duration(behind / at.lag_shrinks)} at this rate"


def waits(board: StatusBoard, views: Sequence[LocationView], now: float) -> list[Wait]:
    """What waits and why, the most urgent first. ``now`` is monotonic."""
    latest = board.latest
    found = [*_whole_service(latest), *_partitions(latest), *_locations(latest, views, board.settings, now)]
    order: Sequence[Level] = ("bad", "waiting", "good")
    return sorted(found, key=lambda wait: order.index(wait.level))


def _whole_service(snapshot: Snapshot) -> Iterator[Wait]:
    if snapshot.sending_stopped:
        yield Wait(level="bad", what="All requests", why=snapshot.sending_stopped)
    if snapshot.decoding_blocked:
        yield Wait(level="waiting", what="Messages to be decoded", why=snapshot.decoding_blocked)
    if snapshot.parked_messages:
        why = "they wait for a schema that the registry does not know yet"
        yield Wait(level="waiting", what=counted(snapshot.parked_messages, "message"), why=why)
    if snapshot.breaker is not BreakerState.CLOSED:
        failures = counted(snapshot.oms_consecutive_failures, "failure")
        why = f"the OMS does not answer as it should ({failures} in a row); it is tried again"
        yield Wait(level="waiting", what="All requests", why=why)
    if snapshot.job_queue_full:
        yield Wait(level="waiting", what="All requests", why=f"the OMS is behind: {snapshot.job_queue_full}")
    if snapshot.memory_pressure:
        yield Wait(level="waiting", what="Reading", why="memory is short until enough has been sent")
    if snapshot.set_aside_locations:
        said = next(iter(snapshot.set_aside.values()), "")
        why = f"refused whole while others are accepted; they are probed, at growing intervals. Last said: {said}"
        yield Wait(level="waiting", what=f"Set aside: {_set_aside_names(snapshot)}", why=why)
    if snapshot.unconfirmed_dead_letters:
        what = counted(snapshot.unconfirmed_dead_letters, "dead letter")
        yield Wait(level="good", what=what, why="the broker has not confirmed them yet")


def _partitions(snapshot: Snapshot) -> Iterator[Wait]:
    paused = sum(partition.paused for partition in snapshot.partitions)
    if paused:
        why = "they are paused: enough is pending, or something else has to come first"
        yield Wait(level="waiting", what=counted(paused, "partition"), why=why)
    recovering = sum(partition.recovering for partition in snapshot.partitions)
    if recovering:
        why = "what the previous owner had read is read again before anything is sent"
        yield Wait(level="waiting", what=counted(recovering, "partition"), why=why)


_State = LocationState


def _locations(
    snapshot: Snapshot, views: Sequence[LocationView], settings: Mapping[str, Any], now: float
) -> Iterator[Wait]:
    """Locations by what they wait for."""
    max_age = settings.get("window", {}).get("max_age")
    age = f" or the oldest change is {duration(max_age)} old" if isinstance(max_age, int | float) else ""
    full = f"until a request is worth sending: {snapshot.flush_items:,} items{age}"
    reasons: Sequence[tuple[Level, LocationState, bool, str]] = (
        ("waiting", _State.HELD, False, "the last request may have been queued; held {when}"),
        ("waiting", _State.BACKING_OFF, False, "the last request failed; the next try is {when}"),
        ("waiting", _State.BISECTING, True, "the OMS refused a request; the items that it refuses are being found"),
        ("good", _State.IN_FLIGHT, False, "a request is in flight; the OMS has not answered it yet"),
        ("good", _State.PENDING, True, f"due; sent {_when_due(snapshot)}"),
        ("good", _State.PENDING, False, f"{full}; the first is due {{when}}"),
    )
    for level, state, due, why in reasons:
        chosen = [view for view in views if view.state is state and due == _is_due(view, now)]
        if not chosen:
            continue
        first = min((view.send_at for view in chosen if view.send_at is not None), default=now)
        changes = sum(view.pending_changes for view in chosen)
        where = chosen[0].name if len(chosen) == 1 else counted(len(chosen), "location")
        when = ahead(first - now) if state is not _State.HELD else f"for another {duration(first - now)}"
        yield Wait(level=level, what=f"{counted(changes, 'change')} of {where}", why=why.replace("{when}", when))


def _when_due(snapshot: Snapshot) -> str:
    """When what is due is sent."""
    if snapshot.sending_stopped:
        return "once that is corrected"
    if snapshot.breaker is not BreakerState.CLOSED:
        return "once the OMS works again"
    if snapshot.job_queue_full:
        return "once the OMS has finished more jobs"
    limit = snapshot.requests_per_second_max
    quota = f"; requests are limited to {limit:.3g} per second, the OMS's quota" if limit is not None else ""
    return f"as soon as a request may leave{quota}"


def _is_due(view: LocationView, now: float) -> bool:
    waits_for_time = view.state in (_State.HELD, _State.BACKING_OFF, _State.IN_FLIGHT)
    return not waits_for_time and (view.send_at is None or view.send_at <= now)


def next_send(view: LocationView, now: float, *, is_set_aside: bool = False) -> str:
    """When the location's next request leaves, with the reason."""
    after = (view.send_at or now) - now
    when = ahead(after)
    if view.state is _State.PENDING:
        return f"{when}, or when full" if after > 0 else "as soon as a request may leave"
    if view.state is _State.BACKING_OFF:
        return f"{when}, as a probe: set aside" if is_set_aside else f"{when}: the last request failed"
    said = {
        _State.IN_FLIGHT: "after the answer to the request in flight",
        _State.HELD: f"{when}: the last request may have been queued",
        _State.BISECTING: "now: the items that the OMS refuses are being found",
    }
    return said.get(view.state, "nothing to send")
