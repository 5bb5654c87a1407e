"""What ``/api/*`` answers: models, from which docs/status-api.md and docs/status-api.schema.json are generated.

All answers are snapshots of one process. Times are ISO 8601 in UTC; ``null`` means unknown or not applicable.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.json_schema import models_json_schema

LIMIT_MAX: Final = 500
SEARCH_CHARACTERS_MAX: Final = 200
OFFSET_MAX: Final = 1_000_000

Level = Literal["good", "waiting", "bad"]
SortKey = Literal["name", "pending", "oldest", "next_send", "last_request"]
Order = Literal["asc", "desc"]


Identifier = Annotated[
    str | None, Field(min_length=1, max_length=SEARCH_CHARACTERS_MAX, description="The item's, whole and exact.")
]


class Answer(BaseModel):
    """Immutable, and without fields that are not named."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# Overview


class Wait(Answer):
    """Something that waits, and why."""

    level: Annotated[Level, Field(description="`good`: as it should be; `waiting`: passes; `bad`: needs an operator.")]
    what: Annotated[str, Field(description="What waits, such as `1,200 changes of 3 locations`.")]
    why: Annotated[str, Field(description="Why, and until when if that is known.")]


class Totals(Answer):
    """Counts since the process started."""

    messages_read: int
    changes_accepted: Annotated[int, Field(description="Changes that the OMS accepted, with or without a job.")]
    items_accepted: int
    requests_accepted: int
    changes_dead_lettered: int


class Overview(Answer):
    """The state of the process in one line, what waits and why, and the main figures."""

    version: str
    started_at: datetime
    now: datetime
    level: Annotated[Level, Field(description="As of `Wait`.")]
    health: Annotated[str, Field(description="The state in one line.")]
    waits: Annotated[list[Wait], Field(description="What waits and why, the most urgent first.")]
    pending_changes: Annotated[int, Field(description="Read and not accepted by the OMS yet.")]
    pending_locations: Annotated[int, Field(description="Locations with pending changes.")]
    oldest_pending_seconds: Annotated[float | None, Field(description="Since the oldest pending change was read.")]
    lag: Annotated[int | None, Field(description="Messages that are still to be read.")]
    requests_in_flight: int
    unfinished_jobs: int
    messages_per_second: Annotated[float | None, Field(description="Read, on average over the last minute.")]
    changes_per_second: Annotated[float | None, Field(description="Accepted, on average over the last minute.")]
    totals: Totals


# Locations


class RequestReport(Answer):
    """A request to the OMS, and its answer."""

    answered_at: datetime
    location: str
    items: int
    changes: Annotated[int, Field(description="Changes that it covers, with older ones of the same items.")]
    chunks: Annotated[int, Field(description="Chunks in which the OMS processes it.")]
    reason: Annotated[str, Field(description="Why it was sent, as in the metric `requests_sent`.")]
    outcome: Annotated[
        str,
        Field(description="As in the metric `requests_answered`, such as `accepted`."),
    ]
    status: Annotated[int | None, Field(description="The HTTP code.")]
    seconds: Annotated[float, Field(description="From its submission to the answer.")]
    detail: Annotated[str, Field(description="What the OMS said, if it did not accept it.")]
    job_id: str | None
    job_outcome: Annotated[
        str | None,
        Field(description="`success`, `failed`, `never_finished` or `unknown_job`; null while it is not known."),
    ]
    job_ended_at: Annotated[datetime | None, Field(description="When the service learnt that the job had ended.")]
    job_seconds: Annotated[
        float | None, Field(description="From the job's start in the OMS to its end, by the OMS's clock.")
    ]


class LocationReport(Answer):
    """A location that has pending changes, or had a request since the process started."""

    name: str
    state: Annotated[str, Field(description="A state of docs/protocol.md.")]
    pending_changes: int
    pending_items: Annotated[int, Field(description="Distinct items of these changes, counted from above.")]
    oldest_seconds: Annotated[float | None, Field(description="Since the oldest pending change was read.")]
    next_send_at: Annotated[datetime | None, Field(description="When the next request is due at the latest.")]
    next_send: Annotated[str, Field(description="The same in words, with the reason.")]
    last_request: RequestReport | None
    last_accepted: Annotated[RequestReport | None, Field(description="The last one with a job.")]


class Locations(Answer):
    """One page of the locations that match a search."""

    as_of: Annotated[datetime | None, Field(description="When the loop reported what is pending; null: not yet.")]
    total: Annotated[int, Field(description="Locations that match the search.")]
    offset: int
    limit: int
    locations: list[LocationReport]


class LocationQuery(BaseModel):
    """The parameters of `/api/locations`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    search: Annotated[
        str, Field(max_length=SEARCH_CHARACTERS_MAX, description="Part of the name; upper and lower case are the same.")
    ] = ""
    sort: Annotated[SortKey, Field(description="What to sort by.")] = "oldest"
    order: Annotated[Order, Field(description="Locations without a value come last in any case.")] = "desc"
    offset: Annotated[int, Field(ge=0, le=OFFSET_MAX, description="How many of them to leave out.")] = 0
    limit: Annotated[int, Field(ge=1, le=LIMIT_MAX, description="How many to return at most.")] = 50


class PageQuery(LocationQuery):
    """The parameters of the page: those of its list of locations, and the item that is looked for, if any."""

    location: Annotated[str, Field(max_length=SEARCH_CHARACTERS_MAX)] = ""
    item: Annotated[str, Field(max_length=SEARCH_CHARACTERS_MAX)] = ""


# Requests, problems, partitions, history


class Requests(Answer):
    """The latest 100 answered requests, newest first."""

    requests: list[RequestReport]


class ProblemReport(Answer):
    """All problems of one kind, and of one location if they belong to one, since the process started."""

    kind: Annotated[str, Field(description="A reject reason, `request_` or `jobs_` and the outcome, or a name.")]
    text: Annotated[str, Field(description="In words: `refused by the OMS: 14 changes of Store 21`.")]
    location: str | None
    count: int
    unit: Annotated[str, Field(description="What is counted: `changes`, `requests`, `jobs` or `times`.")]
    first_at: datetime
    latest_at: datetime
    detail: Annotated[str, Field(description="Of the latest one.")]


class Problems(Answer):
    """What went wrong and was handled: the 50 groups with the latest problems, the latest first."""

    problems: list[ProblemReport]


class PartitionReport(Answer):
    """An assigned partition."""

    topic: str
    partition: int
    committed_offset: int | None
    committable_offset: Annotated[int | None, Field(description="The lowest offset that is not accepted yet.")]
    next_offset: Annotated[int | None, Field(description="The one after the last message that was read.")]
    end_offset: Annotated[int | None, Field(description="The end of the log, as last reported by the broker.")]
    lag: Annotated[int | None, Field(description="Messages still to be read.")]
    state: Literal["reading", "paused", "recovering"]


class Partitions(Answer):
    """The partitions that the group has assigned to this process."""

    partitions: list[PartitionReport]


class HistoryPoint(Answer):
    """The state at one moment; rates are averages since the point before."""

    at: datetime
    pending_changes: int
    oldest_pending_seconds: float | None
    lag: int | None
    messages_per_second: Annotated[float | None, Field(description="Read; null for the first point.")]
    changes_per_second: Annotated[float | None, Field(description="Accepted; null for the first point.")]


class History(Answer):
    """The last 15 minutes, oldest first, with a point every 5 seconds."""

    points: list[HistoryPoint]


# Where an item is


class TraceQuery(BaseModel):
    """The parameters of `/api/trace`: the location and at least one identifier of the item."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    location: Annotated[str, Field(min_length=1, max_length=SEARCH_CHARACTERS_MAX, description="Its name, as sent.")]
    part_number: Identifier = None
    upc: Identifier = None
    sku: Identifier = None
    item: Annotated[
        str | None,
        Field(min_length=1, max_length=SEARCH_CHARACTERS_MAX, description="Any of the three, instead of them."),
    ] = None

    @model_validator(mode="after")
    def _names_an_item(self) -> Self:
        named = [value for value in (self.part_number, self.upc, self.sku) if value is not None]
        if bool(named) == (self.item is not None):
            raise ValueError("give part_number, upc or sku, or item instead of them")
        return self


class ChangePlace(Answer):
    """Where a change is in Kafka."""

    topic: str
    partition: int
    offset: int
    line: Annotated[int, Field(description="Its index in an event with several changes, otherwise 0.")]


class TracedRequest(Answer):
    """The request that has or had a change."""

    request_id: Annotated[str | None, Field(description="As in the header X-Request-Id, the log and dead letters.")]
    sent_at: datetime | None
    accepted_at: datetime | None
    items: int | None
    job_id: str | None
    job_outcome: Annotated[str | None, Field(description="As of `RequestReport`.")]
    job_ended_at: Annotated[datetime | None, Field(description="When the service learnt that the job had ended.")]
    job_messages: str


class TracedChange(Answer):
    """A change of the item, and its fate."""

    place: ChangePlace
    state: Annotated[
        Literal["recovering", "pending", "in_flight", "accepted", "dead_lettered"],
        Field(description="`recovering`: its partition is; `pending`: in the window of its location."),
    ]
    text: Annotated[str, Field(description="Its fate in words.")]
    next_step: Annotated[str | None, Field(description="What to do about it; null: nothing.")]
    recorded_at: Annotated[datetime | None, Field(description="Kafka's timestamp, while the change is pending.")]
    read_at: Annotated[datetime | None, Field(description="When it was read, while it is pending.")]
    leaves_by: Annotated[
        datetime | None, Field(description="When it leaves at the latest, if the OMS accepts requests then.")
    ]
    value: Annotated[str | None, Field(description="The item as JSON, while the change is pending.")]
    coalesced_into: Annotated[
        ChangePlace | None, Field(description="The newer change whose count was sent, or will be, in its place.")
    ]
    request: TracedRequest | None


class Trace(Answer):
    """Where the changes of an item are, as far as this process has them or remembers them."""

    now: datetime
    location: str
    next_send: Annotated[str, Field(description="When the location's next request leaves, with the reason.")]
    failed: Annotated[str | None, Field(description="The location's last request, if it was not accepted.")]
    waits: Annotated[list[Wait], Field(description="What the location and the process wait for.")]
    changes: Annotated[list[TracedChange], Field(description="Pending ones first, then those that left last.")]
    left_out: Annotated[int, Field(description="Pending changes of the item that are not listed.")]
    complete_since: Annotated[
        datetime, Field(description="What had left by then may be forgotten, and was not read by this process before.")
    ]
    partitions: Annotated[list[PartitionReport], Field(description="Those of this process.")]


# Members


class MemberReport(Answer):
    """The status page of a member of the group."""

    url: Annotated[str, Field(description="Its address, as other members reach it.")]
    is_this: Annotated[bool, Field(description="Whether it is the one that answers.")]


class Members(Answer):
    """The members of the group, as far as `http.members` finds them."""

    host: Annotated[str, Field(description="The name of the machine; in Kubernetes, of the pod.")]
    members: list[MemberReport]
    problems: Annotated[list[str], Field(description="Names that cannot be resolved, and why.")]


ANSWERS: Final[Mapping[str, type[Answer]]] = {
    "/api/overview": Overview,
    "/api/locations": Locations,
    "/api/requests": Requests,
    "/api/problems": Problems,
    "/api/partitions": Partitions,
    "/api/history": History,
    "/api/trace": Trace,
    "/api/members": Members,
}
"""What each path answers."""


def json_schema() -> dict[str, Any]:
    """The JSON Schema of all answers: ``$defs`` has one for each path, named in ``paths``."""
    models = [(model, "serialization") for model in ANSWERS.values()]
    _, definitions = models_json_schema(models, title="The status server's JSON")  # type: ignore[arg-type]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": definitions["title"],
        "paths": {path: f"#/$defs/{model.__name__}" for path, model in ANSWERS.items()},
        "$defs": definitions["$defs"],
    }
