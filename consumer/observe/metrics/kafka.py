"""What the Kafka client tells of itself: its connections, and what it has fetched ahead."""

from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from consumer.facts import KafkaStatistics
from consumer.observe.metrics.described import Counters, Described, Gauges

_BROKERS_UP: Final = Gauges("kafka_brokers_up", "Brokers to which a connection is up.")
_QUEUE_MESSAGES: Final = Gauges("kafka_fetch_queue_messages", "Messages fetched by the Kafka client, not yet polled.")
_QUEUE_BYTES: Final = Gauges("kafka_fetch_queue_bytes", "Bytes of these messages.")
_ROUND_TRIP: Final = Gauges(
    "kafka_broker_rtt_seconds",
    "Round trip to a broker by its id, of the latest requests; of a fetch this includes the broker's wait for changes.",
    ("broker", "quantile"),
)
_COUNTERS: Final[Sequence[Counters]] = (
    Counters("kafka_received_bytes", "Bytes received from brokers."),
    Counters("kafka_sent_bytes", "Bytes sent to brokers."),
    Counters("kafka_request_errors", "Requests to brokers that failed or timed out."),
    Counters("kafka_reconnects", "Attempts to connect to a broker again."),
)


class KafkaStates(Collector):
    """The client's latest statistics. Gauges are not shown before there are any: 0 brokers would be a false alarm."""

    def __init__(self) -> None:
        self._latest: KafkaStatistics | None = None
        self._before = [0] * len(_COUNTERS)
        self._counts = [0] * len(_COUNTERS)

    def take(self, statistics: KafkaStatistics) -> None:
        """The client's own counts shrink when it forgets a broker that is gone: ours must not."""
        now = [
            statistics.received_bytes,
            statistics.sent_bytes,
            statistics.request_errors,
            statistics.reconnects,
        ]
        grown = [max(after - before, 0) for after, before in zip(now, self._before, strict=True)]
        self._counts = [count + more for count, more in zip(self._counts, grown, strict=True)]
        self._before = now
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
    def described() -> list[Described]:
        gauges = [gauge.described() for gauge in (_BROKERS_UP, _QUEUE_MESSAGES, _QUEUE_BYTES, _ROUND_TRIP)]
        return [*gauges, *(counter.described() for counter in _COUNTERS)]
