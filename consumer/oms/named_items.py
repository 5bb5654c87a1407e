"""Items that a refusal seems to name: a hint where bisection should look for the bad item first.

The wording of the OMS's refusals is not documented, so every common way of naming an item counts: its position in the
request, as a path or a number (``items[17]``, ``/items/17``, ``"item": 17``), and an identifier as a value or a word. A
wrong guess is cheap, because a named item is still tried on its own; without a hint, all items are bisected.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import polars as pl

from consumer.core.changes.items import IDENTIFIERS
from consumer.oms.reply_parsing import read_json

NAMED_MAX: Final = 100
"""Items that a refusal can name. A message with more of them just repeats the request."""

_PATH: Final = re.compile(r"items?(?:\[|/|\.|\"?'?, ?)[\"']?(\d{1,6})(?!\d)", re.IGNORECASE)
"""Positions by path: ``items[17]``, ``/items/17``, ``items.17``, ``['items', 17]``. These count from 0."""
_WORD: Final = re.compile(r"\b(index|items?|row|line|position)[ \"'#:=]{1,4}(\d{1,6})(?!\d)", re.IGNORECASE)
"""Positions by word: ``index 17``, ``item #17``, ``"row": 17``. All but an index may count from 0 or from 1."""
_INDEX_KEYS: Final = frozenset({"index", "idx", "itemindex"})
_POSITION_KEYS: Final = frozenset({"item", "itemnumber", "itemno", "row", "line", "position"})
"""JSON names (letters only) whose numbers are positions, counted from 0 or from 1."""

_QUOTES: Final = re.compile(r"[\"'`\u00b4\u2018\u2019\u201c\u201d\u00ab\u00bb]")
_SEPARATORS: Final = re.compile(r"[=:,;|()\[\]{}<>/]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
"""Lone surrogates, which JSON escapes can produce. No identifier has one, and polars rejects such text."""
_PUNCTUATION: Final = ".,;:!?()[]{}<>=|*#"


def find_named(body: bytes, items: pl.DataFrame, item_key: Sequence[str]) -> tuple[tuple[str | int | None, ...], ...]:
    """The keys (values of the ``item_key`` columns) of the items that a refusal seems to name, at most ``NAMED_MAX``.

    ``body`` is the refusal's; ``items`` are those of the request, in its order (``body.in_body_order``), where a
    missing column means null. Items named by position come first.
    """
    content = read_json(body)
    if isinstance(content, dict | list):
        nodes = list(_nodes(content))
        texts = [text for _, text in nodes if isinstance(text, str)]
    else:
        nodes = []
        texts = [body.decode("utf-8", "replace")]
    positions = [*_positions_by_name(nodes), *_positions_in(texts)]
    tokens = {str(value) for _, value in nodes if not isinstance(value, str)}.union(*map(_tokens, texts))
    by_position = [position for position in positions if 0 <= position < items.height]
    rows = dict.fromkeys(by_position + _rows_with_identifier(items, tokens))
    named = items[list(rows)[:NAMED_MAX]]
    columns = [named[name].to_list() if name in named.columns else [None] * named.height for name in item_key]
    return tuple(zip(*columns, strict=True))


def _nodes(content: Any) -> Iterator[tuple[str, str | int]]:
    """Every text and whole number of parsed JSON, with the name of its field; field names also count as texts.

    In an array, a text is taken as the name of the number that follows it, as in the path ``["items", 17]``.
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


def _positions_by_name(nodes: Iterable[tuple[str, str | int]]) -> Iterator[int]:
    for name, value in nodes:
        letters = "".join(filter(str.isalpha, name.lower()))
        digits = str(value)
        if not digits.isascii() or not digits.isdigit() or len(digits) > 6:
            continue
        if letters in _INDEX_KEYS or letters == "items":
            yield int(digits)
        elif letters in _POSITION_KEYS:
            yield from (int(digits), int(digits) - 1)


def _positions_in(texts: Iterable[str]) -> Iterator[int]:
    for text in texts:
        yield from (int(match[1]) for match in _PATH.finditer(text))
        for match in _WORD.finditer(text):
            position = int(match[2])
            yield from (position,) if match[1].lower() == "index" else (position, position - 1)


def _tokens(text: str) -> set[str]:
    """Everything in the text that may be an identifier: the whole text, quoted parts, words and parts of words."""
    words = text.split()
    tokens = {text.strip(), *words, *map(str.strip, _QUOTES.split(text))}
    for word in words:
        tokens.update(part.strip(_PUNCTUATION) for part in (word, *_QUOTES.split(word), *_SEPARATORS.split(word)))
    return tokens


def _rows_with_identifier(items: pl.DataFrame, tokens: set[str]) -> list[int]:
    """The rows that have an identifier among the tokens."""
    present = [name for name in IDENTIFIERS if name in items.columns]
    known = pl.Series([token for token in tokens if not _SURROGATE.search(token)], dtype=pl.String).implode()
    named = items.select(pl.any_horizontal(pl.col(name).is_in(known) for name in present)).to_series()
    return named.arg_true().to_list()
