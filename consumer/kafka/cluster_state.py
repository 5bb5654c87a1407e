"""What a cluster says of itself when ``inspection`` asks it: plain values, for judgements without a broker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

Partition = tuple[str, int]
"""Topic and partition."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """What comes in place of an answer. ``is_denied``: these credentials may not ask."""

    reason: str
    is_denied: bool = False


NO_CONTROLLER: Final = Unanswered("the broker does not say")
"""An embedded broker has no controller, and leaves an administrator's requests unanswered."""


@dataclass(frozen=True, slots=True)
class PartitionState:
    """The id of the leader (None: there is none), and how many replicas there are and are in sync."""

    leader: int | None
    replicas: int
    in_sync: int


@dataclass(frozen=True, slots=True)
class MissingTopic:
    """There is no such topic. ``similar`` are names of others."""

    similar: Sequence[str]


@dataclass(frozen=True, slots=True)
class TopicState:
    """``operations`` are those that these credentials may do, by Kafka's names; None: the broker does not say."""

    partitions: Mapping[int, PartitionState]
    operations: frozenset[str] | Unanswered | None = NO_CONTROLLER
    configs: Mapping[str, str] | Unanswered = NO_CONTROLLER


FoundTopic = TopicState | MissingTopic | Unanswered


@dataclass(frozen=True, slots=True)
class Member:
    client_id: str
    host: str


@dataclass(frozen=True, slots=True)
class GroupState:
    """``protocol`` is ``classic`` or ``consumer``; ``operations`` as in ``TopicState``."""

    protocol: str
    members: Sequence[Member]
    operations: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the cluster said.

    ``silent`` are the addresses of the brokers that lead partitions of the topics or serve administrators, and do not
    answer. ``bounds`` are log start and end offsets of the topics that the group reads. ``committed`` are the group's
    offsets, None where it has committed nothing. ``session_limits`` are the seconds between which the brokers permit
    session timeouts of the protocol ``classic``.
    """

    silent: Mapping[str, Unanswered]
    topics: Mapping[str, FoundTopic]
    group: GroupState | Unanswered
    bounds: Mapping[Partition, tuple[int, int] | Unanswered]
    committed: Mapping[Partition, int | None] | Unanswered
    session_limits: tuple[float, float] | Unanswered
