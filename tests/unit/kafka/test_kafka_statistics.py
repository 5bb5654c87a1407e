"""Parsing the Kafka client's statistics. Integration tests on real brokers show that the client uses this format."""

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from consumer.facts import KafkaStatistics
from consumer.kafka.statistics import BROKERS_MAX, read_statistics


def broker(nodeid: int, nodename: str, source: str = "learned", **more: Any) -> dict[str, Any]:
    known = {"state": "UP", "txerrs": 0, "rxerrs": 0, "req_timeouts": 0, "connects": 1}
    idle = {"cnt": 0, "p50": 0, "p99": 0}
    return {"nodeid": nodeid, "nodename": nodename, "source": source, "rtt": idle} | known | more


def partition(messages: int, size: int) -> dict[str, int]:
    return {"fetchq_cnt": messages, "fetchq_size": size}


def statistics_of(*brokers: dict[str, Any], partitions: tuple[dict[str, int], ...] = ()) -> KafkaStatistics | None:
    topic = {"partitions": dict(enumerate(partitions))}
    statistics = {"brokers": dict(enumerate(brokers)), "topics": {"stock": topic}, "rx_bytes": 700, "tx_bytes": 30}
    return read_statistics(json.dumps(statistics))


def test_a_broker_with_a_second_connection_for_the_group_counts_once() -> None:
    statistics = statistics_of(
        broker(1, "kafka-1:9092"),
        broker(2, "kafka-2:9092", state="CONNECT"),
        broker(-1, "kafka-1:9092", "logical"),
        broker(-1, "kafka.example:9092", "configured"),
    )
    assert statistics is not None
    assert statistics.brokers_up == 1


def test_a_broker_with_only_the_groups_connection_is_up() -> None:
    statistics = statistics_of(broker(1, "kafka-1:9092", state="INIT"), broker(-1, "kafka-1:9092", "logical"))
    assert statistics is not None
    assert statistics.brokers_up == 1


def test_the_queue_shared_by_all_partitions_counts_once() -> None:
    statistics = statistics_of(partitions=(partition(39, 3_120), partition(39, 3_120), partition(0, 0)))
    assert statistics is not None
    assert (statistics.fetch_queue_messages, statistics.fetch_queue_bytes) == (39, 3_120)


def test_round_trips_are_in_seconds_for_brokers_that_answered_requests() -> None:
    statistics = statistics_of(
        broker(1, "kafka-1:9092", rtt={"cnt": 4, "p50": 1_500, "p99": 250_000}),
        broker(2, "kafka-2:9092"),
        broker(-1, "kafka-1:9092", "logical", rtt={"cnt": 4, "p50": 1, "p99": 1}),
    )
    assert statistics is not None
    assert statistics.round_trips == {"1": {0.5: 0.0015, 0.99: 0.25}}


def test_round_trips_are_reported_for_a_limited_number_of_brokers() -> None:
    rtt = {"cnt": 1, "p50": 1, "p99": 1}
    statistics = statistics_of(
        *(broker(node_id, f"kafka-{node_id}:9092", rtt=rtt) for node_id in reversed(range(BROKERS_MAX + 9)))
    )
    assert statistics is not None
    assert list(statistics.round_trips) == [str(node_id) for node_id in range(BROKERS_MAX)]


def test_bytes_errors_and_reconnects_are_summed_over_all_connections() -> None:
    statistics = statistics_of(
        broker(1, "kafka-1:9092", txerrs=1, rxerrs=2, connects=4),
        broker(2, "kafka-2:9092", req_timeouts=4, connects=0),
    )
    assert statistics is not None
    assert (statistics.received_bytes, statistics.sent_bytes) == (700, 30)
    assert (statistics.request_errors, statistics.reconnects) == (7, 3)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"brokers": {"1": {}}, "topics": {}}', '{"brokers": 1}'])
def test_statistics_in_another_format_are_logged_and_skipped(text: str) -> None:
    with capture_logs() as logs:
        assert read_statistics(text) is None
    assert [event["event"] for event in logs] == ["kafka_statistics_unreadable"]
