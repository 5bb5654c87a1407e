"""Names and phrases that were replaced by Kafka's or the house's words do not come back."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUFFIXES = frozenset({".py", ".md", ".yaml", ".yml", ".json", ".tpl", ".txt", ".avsc", ".toml"})
FOLDERS = ("consumer", "docs", "helm", "schemas", "bench", "compose")

BANNED = {
    "agenda": "FlushSchedule",
    "anew": "again, re-created",
    "beside": "next to, with; overlay for values laid over a body",
    "bystander": "NullObserver",
    "condemn(?:s|ed|ing)?": "dead-letter",
    "(?<!in[ _-])flights?": "request in flight",
    "gather(?:s|ed|ing|ings)?": "recovery (of a partition), collect (anything else)",
    "narrow(?:ed|ing|ings)?": "bisection, bisect",
    "recall(?:s|ed|ing)?": "fetch the original",
    "told": "a name for what was reported",
    "watermarks?": "committable offset; log start and log end offset for the ends of Kafka's log",
}
"""Pattern of a word, and what is said instead. Parts of names are words too, as in ``_recall``."""

ALLOWED = {
    "get_watermark_offsets": "the name of the Kafka client's call",
    "high watermark": "Kafka's own term for the end of a partition",
    "low watermark": "Kafka's own term for the start of a partition",
}
"""Phrases in which a banned word may stand, and why."""

WORD = re.compile(rf"(?<![a-z])(?:{'|'.join(BANNED)})(?![a-z])", re.IGNORECASE)
PHRASE = re.compile("|".join(map(re.escape, ALLOWED)), re.IGNORECASE)


def pages() -> Iterator[Path]:
    """Production code, chart and documentation."""
    yield from (path for path in ROOT.iterdir() if path.suffix in SUFFIXES or path.name in {"Makefile", "Dockerfile"})
    for folder in FOLDERS:
        yield from (path for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES)


def banned_words(text: str) -> list[str]:
    """The banned words of a text, each with the number of its line."""
    return [
        f"line {number}: {found[0]}"
        for number, line in enumerate(text.splitlines(), start=1)
        for found in WORD.finditer(PHRASE.sub("", line))
    ]


@pytest.mark.parametrize("page", sorted(pages()), ids=lambda path: str(path.relative_to(ROOT)))
def test_replaced_words_do_not_come_back(page: Path) -> None:
    assert banned_words(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("the watermark of _recalled changes", 2),
        ("requests in flight, an in-flight request, in_flight", 0),
        ("a flight of the location", 1),
        ("consumer.get_watermark_offsets()", 0),
        ("retold, manewver", 0),
    ],
)
def test_words_are_found_in_names_and_in_prose(text: str, count: int) -> None:
    assert len(banned_words(text)) == count
