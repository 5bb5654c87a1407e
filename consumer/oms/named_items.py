"""Which items of a refused request the OMS's words seem to name: a hint where to look for the bad one first.

How the OMS words a refusal is not documented, so every usual way of naming an item counts: a path or number of its
place in the request (``items[17]``, ``/items/17``, ``"item": 17``), and an identifier as a value or a word. A wrong
guess costs little, since each item named is still tried; a missed one costs the search through all items.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import polars as pl

from consumer.core.changes.items import IDENTIFIERS
from consumer.oms.reply_parsing import read_json

NAMED_MAX: Final = 100
"""Items that are taken as named. Words that name more are no hint, but an echo of the request."""

_PATH: Final = re.compile(r"items?(?:\[|/|\.|\"?'?, ?)[\"']?(\d{1,6})(?!\d)", re.IGNORECASE)
"""Places by path: ``items[17]``, ``/items/17``, ``items.17``, ``['items', 17]``. These count from 0."""
_WORD: Final = re.compile(r"\b(index|items?|row|line|position)[ \"'#:=]{1,4}(\d{1,6})(?!\d)", re.IGNORECASE)
"""Places by word: ``index 17``, ``item #17``, ``"row": 17``. All but an index may count from 0 or from 1."""
_INDEX_KEYS: Final = frozenset({"index", "idx", "itemindex"})
_PLACE_KEYS: Final = frozenset({"item", "itemnumber", "itemno", "row", "line", "position"})
"""JSON names (without anything but letters) whose numbers are places, too."""

_QUOTES: Final = re.compile(r"[\"'`\u00b4\u2018\u2019\u201c\u201d\u00ab\u00bb]")
_JOINTS: Final = re.compile(r"[=:,;|()\[\]{}<>/]")
_NO_CHARACTER: Final = re.compile("[\ud800-\udfff]")
"""Halves of a character, which JSON can spell; no identifier has one, and polars takes no such text."""
_AROUND: Final = ".,;:!?()[]{}<>=|*#"


def find_named(body: bytes, items: pl.DataFrame, item_key: Sequence[str]) -> tuple[tuple[str | int | None, ...], ...]:
    """The keys (values of ``item_key``'s columns) of the items that a refusal's body seems to name, at most 100.

    ``items`` are those of the request as they stand in it (``body.in_body_order``); a column that it lacks is null
    throughout. Items named by their place come first.
    """
    content = read_json(body)
    if isinstance(content, dict | list):
        nodes = list(_nodes(content))
        texts = [text for _, text in nodes if isinstance(text, str)]
    else:
        nodes = []
        texts = [body.decode("utf-8", "replace")]
    places = [*_places_by_name(nodes), *_places_in(texts)]
    tokens = {str(value) for _, value in nodes if not isinstance(value, str)}.union(*map(_tokens, texts))
    rows = dict.fromkeys([place for place in places if 0 <= place < items.height] + _rows_with(items, tokens))
    named = items[list(rows)[:NAMED_MAX]]
    columns = [named[name].to_list() if name in named.columns else [None] * named.height for name in item_key]
    return tuple(zip(*columns, strict=True))


def _nodes(content: Any) -> Iterator[tuple[str, str | int]]:
    """Every text and whole number of parsed JSON, under the name that it stands under; the names as texts too.

    A number right after a text in an array stands under that text: so paths are written, ``["items", 17]``.
    """
    stack: list[tuple[str, Any]] = [("", content)]
    while stack:
        name, node = stack.pop()
        match node:
            case dict():
                stack.extend(reversed(node.items()))
                yield from (("", key) for key in node)
            case list():
                names = [name, *(before if isinstance(before, str) else "" for before in node)]
                stack.extend(reversed(list(zip(names, node, strict=False))))
            case bool():
                pass
            case str() | int():
                yield name, node


def _places_by_name(nodes: Iterable[tuple[str, str | int]]) -> Iterator[int]:
    for name, value in nodes:
        letters = "".join(filter(str.isalpha, name.lower()))
        digits = str(value)
        if not digits.isascii() or not digits.isdigit() or len(digits) > 6:
            continue
        if letters in _INDEX_KEYS or letters == "items":
            yield int(digits)
        elif letters in _PLACE_KEYS:
            yield from (int(digits), int(digits) - 1)


def _places_in(texts: Iterable[str]) -> Iterator[int]:
    for text in texts:
        yield from (int(match[1]) for match in _PATH.finditer(text))
        for match in _WORD.finditer(text):
            place = int(match[2])
            yield from (place,) if match[1].lower() == "index" else (place, place - 1)


def _tokens(text: str) -> set[str]:
    """Whatever in the text may be an identifier: all of it, what stands between quotes, its words and their parts."""
    words = text.split()
    tokens = {text.strip(), *words, *map(str.strip, _QUOTES.split(text))}
    for word in words:
        tokens.update(part.strip(_AROUND) for part in (word, *_QUOTES.split(word), *_JOINTS.split(word)))
    return tokens


def _rows_with(items: pl.DataFrame, tokens: set[str]) -> list[int]:
    """The rows with an identifier among the tokens."""
    present = [name for name in IDENTIFIERS if name in items.columns]
    known = pl.Series([token for token in tokens if not _NO_CHARACTER.search(token)], dtype=pl.String).implode()
    named = items.select(pl.any_horizontal(pl.col(name).is_in(known) for name in present)).to_series()
    return named.arg_true().to_list()
