"""Dead letters as people and programs are shown them. What comes from messages never reaches a terminal as it is."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from consumer.dead_letters.letters import DeadLetter
from consumer.dead_letters.redrive.events import Rejected
from consumer.dead_letters.redrive.plan import Verdict
from consumer.dead_letters.redrive.redrive import Judged

DETAIL_CHARACTERS_MAX: Final = 100
"""Of a line of a table; ``show`` has all."""
STAYING_SHOWN_MAX: Final = 50
"""Letters that stay are named in a plan up to so many; the counts have all."""

Counts = Counter[tuple[str, str]]
"""How many letters there are by reason and location."""


def counts_table(counts: Counts) -> Table:
    """The most frequent first."""
    table = Table("reason", "location", "letters", title=f"{counts.total():,} dead letters", title_justify="left")
    for (reason, location), count in sorted(counts.items(), key=lambda each: (-each[1], each[0])):
        table.add_row(_text(reason), _text(location or "-"), f"{count:,}")
    return table


def line(letter: DeadLetter) -> str:
    """One letter on one line."""
    at = _iso(letter.kept_ms) or "-"
    told = f"{at}  {letter.place}  {letter.reason}  {letter.location or '-'}  {letter.detail[:DETAIL_CHARACTERS_MAX]}"
    return printable(told)


def as_object(letter: DeadLetter) -> dict[str, Any]:
    """What a letter's headers say; what is not known is left out."""
    told: dict[str, Any] = {
        **letter.place._asdict(),
        "reason": letter.reason,
        "detail": letter.detail,
        "location": letter.location,
        "job_id": letter.job_id,
        "schema_id": letter.schema_id,
        "timestamp": _iso(letter.timestamp),
        "dead_lettered": _iso(letter.kept_ms),
        "dead_letter": str(letter.kept_at),
        "gone": letter.gone,
        "value_bytes": letter.value_bytes,
        "redriven_from": str(letter.redriven_from or ""),
    }
    absent = (value is None or value is False or value == "" for value in told.values())
    return {name: value for (name, value), left_out in zip(told.items(), absent, strict=True) if not left_out}


def in_full(letter: DeadLetter, event: dict[str, Any] | None, why_not: Rejected | None) -> dict[str, Any]:
    """The same with key, headers and content: the event, else the item, else the bytes in hex."""
    told = as_object(letter)
    told["key"] = _readable(letter.key)
    told["headers"] = [[name, _readable(value)] for name, value in letter.headers]
    if event is not None:
        return told | {"event": event}
    if why_not is not None:
        told["not_decoded"] = f"{why_not.reason}: {why_not.detail}"
    if letter.gone and letter.value is not None:
        return told | {"item": _item(letter.value)}
    return told | ({} if letter.value is None else {"value_hex": letter.value.hex()})


def page(told: dict[str, Any]) -> str:
    """One letter in full, a line a fact, for people."""
    width = max(map(len, told)) + 2
    return "\n".join(f"{name + ':':{width}}{printable(_plain(value))}" for name, value in told.items()) + "\n"


def plan_table(judged: Sequence[Judged]) -> Table:
    """How many letters go, and how many stay for which reason."""
    counts = Counter(each.verdict for each in judged)
    table = Table("what", "letters", "why", title=f"{len(judged):,} dead letters", title_justify="left")
    for verdict in Verdict:
        if counts[verdict]:
            what = "go" if verdict is Verdict.GOES else "stay"
            table.add_row(what, f"{counts[verdict]:,}", _WHY[verdict])
    return table


def staying(judged: Sequence[Judged]) -> Iterable[str]:
    """A line for each letter that stays, up to so many."""
    those = [each for each in judged if each.verdict is not Verdict.GOES]
    for each in those[:STAYING_SHOWN_MAX]:
        told = f"stays: {each.letter.place}  {each.letter.reason}  {each.verdict.value} {each.detail}"
        yield printable(told.rstrip())
    if len(those) > STAYING_SHOWN_MAX:
        yield f"and {len(those) - STAYING_SHOWN_MAX:,} more that stay"


def printable(text: str) -> str:
    """The text without what would move a terminal's cursor or end the line: escapes in its place."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


_WHY: Final = {
    Verdict.GOES: "back to their topics",
    Verdict.SUPERSEDED: "a newer change of the item is in the topic and does not go along",
    Verdict.NOT_IN_LOG: "the change is no longer in its topic: what came after it cannot be told",
    Verdict.UNREADABLE_SINCE: "a later change cannot be decoded and has no dead letter: it may be of the same item",
    Verdict.REJECTED_AGAIN: "the service would reject them again",
    Verdict.NO_ORIGINAL: "they do not have the change's own bytes",
    Verdict.OTHER_TOPIC: "their topic is not in kafka.topics",
    Verdict.REDRIVEN_BEFORE: "they went back before, and came again as other letters",
    Verdict.CONTENDED: "newer changes came in between again and again: try later",
}


def _text(told: str) -> Text:
    return Text(printable(told))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _readable(value: bytes | None) -> str | None:
    """Text where the bytes are text, else hex."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"0x{value.hex()}"


def _item(value: bytes) -> Any:
    """The item that the service wrote as JSON; should it be none, then as it stands there."""
    try:
        return json.loads(value)
    except ValueError:
        return _readable(value)


def _iso(milliseconds: int | None) -> str:
    if milliseconds is None:
        return ""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return str(milliseconds)
