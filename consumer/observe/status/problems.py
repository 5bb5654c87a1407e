"""What went wrong and was handled, grouped: a thousand refused changes of one store are one line."""

from dataclasses import dataclass
from typing import Final, Literal

PROBLEMS_MAX: Final = 20
"""The latest single problems are kept; older ones are in the log."""
GROUPS_MAX: Final = 50
"""The groups with the latest problems are kept."""
DETAIL_CHARACTERS_MAX: Final = 300

Unit = Literal["changes", "requests", "jobs", "times"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that went wrong and was handled: when (seconds since 1970), what, and the details."""

    at: float
    what: str
    detail: str


@dataclass(frozen=True, slots=True)
class ProblemGroup:
    """All problems of one kind, of one location if it belongs to one (else ``location`` is None).

    ``count`` is how many changes, requests or jobs (``unit``) they concern. ``detail`` is that of the latest. Times are
    seconds since 1970.
    """

    what: str
    location: str | None
    count: int
    unit: Unit
    first_at: float
    latest_at: float
    detail: str


class Problems:
    """The latest problems, each and in groups. One thread writes; readers are other threads."""

    def __init__(self) -> None:
        self.latest: tuple[Problem, ...] = ()
        """Newest first."""
        self._groups: dict[tuple[str, str | None], ProblemGroup] = {}
        """The one with the latest problem last."""

    def groups(self) -> list[ProblemGroup]:
        """The one with the latest problem first."""
        return list(self._groups.copy().values())[::-1]

    def add(
        self,
        at: float,
        what: str,
        detail: str,
        *,
        group: str,
        location: str | None = None,
        count: int = 1,
        unit: Unit = "times",
        latest: str | None = None,
    ) -> None:
        """Add a problem to the list, and to the group of its kind ``group`` and ``location``.

        ``latest`` is the detail that the group shows; None: ``detail``.
        """
        self.latest = (Problem(at, what, detail[:DETAIL_CHARACTERS_MAX]), *self.latest)[:PROBLEMS_MAX]
        key = (group, location)
        before = self._groups.pop(key, None)  # popped, so that it is the latest again
        self._groups[key] = ProblemGroup(
            what=group,
            location=location,
            count=count + (before.count if before else 0),
            unit=unit,
            first_at=before.first_at if before else at,
            latest_at=at,
            detail=(detail if latest is None else latest)[:DETAIL_CHARACTERS_MAX],
        )
        if len(self._groups) > GROUPS_MAX:
            del self._groups[next(iter(self._groups))]
