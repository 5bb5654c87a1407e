"""The few numbers that matter of what the Kafka client tells of itself: JSON, a kilobyte a partition.

The form is described in librdkafka's STATISTICS.md. What cannot be read there is no reason to stop.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

from consumer.facts import KafkaStatistics

BROKERS_MAX: Final = 100
"""Of so many brokers, those with the lowest ids, the round trips are told."""
MICROSECONDS: Final = 1_000_000

_log = logging.getLogger("inventory_refresh.kafka")


def read_statistics(text: str) -> KafkaStatistics | None:
    """The client's statistics; None, and a line in the log, if they cannot be read."""
    try:
        return _parse(json.loads(text))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        _log.warning("the Kafka client's statistics cannot be read: %r", error)
        return None


def _parse(told: Mapping[str, Any]) -> KafkaStatistics:
    brokers: list[Mapping[str, Any]] = list(told["brokers"].values())
    partitions: list[Mapping[str, Any]] = [
        partition for topic in told["topics"].values() for partition in topic["partitions"].values()
    ]
    round_trips = {
        str(broker["nodeid"]): {0.5: broker["rtt"]["p50"] / MICROSECONDS, 0.99: broker["rtt"]["p99"] / MICROSECONDS}
        for broker in brokers
        if broker["nodeid"] >= 0 and broker["rtt"]["cnt"]
    }
    return KafkaStatistics(
        # One broker may have several connections, the group's coordinator one of its own.
        brokers_up=len({broker["nodename"] for broker in brokers if _is_known(broker) and broker["state"] == "UP"}),
        # Each partition's queue leads into the one that is polled, and tells the length of that.
        fetch_queue_messages=max((partition["fetchq_cnt"] for partition in partitions), default=0),
        fetch_queue_bytes=max((partition["fetchq_size"] for partition in partitions), default=0),
        round_trips=dict(sorted(round_trips.items(), key=lambda pair: int(pair[0]))[:BROKERS_MAX]),
        received_bytes=told["rx_bytes"],
        sent_bytes=told["tx_bytes"],
        request_errors=sum(broker["txerrs"] + broker["rxerrs"] + broker["req_timeouts"] for broker in brokers),
        reconnects=sum(max(broker["connects"] - 1, 0) for broker in brokers),
    )


def _is_known(broker: Mapping[str, Any]) -> bool:
    """Whether it is one of the cluster's brokers; not an address to ask first, which may stand for any of them."""
    return bool(broker["nodeid"] >= 0 or broker["source"] == "logical")
