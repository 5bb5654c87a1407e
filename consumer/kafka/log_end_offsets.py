"""Log end offsets of the assigned partitions, for their lag; reading them never waits for a broker.

The client learns a log's end with every fetch. It fetches nothing for a paused partition, and partitions are paused
just when the lag grows: while the OMS is unavailable. So the brokers are also asked directly, now and then.
"""

from collections.abc import Callable, Collection
from concurrent.futures import Future
from functools import partial
from typing import Final

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec  # type: ignore[attr-defined]

from consumer.kafka.errors import error_of, text_of
from consumer.ports import Assignment

LATEST: Final[OffsetSpec] = OffsetSpec.latest()  # type: ignore[no-untyped-call]
REQUEST_SECONDS_MAX: Final = 5.0

_log = structlog.get_logger("inventory_refresh.kafka")


class LogEndOffsets:
    """The last known log end offset of each assignment. For the consumer's thread; it never waits."""

    def __init__(self, consumer: Consumer, admin: Callable[[], AdminClient]) -> None:
        self._consumer = consumer
        self._admin = admin
        self._answers: dict[int, int] = {}
        """Assignment id to the end offset that a broker answered last."""
        self._requests: list[Future[ListOffsetsResultInfo]] = []

    def get(self, assignment: Assignment) -> int:
        """The last known end offset; until the first fetch or answer, the one at assignment."""
        partition = TopicPartition(assignment.topic, assignment.partition)
        _, fetched = self._consumer.get_watermark_offsets(partition, cached=True)  # negative before the first fetch
        return max(assignment.high, fetched, self._answers.get(assignment.assignment_id, 0))

    def refresh(self, assignments: Collection[Assignment]) -> None:
        """Ask the brokers, unless they have not answered the last request; drop the answers of other assignments."""
        if not all(request.done() for request in self._requests):
            return
        self._requests = []
        ids = {
            TopicPartition(assignment.topic, assignment.partition): assignment.assignment_id
            for assignment in assignments
        }
        answers = self._answers
        self._answers = {held: answers[held] for held in ids.values() if held in answers}
        if not ids:
            return
        admin = self._admin()
        admin.poll(0)  # serves the client's log lines, which would pile up otherwise
        try:
            requests = admin.list_offsets(dict.fromkeys(ids, LATEST), request_timeout=REQUEST_SECONDS_MAX)
        except KafkaException as exception:
            _log.debug("log_end_offsets_unavailable", error=text_of(error_of(exception)))
            return
        for partition, request in requests.items():
            request.add_done_callback(partial(self._on_answer, ids[partition]))
        self._requests = list(requests.values())

    def _on_answer(self, assignment_id: int, request: "Future[ListOffsetsResultInfo]") -> None:
        """Called on a thread of the client. Failures are ignored: the consumer reports a broker that is away."""
        if request.exception() is None:
            self._answers[assignment_id] = request.result().offset
