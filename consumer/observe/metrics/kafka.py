"""The Kafka client's statistics: its connections, and the messages it has prefetched."""

from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from consumer.facts import KafkaStatistics
from consumer.observe.metrics.definitions import CounterDefinition, GaugeDefinition, MetricDescription

_BROKERS_UP: Final = GaugeDefinition("kafka_brokers_up", "Brokers with an established connection.")
_QUEUE_MESSAGES: Final = GaugeDefinition(
    "kafka_fetch_queue_messages", "Messages that the Kafka client has fetched and the loop has not polled yet."
)
_QUEUE_BYTES: Final = GaugeDefinition("kafka_fetch_queue_bytes", "Size of the messages in the fetch queue.")
_ROUND_TRIP: Final = GaugeDefinition(
    "kafka_broker_rtt_seconds",
    "Round-trip time of recent requests to a broker (by id); a fetch includes the broker's wait for new messages.",
    ("broker", "quantile"),
)
_COUNTERS: Final[Sequence[CounterDefinition]] = (
    CounterDefinition("kafka_received_bytes", "Bytes received from brokers."),
    CounterDefinition("kafka_sent_bytes", "Bytes sent to brokers."),
    CounterDefinition("kafka_request_errors", "Requests to brokers that failed or timed out."),
    CounterDefinition("kafka_reconnects", "Attempts to reconnect to a broker."),
)


class KafkaCollector(Collector):
    """The client's latest statistics. Before the first ones gauges have no value: 0 brokers would be a false alarm."""

    def __init__(self) -> None:
        self._latest: KafkaStatistics | None = None
        self._previous = [0] * len(_COUNTERS)
        self._counts = [0] * len(_COUNTERS)

    def update(self, statistics: KafkaStatistics) -> None:
        """Take the latest statistics.

        The client sums its counts over the brokers it knows, so they shrink when it forgets one. Ours never do.
        """
        current = [
            statistics.received_bytes,
            statistics.sent_bytes,
            statistics.request_errors,
            statistics.reconnects,
        ]
        increases = [max(after - before, 0) for after, before in zip(current, self._previous, strict=True)]
        self._counts = [count + increase for count, increase in zip(self._counts, increases, strict=True)]
        self._previous = current
        self._latest = statistics

    def collect(self) -> Iterable[Metric]:
        latest = self._latest
        gauges = [gauge.family() for gauge in (_BROKERS_UP, _QUEUE_MESSAGES, _QUEUE_BYTES)]
        round_trips = _ROUND_TRIP.family()
        if latest is not None:
            values = (latest.brokers_up, latest.fetch_queue_messages, latest.fetch_queue_bytes)
            for family, value in zip(gauges, values, strict=True):
                family.add_metric((), value)
            for broker, quantiles in latest.round_trips.items():
                for quantile, seconds in quantiles.items():
                    round_trips.add_metric((broker, f"{quantile:g}"), seconds)
        yield from gauges
        yield round_trips
        for counter, count in zip(_COUNTERS, self._counts, strict=True):
            counted = counter.family()
            counted.add_metric((), count)
            yield counted

    @staticmethod
    def descriptions() -> list[MetricDescription]:
        gauges = [gauge.description() for gauge in (_BROKERS_UP, _QUEUE_MESSAGES, _QUEUE_BYTES, _ROUND_TRIP)]
        return [*gauges, *(counter.description() for counter in _COUNTERS)]
