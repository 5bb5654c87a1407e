"""Columns that do not come from an event's value: from the record's key, headers, topic or timestamp, or a constant."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain

import polars as pl

from consumer.avro.conversion import TRIMMED, convert
from consumer.avro.leaves import Leaf
from consumer.avro.mapping import EventMapping
from consumer.avro.messages import MessageReader
from consumer.avro.reading import POSITION, BadMessage
from consumer.avro.values import Problems, absent_removed, trimmed
from consumer.core.changes.items import LINE
from consumer.ports import Headers, RawBatch
from consumer.settings.event_sources import Constant, FieldPath, Header, Key, RecordSource, RecordTime, Source, Topic


@dataclass(frozen=True)
class Records:
    """The records of several batches, as columns. Keys and headers are only looked at if a column comes from them."""

    batches: Sequence[RawBatch]

    @cached_property
    def values(self) -> list[bytes | None]:
        return list(chain.from_iterable(batch.values for batch in self.batches))

    @cached_property
    def assignments(self) -> list[int]:
        return list(chain.from_iterable(batch.assignments for batch in self.batches))

    @cached_property
    def offsets(self) -> list[int]:
        return list(chain.from_iterable(batch.offsets for batch in self.batches))

    @cached_property
    def timestamps(self) -> list[int | None]:
        return list(chain.from_iterable(batch.timestamps for batch in self.batches))

    @cached_property
    def topics(self) -> Mapping[int, str]:
        """By assignment id."""
        return {assignment: topic for batch in self.batches for assignment, topic in batch.topics.items()}

    @cached_property
    def origins(self) -> list[tuple[bytes | None, Headers]]:
        """Key and headers of each record."""
        return [batch.origin(position) for batch in self.batches for position in range(len(batch))]

    def headers_at(self, position: int) -> Headers:
        """The headers of one record."""
        batch, index = batch_of(self.batches, position)
        return batch.origin(index)[1]


def batch_of(batches: Sequence[RawBatch], position: int) -> tuple[RawBatch, int]:
    """The batch with the record at this position of all records, and its position there."""
    ends = list(accumulate(len(batch) for batch in batches))
    index = bisect_right(ends, position)
    return batches[index], position - (ends[index] - len(batches[index]))


class RecordColumns:
    """Fills in the columns with record sources. ``keys`` reads Avro keys, into the columns of the targets."""

    def __init__(self, mapping: EventMapping, keys: MessageReader | None) -> None:
        self._mapping = mapping
        self._keys = keys
        self._targets = mapping.record_targets

    def fill(
        self, frame: pl.DataFrame, records: Records, ignored: dict[str, int]
    ) -> tuple[pl.DataFrame, list[BadMessage]]:
        """The rows with their columns from record sources, and the messages with an invalid value in one."""
        if not self._targets or not frame.height:
            return frame, []
        rows = _Rows(frame[POSITION].to_list(), records, self._mapping, self._keys)
        problems = Problems()
        columns = [self._column(frame, target, rows, problems) for target in self._targets]
        frame = frame.with_columns(columns)
        for name, count in problems.ignored.items():
            ignored[name] = ignored.get(name, 0) + count
        if not problems.bad:
            return frame, []
        bad = [
            BadMessage(frame[POSITION][row], reason, detail, frame[LINE][row])
            for row, (reason, detail) in sorted(problems.bad.items())
        ]
        keep = pl.Series([True]).new_from_index(0, frame.height).scatter(list(problems.bad), False)
        return frame.filter(keep), bad

    def _column(self, frame: pl.DataFrame, target: str, rows: "_Rows", problems: Problems) -> pl.Series:
        """For each row, the value of the first source that has one; all paths of the event count as one source."""
        column: pl.Series | None = None
        for source in self._in_order(target):
            missing = None if column is None else column.is_null()
            if missing is not None and not missing.any():
                break
            found = frame[target] if isinstance(source, FieldPath) else rows.column(target, source, missing, problems)
            column = found if column is None or missing is None else column.zip_with(~missing, found)
        return (frame[target] if column is None else column).alias(target)

    def _in_order(self, target: str) -> list[Source]:
        sources = self._mapping.sources[target]
        first = next((source for source in sources if isinstance(source, FieldPath)), None)
        return [source for source in sources if source == first or not isinstance(source, FieldPath)]


class _Rows:
    """The record sources of some rows, given by the positions of their records."""

    def __init__(
        self, positions: list[int], records: Records, mapping: EventMapping, keys: MessageReader | None
    ) -> None:
        self._positions = positions
        self._records = records
        self._mapping = mapping
        self._key_reader = keys

    def column(self, target: str, source: RecordSource, missing: pl.Series | None, problems: Problems) -> pl.Series:
        """The values of a source as those of a target; null where ``missing`` is false."""
        if isinstance(source, RecordTime):
            return pl.Series(target, [self._records.timestamps[p] for p in self._positions], dtype=pl.Int64)
        if isinstance(source, Key) and self._key_reader is not None:
            return self._avro_keys[target]
        texts = self._texts(source)
        if missing is not None:
            texts = texts.zip_with(missing, pl.Series([None], dtype=pl.String).new_from_index(0, len(texts)))
        texts = absent_removed(texts, self._mapping.settings.absent_values)
        column = convert(self._mapping, target, Leaf((str(source),), "text", unit="text"), texts, problems)
        return trimmed([column], self._mapping.settings.trim)[0] if target in TRIMMED else column

    def _texts(self, source: RecordSource) -> pl.Series:
        records = self._records
        match source:
            case Constant(text):
                return pl.Series([text]).new_from_index(0, len(self._positions))
            case Topic():
                topics, assignments = records.topics, records.assignments
                return self._of(lambda position: topics.get(assignments[position]))
            case Header(name):
                return self._of(lambda position: _text(_header(records.origins[position][1], name)))
            case Key(path):
                texts = self._of(lambda position: _text(records.origins[position][0]))
                if self._mapping.settings.key_format == "json":
                    return texts.str.json_path_match("".join(["$", *(f"['{name}']" for name in path)]))
                return texts
            case RecordTime():
                return self._of(lambda position: str(records.timestamps[position]))

    def _of(self, text: Callable[[int], str | None]) -> pl.Series:
        return pl.Series([text(position) for position in self._positions], dtype=pl.String)

    @cached_property
    def _avro_keys(self) -> pl.DataFrame:
        """The targets that come from Avro keys; null if there is no key, or none that can be read."""
        rows = [
            (row, key)
            for row, position in enumerate(self._positions)
            if (key := self._records.origins[position][0]) is not None
        ]
        if self._key_reader is None:
            return pl.DataFrame()
        reading = self._key_reader.read([key for _, key in rows], None, lambda _: None)
        result = reading.result.at([row for row, _ in rows])
        all_rows = pl.DataFrame({POSITION: pl.Series(range(len(self._positions)), dtype=pl.Int64)})
        return all_rows.join(result.frame, on=POSITION, how="left", maintain_order="left")


def _header(headers: Headers, name: str) -> bytes | None:
    return next((value for key, value in reversed(headers) if key == name), None)


def _text(value: bytes | None) -> str | None:
    """UTF-8 text; None if it is not."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None
