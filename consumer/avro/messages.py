"""Reading messages of any schemas: those of one schema together, whatever their order."""

from collections.abc import Sequence

from consumer.avro.fields import FieldPlan
from consumer.avro.lines import ROWS_MAX, TooManyRowsError
from consumer.avro.readers import Reader, Refused
from consumer.avro.reading import BadMessage, ReadResult, at_positions, concat
from consumer.avro.sources import SchemaSource
from consumer.avro.wire import Framing
from consumer.core.changes.items import RejectReason


class MessageReader:
    """Reads the values, or the keys, of records. Not thread-safe."""

    def __init__(self, framing: Framing, source: SchemaSource, *, has_lines: bool = False) -> None:
        """``has_lines``: the readers of ``source`` take events with several changes."""
        self.framing = framing
        self._has_lines = has_lines
        self._source = source
        self._mixed = False
        """Whether the last messages had several prefixes: then grouping first is cheaper than trying a single block."""

    def read(self, values: Sequence[bytes]) -> ReadResult:
        """Read messages with any prefixes.

        Raises SchemaUnavailableError if a schema is unavailable at the moment, SettingsError if it can never be had.
        """
        if not values:
            return concat([])
        prefix = self.framing.prefix_of(values[0])
        if prefix is not None and not self._mixed:
            # The usual case is the fast one: no message is looked at individually.
            reader = self._source.reader(prefix)
            result = None if isinstance(reader, Refused) else reader.read_together(values)
            if result is not None:
                return result
        return self._read_groups(values)

    def plan_of(self, value: bytes) -> FieldPlan | None:
        """The plan with which a message is read; None if it is refused or skipped. Raises as ``read`` does."""
        prefix = self.framing.prefix_of(value)
        reader = None if prefix is None else self._source.reader(prefix)
        return None if reader is None or isinstance(reader, Refused) else reader.plan_of(value)

    def close(self) -> None:
        """Close the schema source."""
        self._source.close()

    def _read_groups(self, values: Sequence[bytes]) -> ReadResult:
        """Read messages of several prefixes: those of one reader together, so many schema ids cost no more than one."""
        groups = self._groups(values)
        self._mixed = len(groups) > 1
        bad: list[BadMessage] = []
        readable: dict[int, tuple[Reader, bytes, list[int]]] = {}
        for prefix, positions in groups.items():
            if prefix is None:
                bad += [
                    BadMessage(position, RejectReason.NOT_FRAMED, self.framing.not_framed(values[position]))
                    for position in positions
                ]
                continue
            reader = self._source.reader(prefix)
            if isinstance(reader, Refused):
                bad += [BadMessage(position, reader.reason, reader.detail) for position in positions]
            else:
                readable.setdefault(id(reader), (reader, prefix, []))[2].extend(positions)
        results = [concat([]), ReadResult(concat([]).frame, bad)]
        for reader, prefix, positions in readable.values():
            positions.sort()
            # A reader takes messages of one prefix. Prefixes of the same reader are interchangeable.
            same_prefix = [prefix + values[position][len(prefix) :] for position in positions]
            results.append(at_positions(reader.read(same_prefix), positions))
            rows = sum(result.frame.height for result in results)
            if self._has_lines and rows > ROWS_MAX and len(values) > 1:
                raise TooManyRowsError
        return concat(results)

    def _groups(self, values: Sequence[bytes]) -> dict[bytes | None, list[int]]:
        """The positions of messages by prefix; None: those without a valid one."""
        prefixes = [self.framing.prefix_of(value) for value in values]
        groups: dict[bytes | None, list[int]] = {prefix: [] for prefix in set(prefixes)}
        for position, prefix in enumerate(prefixes):
            groups[prefix].append(position)
        return groups
