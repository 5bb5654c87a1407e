"""How far each partition's log reaches: as the client hears anyway, and asked for beside the loop now and then.

The client hears of a log's end with every fetch. Of a paused partition it hears nothing: just while the OMS is away,
and the lag grows.
"""

import logging
from collections.abc import Callable, Collection
from concurrent.futures import Future
from functools import partial
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec  # type: ignore[attr-defined]

from consumer.ports import Assignment

LATEST: Final[OffsetSpec] = OffsetSpec.latest()  # type: ignore[no-untyped-call]
ANSWER_SECONDS_MAX: Final = 5.0

_log = logging.getLogger("inventory_refresh.kafka")


class LogEnds:
    """The ends of assigned partitions' logs. Nothing here waits for a broker."""

    def __init__(self, consumer: Consumer, admin: Callable[[], AdminClient]) -> None:
        self._consumer = consumer
        self._admin = admin
        self._told: dict[int, int] = {}
        """By assignment, what a broker said last."""
        self._questions: list[Future[ListOffsetsResultInfo]] = []

    def of(self, assignment: Assignment) -> int:
        """The end as last heard; at first that is from when the partition was assigned."""
        partition = TopicPartition(assignment.topic, assignment.partition)
        _, fetched = self._consumer.get_watermark_offsets(partition, cached=True)  # negative before the first fetch
        return max(assignment.high, fetched, self._told.get(assignment.assignment_id, 0))

    def ask(self, assignments: Collection[Assignment]) -> None:
        """Ask the brokers, unless they still owe an answer; ends of other assignments are forgotten."""
        if not all(question.done() for question in self._questions):
            return
        self._questions = []
        told = self._told
        self._told = {
            each.assignment_id: told[each.assignment_id] for each in assignments if each.assignment_id in told
        }
        number_of = {TopicPartition(each.topic, each.partition): each.assignment_id for each in assignments}
        if not number_of:
            return
        admin = self._admin()
        admin.poll(0)  # what it has to log is told only so, and would pile up
        try:
            asked = admin.list_offsets(dict.fromkeys(number_of, LATEST), request_timeout=ANSWER_SECONDS_MAX)
        except KafkaException as error:
            _log.debug("the ends of the logs cannot be asked for: %s", error)
            return
        for partition, question in asked.items():
            question.add_done_callback(partial(self._answered, number_of[partition]))
        self._questions = list(asked.values())

    def _answered(self, number: int, question: "Future[ListOffsetsResultInfo]") -> None:
        """Called by a thread of the client. A broker that does not answer is told of elsewhere."""
        if question.exception() is None:
            self._told[number] = question.result().offset
