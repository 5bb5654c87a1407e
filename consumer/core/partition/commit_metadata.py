"""The metadata of a commit, for the partition's next owner: ``v1;<read up to>;<in doubt>;<topic id>``.

*Read up to*: how far the partition had been read at the time of the commit. *In doubt*: 1 while the OMS may still queue
a request with changes of the partition. Members of different versions read each other's metadata, so the format must
stay compatible.
"""

from dataclasses import dataclass

_VERSION = "v1"


@dataclass(frozen=True, slots=True)
class CommitMetadata:
    """``read_up_to`` is the offset after the last one read. ``topic_id`` is None if the broker does not report it."""

    read_up_to: int
    in_doubt: bool
    topic_id: str | None = None


def format_metadata(metadata: CommitMetadata) -> str:
    return f"{_VERSION};{metadata.read_up_to};{int(metadata.in_doubt)};{metadata.topic_id or ''}"


def parse_metadata(metadata: str, *, committed: int) -> CommitMetadata:
    """Parse the metadata found with the offset ``committed``.

    Missing, foreign or malformed metadata counts as in doubt, read up to ``committed`` (rule 5).
    """
    version, _, rest = metadata.partition(";")
    fields = rest.split(";")
    if version == _VERSION and len(fields) == 3 and _is_offset(fields[0]) and fields[1] in {"0", "1"}:
        return CommitMetadata(max(int(fields[0]), committed), fields[1] == "1", fields[2] or None)
    return CommitMetadata(committed, in_doubt=True)


def _is_offset(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 19 and int(text) < 2**63
