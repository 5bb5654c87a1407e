"""Which dead letters a command means."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from consumer.dead_letters.format import DeadLetter
from consumer.errors import SettingsError
from consumer.settings.values import parse_seconds


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """All that are set must match; None matches everything.

    Topic, partition and offset are those of the change in its source topic. ``since_ms`` (inclusive) and ``until_ms``
    (exclusive) are milliseconds since 1970, compared with the time at which the dead letter was written.
    """

    reason: str | None = None
    location: str | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    job_id: str | None = None
    request_id: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def matches(self, dead_letter: DeadLetter) -> bool:
        expected = (self.reason, self.location, self.job_id, self.request_id, self.topic, self.partition, self.offset)
        known = (dead_letter.reason, dead_letter.location, dead_letter.job_id, dead_letter.request_id)
        actual = (*known, *dead_letter.source)
        written_at = dead_letter.written_at or 0
        return (
            all(value is None or value == own for value, own in zip(expected, actual, strict=True))
            and (self.since_ms is None or written_at >= self.since_ms)
            and (self.until_ms is None or written_at < self.until_ms)
        )


def filter_of(
    now_seconds: float,
    *,
    since: str | None = None,
    until: str | None = None,
    reason: str | None = None,
    location: str | None = None,
    job_id: str | None = None,
    request_id: str | None = None,
    topic: str | None = None,
    partition: int | None = None,
    offset: int | None = None,
) -> DeadLetterFilter:
    """The filter in a command's options. Raises SettingsError if a time cannot be parsed."""
    return DeadLetterFilter(
        reason=reason,
        location=location,
        topic=topic,
        partition=partition,
        offset=offset,
        job_id=job_id,
        request_id=request_id,
        since_ms=None if since is None else parse_time_ms("--since", since, now_seconds),
        until_ms=None if until is None else parse_time_ms("--until", until, now_seconds),
    )


def latest_by_change(dead_letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    """The latest dead letter of each change, ordered by its place: after a crash one may be written twice."""
    by_change = {(*letter.source, -1 if letter.line is None else letter.line): letter for letter in dead_letters}
    return [by_change[change] for change in sorted(by_change)]


def parse_time_ms(option: str, text: str, now_seconds: float) -> int:
    """Milliseconds since 1970 from an ISO 8601 time (UTC unless it has an offset) or a duration before now.

    Raises SettingsError that names the option.
    """
    try:
        if "-" in text:
            time = datetime.fromisoformat(text)
            return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)
        return round((now_seconds - float(str(parse_seconds(text)))) * 1000)
    except (ValueError, OverflowError):
        raise SettingsError(
            f"{option}: {text!r} is not a time; use ISO 8601, such as 2026-11-24T08:00:00Z, or a duration before now: "
            "90s, 15m, 2h"
        ) from None
