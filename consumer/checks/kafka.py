"""What is asked of Kafka: brokers, topics, group and the last messages. Judgements are in ``topics`` and ``group``."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from consumer.checks.findings import Finding, caught, failed, skipped
from consumer.checks.group import (
    deleted_before_accepted,
    judge_group,
    judge_lag,
    judge_session,
    numbers_of,
    older_than,
)
from consumer.checks.topics import (
    RETENTION_SHARE_MAX,
    judge_brokers,
    judge_dead_letters,
    judge_permissions,
    judge_retention,
    judge_topic,
    retention_ms,
)
from consumer.dead_letters.log_reader import LogReader
from consumer.dead_letters.record import Record, record_of
from consumer.errors import BrokerError, StopError
from consumer.kafka.cluster_state import FoundTopic, Inspection, Partition, TopicState, Unanswered
from consumer.kafka.inspection import Cluster
from consumer.kafka.options import consumer_options, group_protocol
from consumer.settings import KafkaSettings
from consumer.settings.memory import MIB

CLIENT_ID: Final = "inventory-refresh-check"
MESSAGES_MAX: Final = 500
"""Messages looked at in all; at least one of each partition."""
PARTITION_MESSAGES_MAX: Final = 20
RECORDS_BYTES_MAX: Final = 8 * MIB
"""Of the messages' values, so that the command fits next to the service in its container. Further ones are left out."""
NEED_BROKERS: Final = ("topics", "permissions", "session", "group", "lag", "retention", "dead_letters")


@dataclass
class KafkaChecked:
    """``records`` are the last messages of each partition, oldest first, or in words why they could not be read."""

    findings: list[Finding] = field(default_factory=list)
    records: list[Record] | str = "no broker can be asked"


def check_kafka(settings: KafkaSettings, dead_letter_topic: str) -> KafkaChecked:
    """All checks of Kafka. Raises SettingsError for a wrong option."""
    consumer_options(settings)
    with closing(Cluster(settings)) as cluster:
        try:
            brokers = cluster.connect()
        except StopError as error:
            rest = [skipped(name, "no broker can be asked") for name in NEED_BROKERS]
            return KafkaChecked([failed("brokers", str(error), None, type(error)), *rest])
        found = cluster.inspect(settings.topics, [dead_letter_topic])
        protocol = group_protocol(settings)
        session = caught("session", lambda: [judge_session(cluster.times(), protocol, found.session_limits)])
        old = _old(cluster, found)
    sources = {name: found.topics[name] for name in settings.topics}
    findings = [
        judge_brokers(brokers, found.silent, settings.bootstrap_servers),
        *_judge_topics(sources, found),
        *session,
        judge_group(found.group, settings),
        judge_lag(found.bounds, found.committed),
        *_judge_retention(sources, found, old),
        judge_dead_letters(dead_letter_topic, found.topics[dead_letter_topic], sources),
    ]
    return KafkaChecked(findings, _last_records(settings, found))


def _judge_topics(sources: Mapping[str, FoundTopic], found: Inspection) -> Iterator[Finding]:
    for name, state in sources.items():
        judged = judge_topic(name, state, found.bounds)
        permissions = judge_permissions(name, state) if isinstance(state, TopicState) else None
        # Without permission to read, everything else about the topic is unknown for that reason.
        if permissions is None or permissions.error is None:
            yield judged
        if permissions is not None:
            yield permissions


def _old(cluster: Cluster, found: Inspection) -> list[Partition]:
    """The partitions with an uncommitted change that is older than a share of the retention."""
    now_ms = time.time() * 1000
    times_ms = {
        name: int(now_ms - limit * RETENTION_SHARE_MAX)
        for name in dict.fromkeys(topic for topic, _ in found.bounds)
        if isinstance(state := found.topics[name], TopicState) and (limit := retention_ms(state.configs)) is not None
    }
    return older_than(cluster.offsets_at(found, times_ms), found.bounds, found.committed)


def _judge_retention(
    sources: Mapping[str, FoundTopic], found: Inspection, old: Sequence[Partition]
) -> Iterator[Finding]:
    deleted = deleted_before_accepted(found.bounds, found.committed)
    for name, state in sources.items():
        if isinstance(state, TopicState):
            yield judge_retention(name, state.configs, numbers_of(name, deleted), numbers_of(name, old))


def _last_records(settings: KafkaSettings, found: Inspection) -> list[Record] | str:
    """The last messages of each partition that can be read, without the group."""
    readable = {
        partition: bounds
        for partition, bounds in found.bounds.items()
        if not isinstance(bounds, Unanswered) and _may_read(found.topics[partition[0]])
    }
    if not readable:
        return "no partition can be read"
    each = max(min(PARTITION_MESSAGES_MAX, MESSAGES_MAX // len(readable)), 1)
    starts = {partition: max(low, high - each) for partition, (low, high) in readable.items()}
    ends = {partition: high for partition, (_, high) in readable.items()}
    records: list[Record] = []
    left_bytes = RECORDS_BYTES_MAX
    try:
        with closing(LogReader(settings, CLIENT_ID, silent_seconds_max=settings.unreachable_timeout)) as log:
            for messages in log.read(starts, ends):
                for record in map(record_of, messages):
                    left_bytes -= len(record.value or b"")
                    if left_bytes > 0 or not records:
                        records.append(record)
    except BrokerError as error:
        return str(error)
    return records


def _may_read(found: FoundTopic) -> bool:
    return isinstance(found, TopicState) and not (
        isinstance(found.operations, frozenset) and "READ" not in found.operations
    )
