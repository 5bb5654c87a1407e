"""What the broker's answer to a commit means."""

from collections.abc import Sequence
from typing import Final

from confluent_kafka import KafkaError

from consumer.errors import BrokerError
from consumer.kafka.errors import ErrorClass, classify, text_of
from consumer.ports import CommitRefused, Committed

NO_MEMBER: Final = CommitRefused(fenced=True, detail="this member was taken out of the group")


def commit_outcome(errors: Sequence[KafkaError]) -> Committed | CommitRefused:
    """Pure, but for BrokerError; the worst error counts."""
    meanings = {classify(error): error for error in errors}
    meanings.pop(ErrorClass.NOTHING_TO_DO, None)
    if not meanings:
        return Committed()
    for meaning in (ErrorClass.FINAL, ErrorClass.UNAUTHORISED):
        if meaning in meanings:
            raise BrokerError(f"Kafka does not let this service commit: {text_of(meanings[meaning])}")
    for meaning in (ErrorClass.SHUT_OUT, ErrorClass.FENCED):
        if meaning in meanings:
            return CommitRefused(fenced=True, detail=text_of(meanings[meaning]))
    return CommitRefused(fenced=False, detail=text_of(meanings[ErrorClass.PASSING]))
