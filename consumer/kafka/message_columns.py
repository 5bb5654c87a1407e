"""Columns over a list of Kafka messages, for the decoder; each element is read when it is asked for."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final, TypeVar, cast

from confluent_kafka import Message

from consumer.ports import Headers

Id = TypeVar("Id", bound=int | None)

# Messages without an error always have a topic, a partition and an offset; the client's types allow None.
topic_of: Final = cast("Callable[[Message], str]", Message.topic)
partition_of: Final = cast("Callable[[Message], int]", Message.partition)
offset_of: Final = cast("Callable[[Message], int]", Message.offset)
value_of: Final = cast("Callable[[Message], bytes | None]", Message.value)
headers_of: Final = cast("Callable[[Message], Headers | None]", Message.headers)


class Values(Sequence[bytes | None]):
    """The values of messages; None for a tombstone.

    Read on the decoder's thread, which takes the work off the loop.
    """

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[bytes | None]:
        return map(value_of, self._messages)

    def __getitem__(self, position: Any) -> Any:
        return value_of(self._messages[position])


class Timestamps(Sequence[int | None]):
    """The timestamps of messages, in milliseconds since 1970; None where a message has none."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[int | None]:
        if not self._messages:
            return iter(())
        kinds, stamps = zip(*map(Message.timestamp, self._messages), strict=True)
        if all(kinds):
            return iter(stamps)
        return (stamp if kind else None for kind, stamp in zip(kinds, stamps, strict=True))

    def __getitem__(self, position: Any) -> Any:
        kind, stamp = self._messages[position].timestamp()
        return stamp if kind else None


class HeaderColumn(Sequence[Headers | None]):
    """The headers of messages; None for a message without any."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Headers | None]:
        return map(headers_of, self._messages)

    def __getitem__(self, position: Any) -> Any:
        return headers_of(self._messages[position])


def without(
    messages: Sequence[Message], ids: Sequence[Id], dropped: Collection[int | None]
) -> tuple[list[Message], list[Id]]:
    """The messages, and the assignment id of each, without those of the ``dropped`` ids."""
    kept = [position for position, assignment_id in enumerate(ids) if assignment_id not in dropped]
    return [messages[position] for position in kept], [ids[position] for position in kept]
