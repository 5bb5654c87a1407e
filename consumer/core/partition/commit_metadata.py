"""What stands beside a committed offset, for whoever takes the partition over: ``v1;mark;open;topic id``.

*Mark*: how far the partition had been read when the commit was made. *Open*: 1 while a request with its rows may still
be under way.
"""

from dataclasses import dataclass

_VERSION = "v1"


@dataclass(frozen=True, slots=True)
class CommitMetadata:
    """``offset`` is one past the last change read; ``topic_id`` is "" where the broker does not tell it."""

    offset: int
    open: bool
    topic_id: str = ""


def format_metadata(mark: CommitMetadata) -> str:
    return f"{_VERSION};{mark.offset};{int(mark.open)};{mark.topic_id}"


def parse_metadata(metadata: str, *, committed: int) -> CommitMetadata:
    """Read what was written beside ``committed``.

    What is missing, foreign or malformed counts as open, with the mark at ``committed`` (rule 5).
    """
    version, _, rest = metadata.partition(";")
    fields = rest.split(";")
    if version == _VERSION and len(fields) == 3 and _is_offset(fields[0]) and fields[1] in {"0", "1"}:
        return CommitMetadata(max(int(fields[0]), committed), fields[1] == "1", fields[2])
    return CommitMetadata(committed, open=True)


def _is_offset(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 19 and int(text) < 2**63
