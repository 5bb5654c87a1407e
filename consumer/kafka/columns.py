"""What the decoder takes of messages, as columns that are read where they are needed."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, cast

from confluent_kafka import Message

from consumer.ports import Headers

# What a message without an error has.
topic_of: Final = cast("Callable[[Message], str]", Message.topic)
partition_of: Final = cast("Callable[[Message], int]", Message.partition)
offset_of: Final = cast("Callable[[Message], int]", Message.offset)
value_of: Final = cast("Callable[[Message], bytes | None]", Message.value)
headers_of: Final = cast("Callable[[Message], Headers | None]", Message.headers)


class Values(Sequence[bytes | None]):
    """The values of messages, taken when they are asked for: by the decoder's thread, which spares the loop's."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[bytes | None]:
        return map(value_of, self._messages)

    def __getitem__(self, position: Any) -> Any:
        return value_of(self._messages[position])


class Timestamps(Sequence[int | None]):
    """The timestamps of messages, likewise; None where a message has none."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[int | None]:
        return (stamp if kind else None for kind, stamp in map(Message.timestamp, self._messages))

    def __getitem__(self, position: Any) -> Any:
        kind, stamp = self._messages[position].timestamp()
        return stamp if kind else None
