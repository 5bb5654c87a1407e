"""Ends holds early: asks for the jobs of locations that are held after a lost answer (rule 33).

Only with ``oms.only_sender``, while this member has all partitions and none of them inherited a doubt: otherwise
another member, or another sender, may have queued the job that the list shows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from consumer.core.engine import Engine
from consumer.core.oms.job_list import JobList, ListPurpose, ListQuery
from consumer.core.oms.job_schedule import QUERY_REFUSALS
from consumer.core.oms.lost_answers import LostAnswer, has_job_ended
from consumer.facts import HoldShortened, Observer
from consumer.ports import JobClient

FIRST_SECONDS: Final = 5.0
"""After the answer was lost, until the first query; the wait then doubles."""
WAIT_SECONDS_MAX: Final = 30.0
REFUSED_SECONDS: Final = 900.0
"""For so long nothing is asked after a list that was refused."""


@dataclass(frozen=True, slots=True)
class OnlySender:
    """What must be known besides the list.

    ``oms_time``: the OMS's time in seconds since 1970. ``partitions_total``: of all topics. None while not known.
    """

    oms_time: Callable[[], float | None]
    partitions_total: Callable[[], int | None]


class HoldQueries:
    """One query at a time. Times are monotonic seconds."""

    def __init__(self, client: JobClient, engine: Engine, observer: Observer, only_sender: OnlySender) -> None:
        self._client = client
        self._engine = engine
        self._observer = observer
        self._only_sender = only_sender
        self._waits: dict[LostAnswer, tuple[float, float]] = {}
        """When to ask about each, and how long to wait after that."""
        self._asked: LostAnswer | None = None
        self._not_before = float("-inf")

    def turn(self, lists: Sequence[JobList], permits: int, now: float) -> int:
        """Take the lists that have come, those of others too, and ask for the next one. Returns the number of calls."""
        for listed in lists:
            if self._asked is not None and listed.query.purpose is ListPurpose.HOLD:
                lost, self._asked = self._asked, None
                self._take(lost, listed, now)
        held = self._engine.lost_answers(now)
        self._waits = {lost: self._waits.get(lost, (lost.lost_at + FIRST_SECONDS, FIRST_SECONDS)) for lost in held}
        due = [lost for lost, (at, _) in self._waits.items() if at <= now]
        if not due or not permits or self._asked or now < self._not_before or self._clock_ahead(now) is None:
            return 0
        self._asked = min(due, key=lambda lost: self._waits[lost])
        _, wait = self._waits[self._asked]
        self._waits[self._asked] = (now + wait, min(2 * wait, WAIT_SECONDS_MAX))
        self._client.ask_list(ListQuery(self._asked.location, purpose=ListPurpose.HOLD))
        return 1

    def _take(self, lost: LostAnswer, listed: JobList, now: float) -> None:
        if listed.http_status in {400, *QUERY_REFUSALS} and not listed.over_quota:
            self._not_before = now + REFUSED_SECONDS
        if listed.over_quota:
            self._engine.breaker.rate_limiter.on_throttled(sent_at=now, now=now)
        clock_ahead = self._clock_ahead(now)
        if clock_ahead is None or not has_job_ended(lost, listed, clock_ahead):
            return
        seconds_left = self._engine.end_hold(lost, now)
        if seconds_left is not None:
            self._observer.observe(HoldShortened(lost.location, seconds_left))

    def _clock_ahead(self, now: float) -> float | None:
        """How far the OMS's time is ahead of ours; None while holds must not end early."""
        oms_time, total = self._only_sender.oms_time(), self._only_sender.partitions_total()
        if oms_time is None or total != len(self._engine.partitions.ids) or self._engine.inherits_doubt(now):
            return None
        return oms_time - now
