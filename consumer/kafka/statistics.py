"""The part of the Kafka client's statistics that becomes metrics.

The client reports them as JSON, about a kilobyte per partition; librdkafka's STATISTICS.md describes the format.
Statistics that cannot be parsed are logged and skipped.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import structlog

from consumer.facts import KafkaStatistics

BROKERS_MAX: Final = 100
"""Round trips are reported for at most this many brokers, those with the lowest ids: each adds its own series."""
MICROSECONDS: Final = 1_000_000

_log = structlog.get_logger("inventory_refresh.kafka")


def read_statistics(text: str) -> KafkaStatistics | None:
    """The client's statistics; None, and a warning in the log, if they cannot be parsed."""
    try:
        return _parse(json.loads(text))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        _log.warning("kafka_statistics_unreadable", error=repr(error))
        return None


def _parse(statistics: Mapping[str, Any]) -> KafkaStatistics:
    brokers: list[Mapping[str, Any]] = list(statistics["brokers"].values())
    partitions: list[Mapping[str, Any]] = [
        partition for topic in statistics["topics"].values() for partition in topic["partitions"].values()
    ]
    round_trips = {
        str(broker["nodeid"]): {0.5: broker["rtt"]["p50"] / MICROSECONDS, 0.99: broker["rtt"]["p99"] / MICROSECONDS}
        for broker in brokers
        if broker["nodeid"] >= 0 and broker["rtt"]["cnt"]
    }
    return KafkaStatistics(
        # A broker may have several connections; the group coordinator has one of its own.
        brokers_up=len({broker["nodename"] for broker in brokers if _is_known(broker) and broker["state"] == "UP"}),
        # All partitions' queues are forwarded to the consumer's one queue, and report its length.
        fetch_queue_messages=max((partition["fetchq_cnt"] for partition in partitions), default=0),
        fetch_queue_bytes=max((partition["fetchq_size"] for partition in partitions), default=0),
        round_trips=dict(sorted(round_trips.items(), key=lambda pair: int(pair[0]))[:BROKERS_MAX]),
        received_bytes=statistics["rx_bytes"],
        sent_bytes=statistics["tx_bytes"],
        request_errors=sum(broker["txerrs"] + broker["rxerrs"] + broker["req_timeouts"] for broker in brokers),
        reconnects=sum(max(broker["connects"] - 1, 0) for broker in brokers),
    )


def _is_known(broker: Mapping[str, Any]) -> bool:
    """Whether this is a broker of the cluster, and not a bootstrap address, which may be an alias of any broker."""
    return bool(broker["nodeid"] >= 0 or broker["source"] == "logical")
