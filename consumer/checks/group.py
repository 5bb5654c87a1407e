"""Judgements of the consumer group: who is in it, what is left to read, and how long it waits for a member."""

from collections.abc import Mapping, Sequence
from typing import Final

from consumer.checks.findings import Finding, counted, failed, listed, ok, skipped, warning
from consumer.checks.topics import Bounds
from consumer.kafka.cluster_state import NO_CONTROLLER, GroupState, Partition, Unanswered
from consumer.kafka.options import CLASSIC_PROTOCOL, GroupTimes, consumer_options, group_protocol
from consumer.settings import KafkaSettings

MEMBERS_SHOWN_MAX: Final = 3

Committed = Mapping[Partition, int | None] | Unanswered
"""The group's offsets, as in ``Inspection``."""


def judge_group(group: GroupState | Unanswered, settings: KafkaSettings) -> Finding:
    """Who is in the group, and by which protocol."""
    name = settings.group_id
    if isinstance(group, Unanswered):
        return _without_group(name, group)
    if group.operations is not None and "READ" not in group.operations:
        return failed("group", f'these credentials may not join group "{name}"', _grant(name))
    if not group.members:
        return ok("group", f"{name}: may be joined, has no members")
    hosts = listed((f"{member.client_id} at {member.host}" for member in group.members), MEMBERS_SHOWN_MAX)
    line = f"{name}: {counted(len(group.members), 'member')} by protocol {group.protocol}: {hosts}"
    ours = str(consumer_options(settings)["client.id"])
    if any(member.client_id != ours for member in group.members):
        return warning(
            "group",
            f"{line}; members of this service have the client id {ours}",
            "choose another kafka.group_id unless these are ours: applications of one group share its partitions",
        )
    if group.protocol != group_protocol(settings):
        return warning(
            "group",
            f"{line}, but group.protocol is {group_protocol(settings)}",
            "stop all members before group.protocol is changed",
        )
    return ok("group", line)


def _without_group(name: str, group: Unanswered) -> Finding:
    if group == NO_CONTROLLER:
        return skipped("group", f"{name}: {group.reason}")
    if group.is_denied:
        return failed("group", f'these credentials may not use group "{name}": {group.reason}', _grant(name))
    advice = "check that the broker which coordinates the group can be reached, and try again"
    return failed("group", f"{name}: {group.reason}", advice)


def judge_lag(bounds: Bounds, committed: Committed) -> Finding:
    """What is left to read, and whether the committed offsets lie in the log."""
    if isinstance(committed, Unanswered):
        return skipped("lag", f"the committed offsets are unknown: {committed.reason}")
    known = {partition: entry for partition, entry in bounds.items() if not isinstance(entry, Unanswered)}
    if not known:
        return skipped("lag", "no partition can be asked")
    beyond = [
        f"{topic} [{number}]"
        for (topic, number), (_, high) in known.items()
        if (committed.get((topic, number)) or 0) > high
    ]
    if beyond:
        return warning(
            "lag",
            f"{listed(beyond)}: the committed offset lies after the end of the log: the topic was truncated or "
            "recreated",
            "none if that was intended: the service starts again at the beginning of these partitions",
        )
    lags = lag_of(known, committed)
    new = sum(committed.get(partition) is None for partition in known)
    line = f"{counted(sum(lags.values()), 'message')} in {counted(len(lags), 'partition')}"
    if new:
        line += f"; nothing is committed in {new} of them yet: there the service starts at the earliest change"
    return ok("lag", line)


def lag_of(
    bounds: Mapping[Partition, tuple[int, int]], committed: Mapping[Partition, int | None]
) -> dict[Partition, int]:
    """Messages from the committed offset, or from the start of the log, to its end."""
    return {
        partition: max(high - max(committed.get(partition) or low, low), 0) for partition, (low, high) in bounds.items()
    }


def deleted_before_accepted(bounds: Bounds, committed: Committed) -> list[Partition]:
    """The partitions whose committed offset lies before the start of the log."""
    return [partition for partition, (start, low, _) in _starts(bounds, committed).items() if start < low]


def older_than(edges: Mapping[Partition, int], bounds: Bounds, committed: Committed) -> list[Partition]:
    """The partitions whose oldest uncommitted change lies before this offset; negative: all changes do."""
    return [
        partition
        for partition, (start, low, high) in _starts(bounds, committed).items()
        if max(start, low) < high and partition in edges and not 0 <= edges[partition] <= max(start, low)
    ]


def _starts(bounds: Bounds, committed: Committed) -> dict[Partition, tuple[int, int, int]]:
    """Committed offset and bounds of each partition in which something is committed."""
    if isinstance(committed, Unanswered):
        return {}
    return {
        partition: (start, *entry)
        for partition, entry in bounds.items()
        if not isinstance(entry, Unanswered) and (start := committed.get(partition)) is not None
    }


def judge_session(times: GroupTimes, protocol: str, limits: tuple[float, float] | Unanswered) -> Finding:
    """How long the group waits for a member; ``limits`` are the broker's, which count for the protocol ``classic``."""
    session = times.session_timeout_seconds
    if protocol == CLASSIC_PROTOCOL and not isinstance(limits, Unanswered) and not limits[0] <= session <= limits[1]:
        return failed(
            "session",
            f"session.timeout.ms is {session:g} s, but the brokers permit {limits[0]:g} to {limits[1]:g} s "
            "(group.min.session.timeout.ms, group.max.session.timeout.ms)",
            "correct session.timeout.ms in kafka.properties",
        )
    return ok(
        "session",
        f"timeout {session:g} s, a heartbeat every {times.heartbeat_interval_seconds:g} s, at most "
        f"{times.poll_interval_seconds_max:g} s between polls",
    )


def numbers_of(topic: str, partitions: Sequence[Partition]) -> list[int]:
    """The numbers of those partitions that are of this topic."""
    return [number for name, number in partitions if name == topic]


def _grant(group: str) -> str:
    return f'grant READ on group "{group}" to this user, or correct kafka.group_id'
