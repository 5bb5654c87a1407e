"""The bare loop: ``consume(10000)`` until the topic is read, and nothing else. It is what rates are compared with.

It has options of its own, tuned for speed: settings of the service must not move the measure. ``python -m bench.bare``
prints one JSON object: seconds from the assignment to the last message, CPU seconds meanwhile, peak memory in bytes.
"""

import argparse
import json
import resource
import time
import uuid
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

MESSAGES_MAX: Final = 10_000
WAIT_SECONDS: Final = 0.02
"""Short, since ``consume`` waits for all its messages or the whole time, and the last batch is not full."""


def read(servers: str, topic: str, events: int, seconds_max: float) -> dict[str, float]:
    """Read this many events of the topic, outside any group. Raises TimeoutError."""
    consumer = Consumer(_options(servers))
    partitions = consumer.list_topics(topic, timeout=seconds_max).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
    started, cpu = time.monotonic(), _cpu_seconds()
    deadline = started + seconds_max
    count = 0
    while count < events:
        if time.monotonic() > deadline:
            raise TimeoutError(f"read {count} of {events} events of {topic} in {seconds_max:g} s")
        count += sum(message.error() is None for message in consumer.consume(MESSAGES_MAX, WAIT_SECONDS))
    seconds, cpu = time.monotonic() - started, _cpu_seconds() - cpu
    consumer.close()
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_bytes": _peak_bytes()}


def _options(servers: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": servers,
        "group.id": f"bare-{uuid.uuid4().hex}",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "queued.max.messages.kbytes": 262_144,
        "queued.min.messages": 500_000,
        # With the default of 1000 a full queue stops fetching for a second, and a fast reader starves.
        "fetch.queue.backoff.ms": 10,
        "log_level": 3,
    }


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers")
    parser.add_argument("topic")
    parser.add_argument("events", type=int)
    parser.add_argument("--seconds-max", type=float, default=180.0)
    arguments = parser.parse_args()
    print(json.dumps(read(arguments.servers, arguments.topic, arguments.events, arguments.seconds_max)))


if __name__ == "__main__":
    main()
