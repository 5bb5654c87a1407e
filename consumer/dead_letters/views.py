"""How dead letters are printed, as text and as JSON. Control characters in them never reach a terminal."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from consumer.dead_letters.format import DeadLetter
from consumer.dead_letters.redrive.events import Rejection
from consumer.dead_letters.redrive.plan import Verdict
from consumer.dead_letters.redrive.redrive import Judged

DETAIL_CHARACTERS_MAX: Final = 100
"""Of a detail in a list; ``show`` prints all of it."""
SKIPPED_SHOWN_MAX: Final = 50
"""A plan names this many skipped dead letters; its table counts all of them."""

Counts = Counter[tuple[str, str | None]]
"""Number of dead letters by reason and location."""

EXPLANATIONS: Final = {
    Verdict.REDRIVE: "sent back to their topics",
    Verdict.SUPERSEDED: "the log has a newer change of the item that is not redriven with it",
    Verdict.NOT_IN_LOG: "the change is no longer in its topic, so later changes may be missing, too",
    Verdict.UNDECODABLE_AFTER: "a later change cannot be decoded and has no dead letter: it may be of the same item",
    Verdict.REJECTED_AGAIN: "the service would reject them again",
    Verdict.NO_ORIGINAL: "they do not have the original value",
    Verdict.OTHER_TOPIC: "their topic is not in kafka.topics",
    Verdict.REDRIVEN_BEFORE: "they were redriven before; the dead letters of the copies are redriven in their place",
    Verdict.CONTENDED: "other producers kept writing newer changes: try again later",
}


def counts_table(counts: Counts) -> Table:
    """Counts by reason and location, the highest first."""
    table = Table("reason", "location", "dead letters", title=_title(counts.total()), title_justify="left")
    rows = [(reason, location or "-", count) for (reason, location), count in counts.items()]
    for reason, location, count in sorted(rows, key=lambda row: (-row[2], row)):
        table.add_row(_text(reason), _text(location), f"{count:,}")
    return table


def as_line(dead_letter: DeadLetter) -> str:
    """A dead letter on one line."""
    written_at = _iso(dead_letter.written_at) or "-"
    detail = (dead_letter.detail or "")[:DETAIL_CHARACTERS_MAX]
    line = f"{written_at}  {dead_letter.place}  {dead_letter.reason}  {dead_letter.location or '-'}  {detail}"
    return printable(line.rstrip())


def as_object(dead_letter: DeadLetter) -> dict[str, Any]:
    """What the headers of a dead letter say, without what is unknown."""
    redriven_from = dead_letter.redriven_from
    known = {
        **dead_letter.source._asdict(),
        "line": dead_letter.line,
        "reason": dead_letter.reason,
        "detail": dead_letter.detail,
        "location": dead_letter.location,
        "request_id": dead_letter.request_id,
        "job_id": dead_letter.job_id,
        "schema_id": dead_letter.schema_id,
        "timestamp": _iso(dead_letter.timestamp),
        "written_at": _iso(dead_letter.written_at),
        "dead_letter": str(dead_letter.position) if dead_letter.position else None,
        "missing": True if dead_letter.missing else None,
        "value_bytes": dead_letter.value_bytes,
        "redriven_from": str(redriven_from) if redriven_from else None,
    }
    return {name: value for name, value in known.items() if value is not None}


def in_full(dead_letter: DeadLetter, event: Any | None, rejection: Rejection | None) -> dict[str, Any]:
    """``as_object`` with key, headers and content: the decoded event, else the item, else the value in hex."""
    fields = as_object(dead_letter)
    fields["key"] = _readable(dead_letter.key)
    fields["headers"] = [[name, _readable(value)] for name, value in dead_letter.headers]
    if event is not None:
        return fields | {"event": event}
    if rejection is not None:
        fields["not_decoded"] = f"{rejection.reason}: {rejection.detail}"
    if dead_letter.value is None:
        return fields
    if dead_letter.missing:
        return fields | {"item": _parsed_item(dead_letter.value)}
    return fields | {"value_hex": dead_letter.value.hex()}


def as_page(fields: dict[str, Any]) -> str:
    """The result of ``in_full`` as text, one field on each line."""
    width = max(map(len, fields)) + 2
    return "\n".join(f"{name + ':':{width}}{printable(_plain(value))}" for name, value in fields.items()) + "\n"


def plan_table(judged: Sequence[Judged]) -> Table:
    """How many dead letters are redriven, and how many are skipped for each reason."""
    counts = Counter(entry.verdict for entry in judged)
    table = Table("verdict", "dead letters", "explanation", title=_title(len(judged)), title_justify="left")
    for verdict in Verdict:
        if counts[verdict]:
            table.add_row(verdict.value, f"{counts[verdict]:,}", EXPLANATIONS[verdict])
    return table


def skipped_lines(judged: Sequence[Judged]) -> Iterator[str]:
    """One line for each skipped dead letter, at most ``SKIPPED_SHOWN_MAX``, and the number of the others."""
    skipped = [entry for entry in judged if entry.verdict is not Verdict.REDRIVE]
    for entry in skipped[:SKIPPED_SHOWN_MAX]:
        detail = f": {entry.detail}" if entry.detail else ""
        dead_letter = entry.dead_letter
        yield printable(f"skipped: {dead_letter.place}  {dead_letter.reason}  {entry.verdict.value}{detail}")
    if len(skipped) > SKIPPED_SHOWN_MAX:
        yield f"and {len(skipped) - SKIPPED_SHOWN_MAX:,} more skipped"


def printable(text: str) -> str:
    """The text with escapes for characters that move the cursor or end the line."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def count_of(count: int, noun: str) -> str:
    """A count with its noun, such as "1 dead letter" or "2,000 dead letters"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _title(count: int) -> str:
    return count_of(count, "dead letter")


def _text(text: str) -> Text:
    return Text(printable(text))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _readable(value: bytes | None) -> str | None:
    """Bytes as text if they are UTF-8, else in hex."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"0x{value.hex()}"


def _parsed_item(value: bytes) -> Any:
    """The item, which the service wrote as JSON; if it does not parse, the text itself."""
    try:
        return json.loads(value)
    except ValueError:
        return _readable(value)


def _iso(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return str(milliseconds)
