"""The outcome of a commit, from the errors of its partitions."""

from collections.abc import Sequence
from typing import Final

from confluent_kafka import KafkaError

from consumer.errors import BrokerError
from consumer.kafka.errors import ILLEGAL_GENERATION, ErrorClass, classify, text_of
from consumer.ports import CommitRefused, Committed

NOT_A_MEMBER: Final = CommitRefused(fenced=True, detail="this member was removed from the group", is_member=False)


def commit_outcome(errors: Sequence[KafkaError], *, renews_tokens: bool = False) -> Committed | CommitRefused:
    """The outcome by the worst of these errors; none means committed. Pure.

    ``renews_tokens`` is that of ``classify``.

    Raises BrokerError if the worst one is PERMANENT or UNAUTHORISED: retrying would not help.
    """
    by_class = {classify(error, renews_tokens=renews_tokens): error for error in errors}
    by_class.pop(ErrorClass.NO_OFFSETS, None)
    if not by_class:
        return Committed()
    for error_class in (ErrorClass.PERMANENT, ErrorClass.UNAUTHORISED):
        if error_class in by_class:
            raise BrokerError(f"Kafka does not allow this service to commit: {text_of(by_class[error_class])}")
    for error_class in (ErrorClass.FATAL, ErrorClass.FENCED):
        if error_class in by_class:
            fenced = [error for error in errors if classify(error) is error_class]
            is_member = all(error.code() == ILLEGAL_GENERATION for error in fenced)
            return CommitRefused(fenced=True, detail=text_of(fenced[-1]), is_member=is_member)
    return CommitRefused(fenced=False, detail=text_of(by_class[ErrorClass.RETRIABLE]))
