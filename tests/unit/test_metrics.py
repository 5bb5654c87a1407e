"""What Prometheus reads after the loop has told its facts."""

import re

import pytest
from prometheus_client import generate_latest

from consumer.core.items import RejectReason
from consumer.core.requests import EngineLimits
from consumer.core.retry import AnswerKind
from consumer.metrics import Metrics
from consumer.ports import CommitRefused, Snapshot
from tests.support.facts import accept, assignment, decoded, fail, partition_view, reject, request
from tests.support.fakes import FakeClock
from tests.support.frames import change

WALL = FakeClock().wall()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(FakeClock(), limits=EngineLimits(), ready=lambda: True, build={"version": "1.2.3"}, locations_max=2)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"inventory_refresh_{name}", labels)


def test_a_decoded_batch_counts_changes_tombstones_and_each_reason(metrics: Metrics) -> None:
    bad = [reject(RejectReason.CORRUPT), reject(RejectReason.CORRUPT), reject(RejectReason.NO_LOCATION)]
    metrics.changes_read(6)
    metrics.changes_decoded(decoded(*bad, rows=[change("shop", "a")], tombstones=2))
    assert value(metrics, "changes_read_total") == 6
    assert value(metrics, "changes_decoded_total") == 1
    assert value(metrics, "tombstones_total") == 2
    assert value(metrics, "changes_rejected_total", reason="corrupt") == 2
    assert value(metrics, "changes_rejected_total", reason="no_location") == 1


def test_a_request_counts_its_items_and_chunks_by_why_it_left(metrics: Metrics) -> None:
    metrics.request_sent(request(), chunks=2)
    assert value(metrics, "requests_sent_total", reason="age") == 1
    assert value(metrics, "items_sent_total") == 1
    assert value(metrics, "chunks_sent_total") == 2
    assert value(metrics, "request_items_sum") == 1


def test_an_accepted_request_counts_its_changes_items_and_the_age_of_the_oldest(metrics: Metrics) -> None:
    now_ms = int(WALL * 1000)
    rows = [
        change("shop", "a", occurred_at=now_ms - 40_000, arrived=999.0, _timestamp=now_ms - 20_000),
        change("shop", "b", occurred_at=now_ms - 60_000, arrived=990.0, _timestamp=now_ms - 30_000),
        change("shop", "c", occurred_at=0, arrived=995.0, _timestamp=None),
    ]
    accept(metrics, request(rows), seconds=0.3)
    assert value(metrics, "changes_accepted_total") == 3
    assert value(metrics, "items_accepted_total") == 3
    assert value(metrics, "answers_total", outcome="accepted") == 1
    assert value(metrics, "oms_responses_total", code="200") == 1
    assert value(metrics, "request_bytes_total") == 100
    assert value(metrics, "request_seconds_sum") == 0.3
    ages = [value(metrics, "oldest_change_age_seconds_sum", since=since) for since in ("occurred", "published", "read")]
    assert ages == pytest.approx([60, 30, 10])


def test_a_change_from_a_clock_ahead_of_ours_is_of_no_age(metrics: Metrics) -> None:
    accept(metrics, request([change("shop", "a", occurred_at=int(WALL * 1000) + 5_000, arrived=999.0)]))
    assert value(metrics, "oldest_change_age_seconds_sum", since="occurred") == 0
    assert value(metrics, "oldest_change_age_seconds_count", since="published") is None


def test_a_failed_request_counts_its_outcome_and_accepts_nothing(metrics: Metrics) -> None:
    fail(metrics, request(), kind=AnswerKind.UNKNOWN, status=504)
    fail(metrics, request(), kind=AnswerKind.UNAVAILABLE)
    assert value(metrics, "answers_total", outcome="unknown") == 1
    assert value(metrics, "oms_responses_total", code="504") == 1
    assert value(metrics, "changes_accepted_total") == 0


def test_commits_rebalances_and_dead_letters_are_counted(metrics: Metrics) -> None:
    metrics.committed(3)
    metrics.commit_refused(CommitRefused(fenced=True, detail=""))
    metrics.rebalanced("revoked", [assignment()], unsettled=2)
    metrics.dead_letters_confirmed(4)
    metrics.committed_offset_out_of_range(assignment())
    metrics.count_tokens(lambda: 5)
    assert value(metrics, "commits_total") == 1
    assert value(metrics, "commits_refused_total", fenced="yes") == 1
    assert value(metrics, "rebalances_total", kind="revoked") == 1
    assert value(metrics, "requests_unsettled_total") == 2
    assert value(metrics, "dead_letters_confirmed_total") == 4
    assert value(metrics, "committed_offset_out_of_range_total") == 1
    assert value(metrics, "tokens_fetched_total") == 5


def test_the_latest_snapshot_is_what_gauges_show(metrics: Metrics) -> None:
    metrics.snapshot(
        Snapshot(
            at=1_000.0,
            partitions=(partition_view(0), partition_view(1, watermark=None)),
            pending_changes=12,
            sending_stopped="the key is wrong",
        )
    )
    assert value(metrics, "pending_changes") == 12
    assert value(metrics, "partitions_assigned") == 2
    assert value(metrics, "sending_stopped") == 1
    assert value(metrics, "decoding_waits") == 0
    assert value(metrics, "partition_unaccepted_offsets", topic="stock", partition="0") == 4
    assert value(metrics, "partition_unaccepted_offsets", topic="stock", partition="1") is None
    assert value(metrics, "loop_heartbeat_timestamp_seconds") == WALL


def test_a_partition_that_went_leaves_no_series_behind(metrics: Metrics) -> None:
    metrics.snapshot(Snapshot(at=1.0, partitions=(partition_view(0),)))
    metrics.snapshot(Snapshot(at=2.0))
    assert value(metrics, "partition_committed_offset", topic="stock", partition="0") is None
    assert b'partition="0"' not in generate_latest(metrics.registry)


def test_readiness_is_asked_for_when_prometheus_asks() -> None:
    answers = iter([False, True])
    metrics = Metrics(FakeClock(), limits=EngineLimits(), ready=lambda: next(answers), build={"version": "1.2.3"})
    assert [value(metrics, "ready"), value(metrics, "ready")] == [0, 1]


def test_known_label_values_are_shown_before_anything_happened(metrics: Metrics) -> None:
    shown = generate_latest(metrics.registry).decode()
    for reason in RejectReason:
        assert f'inventory_refresh_changes_rejected_total{{reason="{reason}"}} 0.0' in shown
    for kind in AnswerKind:
        assert f'inventory_refresh_answers_total{{outcome="{kind}"}} 0.0' in shown
    assert 'inventory_refresh_build_info{version="1.2.3"} 1.0' in shown


def test_every_metric_shown_is_described_and_every_described_one_is_shown(metrics: Metrics) -> None:
    accept(metrics, request())
    metrics.snapshot(Snapshot(at=1.0, partitions=(partition_view(),)))
    lines = generate_latest(metrics.registry).decode().splitlines()
    # Clients of this kind add a gauge with the time of its first use to every counter and histogram.
    shown = {line.split()[2]: line.split()[3] for line in lines if line.startswith("# TYPE") and "_created" not in line}
    described = {described.name: described.kind for described in metrics.described}
    assert {name: kind for name, kind in shown.items() if not name.startswith("process_")} == described


def test_names_and_descriptions_keep_to_the_conventions(metrics: Metrics) -> None:
    for described in metrics.described:
        assert re.fullmatch(r"inventory_refresh_[a-z_]+", described.name)
        assert described.name.endswith("_total") == (described.kind == "counter")
        assert described.description.endswith(".")
        assert not {"locationName", "sku"} & set(described.labels)
        assert ("location" in described.labels) == described.name.startswith("inventory_refresh_location_")
