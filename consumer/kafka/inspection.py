"""What a cluster says about topics and a group, asked without joining the group: for the command ``check``.

Questions are asked at the same time where that is possible, so that brokers that do not answer cost one time-out,
which is ``kafka.unreachable_timeout``.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    OffsetSpec,
    ResourceType,
)

from consumer.kafka.calls import RETRY_SECONDS
from consumer.kafka.cluster_state import (
    NO_CONTROLLER,
    FoundTopic,
    GroupState,
    Inspection,
    Member,
    MissingTopic,
    Partition,
    PartitionState,
    TopicState,
    Unanswered,
)
from consumer.kafka.errors import ErrorClass, classify, error_of, text_of
from consumer.kafka.options import CONSUMER_PROTOCOL, GroupTimes, connection_options, group_protocol, group_times
from consumer.kafka.options import new_client as open_client
from consumer.kafka.preflight import TOPIC_APPEARS_SECONDS_MAX, ErrorLog, Preflight, session_times, similar_names
from consumer.settings import KafkaSettings


class Cluster:
    """The brokers of the settings. Use it from one thread."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Connects to nothing yet. Raises SettingsError for a wrong option."""
        self._settings = settings
        self._seconds_max = settings.unreachable_timeout
        self._errors = ErrorLog()
        # This consumer never subscribes. Unlike that of an administrator, its metadata request creates no topic.
        options = connection_options(settings) | {"group.id": settings.group_id, "allow.auto.create.topics": False}
        self._consumer: Consumer = open_client(Consumer, options, settings, error_cb=self._errors.add)
        self._admin_errors = ErrorLog()
        self._admin: AdminClient = open_client(
            AdminClient, connection_options(settings), settings, error_cb=self._admin_errors.add
        )
        self._addresses: Mapping[int, str] = {}
        self._controller: int | None = None
        """The broker that serves administrators; None: there is none, or it does not answer."""
        self._silent: Mapping[int, Unanswered] = {}

    def close(self) -> None:
        self._consumer.close()

    def connect(self) -> int:
        """The number of brokers. Raises BrokerError if none answers, or the login fails."""
        found = Preflight(self._consumer, self._errors, self._settings).cluster()
        self._addresses = {number: f"{broker.host}:{broker.port}" for number, broker in found.brokers.items()}
        self._controller = found.controller_id if found.controller_id in found.brokers else None
        return len(found.brokers)

    def inspect(self, sources: Sequence[str], others: Sequence[str] = ()) -> Inspection:
        """Ask about the group, the topics that it reads, and other topics, once ``connect`` has returned."""
        topics = self._find_topics([*sources, *others])
        brokers = self._ask_brokers(_leaders(topics))
        silent = {
            number: answer
            for number, answer in brokers.items()
            if isinstance(answer, Unanswered) and not answer.is_denied
        }
        self._silent = silent
        if self._controller in silent:
            self._controller = None
        existing = [name for name, found in topics.items() if isinstance(found, TopicState)]
        offsets = _Offsets(self._admin, {name: topics[name] for name in sources}, silent, self._seconds_max)
        earliest = offsets.ask(OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        latest = offsets.ask(OffsetSpec.latest())  # type: ignore[no-untyped-call]
        operations, configs = self._describe_topics(existing), self._describe_configs(existing)
        group, committed = self._ask_coordinator(
            offsets.partitions, is_hopeless=bool(brokers) and len(silent) == len(brokers)
        )
        low, high = offsets.take(earliest), offsets.take(latest)
        return Inspection(
            silent={self._addresses[number]: answer for number, answer in silent.items() if number in self._addresses},
            topics={
                name: TopicState(found.partitions, operations(name), configs(name))
                if isinstance(found, TopicState)
                else found
                for name, found in topics.items()
            },
            group=group,
            bounds={partition: _both(low[partition], high[partition]) for partition in offsets.partitions},
            committed=committed,
            session_limits=_session_limits(brokers),
        )

    def offsets_at(self, found: Inspection, times_ms: Mapping[str, int]) -> dict[Partition, int]:
        """By partition the first offset that is not older than its topic's time; negative if all are older.

        Topics without a time are left out, as are partitions whose broker does not answer.
        """
        asked = []
        for topic, time_ms in times_ms.items():
            offsets = _Offsets(self._admin, {topic: found.topics[topic]}, self._silent, self._seconds_max)
            asked.append((offsets, offsets.ask(OffsetSpec.for_timestamp(time_ms))))
        taken = [offsets.take(requests) for offsets, requests in asked]
        return {
            partition: offset
            for answers in taken
            for partition, offset in answers.items()
            if not isinstance(offset, Unanswered)
        }

    def times(self) -> GroupTimes:
        """How long the group waits for a member. Raises SettingsError if the times do not fit together."""
        if group_protocol(self._settings) == CONSUMER_PROTOCOL and self._controller is not None:
            return group_times(self._settings, session_times(self._admin, self._settings.group_id))
        return group_times(self._settings)

    def _find_topics(self, names: Iterable[str]) -> dict[str, FoundTopic]:
        """Missing topics share ``TOPIC_APPEARS_SECONDS_MAX``: brokers learn of new topics one after the other."""
        deadline = time.monotonic() + TOPIC_APPEARS_SECONDS_MAX
        return {name: self._find_topic(name, deadline) for name in dict.fromkeys(names)}

    def _find_topic(self, name: str, deadline: float) -> FoundTopic:
        while True:
            try:
                found = self._consumer.list_topics(name, timeout=self._seconds_max).topics[name]
            except KafkaException as exception:
                return _unanswered(error_of(exception))
            if found.error is None:
                return TopicState({number: _state(entry) for number, entry in sorted(found.partitions.items())})
            if found.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                return _unanswered(found.error)
            if time.monotonic() > deadline:
                return MissingTopic(similar_names(name, self._visible_topics()))
            time.sleep(RETRY_SECONDS)

    def _visible_topics(self) -> list[str]:
        try:
            return list(self._consumer.list_topics(timeout=self._seconds_max).topics)
        except KafkaException:
            return []  # only for a hint

    def _describe_topics(self, names: Collection[str]) -> Callable[[str], frozenset[str] | Unanswered | None]:
        if self._controller is None or not names:
            return lambda _name: NO_CONTROLLER
        requests = self._admin.describe_topics(
            TopicCollection(list(names)), include_authorized_operations=True, request_timeout=self._seconds_max
        )

        def operations(name: str) -> frozenset[str] | Unanswered | None:
            found = _result(requests[name], self._seconds_max)
            return found if isinstance(found, Unanswered) else _names(found.authorized_operations)

        return operations

    def _describe_configs(self, names: Collection[str]) -> Callable[[str], Mapping[str, str] | Unanswered]:
        resources = {name: ConfigResource(ResourceType.TOPIC, name) for name in names}
        if self._controller is None or not names:
            return lambda _name: NO_CONTROLLER
        requests = self._admin.describe_configs([*resources.values()], request_timeout=self._seconds_max)
        return lambda name: _configs(_result(requests[resources[name]], self._seconds_max))

    def _ask_brokers(self, leaders: Collection[int]) -> dict[int, Mapping[str, str] | Unanswered]:
        """The configs of these brokers and of the controller.

        Each must answer for itself: one whose address in ``advertised.listeners`` cannot be reached is silent.
        """
        if self._controller is None:
            return {}
        requests = {}
        for number in sorted({*leaders, self._controller}):
            resource = ConfigResource(ResourceType.BROKER, str(number))
            requests[number] = self._admin.describe_configs([resource], request_timeout=self._seconds_max)[resource]
        answers = {number: _configs(_result(request, self._seconds_max)) for number, request in requests.items()}
        self._admin.poll(0)  # serves the error callback
        last = self._admin_errors.last
        if last is None:
            return answers
        reason = Unanswered(text_of(last))
        return {number: reason if _is_silent(answer) else answer for number, answer in answers.items()}

    def _ask_coordinator(
        self, partitions: Sequence[Partition], *, is_hopeless: bool
    ) -> tuple[GroupState | Unanswered, Mapping[Partition, int | None] | Unanswered]:
        """The group and its offsets, asked at the same time; ``is_hopeless``: no broker answers."""
        if is_hopeless:
            return _NO_BROKER, _NO_BROKER
        with ThreadPoolExecutor(2, "coordinator") as threads:
            group, committed = threads.submit(self._group), threads.submit(self._committed, partitions)
            return group.result(), committed.result()

    def _group(self) -> GroupState | Unanswered:
        """The group; without members if it does not exist yet."""
        if self._controller is None:
            return NO_CONTROLLER
        group_id = self._settings.group_id

        def describe(seconds: float) -> Any:
            requests = self._admin.describe_consumer_groups(
                [group_id], include_authorized_operations=True, request_timeout=seconds
            )
            return requests[group_id].result(seconds + 1.0)

        found = _retried(describe, self._seconds_max)
        if isinstance(found, Unanswered):
            return found
        members = [Member(member.client_id, member.host.strip("/")) for member in found.members]
        return GroupState(found.type.name.lower(), members, _names(found.authorized_operations))

    def _committed(self, partitions: Sequence[Partition]) -> Mapping[Partition, int | None] | Unanswered:
        """By the consumer: the same request of an administrator aborts the process while a coordinator moves."""
        wanted = [TopicPartition(*partition) for partition in partitions]
        found: Any = []
        if wanted:
            found = _retried(lambda seconds: self._consumer.committed(wanted, timeout=seconds), self._seconds_max)
        if isinstance(found, Unanswered):
            return found
        failures = [entry.error for entry in found if entry.error is not None]
        if failures:
            return _unanswered(failures[0])
        return {(entry.topic, entry.partition): entry.offset if entry.offset >= 0 else None for entry in found}


_Requests = Mapping[Partition, "Future[Any] | Unanswered"]


class _Offsets:
    """Offsets of all partitions that have a leader, asked leader by leader: one that is silent delays no other."""

    def __init__(
        self,
        admin: AdminClient,
        topics: Mapping[str, FoundTopic],
        silent: Mapping[int, Unanswered],
        seconds_max: float,
    ) -> None:
        """``silent`` are leaders that need not be asked."""
        self._admin = admin
        self._seconds_max = seconds_max
        self._silent = silent
        self._by_leader: dict[int, list[Partition]] = {}
        for name, found in topics.items():
            if isinstance(found, TopicState):
                for number, state in found.partitions.items():
                    if state.leader is not None:
                        self._by_leader.setdefault(state.leader, []).append((name, number))
        self.partitions = [partition for partitions in self._by_leader.values() for partition in partitions]

    def ask(self, spec: Any) -> _Requests:
        requests: dict[Partition, Future[Any] | Unanswered] = {}
        for leader, partitions in self._by_leader.items():
            if leader in self._silent:
                requests |= dict.fromkeys(partitions, self._silent[leader])
                continue
            sent = self._admin.list_offsets(
                {TopicPartition(*partition): spec for partition in partitions},
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=self._seconds_max,
            )
            requests |= {(asked.topic, asked.partition): request for asked, request in sent.items()}
        return requests

    def take(self, requests: _Requests) -> dict[Partition, int | Unanswered]:
        return {
            partition: request if isinstance(request, Unanswered) else _offset(_result(request, self._seconds_max))
            for partition, request in requests.items()
        }


def _retried(request: Callable[[float], Any], seconds_max: float) -> Any:
    """The answer to a request to the group's coordinator, which may be moving; or Unanswered."""
    deadline = time.monotonic() + seconds_max
    while True:
        left_seconds = max(deadline - time.monotonic(), RETRY_SECONDS)
        try:
            return request(left_seconds)
        except KafkaException as exception:
            error = error_of(exception)
            if classify(error) is not ErrorClass.RETRIABLE or time.monotonic() > deadline:
                return _unanswered(error)
        except TimeoutError:
            return _TIMED_OUT
        time.sleep(RETRY_SECONDS)


def _result(request: "Future[Any]", seconds_max: float) -> Any:
    """What a request returned, or Unanswered."""
    try:
        return request.result(seconds_max + 1.0)
    except KafkaException as exception:
        return _unanswered(error_of(exception))
    except TimeoutError:
        return _TIMED_OUT


_NO_BROKER: Final = Unanswered("no broker answers")
_TIMED_OUT: Final = Unanswered("no answer in time")


def _unanswered(error: KafkaError) -> Unanswered:
    return Unanswered(text_of(error), classify(error) is ErrorClass.UNAUTHORISED)


def _state(found: Any) -> PartitionState:
    leader = found.leader if found.leader >= 0 else None
    return PartitionState(leader, len(found.replicas), len(found.isrs))


def _configs(found: Any) -> Mapping[str, str] | Unanswered:
    return found if isinstance(found, Unanswered) else {name: str(entry.value) for name, entry in found.items()}


def _offset(found: Any) -> int | Unanswered:
    """A client whose request timed out may say so by an invalid offset alone; -1 is "after all records"."""
    if isinstance(found, Unanswered):
        return found
    return int(found.offset) if found.offset > OFFSET_INVALID else _TIMED_OUT


def _is_silent(answer: object) -> bool:
    """Whether there is no answer at all. A refusal is one."""
    return isinstance(answer, Unanswered) and not answer.is_denied


def _leaders(topics: Mapping[str, FoundTopic]) -> set[int]:
    states = [found for found in topics.values() if isinstance(found, TopicState)]
    return {state.leader for found in states for state in found.partitions.values() if state.leader is not None}


def _session_limits(brokers: Mapping[int, Mapping[str, str] | Unanswered]) -> tuple[float, float] | Unanswered:
    """By the first broker that says so: they should not differ."""
    for configs in brokers.values():
        if not isinstance(configs, Unanswered):
            low, high = (configs.get(f"group.{end}.session.timeout.ms") for end in ("min", "max"))
            if low is not None and high is not None:
                return float(low) / 1000, float(high) / 1000
    return NO_CONTROLLER


def _both(low: int | Unanswered, high: int | Unanswered) -> tuple[int, int] | Unanswered:
    if isinstance(low, Unanswered):
        return low
    return high if isinstance(high, Unanswered) else (low, high)


def _names(operations: Any) -> frozenset[str] | None:
    return None if operations is None else frozenset(operation.name for operation in operations)
