"""What a scrape returns after facts were observed."""

import re
from dataclasses import replace

import polars as pl
import pytest
from prometheus_client import generate_latest

from consumer.core.changes.blocks import Rows
from consumer.core.changes.items import LINES_MAX, SUPERSEDED, SUPERSEDED_TYPE, RejectReason
from consumer.core.limits import EngineLimits
from consumer.core.location.pending import Pending
from consumer.core.location.planner import SendReason
from consumer.core.location.request import Request
from consumer.core.oms.answers import AnswerKind, RetryLimits
from consumer.facts import (
    CommittedOffsetOutOfRange,
    DeadLettersConfirmed,
    KafkaStatistics,
    MessagesRead,
    OffsetsCommitted,
    PartitionsRevoked,
    PendingByLocation,
    RequestSent,
    Snapshot,
)
from consumer.observe.metrics import Metrics
from consumer.observe.metrics.locations import UNTRACKED_MAX, LocationCollector
from consumer.ports import CommitRefused
from tests.support.facts import accepted, assignment, decoded, failed, partition_view, reject, request
from tests.support.fakes import FakeClock
from tests.support.frames import change, frame

WALL = FakeClock().wall()
CLIENT = KafkaStatistics(
    brokers_up=3,
    fetch_queue_messages=40,
    fetch_queue_bytes=5_000,
    round_trips={"1": {0.5: 0.001, 0.99: 0.25}},
    received_bytes=700,
    sent_bytes=30,
    request_errors=2,
    reconnects=1,
)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(FakeClock(), limits=EngineLimits(), ready=lambda: True, build={"version": "1.2.3"}, locations_max=2)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"inventory_refresh_{name}", labels)


def test_a_decoded_batch_counts_changes_tombstones_and_rejects_by_reason(metrics: Metrics) -> None:
    bad = [reject(RejectReason.CORRUPT), reject(RejectReason.CORRUPT), reject(RejectReason.NO_LOCATION)]
    metrics.observe(MessagesRead(6))
    metrics.observe(decoded(*bad, rows=[change("shop", "a")], tombstones=2))
    assert value(metrics, "messages_read_total") == 6
    assert value(metrics, "changes_decoded_total") == 1
    assert value(metrics, "tombstones_total") == 2
    assert value(metrics, "changes_dead_lettered_total", reason="corrupt") == 2
    assert value(metrics, "changes_dead_lettered_total", reason="no_location") == 1


def test_a_request_counts_its_items_and_chunks_and_the_reason_for_sending_it(metrics: Metrics) -> None:
    metrics.observe(RequestSent(replace(request(), chunks=2)))
    assert value(metrics, "requests_sent_total", reason="age") == 1
    assert value(metrics, "items_sent_total") == 1
    assert value(metrics, "chunks_sent_total") == 2
    assert value(metrics, "request_items_sum") == 1


@pytest.mark.parametrize(
    ("items", "chunks", "wasted"),
    [pytest.param(6_000, 2, 0, id="whole chunks"), pytest.param(5_900, 2, 100, id="a partial chunk")],
)
def test_a_request_counts_the_unused_capacity_of_its_chunks(
    metrics: Metrics, items: int, chunks: int, wasted: int
) -> None:
    metrics.observe(RequestSent(replace(request(), items=items, chunks=chunks)))
    assert value(metrics, "chunk_items_wasted_total") == wasted
    assert value(metrics, "request_chunks_sum") == 2
    assert value(metrics, "request_chunks_bucket", le="1.0") == 0
    assert value(metrics, "request_chunks_bucket", le="2.0") == 1


def test_superseded_changes_are_counted_as_coalesced_when_they_are_accepted(metrics: Metrics) -> None:
    rows = [change("shop", "a", offset=at, arrived=990.0) for at in range(3)] + [change("shop", "b", arrived=990.0)]
    in_place = frame(rows).with_columns(
        pl.Series(SUPERSEDED, [None, None, None, [4 * LINES_MAX, 5 * LINES_MAX]], SUPERSEDED_TYPE)
    )
    sent = Request(1, "shop", Rows(in_place), items=2, chunks=1, reason=SendReason.AGE)
    metrics.observe(failed(sent, kind=AnswerKind.UNKNOWN))
    assert value(metrics, "changes_coalesced_total") == 0

    metrics.observe(accepted(sent))
    assert value(metrics, "changes_accepted_total") == 6
    assert value(metrics, "items_accepted_total") == 2
    assert value(metrics, "changes_coalesced_total") == 4


def test_an_accepted_request_counts_its_changes_items_and_the_age_of_the_oldest(metrics: Metrics) -> None:
    now_ms = int(WALL * 1000)
    rows = [
        change("shop", "a", occurred_at=now_ms - 40_000, arrived=999.0, _timestamp=now_ms - 20_000),
        change("shop", "b", occurred_at=now_ms - 60_000, arrived=990.0, _timestamp=now_ms - 30_000),
        change("shop", "c", occurred_at=0, arrived=995.0, _timestamp=None),
    ]
    metrics.observe(accepted(request(rows), seconds=0.3))
    assert value(metrics, "changes_accepted_total") == 3
    assert value(metrics, "items_accepted_total") == 3
    assert value(metrics, "requests_answered_total", outcome="accepted") == 1
    assert value(metrics, "oms_responses_total", code="200") == 1
    assert value(metrics, "request_bytes_total") == 100
    assert value(metrics, "request_duration_seconds_sum") == 0.3
    ages = [value(metrics, "oldest_change_age_seconds_sum", since=since) for since in ("occurred", "published", "read")]
    assert ages == pytest.approx([60, 30, 10])


def test_a_change_from_a_clock_ahead_of_ours_has_age_zero(metrics: Metrics) -> None:
    metrics.observe(accepted(request([change("shop", "a", occurred_at=int(WALL * 1000) + 5_000, arrived=999.0)])))
    assert value(metrics, "oldest_change_age_seconds_sum", since="occurred") == 0
    assert value(metrics, "oldest_change_age_seconds_count", since="published") is None


def test_a_failed_request_counts_its_outcome_and_no_accepted_changes(metrics: Metrics) -> None:
    metrics.observe(failed(request(), kind=AnswerKind.UNKNOWN, status=504))
    metrics.observe(failed(request(), kind=AnswerKind.UNAVAILABLE))
    assert value(metrics, "requests_answered_total", outcome="unknown") == 1
    assert value(metrics, "oms_responses_total", code="504") == 1
    assert value(metrics, "changes_accepted_total") == 0


def test_commits_rebalances_and_dead_letters_are_counted(metrics: Metrics) -> None:
    metrics.observe(OffsetsCommitted(3))
    metrics.observe(CommitRefused(fenced=True, detail=""))
    metrics.observe(PartitionsRevoked([assignment()], unanswered_requests=2))
    metrics.observe(DeadLettersConfirmed(4))
    metrics.observe(CommittedOffsetOutOfRange(assignment()))
    metrics.count_tokens(lambda: 5)
    assert value(metrics, "commits_total") == 1
    assert value(metrics, "commits_refused_total", fenced="yes") == 1
    assert value(metrics, "rebalances_total", kind="revoked") == 1
    assert value(metrics, "requests_unanswered_total") == 2
    assert value(metrics, "dead_letters_confirmed_total") == 4
    assert value(metrics, "committed_offset_out_of_range_total") == 1
    assert value(metrics, "oms_tokens_fetched_total") == 5


def test_gauges_show_the_latest_snapshot(metrics: Metrics) -> None:
    metrics.observe(
        Snapshot(
            at=1_000.0,
            partitions=(partition_view(0), partition_view(1, committable_offset=None)),
            pending_changes=12,
            sending_stopped="the key is wrong",
        )
    )
    assert value(metrics, "pending_changes") == 12
    assert value(metrics, "assigned_partitions") == 2
    assert value(metrics, "sending_stopped") == 1
    assert value(metrics, "decoding_blocked") == 0
    assert value(metrics, "partition_uncommitted_offsets", topic="stock", partition="0") == 4
    assert value(metrics, "partition_uncommitted_offsets", topic="stock", partition="1") is None
    assert value(metrics, "loop_heartbeat_timestamp_seconds") == WALL


def test_the_lag_is_from_the_committable_offset_to_the_end_of_the_log(metrics: Metrics) -> None:
    views = [replace(partition_view(partition), end_offset=end) for partition, end in enumerate([12, None, 3])]
    unknown = replace(partition_view(3, committable_offset=None), end_offset=12)
    metrics.observe(Snapshot(at=1.0, partitions=(*views, unknown)))
    lags = [value(metrics, "partition_lag_offsets", topic="stock", partition=str(number)) for number in range(4)]
    ends = [value(metrics, "partition_end_offset", topic="stock", partition=str(number)) for number in range(4)]
    assert ends == [12, None, 3, 12]
    assert lags == [7, None, 0, None], "an end reported before a later committable offset is not a negative lag"


def test_the_settings_that_limit_a_gauge_are_exported_too() -> None:
    limits = EngineLimits(
        retry=RetryLimits(unknown_hold_seconds=9),
        max_age_seconds=60,
        max_pending_bytes=7,
        max_uncommitted_offsets=8,
    )
    metrics = Metrics(FakeClock(), limits=limits, ready=lambda: True, build={"version": "1.2.3"})
    assert value(metrics, "window_max_age_seconds") == 60
    assert value(metrics, "max_pending_bytes") == 7
    assert value(metrics, "max_uncommitted_offsets") == 8
    assert value(metrics, "unknown_hold_seconds") == 9


def test_memory_is_shown_with_its_budget_and_limit_and_read_at_each_scrape(metrics: Metrics) -> None:
    used: list[int | None] = [700, None]
    metrics.show_memory(300, 1000, lambda: used[0])
    names = ("memory_budget_bytes", "memory_limit_bytes", "memory_used_bytes")
    assert [value(metrics, name) for name in names] == [300, 1000, 700]
    used.pop(0)
    assert [value(metrics, name) for name in names] == [300, 1000, None]


def test_memory_has_no_value_before_it_is_known(metrics: Metrics) -> None:
    assert value(metrics, "memory_used_bytes") is None


def test_broker_gauges_have_no_value_before_the_first_statistics(metrics: Metrics) -> None:
    assert value(metrics, "kafka_brokers_up") is None
    metrics.observe(CLIENT)
    assert value(metrics, "kafka_brokers_up") == 3
    assert value(metrics, "kafka_fetch_queue_messages") == 40
    assert value(metrics, "kafka_fetch_queue_bytes") == 5_000
    assert value(metrics, "kafka_broker_rtt_seconds", broker="1", quantile="0.99") == 0.25


def test_client_counters_never_decrease_when_the_client_forgets_a_broker(metrics: Metrics) -> None:
    for received in (700, 1_000, 400, 450):
        metrics.observe(replace(CLIENT, received_bytes=received))
    assert value(metrics, "kafka_received_bytes_total") == 1_050
    assert value(metrics, "kafka_sent_bytes_total") == 30
    assert value(metrics, "kafka_request_errors_total") == 2
    assert value(metrics, "kafka_reconnects_total") == 1


def test_the_first_locations_have_their_own_series_and_the_others_are_counted(metrics: Metrics) -> None:
    pending = {"Rome": Pending(4, 990.0), "Oslo": Pending(2, 995.0), "Bern": Pending(1, 999.0)}
    metrics.observe(PendingByLocation(pending, 1_000.0))
    metrics.observe(PendingByLocation(pending | {"Wien": Pending(1, 999.0)}, 1_000.0))
    assert value(metrics, "location_pending_changes", location="Rome") == 4
    assert value(metrics, "location_oldest_pending_seconds", location="Oslo") == 5
    assert value(metrics, "location_pending_changes", location="Bern") is None
    assert value(metrics, "locations_untracked") == 2

    metrics.observe(PendingByLocation({"Oslo": Pending(3, 995.0)}, 1_001.0))
    assert value(metrics, "location_pending_changes", location="Rome") == 0
    assert value(metrics, "location_oldest_pending_seconds", location="Rome") == 0
    assert value(metrics, "location_pending_changes", location="Oslo") == 3


def test_a_location_counts_its_requests_by_outcome_and_its_accepted_items(metrics: Metrics) -> None:
    metrics.observe(accepted(request()))
    metrics.observe(failed(request(), kind=AnswerKind.UNKNOWN))
    assert value(metrics, "location_items_accepted_total", location="shop") == 1
    assert value(metrics, "location_last_accepted_timestamp_seconds", location="shop") == WALL
    outcomes = [
        value(metrics, "location_requests_answered_total", location="shop", outcome=kind)
        for kind in ("accepted", "unknown")
    ]
    assert outcomes == [1, 1]


def test_the_count_of_locations_without_series_is_bounded() -> None:
    locations = LocationCollector(1)
    locations.set_pending({str(number): Pending(1, 0.0) for number in range(UNTRACKED_MAX + 3)}, 0.0)
    (untracked,) = [family for family in locations.collect() if family.name.endswith("untracked")]
    assert [sample.value for sample in untracked.samples] == [UNTRACKED_MAX]


def test_locations_have_no_series_unless_switched_on() -> None:
    metrics = Metrics(FakeClock(), limits=EngineLimits(), ready=lambda: True, build={"version": "1.2.3"})
    metrics.observe(accepted(request()))
    metrics.observe(PendingByLocation({"shop": Pending(1, 990.0)}, 1_000.0))
    assert "location_" not in generate_latest(metrics.registry).decode()
    assert "locations_untracked" not in generate_latest(metrics.registry).decode()


def test_a_revoked_partition_leaves_no_series_behind(metrics: Metrics) -> None:
    metrics.observe(Snapshot(at=1.0, partitions=(partition_view(0),)))
    metrics.observe(Snapshot(at=2.0))
    assert value(metrics, "partition_committed_offset", topic="stock", partition="0") is None
    assert b'partition="0"' not in generate_latest(metrics.registry)


def test_readiness_is_evaluated_at_each_scrape() -> None:
    answers = iter([False, True])
    metrics = Metrics(FakeClock(), limits=EngineLimits(), ready=lambda: next(answers), build={"version": "1.2.3"})
    assert [value(metrics, "ready"), value(metrics, "ready")] == [0, 1]


def test_known_label_values_are_exported_from_the_start(metrics: Metrics) -> None:
    shown = generate_latest(metrics.registry).decode()
    for reason in RejectReason:
        assert f'inventory_refresh_changes_dead_lettered_total{{reason="{reason}"}} 0.0' in shown
    for kind in AnswerKind:
        assert f'inventory_refresh_requests_answered_total{{outcome="{kind}"}} 0.0' in shown
    assert 'inventory_refresh_build_info{version="1.2.3"} 1.0' in shown


def test_exported_and_described_metrics_are_the_same(metrics: Metrics) -> None:
    metrics.observe(accepted(request()))
    metrics.observe(Snapshot(at=1.0, partitions=(partition_view(),)))
    lines = generate_latest(metrics.registry).decode().splitlines()
    # The client library adds a gauge with its creation time to every counter and histogram.
    shown = {line.split()[2]: line.split()[3] for line in lines if line.startswith("# TYPE") and "_created" not in line}
    described = {description.name: description.kind for description in metrics.descriptions}
    assert {name: kind for name, kind in shown.items() if not name.startswith("process_")} == described


def test_names_and_help_texts_follow_the_conventions(metrics: Metrics) -> None:
    for metric in metrics.descriptions:
        assert re.fullmatch(r"inventory_refresh_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.help_text.endswith(".")
        assert not {"locationName", "sku"} & set(metric.labels)
        assert ("location" in metric.labels) == metric.name.startswith("inventory_refresh_location_")
