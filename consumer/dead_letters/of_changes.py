"""The dead letters of certain changes: what the command ``trace`` says of them."""

from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from consumer.dead_letters.format import DeadLetter
from consumer.dead_letters.reader import DeadLetterReader
from consumer.errors import BrokerError
from consumer.settings import Settings

LETTERS_MAX: Final = 1_000
"""Dead letters that are kept: the latest."""

WHOLE_EVENT: Final = -1
Place = tuple[str, int, int, int]
"""Topic, partition, offset, and line (0 in an event with a single change)."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter of a change. ``position`` is its own, as text; ``written_at`` is in seconds since 1970."""

    position: str
    reason: str
    detail: str
    request_id: str | None
    job_id: str | None
    written_at: float | None


@dataclass(frozen=True, slots=True)
class Letters:
    """The dead letters of changes, each the latest. ``problem`` says why the topic could not be read; None if it was.

    One of a whole event, or of its only change, has the line ``WHOLE_EVENT``.
    """

    by_place: Mapping[Place, Letter]
    problem: str | None = None

    def of(self, place: Place) -> Letter | None:
        """The dead letter of a change, or of its whole event."""
        return self.by_place.get(place) or self.by_place.get((*place[:3], WHOLE_EVENT))


def read_letters(settings: Settings, since_ms: int, places: Collection[Place]) -> Letters:
    """The dead letters that were written since then for changes at these places.

    The user of the service needs to write that topic only, so it may be unreadable.
    """
    wanted = set(places) | {(*place[:3], WHOLE_EVENT) for place in places}
    found: dict[Place, Letter] = {}
    try:
        with closing(DeadLetterReader(settings)) as reader:
            for letters in reader.read(since_ms):
                for letter in letters:
                    place = (*letter.source, WHOLE_EVENT if letter.line is None else letter.line)
                    if place in wanted:
                        found.pop(place, None)  # so that it comes last
                        found[place] = _letter(letter)
                        if len(found) > LETTERS_MAX:
                            del found[next(iter(found))]
    except BrokerError as error:
        return Letters(found, str(error))
    return Letters(found)


def _letter(letter: DeadLetter) -> Letter:
    return Letter(
        position=str(letter.position),
        reason=letter.reason,
        detail=letter.detail or "",
        request_id=letter.request_id,
        job_id=letter.job_id,
        written_at=None if letter.written_at is None else letter.written_at / 1000,
    )
