"""Container files as events: each row of a file is a line of the event.

Rows are numbered across the blocks of their file. A file of which anything cannot be read is rejected as a whole:
nothing says where the next row begins.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import polars as pl

from consumer.avro.container_file import BadContainerFileError, ContainerFile, read_container
from consumer.avro.lines import ROWS_MAX, TooManyRowsError, too_many_lines
from consumer.avro.reading import NOTHING, POSITION, BadMessage, ReadResult, concat, with_lines_outcome
from consumer.avro.recursion import NoValueError, Walker
from consumer.avro.union_reader import Reader
from consumer.avro.writer_schema import parse
from consumer.core.changes.items import LINE, RejectReason

READ_BYTES_MAX: Final = 32 * 1024 * 1024
"""Files are read once their rows have this many bytes together: a thousandth may have been sent for them."""

WALKERS_MAX: Final = 100
"""Schemas whose walkers are kept."""

_UNREADABLE: Final = frozenset({RejectReason.CORRUPT, RejectReason.TRAILING_BYTES})


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the file at a position among the messages, and its number in the file."""

    position: int
    number: int
    value: bytes


class ContainerReader:
    """Reads container files, given the reader of their rows."""

    def __init__(self, rows_max: int | None) -> None:
        """``rows_max``: rows that a file may have. None: it must have exactly one, and its reader numbers the lines."""
        self._rows_max = rows_max

    def read(self, reader: Reader, files: Sequence[tuple[int, bytes]]) -> ReadResult:
        """Read files of one schema, each with its position.

        Raises TooManyRowsError unless there is only one file, or they have at most ``ROWS_MAX`` rows.
        """
        bad: list[BadMessage] = []
        results: list[ReadResult] = []
        waiting: list[Row] = []
        size = count = empty = 0
        for position, file in files:
            try:
                rows = self.rows_of(reader, file)
            except BadContainerFileError as error:
                bad.append(BadMessage(position, error.reason, str(error)))
                continue
            empty += not rows
            count += len(rows)
            if count > ROWS_MAX and len(files) > 1:
                raise TooManyRowsError
            waiting += [Row(position, number, value) for number, value in enumerate(rows)]
            size += sum(map(len, rows))
            if size > READ_BYTES_MAX:
                results.append(self._read_rows(reader, waiting))
                waiting, size = [], 0
        results.append(self._read_rows(reader, waiting))
        return with_lines_outcome(concat(results), bad, empty)

    def rows_of(self, reader: Reader, file: bytes) -> list[bytes]:
        """The bytes of each row of a file. Raises BadContainerFileError."""
        container = read_container(file)
        if self._rows_max is None and container.rows != 1:
            raise _not_one_row(container.rows, "")
        if self._rows_max is not None and container.rows > self._rows_max:
            raise BadContainerFileError(too_many_lines(self._rows_max), RejectReason.TOO_MANY_LINES)
        rows = split(container)
        if len(rows) > 1 and any(_is_envelope(reader, row) for row in rows):
            raise _not_one_row(len(rows), " of Debezium envelopes")
        return rows

    def _read_rows(self, reader: Reader, rows: Sequence[Row]) -> ReadResult:
        """Read rows of whole files; the other files are read again without one that has an unreadable row."""
        if not rows:
            return NOTHING
        result = reader.read([row.value for row in rows])
        unreadable: dict[int, BadMessage] = {}
        for message in result.bad:
            if message.line is None and message.reason in _UNREADABLE:
                row = rows[message.position]
                detail = f"row {row.number}: {message.detail}"
                unreadable.setdefault(row.position, BadMessage(row.position, message.reason, detail))
        if not unreadable:
            return self._numbered(result, rows)
        others = self._read_rows(reader, [row for row in rows if row.position not in unreadable])
        return concat([replace(NOTHING, bad=list(unreadable.values())), others])

    def _numbered(self, result: ReadResult, rows: Sequence[Row]) -> ReadResult:
        """The result of reading rows, with the positions of their files, and their numbers as lines."""
        at = result.frame[POSITION]
        positions = pl.Series(POSITION, [row.position for row in rows], dtype=pl.Int64)[at]
        lines = pl.Series(LINE, [row.number for row in rows], dtype=pl.Int32)[at] + result.frame[LINE]
        bad = [
            replace(message, position=rows[message.position].position, line=self._line(rows[message.position], message))
            for message in result.bad
        ]
        return replace(result, frame=result.frame.with_columns(positions, lines), bad=bad)

    def _line(self, row: Row, message: BadMessage) -> int | None:
        if message.line is None and self._rows_max is None:
            return None
        return row.number + (message.line or 0)


def split(container: ContainerFile) -> list[bytes]:
    """The bytes of each row. Raises BadContainerFileError if the blocks are not just their rows."""
    blocks = container.block_bytes()
    if container.rows == 1:
        return [b"".join(blocks)]
    rows: list[bytes] = []
    for block, data in zip(container.blocks, blocks, strict=True):
        at = 0
        for _ in range(block.rows):
            try:
                end = _walker(container.schema).end_of(data, at)
            except NoValueError as error:
                raise BadContainerFileError(f"row {len(rows)}: {error}") from error
            rows.append(data[at:end])
            at = end
        if at < len(data):
            raise BadContainerFileError(
                f"{len(data) - at} bytes after the rows of a block", RejectReason.TRAILING_BYTES
            )
    return rows


@lru_cache(maxsize=WALKERS_MAX)
def _walker(schema: bytes) -> Walker:
    """The walker of a schema for which there is a reader, so it can be parsed."""
    return Walker(parse(schema.decode("utf-8", "replace")))


def _is_envelope(reader: Reader, row: bytes) -> bool:
    """Whether a row may become two changes, which are numbered within it."""
    plan = reader.plan_of(row)
    return plan is not None and plan.operation is not None


def _not_one_row(rows: int, what: str) -> BadContainerFileError:
    return BadContainerFileError(
        f"the container file has {rows} rows{what}; it must have exactly one", RejectReason.NOT_ONE_ROW
    )
