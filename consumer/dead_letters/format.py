"""The format of a dead letter, written and read: the only module that knows its headers.

A dead letter is a record of the dead-letter topic. It keeps the key, value and headers of the change's own record, and
adds the headers of ``Header``. Two kinds do not have the original value:

- ``value_bytes``: the value was larger than the topic accepts. The source topic still has it.
- ``missing``: the source topic no longer had the record. The value is the change's item as JSON, or absent.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from consumer.dead_letters.record import Record, RecordPosition
from consumer.ports import Headers

_PREFIX: Final = "inventory_refresh."

DETAIL_CHARACTERS_MAX: Final = 1_000
"""An answer of the OMS may be longer than a header should be."""


class Header(StrEnum):
    """The headers that a dead letter adds, in the order in which they are written; every value is UTF-8 text.

    All but the line of the first six are always there, the others only where they are known.
    """

    REASON = f"{_PREFIX}reason"
    DETAIL = f"{_PREFIX}detail"
    TOPIC = f"{_PREFIX}topic"
    PARTITION = f"{_PREFIX}partition"
    OFFSET = f"{_PREFIX}offset"
    LINE = f"{_PREFIX}line"
    TIMESTAMP = f"{_PREFIX}timestamp"
    SCHEMA_ID = f"{_PREFIX}schema_id"
    LOCATION = f"{_PREFIX}location"
    REQUEST_ID = f"{_PREFIX}request_id"
    JOB_ID = f"{_PREFIX}job_id"
    MISSING = f"{_PREFIX}missing"
    VALUE_BYTES = f"{_PREFIX}value_bytes"


REDRIVEN_FROM: Final = f"{_PREFIX}redriven_from"
"""Header of a redriven change, not of a dead letter: the position of the original, as ``RecordPosition`` prints it."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A change that could not be sent or was not applied, with the reason. Times are milliseconds since 1970.

    ``source`` is the position of the change's event in its topic; ``key``, ``headers`` and ``timestamp`` are its
    record's own. ``line`` is the index of the change in an event with several changes; None: the event has a single
    one, or cannot be read at all. ``position`` and ``written_at`` are those of the dead letter itself: None until it is
    written.
    """

    source: RecordPosition
    reason: str
    detail: str | None
    key: bytes | None
    value: bytes | None
    headers: Headers
    line: int | None = None
    timestamp: int | None = None
    schema_id: int | None = None
    location: str | None = None
    request_id: str | None = None
    """Of the request that had the change last, as in the header X-Request-Id and in the log."""
    job_id: str | None = None
    missing: bool = False
    """The source topic no longer had the record: ``value`` is the item as JSON, or None."""
    value_bytes: int | None = None
    """Size of a value that was too large for the dead-letter topic; ``value`` is None then."""
    redriven_from: RecordPosition | None = None
    """Set when reading: the change was a copy made by redrive, and this is the position of the original."""
    position: RecordPosition | None = None
    written_at: int | None = None

    @property
    def place(self) -> str:
        """Where the change is, in words: ``topic/partition/offset``, with the line if there is one."""
        return str(self.source) if self.line is None else f"{self.source}, line {self.line}"

    @property
    def event(self) -> bytes | None:
        """The original value, None if the dead letter does not have it."""
        return None if self.missing else self.value


def write_headers(dead_letter: DeadLetter) -> list[tuple[str, str | bytes | None]]:
    """All headers of a dead letter: those of the change, followed by its own. A long detail is cut."""
    known: dict[Header, str | int | None] = {
        Header.REASON: dead_letter.reason,
        Header.DETAIL: (dead_letter.detail or "")[:DETAIL_CHARACTERS_MAX],
        Header.TOPIC: dead_letter.source.topic,
        Header.PARTITION: dead_letter.source.partition,
        Header.OFFSET: dead_letter.source.offset,
        Header.LINE: dead_letter.line,
        Header.TIMESTAMP: dead_letter.timestamp,
        Header.SCHEMA_ID: dead_letter.schema_id,
        Header.LOCATION: dead_letter.location,
        Header.REQUEST_ID: dead_letter.request_id,
        Header.JOB_ID: dead_letter.job_id,
        Header.MISSING: "1" if dead_letter.missing else None,
        Header.VALUE_BYTES: dead_letter.value_bytes,
    }
    own = [(header.value, str(known[header]).encode()) for header in Header if known[header] is not None]
    return [*dead_letter.headers, *own]


def parse(record: Record) -> DeadLetter | None:
    """The dead letter in a record of the dead-letter topic; None if this service did not write the record."""
    own = [(name, text or b"") for name, text in record.headers if name.startswith(_PREFIX)]
    texts = {name: text.decode("utf-8", "replace") for name, text in own}
    try:
        return DeadLetter(
            source=RecordPosition(texts[Header.TOPIC], int(texts[Header.PARTITION]), int(texts[Header.OFFSET])),
            reason=texts[Header.REASON],
            detail=texts.get(Header.DETAIL) or None,
            key=record.key,
            value=record.value,
            headers=tuple((name, text) for name, text in record.headers if not name.startswith(_PREFIX)),
            line=_integer(texts, Header.LINE),
            timestamp=_integer(texts, Header.TIMESTAMP),
            schema_id=_integer(texts, Header.SCHEMA_ID),
            location=texts.get(Header.LOCATION),
            request_id=texts.get(Header.REQUEST_ID),
            job_id=texts.get(Header.JOB_ID),
            missing=Header.MISSING in texts,
            value_bytes=_integer(texts, Header.VALUE_BYTES),
            redriven_from=RecordPosition.parse(texts.get(REDRIVEN_FROM, "")),
            position=record.position,
            written_at=record.timestamp,
        )
    except (KeyError, ValueError):
        return None


def redriven_headers(dead_letter: DeadLetter) -> list[tuple[str, str | bytes | None]]:
    """Headers of the copy that redrive sends: those of the change, and the position of the original."""
    return [*dead_letter.headers, (REDRIVEN_FROM, str(dead_letter.source).encode())]


def _integer(texts: dict[str, str], header: Header) -> int | None:
    return int(texts[header]) if header in texts else None
