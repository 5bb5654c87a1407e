"""Makes the answers of ``api`` from what the status board keeps. For any thread but the loop's."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final

from consumer.core.changes.items import RejectReason
from consumer.core.location.location import LocationState
from consumer.core.location.views import LocationView
from consumer.facts import PartitionView
from consumer.observe.members import is_own
from consumer.observe.status import api
from consumer.observe.status.board import StatusBoard
from consumer.observe.status.health import health, next_send, rates, waits
from consumer.observe.status.history import Sample, lag
from consumer.observe.status.problems import ProblemGroup
from consumer.observe.status.requests import AnsweredRequest, LastRequests
from consumer.observe.status.words import count, counted

VIEWS_SECONDS_MAX: Final = 1.0
"""How long an answer waits for the loop to report on locations, if nobody has looked at them lately."""
_PROBLEMS: Final[dict[str, str]] = {
    RejectReason.REFUSED_BY_OMS: "refused by the OMS",
    RejectReason.JOB_FAILED: "not applied, because the job failed",
    RejectReason.SUPERSEDED_BY_REJECT: "dead-lettered, because a newer count of the item cannot be sent",
    "jobs_failed": "failed in the OMS",
    "jobs_never_finished": "not finished by the OMS in time",
    "jobs_unknown_job": "no longer known to the OMS",
    "request_refused": "refused by the OMS",
    "request_gateway_page": "refused by a gateway",
    "request_unauthorised": "credentials not accepted",
    "request_forbidden": "not allowed",
    "request_wrong_address": "wrong address",
    "request_over_quota": "over the quota",
    "request_unavailable": "OMS unavailable",
    "request_unreadable": "answer without a jobID",
    "request_unknown": "outcome unknown",
}
"""Kinds of problems in words. Reject reasons of changes from upstream are readable as they are."""


def overview(board: StatusBoard) -> api.Overview:
    """The state in words, what waits and why, and the main figures."""
    views = board.location_views(VIEWS_SECONDS_MAX).views
    now, wall = board.now()
    snapshot, at = board.latest, rates(board.history.samples)
    level, text = health(board)
    return api.Overview(
        version=board.version,
        started_at=time_of(board.started_at),
        now=time_of(wall),
        level=level,
        health=text,
        waits=waits(board, views, now),
        pending_changes=snapshot.pending_changes,
        pending_locations=snapshot.pending_locations,
        oldest_pending_seconds=snapshot.oldest_pending_seconds,
        lag=lag(snapshot),
        requests_in_flight=snapshot.requests_in_flight,
        unfinished_jobs=snapshot.unfinished_jobs,
        messages_per_second=at.messages,
        changes_per_second=at.changes,
        totals=api.Totals(**asdict(board.totals)),
    )


def locations(board: StatusBoard, query: api.LocationQuery) -> api.Locations:
    """One page of the locations that match, sorted."""
    reported = board.location_views(VIEWS_SECONDS_MAX)
    now, wall = board.now()
    requests = board.requests.by_location()
    views = {view.name: view for view in reported.views}
    wanted = query.search.casefold()
    names = [name for name in views.keys() | requests.keys() if wanted in name.casefold()]
    key = _SORT[query.sort]

    values = [(key(name, views.get(name), requests.get(name)), name) for name in names]
    known = sorted((pair for pair in values if pair[0] is not None), reverse=query.order == "desc")
    ordered = [name for _, name in known] + sorted(name for value, name in values if value is None)
    page = ordered[query.offset : query.offset + query.limit]
    return api.Locations(
        as_of=time_of(wall - (now - reported.at)) if reported.views else None,
        total=len(names),
        offset=query.offset,
        limit=query.limit,
        locations=[
            _location(name, views.get(name), requests.get(name), now, wall, is_set_aside=name in board.latest.set_aside)
            for name in page
        ],
    )


_Key = Callable[[str, LocationView | None, LastRequests | None], float | str | None]
_SORT: Final[dict[api.SortKey, _Key]] = {
    "name": lambda name, _view, _requests: name.casefold(),
    "pending": lambda _name, view, _requests: view.pending_items if view else None,
    # The older a change, the earlier it arrived: sorted by age.
    "oldest": lambda _name, view, _requests: -view.oldest_arrived if view and view.oldest_arrived is not None else None,
    "next_send": lambda _name, view, _requests: view.send_at if view else None,
    "last_request": lambda _name, _view, requests: requests.last.answered_at if requests else None,
}


def _location(
    name: str,
    view: LocationView | None,
    requests: LastRequests | None,
    now: float,
    wall: float,
    *,
    is_set_aside: bool,
) -> api.LocationReport:
    view = view or LocationView(name, LocationState.IDLE, 0, 0, None, None)
    accepted = requests.accepted if requests else None
    return api.LocationReport(
        name=name,
        state=view.state,
        pending_changes=view.pending_changes,
        pending_items=view.pending_items,
        oldest_seconds=None if view.oldest_arrived is None else max(now - view.oldest_arrived, 0.0),
        next_send_at=None if view.send_at is None else time_of(wall + view.send_at - now),
        next_send=next_send(view, now, is_set_aside=is_set_aside),
        last_request=_request(requests.last) if requests else None,
        last_accepted=_request(accepted) if accepted else None,
    )


def requests(board: StatusBoard) -> api.Requests:
    """The latest requests."""
    return api.Requests(requests=list(map(_request, board.requests.latest)))


def _request(request: AnsweredRequest) -> api.RequestReport:
    values = asdict(request) | {"answered_at": time_of(request.answered_at)}
    ended_at = values.pop("job_ended_at")
    return api.RequestReport(**values, job_ended_at=None if ended_at is None else time_of(ended_at))


def problems(board: StatusBoard) -> api.Problems:
    """The problems in groups."""
    return api.Problems(problems=list(map(_problem, board.problems.groups())))


def _problem(group: ProblemGroup) -> api.ProblemReport:
    return api.ProblemReport(
        kind=group.what,
        text=_text(group),
        location=group.location,
        count=group.count,
        unit=group.unit,
        first_at=time_of(group.first_at),
        latest_at=time_of(group.latest_at),
        detail=group.detail,
    )


def _text(group: ProblemGroup) -> str:
    words = _PROBLEMS.get(group.what, group.what.replace("_", " "))
    where = f" of {group.location}" if group.location else ""
    if group.unit == "times":
        times = "once" if group.count == 1 else f"{count(group.count)} times"
        return f"{words}: {group.location}, {times}" if group.location else f"{words}: {times}"
    if group.unit == "changes" and group.what not in _PROBLEMS:
        words = f"rejected ({words})"
    return f"{words}: {counted(group.count, group.unit.removesuffix('s'))}{where}"


def partitions(board: StatusBoard) -> api.Partitions:
    """The assigned partitions."""
    return api.Partitions(partitions=list(map(_partition, board.latest.partitions)))


def _partition(view: PartitionView) -> api.PartitionReport:
    known = view.end_offset is not None and view.next_offset is not None
    return api.PartitionReport(
        topic=view.topic,
        partition=view.partition,
        committed_offset=view.committed_offset,
        committable_offset=view.committable_offset,
        next_offset=view.next_offset,
        end_offset=view.end_offset,
        lag=max((view.end_offset or 0) - (view.next_offset or 0), 0) if known else None,
        state="recovering" if view.recovering else "paused" if view.paused else "reading",
    )


def history(board: StatusBoard) -> api.History:
    """The last 15 minutes."""
    now, wall = board.now()
    samples = board.history.samples
    pairs = zip(samples, (None, *samples), strict=False)
    return api.History(points=[_point(sample, last, wall - (now - sample.at)) for sample, last in pairs])


def members(board: StatusBoard, port: int) -> api.Members:
    """The members of the group; ``port`` is the one on which this process was asked. May wait for a name server."""
    found = board.members.find()
    return api.Members(
        host=board.host,
        members=[api.MemberReport(url=url, is_this=is_own(url, port)) for url in found.urls],
        problems=list(found.problems),
    )


def _point(sample: Sample, last: Sample | None, wall: float) -> api.HistoryPoint:
    seconds = sample.at - last.at if last else 0.0
    return api.HistoryPoint(
        at=time_of(wall),
        pending_changes=sample.pending_changes,
        oldest_pending_seconds=sample.oldest_pending_seconds,
        lag=sample.lag,
        messages_per_second=(sample.messages_read - last.messages_read) / seconds if last else None,
        changes_per_second=(sample.changes_accepted - last.changes_accepted) / seconds if last else None,
    )


def time_of(seconds: float) -> datetime:
    """Seconds since 1970 as a time in UTC, to the millisecond."""
    return datetime.fromtimestamp(round(seconds, 3), UTC)
