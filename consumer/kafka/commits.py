"""What the broker's answer to a commit means."""

from collections.abc import Sequence
from typing import Final

from confluent_kafka import KafkaError

from consumer.kafka.errors import Meaning, meaning_of, text_of
from consumer.ports import BrokerError, CommitRefused, Committed

NO_MEMBER: Final = CommitRefused(fenced=True, detail="this member was taken out of the group")


def commit_outcome(errors: Sequence[KafkaError]) -> Committed | CommitRefused:
    """Pure, but for BrokerError; the worst error counts."""
    meanings = {meaning_of(error): error for error in errors}
    meanings.pop(Meaning.NOTHING_TO_DO, None)
    if not meanings:
        return Committed()
    for meaning in (Meaning.FINAL, Meaning.UNAUTHORISED):
        if meaning in meanings:
            raise BrokerError(f"Kafka does not let this service commit: {text_of(meanings[meaning])}")
    for meaning in (Meaning.SHUT_OUT, Meaning.FENCED):
        if meaning in meanings:
            return CommitRefused(fenced=True, detail=text_of(meanings[meaning]))
    return CommitRefused(fenced=False, detail=text_of(meanings[Meaning.PASSING]))
