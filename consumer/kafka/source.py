"""The changes' topics, as a member of a consumer group.

A message object is touched once: its value, partition, offset and timestamp become columns, in loops that run in C.
Events among the messages (a partition's end, an error) are looked for first and sorted out off that path.

How far each assignment was read is known here. Should its offsets go backwards (the topic was truncated), or the topic
be another one under the same name, the assignment counts as lost, and the partition is taken again under a new number.
Should offsets go backwards amid what one call of the client gives, the engine finds it and the process stops: it starts
again rightly.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Final, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from consumer.errors import BrokerError, SettingsError
from consumer.facts import KafkaStatistics
from consumer.kafka.assignment_loader import AssignmentLoader, start_offset
from consumer.kafka.closing import leave
from consumer.kafka.columns import Timestamps, Values, headers_of, offset_of, partition_of, topic_of
from consumer.kafka.commits import NO_MEMBER, commit_outcome
from consumer.kafka.errors import GROUP_GONE, PARTITION_EOF, ErrorClass, classify, error_of, text_of
from consumer.kafka.log_ends import LogEnds
from consumer.kafka.options import (
    CONSUMER_PROTOCOL,
    GroupTimes,
    connection_options,
    consumer_options,
    group_protocol,
    group_times,
    is_incremental,
    new_client,
)
from consumer.kafka.preflight import ErrorLog, Preflight, session_times
from consumer.kafka.statistics import read_statistics
from consumer.kafka.topics import Topics
from consumer.ports import (
    Assignment,
    Commit,
    CommitRefused,
    Committed,
    Headers,
    RawBatch,
    RebalanceListener,
)
from consumer.settings import KafkaSettings

GATHER_SECONDS_MAX: Final = 0.02
"""How long a poll that has messages waits for more: this bounds the polls a second while little comes."""
LOG_SECONDS_MIN: Final = 30.0
"""How long the same error is not logged again."""

_log = logging.getLogger("inventory_refresh.kafka")


class KafkaSource:
    """``ports.Source`` on a real broker.

    Only one thread may call it. The listener is called on that thread, or, as it closes, while that thread waits.
    """

    def __init__(
        self, settings: KafkaSettings, on_statistics: Callable[[KafkaStatistics], None] = lambda _statistics: None
    ) -> None:
        """Connects to nothing yet. Raises SettingsError if an option is wrong, or one that may not be set.

        ``on_statistics`` is told of the client every ``statistics.interval.ms``, within a poll.
        """
        for topic in settings.topics:
            if topic.startswith("^"):
                raise SettingsError(f'kafka.topics: "{topic}" is a pattern; name each topic')
        group_times(settings)
        options = consumer_options(settings)
        self._settings = settings
        self._errors = ErrorLog()
        self._incremental = is_incremental(options)
        self._on_statistics = on_statistics
        self._consumer: Consumer = new_client(
            Consumer, options, settings, error_cb=self._on_error, stats_cb=self._on_stats
        )
        self._topics = Topics(lambda: self._admin)
        self._describer = AssignmentLoader(self._consumer, self._topics)
        self._log_ends = LogEnds(self._consumer, lambda: self._admin)
        self._listener: RebalanceListener | None = None
        self._assignments: dict[int, Assignment] = {}
        self._number_of: dict[tuple[str, int], int] = {}
        self._number_in_only_topic: dict[int, int] = {}
        """The same by the partition alone, which is quicker to ask; of use where there is one topic."""
        self._next_offsets: dict[int, int] = {}
        self._member_id: str | None = None
        """As which member of the group we hold our assignments."""
        self._logged_at: dict[int, float] = {}
        self._started = False
        self._closed = False

    # Life

    def check_broker(self) -> GroupTimes:
        """To be called before ``subscribe``: the broker answers, the topics are there, the group may be used.

        Returns how long the group will wait for this member: with the protocol ``consumer`` it is the broker that
        decides, and tells here.

        Raises BrokerError with one line that says what to change; for an unreachable broker after
        ``kafka.unreachable_timeout``, for everything else at once.
        """
        check = Preflight(self._consumer, self._errors, self._settings)
        for topic in self._settings.topics:
            if not check.topic_exists(topic):
                near = check.near_names(topic)
                hint = f"did you mean {' or '.join(near)}?" if near else "create it, or correct the name"
                servers = self._settings.bootstrap_servers
                raise BrokerError(f'kafka.topics: there is no topic "{topic}" at {servers}; {hint}')
        check.group_is_usable(self._consumer)
        if group_protocol(self._settings) == CONSUMER_PROTOCOL:
            return group_times(self._settings, session_times(self._admin, self._settings.group_id))
        return group_times(self._settings)

    @cached_property
    def _admin(self) -> AdminClient:
        return new_client(AdminClient, connection_options(self._settings), self._settings)

    def subscribe(self, listener: RebalanceListener) -> None:
        """Join the group. A rebalance that gives nothing new still calls ``on_assigned``, with no assignments."""
        self._listener = listener
        self._started = True
        with _refusals("the subscription"):
            self._consumer.subscribe(
                list(self._settings.topics),
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )

    def close(self) -> None:
        """Leave the group, within ``LEAVE_SECONDS_MAX``; a second call does nothing."""
        if not self._closed:
            self._closed = True
            leave(self._consumer)

    # Messages

    def poll(self, *, messages_max: int, timeout_seconds: float) -> RawBatch:
        """See ``ports.Source``. While the broker is away there are no messages: the client reconnects by itself."""
        made_anew = self._topics.made_anew(self._assignments.values(), time.monotonic())
        if made_anew:
            self._take_again(made_anew)
        before = self._number_of.copy()
        with _refusals("reading"):
            messages = self._gather(messages_max, timeout_seconds)
        if self._errors.fatal is not None:
            raise self._shut_out(self._errors.fatal)
        ends: dict[int, int] = {}
        if any(map(Message.error, messages)):
            messages, ends = self._sort_out(messages)
        return self._batch(messages, ends, self._came_back(before))

    def _gather(self, messages_max: int, timeout_seconds: float) -> list[Message]:
        """Messages and events; asked for in short calls, since each waits until it has all that it was asked for."""
        deadline = time.monotonic() + timeout_seconds
        messages = self._consumer.consume(messages_max, min(GATHER_SECONDS_MAX, timeout_seconds))
        left = deadline - time.monotonic()
        if messages or left <= 0:
            return messages
        messages = self._consumer.consume(1, left)
        if messages and messages_max > 1:
            messages += self._consumer.consume(messages_max - 1, GATHER_SECONDS_MAX)
        return messages

    def _sort_out(self, messages: list[Message]) -> tuple[list[Message], dict[int, int]]:
        """The messages alone, and the ends that were reached among them."""
        good: list[Message] = []
        ends: dict[int, int] = {}
        for message in messages:
            error = message.error()
            if error is None:
                good.append(message)
            elif error.code() == PARTITION_EOF:
                number = self._number_of.get((topic_of(message), partition_of(message)))
                if number is not None:
                    ends[number] = offset_of(message)
            else:
                self._judge(error)
        return good, ends

    def _came_back(self, before: Mapping[tuple[str, int], int]) -> set[int]:
        """Assignments of partitions that went and came back since ``before``, while one poll waited."""
        if before == self._number_of:
            return set()
        return {number for key, number in self._number_of.items() if before.get(key, number) != number}

    def _batch(self, messages: list[Message], ends: Mapping[int, int], came_back: set[int]) -> RawBatch:
        numbers = self._numbers(messages)
        if None in numbers:
            # Read before their partition went, in the very same call: its next owner reads them again.
            messages = [message for message, number in zip(messages, numbers, strict=True) if number is not None]
            numbers = [number for number in numbers if number is not None]
        assignments = cast("list[int]", numbers)
        offsets = list(map(offset_of, messages))
        last = dict(zip(assignments, offsets, strict=True))
        first = dict(zip(reversed(assignments), reversed(offsets), strict=True))
        astray = {number for number, offset in first.items() if self._is_backwards(number, offset, last[number])}
        astray |= {number for number in came_back if self._is_stale(number, first.get(number, ends.get(number)))}
        if astray:
            self._take_again(astray)
            kept = [message for message, number in zip(messages, assignments, strict=True) if number not in astray]
            return self._batch(kept, {number: end for number, end in ends.items() if number not in astray}, set())
        for number, offset in last.items():
            self._next_offsets[number] = offset + 1
        for number, end in ends.items():
            self._next_offsets[number] = max(self._next_offsets[number], end)

        def origin(position: int) -> tuple[bytes | None, Headers]:
            message = messages[position]
            return message.key(), headers_of(message) or ()

        return RawBatch(
            values=Values(messages),
            assignments=assignments,
            offsets=offsets,
            timestamps=Timestamps(messages),
            ends={number: self._next_offsets[number] for number in ends},
            origin=origin,
        )

    def _is_backwards(self, number: int, first: int, last: int) -> bool:
        return first < self._next_offsets[number] or last < first

    def _is_stale(self, number: int, first: int | None) -> bool:
        """Whether the first offset read may be of the assignment before, under whose number it was not delivered.

        The client throws such messages away. If it ever did not, the watermark would pass what lies between: so what
        does not begin where it was told to is not believed.
        """
        return first is not None and first != self._next_offsets[number]

    def _numbers(self, messages: Sequence[Message]) -> list[int | None]:
        """The assignment of each message, None where it is not ours any more."""
        partitions = map(partition_of, messages)
        if len(self._settings.topics) == 1:
            return list(map(self._number_in_only_topic.get, partitions))
        return list(map(self._number_of.get, zip(map(topic_of, messages), partitions, strict=True)))

    # Partitions

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._closed:
            return  # a rebalance that ended as we left: the client answers no question any more, and gives all back
        member_id = self._consumer.memberid()
        if member_id:  # without one this comes late: the client has left the group since, and tells next what it lost
            if self._assignments and member_id != self._member_id:
                raise BrokerError(
                    "Kafka took this member out of its group and let it in again, without a word about the partitions "
                    "that it held: start again, to take them over like anybody else"
                )
            self._member_id = member_id
        given = self._describer.describe(partitions)
        starts = [TopicPartition(each.topic, each.partition, start_offset(each)) for each in given]
        with _refusals("the assignment"):
            # One that was paused when it went is still paused when it comes back, and nobody would resume it.
            self._consumer.resume(starts)
            if self._incremental:
                self._consumer.incremental_assign(starts)
            else:
                self._consumer.assign(starts)
        self._hold(given)

    def _hold(self, given: Sequence[Assignment]) -> None:
        """From here on their messages have their numbers, and the listener knows of them."""
        for each in given:
            self._assignments[each.assignment_id] = each
            self._next_offsets[each.assignment_id] = start_offset(each)
            self._number_of[each.topic, each.partition] = each.assignment_id
            self._number_in_only_topic[each.partition] = each.assignment_id
        self._told().on_assigned(given)

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = self._numbers_of(partitions)
        if numbers:
            self._told().on_revoked(numbers)
        self._let_go(numbers, partitions)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = self._numbers_of(partitions)
        self._told().on_lost(numbers)
        self._let_go(numbers, partitions)

    def _let_go(self, numbers: Sequence[int], partitions: list[TopicPartition]) -> None:
        self._forget(numbers)
        # As we leave, the client's part in the group may be over before it has called back: then all is given.
        with _refusals("giving partitions back", but=GROUP_GONE if self._closed else None):
            if self._incremental:
                self._consumer.incremental_unassign(partitions)
            else:
                self._consumer.unassign()

    def _forget(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            gone = self._assignments.pop(number)
            del self._next_offsets[number]
            del self._number_of[gone.topic, gone.partition]
            self._number_in_only_topic.pop(gone.partition, None)

    def _take_again(self, astray: set[int]) -> None:
        """What was read does not go on from where it was: lost, and given anew as the broker tells it now."""
        gone = [self._assignments[number] for number in sorted(astray)]
        for each in gone:
            _log.error(
                "%s [%d] does not go on at offset %d: its log was cut, or made anew; the partition is taken again",
                *(each.topic, each.partition, self._next_offsets[each.assignment_id]),
            )
        self._told().on_lost([each.assignment_id for each in gone])
        self._forget([each.assignment_id for each in gone])
        given = self._describer.describe([TopicPartition(each.topic, each.partition) for each in gone])
        with _refusals("reading again from another offset"):
            self._consumer.resume([TopicPartition(each.topic, each.partition) for each in given])
            for each in given:
                self._consumer.seek(TopicPartition(each.topic, each.partition, start_offset(each)))
        self._hold(given)

    def pause(self, numbers: Sequence[int]) -> None:
        """Read on nothing of these until they are resumed; numbers of earlier assignments are passed over."""
        with _refusals("pausing"):
            self._consumer.pause(self._partitions_of(numbers))

    def resume(self, numbers: Sequence[int]) -> None:
        """Undo ``pause``; numbers of earlier assignments are passed over."""
        with _refusals("resuming"):
            self._consumer.resume(self._partitions_of(numbers))

    def log_end(self, number: int) -> int | None:
        """The end of an assignment's log as last heard, without waiting; None: it is not ours any more."""
        held = self._assignments.get(number)
        return None if held is None else self._log_ends.of(held)

    # Commits

    def commit(self, commits: Sequence[Commit]) -> Committed | CommitRefused:
        """See ``ports.Source``. Waits for the broker's word; where there is no coordinator, for about a session's time.

        A commit that is under way when the last broker goes is waited for until one is back: given up here, the client
        might still make it later, after a newer one.

        Commits of earlier assignments are passed over; if there are no others, that is a refusal. Raises BrokerError
        when the broker says something that will not change by itself.
        """
        offsets = [
            TopicPartition(each.assignment.topic, each.assignment.partition, each.offset, metadata=each.metadata)
            for each in commits
            if each.assignment.assignment_id in self._assignments
        ]
        if not offsets:
            if commits:
                return CommitRefused(fenced=False, detail="none of these partitions is assigned any more")
            return Committed()
        if not self._is_same_member():
            return NO_MEMBER
        try:
            partitions = self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as exception:
            return commit_outcome([error_of(exception)])
        outcome = commit_outcome([partition.error for partition in partitions if partition.error is not None])
        return outcome if self._is_same_member() else NO_MEMBER

    def _is_same_member(self) -> bool:
        """Whether we are still the member to which our partitions were given.

        The client commits as whatever member it is at the moment. One with a ``group.instance.id`` that was taken out
        of the group may be let in anew before we hear of it: as another member, whose commits the broker takes though
        others have had the partitions meanwhile. (With the protocol ``consumer`` a member keeps its id and has an epoch
        for this, and is let in anew only after we have heard that its partitions are lost.)
        """
        return self._member_id is not None and self._consumer.memberid() == self._member_id

    # Errors

    def _judge(self, error: KafkaError) -> None:
        """An error among the messages: the client goes on by itself, or BrokerError is raised."""
        match classify(error):
            case ErrorClass.PASSING | ErrorClass.FENCED:
                self._log_sometimes(error)
            case ErrorClass.SHUT_OUT:
                raise self._shut_out(error)
            case _:
                raise BrokerError(f"Kafka does not let this service read on: {text_of(error)}")

    def _shut_out(self, error: KafkaError) -> BrokerError:
        instance = self._settings.properties.get("group.instance.id")
        hint = (
            f'; kafka.properties: is "group.instance.id" {instance!r} that of another process too? One that was killed '
            "keeps it until its session is over"
        )
        text = ": ".join(dict.fromkeys(text_of(error).split(": ")))  # the client says some things twice
        return BrokerError(f"Kafka has shut this member out: {text}{hint if instance else ''}")

    def _on_error(self, error: KafkaError) -> None:
        self._errors.add(error)
        if self._started:  # before, it becomes the one line that says why the service does not start
            self._log_sometimes(error)

    def _log_sometimes(self, error: KafkaError) -> None:
        now = time.monotonic()
        if now - self._logged_at.get(error.code(), -LOG_SECONDS_MIN) >= LOG_SECONDS_MIN:
            self._logged_at[error.code()] = now
            _log.warning("Kafka: %s; the client keeps trying", text_of(error))

    def _on_stats(self, text: str) -> None:
        self._log_ends.ask(self._assignments.values())
        statistics = read_statistics(text)
        if statistics is not None:
            self._on_statistics(statistics)

    def _told(self) -> RebalanceListener:
        if self._listener is None:
            raise RuntimeError("a rebalance before subscribe")
        return self._listener

    def _numbers_of(self, partitions: Sequence[TopicPartition]) -> list[int]:
        keys = [(partition.topic, partition.partition) for partition in partitions]
        return [self._number_of[key] for key in keys if key in self._number_of]

    def _partitions_of(self, numbers: Sequence[int]) -> list[TopicPartition]:
        held = [self._assignments[number] for number in numbers if number in self._assignments]
        return [TopicPartition(each.topic, each.partition) for each in held]


@contextmanager
def _refusals(what: str, but: int | None = None) -> Iterator[None]:
    """Turns the client's own exception into BrokerError, but for one code; others pass, the listener's among them."""
    try:
        yield
    except KafkaException as exception:
        error = error_of(exception)
        if error.code() != but:
            raise BrokerError(f"Kafka refuses {what}: {text_of(error)}") from exception
