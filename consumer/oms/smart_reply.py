"""The answer of smart refresh: that the request is queued as a job, or what became of each of its items.

The vendor documents ``method`` and ``jobID``, and that a request that is applied at once (``sync``) is answered with
results, but not their form. Read here is ``results``, an array with an object for each item: ``success``, true or
false, the fields that identify the item, as they were sent, and ``messages``. An answer of which anything cannot be
read for certain proves nothing about any item: the request may have been applied, in part, or not at all.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, assert_never

import polars as pl

from consumer.core.changes.items import IDENTIFIERS, ITEM_COLUMNS, MAP_COLUMNS, map_text
from consumer.core.oms.answers import Answer, AnswerKind
from consumer.oms.reply_parsing import read_job_id, read_json, short_line, write_json

SYNC: Final = "sync"
ASYNC: Final = "async"

ItemKey: TypeAlias = tuple[str | int | None, ...]
"""The values of an item's ``item_key`` columns, in their order."""

_PAIRS_MAX: Final = 20_000
"""Of a result and an item that share an identifier: bounds the work. Sync requests have a few dozen items."""
_DIGITS: Final = re.compile(r"[0-9]{1,19}", re.ASCII)
_SHOWN_CHARACTERS_MAX: Final = 200
_NO_MESSAGE: Final = "the OMS does not say why"


@dataclass(frozen=True, slots=True)
class SmartQueued:
    """The request is queued as this job: it is accepted, as by a refresh request."""

    job_id: str


@dataclass(frozen=True, slots=True)
class SmartApplied:
    """The request was applied at once, except for the ``refused`` items, each with the OMS's message.

    Every item of the request is one or the other. All others are accepted and applied.
    """

    refused: Mapping[ItemKey, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SmartUnknown:
    """Any item may have been applied, or not, or be queued: the location must be held, as after a lost answer."""

    detail: str


SmartReply: TypeAlias = SmartQueued | SmartApplied | SmartUnknown


class _UnreadableError(Exception):
    """The answer proves nothing; the message says why."""


def read_smart_reply(body: bytes, items: pl.DataFrame, item_key: Sequence[str]) -> SmartReply:
    """What a 2xx answer of smart refresh says about the request with these items.

    ``body`` may be cut off at the caller's limit. ``items`` has the ``item_key`` columns, where a missing one means
    null; the items are distinct.
    """
    try:
        return _read(read_json(body), items, item_key)
    except _UnreadableError as error:
        return SmartUnknown(short_line(f"the answer of smart refresh cannot be read: {error}"))


def smart_answer(status: int, reply: SmartReply, items: int) -> Answer:
    """The reply to a request with ``items`` items, as an answer. If all of them are refused, the request is."""
    match reply:
        case SmartQueued():
            return Answer(AnswerKind.ACCEPTED, job_id=reply.job_id, status=status)
        case SmartApplied() if len(reply.refused) == items:
            return Answer(AnswerKind.REFUSED, status=status, detail=_first_message(reply))
        case SmartApplied():
            return Answer(
                AnswerKind.APPLIED, status=status, detail=_first_message(reply), refused_items=tuple(reply.refused)
            )
        case SmartUnknown():
            return Answer(AnswerKind.UNREADABLE, status=status, detail=reply.detail)
        case _:
            assert_never(reply)


def _first_message(reply: SmartApplied) -> str:
    return next(iter(reply.refused.values()), "")


def _read(content: Any, items: pl.DataFrame, item_key: Sequence[str]) -> SmartQueued | SmartApplied:
    if not isinstance(content, dict):
        raise _UnreadableError("it is not a JSON object")
    method, job_id = content.get("method"), read_job_id(content)
    if method == ASYNC and job_id is not None:
        return SmartQueued(job_id)
    if method == SYNC and content.get("jobID") is None:
        return _read_results(content.get("results"), items, item_key)
    raise _UnreadableError(f"method {_shown(method)} with jobID {_shown(content.get('jobID'))}")


def _read_results(results: Any, items: pl.DataFrame, item_key: Sequence[str]) -> SmartApplied:
    if not isinstance(results, list):
        raise _UnreadableError("no results")
    if len(results) != items.height:
        raise _UnreadableError(f"{len(results)} results for {items.height} items")
    columns = [items[name].to_list() if name in items.columns else [None] * items.height for name in item_key]
    keys: list[ItemKey] = list(zip(*columns, strict=True))
    rows = _matched(_candidates([_identity(result, item_key) for result in results], keys, item_key))
    return SmartApplied(
        {keys[row]: _message(result) for row, result in zip(rows, results, strict=True) if result["success"] is False}
    )


def _candidates(identities: Sequence[ItemKey], keys: Sequence[ItemKey], item_key: Sequence[str]) -> list[set[int]]:
    """For each result, the rows of the items whose result it may be.

    A result repeats the fields by which we identify its item. The OMS may add identifiers that it knows of, such as the
    upc of a sku; with any other field more or less, it is the result of another item.
    """
    rows_by_identifier: dict[tuple[str, Any], list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        for name, value in zip(item_key, key, strict=True):
            if name in IDENTIFIERS and value is not None:
                rows_by_identifier[name, value].append(row)
    found = []
    pairs = 0
    for identity in identities:
        named = [rows_by_identifier.get(pair, ()) for pair in zip(item_key, identity, strict=True)]
        pairs += sum(map(len, named))
        if pairs > _PAIRS_MAX:
            raise _UnreadableError("too many items share an identifier")
        found.append({row for rows in named for row in rows if _fits(keys[row], identity, item_key)})
    return found


def _fits(key: ItemKey, identity: ItemKey, item_key: Sequence[str]) -> bool:
    values = zip(item_key, key, identity, strict=True)
    return all(ours == theirs or (ours is None and name in IDENTIFIERS) for name, ours, theirs in values)


def _matched(candidates: Sequence[set[int]]) -> list[int]:
    """The row of each result, if there is only one way to give each result a row of its own."""
    results_of: dict[int, list[int]] = defaultdict(list)
    for number, rows in enumerate(candidates):
        for row in rows:
            results_of[row].append(number)
    found: dict[int, int] = {}
    certain = [number for number, rows in enumerate(candidates) if len(rows) <= 1]
    while certain:
        number = certain.pop()
        if not candidates[number]:
            raise _UnreadableError(f"results[{number}] is of none of the items, or of one that has another result")
        (row,) = candidates[number]
        found[number] = row
        for other in results_of[row]:
            if other != number:
                candidates[other].discard(row)
                if len(candidates[other]) <= 1:
                    certain.append(other)
    if len(found) < len(candidates):
        raise _UnreadableError("some results may be of several items")
    return [found[number] for number in range(len(candidates))]


def _identity(result: Any, item_key: Sequence[str]) -> ItemKey:
    """The fields of a result that identify its item."""
    if not isinstance(result, dict) or not isinstance(result.get("success"), bool):
        raise _UnreadableError(f"a result without success true or false: {_shown(result)}")
    return tuple([_as_column(name, result.get(name)) for name in item_key])


def _as_column(name: str, value: Any) -> str | int | None:
    """A value as in the column of this name: whole numbers and their digits are the same."""
    match value:
        case None | "":
            return None
        case dict() if name in MAP_COLUMNS and all(isinstance(text, str) for text in value.values()):
            return map_text(value)
        case str() if ITEM_COLUMNS[name] == pl.Int64() and _DIGITS.fullmatch(value):
            return int(value)
        case bool():
            pass
        case int():
            return value if ITEM_COLUMNS[name] == pl.Int64() else str(value)
        case str():
            return value
    raise _UnreadableError(f"a result whose {name} is {_shown(value)}")


def _message(result: Mapping[str, Any]) -> str:
    given = result.get("messages") or result.get("message")
    texts = given if isinstance(given, list) else [given]
    return short_line("; ".join(text for text in texts if isinstance(text, str) and text)) or _NO_MESSAGE


def _shown(value: Any) -> str:
    return (write_json(value) or "too deep")[:_SHOWN_CHARACTERS_MAX]
