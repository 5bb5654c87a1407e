"""The source topics, read as a member of a consumer group.

This module holds the client, its callbacks and its errors. What is known about the assignments is in
``assignment_table``; what is read from the broker about a new one, in ``assignment_loader``.

Each message object is touched once: its value, partition, offset and timestamp become columns, in loops that run in C.
Events among the messages (the end of a partition, an error) are rare; they are sorted out before.

A partition whose offsets go backwards (the log was truncated), or whose topic was recreated under the same name, is
reset: its assignment counts as lost, and the partition is read again under a new assignment id (rule 8). Offsets that
go backwards and catch up again within a single poll are not noticed here: the engine then stops the process, and the
restart loads the assignment again.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Final, cast

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from consumer.errors import BrokerError, InvariantError, SettingsError
from consumer.facts import KafkaStatistics
from consumer.kafka.assignment_loader import AssignmentLoader
from consumer.kafka.assignment_table import AssignmentTable, offset_ranges, start_offset
from consumer.kafka.calls import broker_errors
from consumer.kafka.closing import close_within
from consumer.kafka.commit_outcome import NOT_A_MEMBER, commit_outcome
from consumer.kafka.errors import GROUP_GONE, NOT_FETCHED, PARTITION_EOF, ErrorClass, classify, error_of, text_of
from consumer.kafka.log_end_offsets import LogEndOffsets
from consumer.kafka.message_columns import (
    HeaderColumn,
    Timestamps,
    Values,
    headers_of,
    offset_of,
    partition_of,
    topic_of,
    without,
)
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
from consumer.kafka.sasl import uses_tokens
from consumer.kafka.statistics import read_statistics
from consumer.kafka.topics import TopicLookup
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
from consumer.settings.memory import DEFAULT_SHARES

BATCH_SECONDS_MAX: Final = 0.1
"""How long a poll that has messages waits for more, within its timeout: each poll costs, however little it brings."""
LOG_INTERVAL_SECONDS: Final = 30.0
"""How often the same error is logged."""

TOPIC_RECREATED: Final = "the topic was recreated"
LOG_DISCONTINUOUS: Final = "its offsets do not continue: the log was truncated, or the topic was recreated"

_log = structlog.get_logger("inventory_refresh.kafka")


class KafkaSource:
    """``ports.Source`` on a real broker.

    For one thread. The listener is called on that thread or, during ``close``, on another one while that thread waits.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        on_statistics: Callable[[KafkaStatistics], None] = lambda _statistics: None,
        *,
        queue_bytes: int = DEFAULT_SHARES.consumer_queue_bytes,
    ) -> None:
        """Does not connect yet. Raises SettingsError for a wrong option, or one that must not be set.

        ``on_statistics`` is called within a poll, every ``statistics.interval.ms``. ``queue_bytes`` is what messages
        may take that were fetched and not polled yet.
        """
        for topic in settings.topics:
            if topic.startswith("^"):
                raise SettingsError(f'kafka.topics: "{topic}" is a pattern; list the topics by name')
        group_times(settings)
        options = consumer_options(settings, queue_bytes)
        self._settings = settings
        self._renews_tokens = uses_tokens(settings)
        self._errors = ErrorLog()
        self._subscribed_listener: RebalanceListener | None = None
        self._logged_at: dict[int, float] = {}
        """Error code to the monotonic time when it was logged last."""
        self._incremental = is_incremental(options)
        self._on_statistics = on_statistics
        # The client may call back before it exists, if a login takes long.
        self._consumer: Consumer = new_client(
            Consumer, options, settings, error_cb=self._on_error, stats_cb=self._on_stats
        )
        self._table = AssignmentTable(settings.topics)
        self._topics = TopicLookup(lambda: self._admin)
        self._loader = AssignmentLoader(self._consumer, self._topics)
        self._log_end_offsets = LogEndOffsets(self._consumer, lambda: self._admin)
        self._member_id: str | None = None
        """The member id under which the assignments in the table were given."""
        self._closed = False

    # Life cycle

    def check_broker(self) -> GroupTimes:
        """Check that the broker answers, the topics exist and the group can be used; call it before ``subscribe``.

        Returns how long the group waits for this member. With the protocol ``consumer`` the broker decides that.

        Raises BrokerError with one line that says what to change: after ``kafka.unreachable_timeout`` if no broker
        answers, at once for everything else.
        """
        preflight = Preflight(self._consumer, self._errors, self._settings)
        for topic in self._settings.topics:
            if not preflight.topic_exists(topic):
                similar = preflight.similar_topics(topic)
                hint = f"did you mean {' or '.join(similar)}?" if similar else "create it, or correct the name"
                servers = self._settings.bootstrap_servers
                raise BrokerError(f'kafka.topics: there is no topic "{topic}" at {servers}; {hint}')
        preflight.check_group(self._consumer)
        if group_protocol(self._settings) == CONSUMER_PROTOCOL:
            return group_times(self._settings, session_times(self._admin, self._settings.group_id))
        return group_times(self._settings)

    @cached_property
    def _admin(self) -> AdminClient:
        return new_client(AdminClient, connection_options(self._settings), self._settings)

    def subscribe(self, listener: RebalanceListener) -> None:
        """Join the group. After a rebalance without new partitions ``on_assigned`` is called with an empty list."""
        self._subscribed_listener = listener
        with broker_errors("subscribe"):
            self._consumer.subscribe(
                list(self._settings.topics),
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )

    def partitions_total(self) -> int | None:
        """Partitions of all topics, as of the latest assignment of each; None if one of them is not known yet."""
        return self._topics.partitions_total(self._settings.topics)

    def close(self) -> None:
        """Leave the group, within ``CLOSE_SECONDS_MAX``; a second call does nothing."""
        if not self._closed:
            self._closed = True
            try:
                # A rebalance that has just ended calls back here, while the client still answers its callbacks. Later
                # it may not: see ``closing``.
                self._consumer.consume(1, 0.0)
            finally:
                close_within(self._consumer)

    # Messages

    def poll(self, *, messages_max: int, timeout_seconds: float) -> RawBatch:
        """See ``ports.Source``. Returns no messages while no broker is reachable; the client reconnects by itself."""
        recreated = self._topics.recreated(self._table.assignments, time.monotonic())
        if recreated:
            self._reset(recreated, TOPIC_RECREATED)
        before = self._table.snapshot()
        with broker_errors("read messages"):
            messages = self._consume(messages_max, timeout_seconds)
        if self._errors.fatal is not None:
            raise self._fatal_error(self._errors.fatal)
        ends: dict[int, int] = {}
        if any(map(Message.error, messages)):
            messages, ends = self._without_events(messages)
        return self._batch(messages, ends, self._table.reassigned_since(before))

    def _consume(self, messages_max: int, timeout_seconds: float) -> list[Message]:
        """Messages and events. Asks in short calls, because a call waits until it has all the messages asked for."""
        deadline = time.monotonic() + timeout_seconds
        messages = self._consumer.consume(messages_max, min(BATCH_SECONDS_MAX, timeout_seconds))
        left_seconds = deadline - time.monotonic()
        if messages or left_seconds <= 0:
            return messages
        messages = self._consumer.consume(1, left_seconds)
        if messages and messages_max > 1:
            messages += self._consumer.consume(messages_max - 1, BATCH_SECONDS_MAX)
        return messages

    def _without_events(self, messages: list[Message]) -> tuple[list[Message], dict[int, int]]:
        """The messages without the events among them, and the partition ends that were reached, by assignment id."""
        good: list[Message] = []
        ends: dict[int, int] = {}
        for message in messages:
            error = message.error()
            if error is None:
                good.append(message)
            elif error.code() == PARTITION_EOF:
                for assignment_id in self._table.ids_of([(topic_of(message), partition_of(message))]):
                    ends[assignment_id] = offset_of(message)
            else:
                self._handle_error(error)
        return good, ends

    def _batch(self, messages: list[Message], ends: Mapping[int, int], reassigned: Collection[int]) -> RawBatch:
        """The batch of these messages, recorded in the table; resets and leaves out partitions that do not continue."""
        found = self._table.ids_of_messages(map(topic_of, messages), map(partition_of, messages))
        if None in found:
            # Read before their partition was revoked within the same call: its next owner reads them again.
            messages, found = without(messages, found, {None})
        ids = cast("list[int]", found)
        offsets = list(map(offset_of, messages))
        ranges = offset_ranges(ids, offsets)
        discontinuous = self._table.discontinuous(ranges, ends, reassigned)
        if discontinuous:
            self._reset(discontinuous, LOG_DISCONTINUOUS)
            messages, ids = without(messages, ids, discontinuous)
            offsets = list(map(offset_of, messages))
            ranges = offset_ranges(ids, offsets)
            ends = {assignment_id: end for assignment_id, end in ends.items() if assignment_id not in discontinuous}

        def origin(position: int) -> tuple[bytes | None, Headers]:
            message = messages[position]
            return message.key(), headers_of(message) or ()

        return RawBatch(
            values=Values(messages),
            assignments=ids,
            offsets=offsets,
            timestamps=Timestamps(messages),
            ends=self._table.record_read(ranges, ends),
            origin=origin,
            topics=self._table.topics(ranges),
            headers=HeaderColumn(messages),
        )

    # Assignments

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._closed:
            return  # a rebalance that ended while closing: the client answers no request now, and revokes everything
        member_id = self._consumer.memberid()
        if member_id:  # none: the callback is late, the client has left the group since and reports the loss next
            if self._table and member_id != self._member_id:
                raise BrokerError(
                    "Kafka removed this member from the group and re-admitted it without revoking its partitions; "
                    "restart the process to rejoin cleanly"
                )
            self._member_id = member_id
        assignments = self._loader.load([(partition.topic, partition.partition) for partition in partitions])
        starts = [
            TopicPartition(assignment.topic, assignment.partition, start_offset(assignment))
            for assignment in assignments
        ]
        with broker_errors("take the assigned partitions"):
            # The client remembers that a partition was paused when it was revoked; the loop does not.
            self._consumer.resume(starts)
            if self._incremental:
                self._consumer.incremental_assign(starts)
            else:
                self._consumer.assign(starts)
        self._add(assignments)

    def _add(self, assignments: Sequence[Assignment]) -> None:
        self._table.add(assignments)
        self._listener.on_assigned(assignments)

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        assignment_ids = self._ids_of(partitions)
        if assignment_ids:
            self._listener.on_revoked(assignment_ids)
        self._release(assignment_ids, partitions)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        assignment_ids = self._ids_of(partitions)
        self._listener.on_lost(assignment_ids)
        self._release(assignment_ids, partitions)

    def _release(self, assignment_ids: Sequence[int], partitions: list[TopicPartition]) -> None:
        self._table.remove(assignment_ids)
        # While closing, the client may have left the group before it calls back; then there is nothing to release.
        with broker_errors("release partitions", ignored_code=GROUP_GONE if self._closed else None):
            if self._incremental:
                self._consumer.incremental_unassign(partitions)
            else:
                self._consumer.unassign()

    def _reset(self, assignment_ids: Collection[int], detail: str) -> None:
        """Report these assignments as lost, and read their partitions again under new assignments (rule 8)."""
        lost = [assignment for assignment in self._table.assignments if assignment.assignment_id in assignment_ids]
        for assignment in lost:
            _log.error(
                "partition_reset",
                topic=assignment.topic,
                partition=assignment.partition,
                next_offset=self._table.next_offset(assignment.assignment_id),
                detail=detail,
            )
        lost_ids = [assignment.assignment_id for assignment in lost]
        self._listener.on_lost(lost_ids)
        self._table.remove(lost_ids)
        assignments = self._loader.load([(assignment.topic, assignment.partition) for assignment in lost])
        with broker_errors("seek to another offset"):
            self._consumer.resume(
                [TopicPartition(assignment.topic, assignment.partition) for assignment in assignments]
            )
            for assignment in assignments:
                self._consumer.seek(TopicPartition(assignment.topic, assignment.partition, start_offset(assignment)))
        self._add(assignments)

    def pause(self, assignment_ids: Sequence[int]) -> None:
        """Read no messages of these until they are resumed; ids of earlier assignments are ignored."""
        with broker_errors("pause partitions"):
            self._consumer.pause(self._partitions_of(assignment_ids))

    def resume(self, assignment_ids: Sequence[int]) -> None:
        """Undo ``pause``; ids of earlier assignments are ignored."""
        with broker_errors("resume partitions"):
            self._consumer.resume(self._partitions_of(assignment_ids))
        self._fetch_at_once(assignment_ids)

    def _fetch_at_once(self, assignment_ids: Sequence[int]) -> None:
        """Make the client ask for these partitions now.

        Its thread for a broker sleeps for up to a second while all partitions there are paused, and a resume does not
        wake it. A seek does, with a leader epoch. It goes to the position where the partition is anyway.
        """
        for position in self._consumer.position(self._partitions_of(assignment_ids)):
            for assignment_id in self._ids_of([position]):
                if position.offset == self._table.next_offset(assignment_id):
                    with broker_errors("resume partitions", ignored_code=NOT_FETCHED):
                        self._consumer.seek(position)

    def log_end_offset(self, assignment_id: int) -> int | None:
        """The last known log end offset, without waiting; None for an earlier assignment."""
        assignment = self._table.get(assignment_id)
        return None if assignment is None else self._log_end_offsets.get(assignment)

    # Commits

    def commit(self, commits: Sequence[Commit]) -> Committed | CommitRefused:
        """See ``ports.Source``. Waits for the broker's answer, without a coordinator for about the session timeout.

        If the last broker goes away during a commit, this waits until a broker is back. Giving up here would not stop
        the client from making the commit later, after a newer one.

        Commits of earlier assignments are ignored (rule 17); if there are no others, the commit is refused. Raises
        BrokerError for an error that does not go away by itself.
        """
        offsets = [
            TopicPartition(
                commit.assignment.topic, commit.assignment.partition, commit.offset, metadata=commit.metadata
            )
            for commit in commits
            if commit.assignment.assignment_id in self._table
        ]
        if not offsets:
            if commits:
                return CommitRefused(fenced=False, detail="none of these partitions is assigned any more")
            return Committed()
        if not self._is_same_member():
            return NOT_A_MEMBER
        try:
            partitions = self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as exception:
            return commit_outcome([error_of(exception)], renews_tokens=self._renews_tokens)
        errors = [partition.error for partition in partitions if partition.error is not None]
        outcome = commit_outcome(errors, renews_tokens=self._renews_tokens)
        return outcome if self._is_same_member() else NOT_A_MEMBER

    def _is_same_member(self) -> bool:
        """Whether this is still the member that was given the partitions.

        The client commits under whatever member id it has at the moment. A member with a ``group.instance.id`` that was
        removed from the group may be re-admitted before it learns of its removal. It then has a new member id, under
        which the broker accepts its commits although other members have owned the partitions meanwhile. (With the
        protocol ``consumer`` a member keeps its id and has an epoch instead, and is re-admitted only after it has
        learned that its partitions are lost.)
        """
        return self._member_id is not None and self._consumer.memberid() == self._member_id

    # Errors and statistics

    def _handle_error(self, error: KafkaError) -> None:
        """Log an error among the messages that the client recovers from; raise BrokerError for any other."""
        match classify(error, renews_tokens=self._renews_tokens):
            case ErrorClass.RETRIABLE | ErrorClass.FENCED:
                self._log_error(error)
            case ErrorClass.FATAL:
                raise self._fatal_error(error)
            case _:
                raise BrokerError(f"Kafka: cannot read messages: {text_of(error)}")

    def _fatal_error(self, error: KafkaError) -> BrokerError:
        instance = self._settings.properties.get("group.instance.id")
        hint = (
            f'; kafka.properties: is "group.instance.id" {instance!r} used by another process too? A process that was '
            "killed keeps it until its session times out"
        )
        text = ": ".join(dict.fromkeys(text_of(error).split(": ")))  # the client repeats parts of some messages
        return BrokerError(f"Kafka has shut this member out: {text}{hint if instance else ''}")

    def _on_error(self, error: KafkaError) -> None:
        self._errors.add(error)
        if self._subscribed_listener is not None:  # before that, ``check_broker`` reports the error in its one line
            self._log_error(error)

    def _log_error(self, error: KafkaError) -> None:
        now = time.monotonic()
        if now - self._logged_at.get(error.code(), -LOG_INTERVAL_SECONDS) >= LOG_INTERVAL_SECONDS:
            self._logged_at[error.code()] = now
            _log.warning("kafka_error", error=text_of(error), detail="the client retries by itself")

    def _on_stats(self, text: str) -> None:
        if self._subscribed_listener is None:
            return  # there is nothing to say yet, and the client may still be being made
        self._log_end_offsets.refresh(self._table.assignments)
        statistics = read_statistics(text)
        if statistics is not None:
            self._on_statistics(statistics)

    # Lookups

    @property
    def _listener(self) -> RebalanceListener:
        if self._subscribed_listener is None:
            raise InvariantError("the client reported a rebalance before subscribe")
        return self._subscribed_listener

    def _ids_of(self, partitions: Sequence[TopicPartition]) -> list[int]:
        return self._table.ids_of((partition.topic, partition.partition) for partition in partitions)

    def _partitions_of(self, assignment_ids: Sequence[int]) -> list[TopicPartition]:
        assignments = filter(None, map(self._table.get, assignment_ids))
        return [TopicPartition(assignment.topic, assignment.partition) for assignment in assignments]
