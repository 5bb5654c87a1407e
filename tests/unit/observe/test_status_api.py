"""What the status server's JSON says of what the loop has reported."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import httpx
import jsonschema
import pytest
from prometheus_client import CollectorRegistry

from consumer.core.changes.items import RejectReason
from consumer.core.location.location import LocationState
from consumer.core.location.views import LocationView
from consumer.core.oms.answers import AnswerKind
from consumer.core.oms.breaker import BreakerState
from consumer.core.oms.job_schedule import Job, JobOutcome, JobResult
from consumer.facts import Heartbeat, JobEnded, LocationViews, PartitionsAssigned, Snapshot
from consumer.observe.status import queries, requests
from consumer.observe.status.api import ANSWERS, LocationQuery, json_schema
from consumer.observe.status.board import FRESH_SECONDS, WANTED_SECONDS, StatusBoard
from consumer.observe.status.history import SAMPLE_SECONDS, SAMPLES_MAX
from consumer.observe.status.problems import GROUPS_MAX
from consumer.observe.status.words import ago, ahead, count, counted, duration
from tests.support.facts import accepted, assignment, decoded, failed, partition_view, reject, request
from tests.support.fakes import FakeClock
from tests.support.frames import change
from tests.support.status_server import running_status_server
from tests.support.status_story import SETTINGS, STORES, Story, store

WAIT_SECONDS_MAX = 60.0


@pytest.fixture
def story() -> Story:
    story = Story()
    story.send_requests()
    story.wait(900)
    return story


@pytest.fixture
def url(story: Story) -> Iterator[str]:
    with running_status_server(story.board, CollectorRegistry()) as server:
        yield server.url


def board() -> tuple[StatusBoard, FakeClock]:
    clock = FakeClock()
    return StatusBoard(clock, version="1", settings=SETTINGS, stalled_after_seconds=60.0), clock


def of_shop(location: str) -> Any:
    return request([change(location, "a", arrived=1.0)])


@pytest.mark.parametrize("path", [path for path in ANSWERS if path != "/api/trace"])  # it has tests of its own
@pytest.mark.parametrize("is_busy", [True, False], ids=["busy", "just started"])
def test_every_answer_keeps_to_its_schema(path: str, is_busy: bool, url: str, story: Story) -> None:  # noqa: FBT001
    story.go_wrong()
    schema = json_schema()
    if is_busy:
        answer = httpx.get(url + path, timeout=WAIT_SECONDS_MAX)
    else:
        started, _ = board()
        with running_status_server(started, CollectorRegistry()) as server:
            answer = httpx.get(server.url + path, timeout=WAIT_SECONDS_MAX)

    assert answer.headers["Content-Type"] == "application/json"
    jsonschema.validate(answer.json(), {"$ref": schema["paths"][path], "$defs": schema["$defs"]})


def names(story: Story, **query: Any) -> list[str]:
    found = queries.locations(story.board, LocationQuery(limit=3, **query))
    return [location.name for location in found.locations]


def test_locations_are_sorted_and_those_without_a_value_come_last(story: Story) -> None:
    story.board.observe(accepted(of_shop("Idle")))  # has nothing pending
    assert names(story, sort="name", order="asc") == ["Idle", store(1), store(2)]
    assert names(story, sort="name") == [store(STORES), store(STORES - 1), store(STORES - 2)]
    assert names(story, sort="pending") == [store(STORES), store(STORES - 1), store(STORES - 2)]
    assert names(story, sort="oldest", order="asc") == [store(1), store(2), store(3)]
    assert names(story, sort="next_send", order="asc") == [store(STORES), store(STORES - 1), store(STORES - 2)]
    assert names(story, sort="last_request")[0] == "Idle"
    for sort in ("pending", "oldest", "next_send"):
        for order in ("asc", "desc"):
            assert names(story, sort=sort, order=order, offset=STORES) == ["Idle"]


def test_locations_are_searched_by_part_of_the_name_and_paged(story: Story) -> None:
    found = queries.locations(
        story.board, LocationQuery(search="STORE 01", sort="name", order="asc", offset=8, limit=5)
    )
    assert (found.total, found.offset, found.limit) == (10, 8, 5)
    assert [location.name for location in found.locations] == [store(18), store(19)]


def test_a_location_has_its_pending_items_its_next_request_and_its_last_request_and_job(story: Story) -> None:
    (location,) = queries.locations(story.board, LocationQuery(search=store(7))).locations
    assert (location.pending_changes, location.pending_items, location.oldest_seconds) == (280, 210, 7.0)
    assert location.next_send == "in 5 minutes, or when full"
    assert location.next_send_at is not None
    assert location.last_request == location.last_accepted
    assert location.last_accepted is not None
    assert (location.last_accepted.job_id, location.last_accepted.job_outcome) == ("7007", "success")

    story.board.observe(failed(of_shop(store(7)), kind=AnswerKind.UNAVAILABLE, status=503, detail="later"))
    (location,) = queries.locations(story.board, LocationQuery(search=store(7))).locations
    assert location.last_request is not None
    assert (location.last_request.outcome, location.last_request.detail) == ("unavailable", "later")
    assert location.last_accepted is not None
    assert location.last_accepted.job_id == "7007"


@pytest.mark.parametrize(
    ("state", "send_at", "said"),
    [
        (LocationState.IN_FLIGHT, None, "after the answer to the request in flight"),
        (LocationState.HELD, 1_090.0, "in 90 seconds: the last request may have been queued"),
        (LocationState.BACKING_OFF, 1_004.0, "in 4 seconds: the last request failed"),
        (LocationState.BISECTING, 1_000.0, "now: the items that the OMS refuses are being found"),
        (LocationState.PENDING, 1_240.0, "in 4 minutes, or when full"),
        (LocationState.PENDING, 1_000.0, "as soon as a request may leave"),
    ],
)
def test_the_next_request_is_said_in_words_and_what_waits_too(
    state: LocationState, send_at: float | None, said: str
) -> None:
    status, clock = board()
    status.observe(LocationViews([LocationView("Rome", state, 1_200, 900, 990.0, send_at)], clock.now))
    (location,) = queries.locations(status, LocationQuery()).locations
    assert location.next_send == said
    (wait,) = queries.overview(status).waits
    assert wait.what == "1,200 changes of Rome"
    assert "{" not in wait.why


@pytest.mark.parametrize(
    ("of_snapshot", "said"),
    [
        ({}, "due; sent as soon as a request may leave"),
        (
            {"requests_per_second_max": 2.5},
            "due; sent as soon as a request may leave; requests are limited to 2.5 per second, the OMS's quota",
        ),
        ({"breaker": BreakerState.OPEN}, "due; sent once the OMS works again"),
        ({"job_queue_full": "1,000 jobs"}, "due; sent once the OMS has finished more jobs"),
        ({"sending_stopped": "correct oms.api_key"}, "due; sent once that is corrected"),
    ],
)
def test_what_is_due_says_what_it_still_waits_for(of_snapshot: dict[str, Any], said: str) -> None:
    status, clock = board()
    status.observe(LocationViews([LocationView("Rome", LocationState.PENDING, 2, 2, 1.0, clock.now)], clock.now))
    status.observe(Snapshot(at=clock.now, **of_snapshot))
    assert queries.overview(status).waits[-1].why == said


def test_locations_with_the_same_reason_are_one_line() -> None:
    status, clock = board()
    views = [LocationView(f"Shop {n}", LocationState.HELD, 10, 10, 0.0, clock.now + 60 * n) for n in (2, 5, 9)]
    status.observe(LocationViews(views, clock.now))
    (wait,) = queries.overview(status).waits
    assert (wait.level, wait.what) == ("waiting", "30 changes of 3 locations")
    assert wait.why == "the last request may have been queued; held for another 2 minutes"


def test_only_the_latest_requests_are_kept_and_one_of_each_of_many_locations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "LOCATIONS_MAX", 150)
    status, _ = board()
    for number in range(200):
        status.observe(accepted(of_shop(f"Shop {number}")))
    status.observe(accepted(of_shop("Shop 50"), job_id="78"))
    shown = queries.requests(status).requests
    assert len(shown) == requests.REQUESTS_MAX
    assert [found.location for found in shown[:2]] == ["Shop 50", "Shop 199"]
    kept = queries.locations(status, LocationQuery(limit=500))
    assert kept.total == 150
    assert "Shop 51" in {location.name for location in kept.locations}
    assert "Shop 49" not in {location.name for location in kept.locations}


def test_the_end_of_a_job_is_shown_with_its_request_and_no_other() -> None:
    status, _ = board()
    status.observe(accepted(of_shop("Rome"), job_id="1"))
    status.observe(accepted(of_shop("Rome"), job_id="2"))
    status.observe(JobEnded(JobResult(Job("1", "Rome", items=1, chunks=1), JobOutcome.SUCCESS)))
    assert [(found.job_id, found.job_outcome) for found in queries.requests(status).requests] == [
        ("2", None),
        ("1", "success"),
    ]
    (location,) = queries.locations(status, LocationQuery()).locations
    assert location.last_accepted is not None
    assert (location.last_accepted.job_id, location.last_accepted.job_outcome) == ("2", None)


def test_problems_are_grouped_by_kind_and_location(story: Story) -> None:
    story.go_wrong()
    story.go_wrong()
    shown = {problem.kind: problem for problem in queries.problems(story.board).problems}
    assert shown["refused_by_oms"].text == "refused by the OMS: 28 changes of Store 021"
    assert shown["refused_by_oms"].detail == "HTTP 400: upc B-1 is not known"
    assert shown["refused_by_oms"].latest_at > shown["refused_by_oms"].first_at
    assert shown["no_quantity"].text == "rejected (no quantity): 6 changes"
    assert shown["jobs_failed"].text == "failed in the OMS: 2 jobs of Store 002"
    assert shown["request_unavailable"].text == "OMS unavailable: 8 requests"
    assert shown["request_unavailable"].detail == "Store 005: 503 try later"


def test_rejects_of_one_batch_are_grouped_by_reason_and_the_latest_group_comes_first() -> None:
    status, clock = board()
    status.observe(
        decoded(reject(RejectReason.CORRUPT), reject(RejectReason.CORRUPT), reject(RejectReason.NO_LOCATION))
    )
    clock.now += 1
    status.observe(decoded(reject(RejectReason.CORRUPT, detail="truncated")))
    shown = queries.problems(status).problems
    assert [(problem.kind, problem.count) for problem in shown] == [("corrupt", 3), ("no_location", 1)]
    assert shown[0].detail == "truncated"


def test_a_location_that_is_set_aside_is_named_with_what_was_said_and_listed_once() -> None:
    status, clock = board()
    status.observe(PartitionsAssigned([assignment()]))
    status.observe(
        LocationViews([LocationView("Rome", LocationState.BACKING_OFF, 3, 3, 900.0, clock.now + 300)], clock.now)
    )
    for _ in range(2):
        status.observe(Snapshot(at=clock.now, set_aside_locations=1, set_aside={"Rome": "HTTP 404: no such location"}))
    overview = queries.overview(status)
    assert overview.health == "The OMS refuses Rome whole and accepts others: set aside, and probed"
    assert overview.waits[0].what == "Set aside: Rome"
    assert overview.waits[0].why.endswith("HTTP 404: no such location")
    (location,) = queries.locations(status, LocationQuery()).locations
    assert location.next_send == "in 5 minutes, as a probe: set aside"
    (problem,) = queries.problems(status).problems
    assert (problem.text, problem.detail) == ("location set aside: Rome, once", "HTTP 404: no such location")

    many = {f"Shop {number}": "no" for number in range(100)}
    status.observe(Snapshot(at=clock.now, set_aside_locations=120, set_aside=many))
    assert queries.overview(status).health.startswith("The OMS refuses 120 locations whole")


def test_only_the_groups_with_the_latest_problems_are_kept() -> None:
    status, _ = board()
    for number in range(GROUPS_MAX + 5):
        job = Job(str(number), f"Shop {number}", items=1, chunks=1)
        status.observe(JobEnded(JobResult(job, JobOutcome.FAILED)))
    shown = queries.problems(status).problems
    assert len(shown) == GROUPS_MAX
    assert shown[0].location == f"Shop {GROUPS_MAX + 4}"


def test_the_history_has_a_point_every_few_seconds_of_the_last_quarter_of_an_hour() -> None:
    story = Story()
    story.wait(3_600, read_per_second=1_000)
    for _ in range(5):
        story.clock.now += 0.25
        story.happen()  # too soon for another point
    points = queries.history(story.board).points
    assert len(points) == SAMPLES_MAX
    assert (points[-1].at - points[0].at).total_seconds() == pytest.approx(900)
    assert {(after.at - before.at).total_seconds() for before, after in pairwise(points)} == {SAMPLE_SECONDS}
    assert all(800 <= (point.messages_per_second or 0) <= 1_200 for point in points[1:])


def test_without_samples_there_are_no_rates() -> None:
    status, clock = board()
    assert queries.history(status).points == []
    assert queries.overview(status).messages_per_second is None
    status.observe(Snapshot(at=clock.now))
    (point,) = queries.history(status).points
    assert point.messages_per_second is None


@pytest.mark.parametrize(
    ("lag", "read_per_second", "said"),
    [
        (2_700_000, 5_000, "Catching up: 1.2 M changes, about 4 minutes at this rate"),
        (900, 5, "All is well: "),
        (30_000, 0, "Catching up: 30,000 changes, and they are not getting fewer at present"),
    ],
)
def test_the_health_line_says_how_far_behind_the_service_is(lag: int, read_per_second: int, said: str) -> None:
    story = Story(lag=lag)
    story.wait(300, read_per_second=read_per_second)
    assert queries.overview(story.board).health.startswith(said)


def test_the_time_to_catch_up_counts_from_when_the_lag_was_known() -> None:
    story = Story(lag=1_000_000)
    story.board.observe(Snapshot(at=story.clock.now))  # no partition has its end yet
    story.wait(30, read_per_second=5_000)
    health = queries.overview(story.board).health
    assert health.startswith("Catching up: ")
    assert health.endswith(" minutes at this rate")


def test_the_health_line_names_the_most_urgent_thing() -> None:
    status, clock = board()

    def line(**of_snapshot: Any) -> tuple[str, str]:
        status.observe(Snapshot(at=clock.now, **of_snapshot))
        overview = queries.overview(status)
        return overview.level, overview.health

    assert line() == ("waiting", "Not ready: not in the consumer group, waiting for partitions")
    status.observe(PartitionsAssigned([]))
    status.observe(LocationViews((), clock.now))
    assert line() == ("good", "All is well: a spare member, without partitions at present")
    partitions = (partition_view(),)
    assert line(partitions=partitions)[1].endswith("everything that was read has been accepted by the OMS")
    recovering = (replace(partition_view(), recovering=True),)
    assert line(partitions=recovering)[1].startswith("Taking over partitions")
    assert line(breaker=BreakerState.OPEN, memory_pressure=True)[1].startswith("OMS unavailable")
    assert line(sending_stopped="correct oms.api_key", breaker=BreakerState.OPEN) == (
        "bad",
        "Nothing is sent until this is corrected: correct oms.api_key",
    )
    clock.now += 61
    assert queries.overview(status).health.startswith("Stalled: the loop has shown no sign of life for 61 s")


def test_a_partition_has_its_offsets_its_state_and_what_is_still_to_be_read() -> None:
    status, clock = board()
    views = (
        replace(partition_view(0), end_offset=12),
        replace(partition_view(1), paused=True),
        replace(partition_view(2), paused=True, recovering=True),
    )
    status.observe(Snapshot(at=clock.now, partitions=views))
    shown = queries.partitions(status).partitions
    assert [(partition.state, partition.lag) for partition in shown] == [
        ("reading", 3),
        ("paused", None),
        ("recovering", None),
    ]


def test_locations_are_looked_at_only_while_somebody_asks() -> None:
    status, clock = board()
    assert not status.views_wanted()
    queries.overview(status)
    assert status.views_wanted()
    clock.now += WANTED_SECONDS
    assert not status.views_wanted()


def test_the_first_to_ask_waits_for_the_loop_and_the_next_ones_do_not() -> None:
    status, clock = board()
    status.observe(PartitionsAssigned([assignment()]))
    status.observe(Snapshot(at=clock.now))
    fresh = LocationViews([LocationView("Rome", LocationState.PENDING, 1, 1, clock.now, clock.now)], clock.now)

    def be_the_loop() -> None:
        while not status.views_wanted():
            pass
        status.observe(fresh)

    loop = threading.Thread(target=be_the_loop)
    loop.start()
    assert status.location_views(WAIT_SECONDS_MAX) is fresh
    loop.join(WAIT_SECONDS_MAX)
    clock.now += FRESH_SECONDS
    assert status.location_views(WAIT_SECONDS_MAX) is fresh


def test_only_the_first_to_ask_waits_for_a_loop_in_a_long_turn() -> None:
    status, clock = board()
    status.observe(PartitionsAssigned([assignment()]))
    assert status.location_views(0.01).views == ()
    clock.now += WANTED_SECONDS - 1
    status.observe(Heartbeat(clock.now))
    assert status.location_views(threading.TIMEOUT_MAX).views == ()  # this one does not wait


def test_nobody_waits_for_a_loop_that_is_stalled_or_has_not_joined() -> None:
    status, clock = board()
    assert status.location_views(WAIT_SECONDS_MAX).views == ()
    status.observe(PartitionsAssigned([assignment()]))
    clock.now += 61
    assert status.location_views(WAIT_SECONDS_MAX).views == ()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0.0 seconds"),
        (1.0, "1 second"),
        (59, "59 seconds"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (7_199, "120 minutes"),
        (7_200, "2 hours"),
        (172_800, "2 days"),
    ],
)
def test_times_are_said_in_one_unit(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_numbers_and_moments_are_said_as_people_do() -> None:
    assert (count(12_340), count(1_234_567), counted(1, "change"), counted(2, "change")) == (
        "12,340",
        "1.2 M",
        "1 change",
        "2 changes",
    )
    assert (ago(1), ago(30), ahead(1), ahead(300)) == ("just now", "30 seconds ago", "now", "in 5 minutes")
