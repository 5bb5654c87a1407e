"""Reading messages of any schemas: grouping them by schema, and taking the Avro value out of each."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

from consumer.avro.container_file import BadContainerFileError
from consumer.avro.container_rows import ContainerReader
from consumer.avro.fields import FieldPlan
from consumer.avro.lines import ROWS_MAX, TooManyRowsError
from consumer.avro.readers import Reader, Refused
from consumer.avro.reading import NOTHING, BadMessage, ReadResult, concat, moved
from consumer.avro.recognise import describe_unframed, recognise
from consumer.avro.sources import SchemaSource
from consumer.avro.wire import BadValueError, Framing, SchemaHeader, SchemaKey, SchemaRef
from consumer.core.changes.items import RejectReason
from consumer.ports import Headers


@dataclass(frozen=True, slots=True)
class Reading:
    """Messages that were read or are bad, those whose schema is unknown and may appear, and how many have no value."""

    result: ReadResult
    awaiting: Sequence[BadMessage] = ()
    tombstones: int = 0


@dataclass(frozen=True, slots=True)
class MessageSchema:
    """The schema that a message names, and the plan with which it is read; None for what there is not.

    ``refusal`` says why no message of this schema can be read.
    """

    ref: SchemaRef | None = None
    plan: FieldPlan | None = None
    refusal: str | None = None


UNWRAPPED_BYTES_MAX: Final = 32 * 1024 * 1024
"""Values that were decompressed are read once they have this many bytes together: a thousandth was sent for them."""


class MessageReader:
    """Reads messages of a framing. Not thread-safe."""

    def __init__(
        self, framing: Framing, source: SchemaSource, *, has_lines: bool = False, file_rows_max: int | None = None
    ) -> None:
        """``has_lines``: a message may have several changes. ``file_rows_max`` is as for ``ContainerReader``."""
        self._framing = framing
        self._containers = ContainerReader(file_rows_max) if framing.name == "container" else None
        self._has_lines = has_lines
        self._source = source
        self._filler = bytes(framing.length)
        """Stands for the prefix where a message has none of this length: readers only compare prefixes."""
        self._mixed = False
        """Whether the last messages had several keys: then grouping first is cheaper than trying a single block."""

    def close(self) -> None:
        """Close the schema source."""
        self._source.close()

    def schema_of(self, value: bytes, headers: Headers) -> MessageSchema:
        """The schema of a message; without a ref if it is not framed. Raises as ``read`` does."""
        key = self._framing.key_of(value, self._framing.header_of(headers))
        ref = None if key is None else self._framing.ref_of(key)
        if key is None or ref is None:
            return MessageSchema()
        reader = self._source.reader(ref, must_ask=True)
        if isinstance(reader, Refused):
            return MessageSchema(ref, refusal=reader.detail)
        return MessageSchema(ref, self._plan_of(reader, key, value))

    def _plan_of(self, reader: Reader, key: SchemaKey, value: bytes) -> FieldPlan | None:
        """The plan with which a message is read; None if it is skipped, or corrupt."""
        if self._containers is not None:
            try:
                rows = self._containers.rows_of(reader, value)
            except BadContainerFileError:
                return None
            return reader.plan_of(rows[0]) if rows else None
        for _, row in self._unwrapped(key, [0], [value], []):
            return reader.plan_of(row)
        return None

    def read(
        self,
        values: Sequence[bytes | None],
        headers: Sequence[SchemaHeader | None] | None,
        headers_at: Callable[[int], Headers | None],
        impatient: Collection[int] = (),
    ) -> Reading:
        """Read messages; None is a tombstone.

        ``headers`` has the header that names the schema of each message, if any has one. ``headers_at`` returns all
        headers of a message, to describe it. The messages at the positions ``impatient`` cannot wait for their schema.
        """
        self._source.begin()
        if all(values):  # several times faster than looking for None; an empty value takes the slower way, too
            return self._read(cast("Sequence[bytes]", values), headers, headers_at, impatient)
        present = {position: value for position, value in enumerate(values) if value is not None}
        positions = list(present)
        waits_not = set(impatient)
        found = self._read(
            list(present.values()),
            None if headers is None else [headers[position] for position in positions],
            lambda index: headers_at(positions[index]),
            {index for index, position in enumerate(positions) if position in waits_not} if waits_not else (),
        )
        return Reading(found.result.at(positions), moved(found.awaiting, positions), len(values) - len(positions))

    def _read(
        self,
        values: Sequence[bytes],
        headers: Sequence[SchemaHeader | None] | None,
        headers_at: Callable[[int], Headers | None],
        impatient: Collection[int],
    ) -> Reading:
        if not values:
            return Reading(NOTHING)
        if headers is None and not self._mixed:
            # The usual case is the fast one: no message is looked at individually.
            result = self._read_together(values)
            if result is not None:
                return Reading(result)
        return self._read_groups(values, headers, headers_at, impatient)

    def _read_together(self, values: Sequence[bytes]) -> ReadResult | None:
        """Read messages as one block; None unless all have the same prefix and are values of its schema."""
        key = self._framing.prefix_of(values[0])
        ref = self._framing.ref_of(key) if key is not None and self._framing.is_plain(key) else None
        if ref is None:
            return None
        reader = self._source.reader(ref)
        return None if isinstance(reader, Refused) else reader.read_together(values)

    def _read_groups(
        self,
        values: Sequence[bytes],
        headers: Sequence[SchemaHeader | None] | None,
        headers_at: Callable[[int], Headers | None],
        impatient: Collection[int],
    ) -> Reading:
        """Read messages of several keys: those of one reader together, so many schema ids cost no more than one."""
        groups = self._groups(values, headers)
        self._mixed = len(groups) > 1
        cannot_wait = frozenset(impatient)
        bad: list[BadMessage] = []
        awaiting: list[BadMessage] = []
        results: list[ReadResult] = []
        rows_read = 0
        readable: dict[int, tuple[Reader, list[tuple[int, bytes]]]] = {}
        for key, positions in groups.items():
            ref = None if key is None else self._framing.ref_of(key)
            if key is None or ref is None:
                bad += [self._unframed(position, values, headers_at) for position in positions]
                continue
            reader = self._source.reader(ref, must_ask=not cannot_wait.isdisjoint(positions))
            if isinstance(reader, Refused):
                for position in positions:
                    waits = reader.may_appear and position not in cannot_wait
                    (awaiting if waits else bad).append(BadMessage(position, reader.reason, reader.detail))
            elif self._containers is not None:
                results.append(self._containers.read(reader, [(position, values[position]) for position in positions]))
                rows_read += results[-1].frame.height
                if rows_read > ROWS_MAX and len(values) > 1:
                    raise TooManyRowsError
            else:
                rows = readable.setdefault(id(reader), (reader, []))[1]
                size = 0
                for position, row in self._unwrapped(key, positions, values, bad):
                    rows.append((position, row))
                    size += len(row)
                    if size > UNWRAPPED_BYTES_MAX:
                        results.append(_read_rows(reader, rows))
                        rows.clear()
                        size = 0
        results += [_read_rows(reader, rows) for reader, rows in readable.values() if rows]
        if self._has_lines and len(values) > 1 and sum(result.frame.height for result in results) > ROWS_MAX:
            raise TooManyRowsError
        results = [
            replace(result, bad=[self._described(message, values, headers_at) for message in result.bad])
            for result in results
        ]
        return Reading(concat([replace(NOTHING, bad=bad), *results]), awaiting)

    def _groups(
        self, values: Sequence[bytes], headers: Sequence[SchemaHeader | None] | None
    ) -> Mapping[SchemaKey | None, list[int]]:
        """The positions of messages by schema key; None: those that are not framed."""
        key_of = self._framing.key_of
        if headers is None:
            keys = [key_of(value) for value in values]
        else:
            keys = [key_of(value, header) for value, header in zip(values, headers, strict=True)]
        groups: dict[SchemaKey | None, list[int]] = {key: [] for key in set(keys)}
        for position, key in enumerate(keys):
            groups[key].append(position)
        return groups

    def _unwrapped(
        self, key: SchemaKey, positions: Sequence[int], values: Sequence[bytes], bad: list[BadMessage]
    ) -> Iterator[tuple[int, bytes]]:
        """Each message as the filler and its Avro value; those that have none are added to ``bad``."""
        if self._framing.is_plain(key):
            length = self._framing.length
            yield from ((position, self._filler + values[position][length:]) for position in positions)
            return
        for position in positions:
            try:
                yield position, self._filler + self._framing.value_of(key, values[position])
            except BadValueError as error:
                bad.append(BadMessage(position, error.reason, error.detail))

    def _described(
        self, message: BadMessage, values: Sequence[bytes], headers_at: Callable[[int], Headers | None]
    ) -> BadMessage:
        """Bare values can be anything: of one that is no value of the schema, say what it looks like instead."""
        if self._framing.name != "bare" or message.reason not in {RejectReason.CORRUPT, RejectReason.TRAILING_BYTES}:
            return message
        looks_like = recognise(values[message.position], headers_at(message.position))
        return replace(message, detail=f"{message.detail}; {looks_like}") if looks_like else message

    def _unframed(
        self, position: int, values: Sequence[bytes], headers_at: Callable[[int], Headers | None]
    ) -> BadMessage:
        detail = describe_unframed(self._framing, values[position], headers_at(position))
        return BadMessage(position, RejectReason.NOT_FRAMED, detail)


def _read_rows(reader: Reader, rows: list[tuple[int, bytes]]) -> ReadResult:
    rows.sort()
    return reader.read([row for _, row in rows]).at([position for position, _ in rows])
