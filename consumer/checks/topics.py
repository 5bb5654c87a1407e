"""Judgements of topics: whether they are there, what may be done with them, and for how long they keep changes."""

from collections.abc import Mapping, Sequence
from typing import Final

from consumer.checks.findings import Finding, counted, failed, listed, ok, skipped, warning
from consumer.kafka.cluster_state import NO_CONTROLLER, FoundTopic, MissingTopic, Partition, TopicState, Unanswered

RETENTION_SHARE_MAX: Final = 0.5
"""Uncommitted changes that are older than this share of the retention are a warning."""

Bounds = Mapping[Partition, tuple[int, int] | Unanswered]
"""Log start and end offsets, as in ``Inspection``."""

_MS_PER_HOUR: Final = 3_600_000
_NETWORK: Final = "check the brokers' advertised.listeners, and that each broker can be reached from here"


def judge_brokers(brokers: int, silent: Mapping[str, Unanswered], bootstrap_servers: str) -> Finding:
    """Whether the brokers answer by their own addresses, and not only at ``kafka.bootstrap_servers``."""
    line = f"{counted(brokers, 'broker')} at {bootstrap_servers}"
    if silent:
        reason = next(iter(silent.values())).reason
        return failed("brokers", f"{line}, but {listed(silent)} cannot be asked: {reason}", _NETWORK)
    return ok("brokers", line)


def judge_topic(name: str, found: FoundTopic, bounds: Bounds) -> Finding:
    """Whether a source topic is there, and all of its partitions can be read from."""
    if not isinstance(found, TopicState):
        return _not_found("topics", "kafka.topics", name, found, "READ")
    leaderless = _leaderless(found)
    if leaderless:
        return failed("topics", f"{name} [{listed(leaderless)}]: no leader", _BROKERS)
    silent = {
        number: entry for (topic, number), entry in bounds.items() if topic == name and isinstance(entry, Unanswered)
    }
    if silent:
        reason = next(iter(silent.values())).reason
        return failed("topics", f"{name} [{listed(silent)}]: the leader does not answer: {reason}", _NETWORK)
    return ok("topics", f"{name}: {counted(len(found.partitions), 'partition')}, all with a leader")


def judge_permissions(name: str, found: TopicState) -> Finding:
    """Whether a source topic may be read, by what the broker says of these credentials."""
    match found.operations:
        case Unanswered(reason):
            return skipped("permissions", f"{name}: {reason}")
        case None:
            return skipped("permissions", f"{name}: the broker does not say")
        case operations if "READ" not in operations:
            return failed("permissions", f"{name}: these credentials may not read it", _grant("READ", name))
        case _:
            return ok("permissions", f"{name}: may be read")


def judge_dead_letters(name: str, found: FoundTopic, sources: Mapping[str, FoundTopic]) -> Finding:
    """Whether the dead-letter topic can be written, by what the broker says of it and never by a message."""
    if not isinstance(found, TopicState):
        return _not_found("dead_letters", "dead_letters.topic", name, found, "WRITE")
    leaderless = _leaderless(found)
    if leaderless:
        return failed("dead_letters", f"{name} [{listed(leaderless)}]: no leader", _BROKERS)
    operations = found.operations
    if isinstance(operations, frozenset) and "WRITE" not in operations:
        return failed("dead_letters", f"{name}: these credentials may not write to it", _grant("WRITE", name))
    if isinstance(operations, frozenset) and not isinstance(found.configs, Unanswered):
        return _judge_configs(name, found, found.configs, sources)
    if isinstance(operations, frozenset):
        return ok("dead_letters", f"{name}: may be written")
    reason = operations.reason if operations is not None else NO_CONTROLLER.reason
    return skipped("dead_letters", f"{name}: exists; whether it may be written is unknown: {reason}")


def _judge_configs(
    name: str, found: TopicState, configs: Mapping[str, str], sources: Mapping[str, FoundTopic]
) -> Finding:
    in_sync_min = int(configs.get("min.insync.replicas", "1"))
    short = [number for number, state in found.partitions.items() if state.in_sync < in_sync_min]
    if short:
        line = f"{name} [{listed(short)}]: fewer replicas in sync than min.insync.replicas={in_sync_min}"
        return failed("dead_letters", f"{line}: nothing can be written", _BROKERS)
    if "compact" in configs.get("cleanup.policy", ""):
        return warning("dead_letters", f"{name}: is compacted, which deletes dead letters", "set cleanup.policy=delete")
    bytes_max = int(configs.get("max.message.bytes", "0"))
    larger = [
        topic
        for topic, source in sources.items()
        if isinstance(source, TopicState)
        and not isinstance(source.configs, Unanswered)
        and int(source.configs.get("max.message.bytes", "0")) > bytes_max > 0
    ]
    if larger:
        return warning(
            "dead_letters",
            f"{name}: max.message.bytes={bytes_max} is less than that of {listed(larger)}: a large message could not "
            "be dead-lettered, and would stop the service",
            "raise max.message.bytes of the dead-letter topic above that of the source topics",
        )
    return ok("dead_letters", f"{name}: may be written")


def retention_ms(configs: Mapping[str, str] | Unanswered) -> int | None:
    """After how many milliseconds records are deleted; None without a limit by time, or if it cannot be known."""
    if isinstance(configs, Unanswered) or "delete" not in configs.get("cleanup.policy", "delete"):
        return None
    found = int(configs.get("retention.ms", "-1"))
    return found if found > 0 else None


def judge_retention(
    name: str, configs: Mapping[str, str] | Unanswered, deleted: Sequence[int], old: Sequence[int]
) -> Finding:
    """Retention against lag.

    ``deleted`` are partitions whose committed offset lies before the start of the log; of those in ``old`` the oldest
    uncommitted change is older than ``RETENTION_SHARE_MAX`` of the retention.
    """
    if deleted:
        return warning(
            "retention",
            f"{name} [{listed(deleted)}]: changes were deleted before they were accepted",
            "have the counts published again, and raise retention.ms",
        )
    if old:
        return warning(
            "retention",
            f"{name} [{listed(old)}]: uncommitted changes are older than half of retention.ms",
            "raise retention.ms until the lag is gone, or they are deleted",
        )
    if isinstance(configs, Unanswered):
        line = "these credentials may not see its configs" if configs.is_denied else configs.reason
        return skipped("retention", f"{name}: {line}")
    limit = retention_ms(configs)
    kept = "without a limit" if limit is None else f"for {limit / _MS_PER_HOUR:g} h"
    by_size = int(configs.get("retention.bytes", "-1"))
    also = f", at most {by_size:,} bytes a partition" if by_size > 0 else ""
    return ok("retention", f"{name}: keeps changes {kept}{also}; nothing uncommitted is near that")


_BROKERS: Final = "bring back the brokers that hold these partitions"


def _not_found(check: str, setting: str, name: str, found: MissingTopic | Unanswered, operation: str) -> Finding:
    """The finding for a topic that is not there, or not shown."""
    if isinstance(found, MissingTopic):
        hint = f"; did you mean {' or '.join(found.similar)}?" if found.similar else ""
        return failed(check, f'there is no topic "{name}"', f"create it, or correct {setting}{hint}")
    if found.is_denied:
        line = f'these credentials may not see topic "{name}": {found.reason}'
        return failed(check, line, _grant(operation, name))
    return failed(check, f"{name}: {found.reason}", _NETWORK)


def _leaderless(found: TopicState) -> list[int]:
    return [number for number, state in found.partitions.items() if state.leader is None]


def _grant(operation: str, topic: str) -> str:
    return f'grant {operation} on topic "{topic}" to this user'
