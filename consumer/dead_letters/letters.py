"""Dead letters as they are read back from their topic, and which of them are meant."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from consumer.dead_letters.writer import GONE, PREFIX, VALUE_BYTES
from consumer.errors import SettingsError
from consumer.ports import Headers
from consumer.settings.values import parse_seconds

REDRIVEN_FROM: Final = f"{PREFIX}redriven_from"
"""Header of a change that was sent again: the place where its dead letter says that it was."""


class RecordPosition(NamedTuple):
    """Where a message is, or was."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, text: str) -> "RecordPosition | None":
        """From ``str``; None if it is not that."""
        parts = text.rsplit("/", 2)
        if len(parts) != len(cls._fields) or not (parts[1].isdecimal() and parts[2].isdecimal()):
            return None
        return cls(parts[0], int(parts[1]), int(parts[2]))


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter.

    ``place`` is the change's in its source topic, ``kept_at`` the letter's own, ``kept_ms`` when it was written
    (milliseconds since 1970), ``timestamp`` the change's own. ``headers`` are those of the change, without ours.
    ``gone``: the value, if any, is no event but its item as JSON. ``value_bytes``: the value was too large to be kept.
    """

    place: RecordPosition
    kept_at: RecordPosition
    kept_ms: int | None
    reason: str
    detail: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int | None = None
    schema_id: int | None = None
    location: str = ""
    job_id: str = ""
    gone: bool = False
    value_bytes: int | None = None
    redriven_from: RecordPosition | None = None

    @property
    def event(self) -> bytes | None:
        """The value where it is the event's own bytes."""
        return None if self.gone else self.value


def read_letter(
    kept_at: RecordPosition, kept_ms: int | None, key: bytes | None, value: bytes | None, headers: Headers
) -> DeadLetter | None:
    """A message of the dead-letter topic as a letter; None if this service did not write it."""
    told = {name: (text or b"").decode("utf-8", "replace") for name, text in headers if name.startswith(PREFIX)}
    try:
        return DeadLetter(
            place=RecordPosition(told[f"{PREFIX}topic"], int(told[f"{PREFIX}partition"]), int(told[f"{PREFIX}offset"])),
            kept_at=kept_at,
            kept_ms=kept_ms,
            reason=told[f"{PREFIX}reason"],
            detail=told.get(f"{PREFIX}detail", ""),
            key=key,
            value=value,
            headers=tuple((name, text) for name, text in headers if not name.startswith(PREFIX)),
            timestamp=_number(told, f"{PREFIX}timestamp"),
            schema_id=_number(told, f"{PREFIX}schema_id"),
            location=told.get(f"{PREFIX}location", ""),
            job_id=told.get(f"{PREFIX}job_id", ""),
            gone=GONE in told,
            value_bytes=_number(told, VALUE_BYTES),
            redriven_from=RecordPosition.parse(told.get(REDRIVEN_FROM, "")),
        )
    except (KeyError, ValueError):
        return None


def redriven_headers(letter: DeadLetter) -> list[tuple[str, bytes | None]]:
    """The headers of the change that is sent again: its own, and where it was."""
    return [*letter.headers, (REDRIVEN_FROM, str(letter.place).encode())]


@dataclass(frozen=True, slots=True)
class Filters:
    """Which letters are meant; None means any. Times are milliseconds since 1970, of the letters themselves."""

    reason: str | None = None
    location: str | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def take(self, letter: DeadLetter) -> bool:
        """Whether this letter is meant."""
        wanted = (self.reason, self.location, self.topic, self.partition, self.offset)
        has = (letter.reason, letter.location, *letter.place)
        at = letter.kept_ms or 0
        return (
            all(each is None or each == own for each, own in zip(wanted, has, strict=True))
            and (self.since_ms is None or at >= self.since_ms)
            and (self.until_ms is None or at < self.until_ms)
        )


def filters_of(
    now_seconds: float,
    reason: str | None,
    location: str | None,
    since: str | None,
    until: str | None,
    topic: str | None,
    partition: int | None,
    offset: int | None,
) -> Filters:
    """The filters that a command was given. Raises SettingsError for what is no time."""
    return Filters(
        reason=reason,
        location=location,
        topic=topic,
        partition=partition,
        offset=offset,
        since_ms=None if since is None else moment_ms("--since", since, now_seconds),
        until_ms=None if until is None else moment_ms("--until", until, now_seconds),
    )


def latest_of_each(letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    """One letter a change, the latest, in the order of their changes: after a crash a dead letter may come twice."""
    by_place = {letter.place: letter for letter in letters}
    return [by_place[place] for place in sorted(by_place)]


def moment_ms(option: str, text: str, now_seconds: float) -> int:
    """Milliseconds since 1970 from a time in ISO 8601 (UTC unless it says otherwise) or from how long ago it was.

    Raises SettingsError, naming the option.
    """
    try:
        if "-" in text:
            at = datetime.fromisoformat(text)
            return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
        return round((now_seconds - float(str(parse_seconds(text)))) * 1000)
    except (ValueError, OverflowError):
        raise SettingsError(
            f"{option}: {text!r} is no time: give one such as 2026-11-24T08:00:00Z, or how long ago: 90s, 15m, 2h"
        ) from None


def _number(told: dict[str, str], name: str) -> int | None:
    return int(told[name]) if name in told else None
