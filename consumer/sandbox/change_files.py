"""Files with inventory changes, for the command ``produce``: JSON lines or CSV, read line by line.

Columns and names are those of schemas/inventory-change.avsc.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final

from consumer.avro.bundled import schema_text
from consumer.errors import SettingsError
from consumer.sandbox.publisher import Change, Encoder, Event

LINE_BYTES_MAX: Final = 1_000_000
LIST_SEPARATOR: Final = "|"
"""Between the attributes in a cell of a CSV file."""
DELIMITERS: Final = (",", ";", "\t")
"""Between the cells; spreadsheets use what suits their language, so the first line decides."""
PROGRESS_LINES: Final = 1_000
"""Lines between two progress reports."""
STANDARD_INPUT: Final = Path("-")


class FileFormat(StrEnum):
    """How a file has its changes."""

    JSONL = "jsonl"
    CSV = "csv"


def format_of(path: Path) -> FileFormat:
    """The format that the file's name says; JSON lines without a name that ends in .csv."""
    return FileFormat.CSV if path.suffix.lower() == ".csv" else FileFormat.JSONL


def events_in(
    path: Path,
    encoder: Encoder,
    file_format: FileFormat | None = None,
    on_bytes: Callable[[int], None] = lambda _bytes: None,
) -> Iterator[Event]:
    """The events for the changes in a file; ``-`` is standard input, without a format the file's name decides.

    ``on_bytes`` is called with the bytes read, every 1,000 lines. Raises SettingsError, which names the line or the
    change by its number, if it cannot be read or does not fit the schema.
    """
    for number, change in enumerate(changes_in(path, file_format, on_bytes), start=1):
        try:
            yield encoder.event(change)
        except (ValueError, TypeError, OverflowError) as error:
            raise SettingsError(f"{path.name}, change {number} does not fit the schema: {error}") from error


def changes_in(
    path: Path, file_format: FileFormat | None = None, on_bytes: Callable[[int], None] = lambda _bytes: None
) -> Iterator[Change]:
    """The changes in a file: JSON objects, one on each line, or rows of CSV with the names of the fields above them.

    Empty lines are skipped, and so are empty cells: the change does not have that field. ``occurredAt`` is milliseconds
    since 1970, in CSV also an ISO 8601 time with its offset; attributes in CSV are separated by ``|``.
    """
    source = Path("/dev/stdin") if path == STANDARD_INPUT else path
    try:
        with source.open("rb") as file:
            lines = _counted(_lines(file, path.name), on_bytes)
            rows = _csv_rows if (file_format or format_of(path)) is FileFormat.CSV else _json_rows
            yield from rows(lines, path.name)
    except OSError as error:
        raise SettingsError(f"{str(path)!r} cannot be read: {error.strerror}") from error


def _lines(file: BinaryIO, name: str) -> Iterator[bytes]:
    number = 0
    while line := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(line) > LINE_BYTES_MAX:
            raise SettingsError(f"{name}, line {number}: longer than {LINE_BYTES_MAX:,} bytes")
        yield line


def _counted(lines: Iterable[bytes], on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    read = 0
    for number, line in enumerate(lines, start=1):
        read += len(line)
        if number % PROGRESS_LINES == 0:
            on_bytes(read)
        yield line
    on_bytes(read)


def _json_rows(lines: Iterable[bytes], name: str) -> Iterator[Change]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _json_change(line, f"{name}, line {number}")


def _json_change(line: bytes, where: str) -> Change:
    try:
        change = json.loads(line)
    except ValueError as error:
        raise SettingsError(f"{where}: not JSON: {error}") from error
    if not isinstance(change, dict):
        raise SettingsError(f"{where}: a change must be a JSON object, as in schemas/examples")
    return change


def _csv_rows(lines: Iterable[bytes], name: str) -> Iterator[Change]:
    texts = _texts(lines, name)
    first = next(texts, "")
    delimiter = max(DELIMITERS, key=first.count)
    reader = csv.reader(chain([first], texts), delimiter=delimiter, strict=True)
    try:
        header = [column.strip() for column in next(reader, [])]
        _check_header(header, name)
        for cells in reader:
            where = f"{name}, line {reader.line_num}"
            if len(cells) > len(header):
                raise SettingsError(f"{where}: {len(cells)} cells, but the first line names {len(header)} columns")
            change = _csv_change(dict(zip(header, cells, strict=False)), where)
            if change:
                yield change
    except csv.Error as error:
        raise SettingsError(f"{name}, line {reader.line_num}: not CSV: {error}") from error


def _texts(lines: Iterable[bytes], name: str) -> Iterator[str]:
    """The lines as text, without the mark that spreadsheets write at the beginning."""
    for number, line in enumerate(lines, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise SettingsError(f"{name}, line {number}: not UTF-8: {error.reason}") from error


def _check_header(header: list[str], name: str) -> None:
    unknown = [column for column in header if column not in _kinds()]
    if unknown or not header or len(set(header)) < len(header):
        wrong = f"{unknown[0]!r} is no field" if unknown else "each must be named once"
        raise SettingsError(f"{name}, line 1: must name the columns, and {wrong}; fields are {', '.join(_kinds())}")


def _csv_change(cells: Mapping[str, str], where: str) -> Change:
    change: Change = {}
    for name, text in cells.items():
        if text.strip():
            try:
                change[name] = _value(name, text)
            except ValueError:
                raise SettingsError(f"{where}: {name} {text!r} is not {_WANTED[_kinds()[name]]}") from None
    return change


_WANTED: Final = {
    "long": "a whole number",
    "double": "a number",
    "time": "milliseconds since 1970, or an ISO 8601 time with an offset such as 2026-01-02T03:04:05Z",
}


def _value(name: str, text: str) -> Any:
    """The value of a cell. Raises ValueError."""
    if "_" in text and _kinds()[name] in _WANTED:
        raise ValueError("Python would take it for a separator of thousands")
    match _kinds()[name]:
        case "long":
            return int(text)
        case "double":
            return float(text)
        case "array":
            return [part.strip() for part in text.split(LIST_SEPARATOR) if part.strip()]
        case "time":
            return int(text) if text.strip().lstrip("-").isdigit() else _milliseconds(text.strip())
        case _:
            return text


def _milliseconds(text: str) -> int:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("a time without an offset")
    return round(time.timestamp() * 1000)


@cache
def _kinds() -> Mapping[str, str]:
    """By field of the bundled schema: string, long, double, array or time."""
    kinds = {}
    for field in json.loads(schema_text())["fields"]:
        types = field["type"] if isinstance(field["type"], list) else [field["type"]]
        kind = next(part for part in types if part != "null")
        if isinstance(kind, dict):
            kind = "time" if "logicalType" in kind else kind["type"]
        kinds[field["name"]] = kind
    return kinds
