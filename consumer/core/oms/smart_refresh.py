"""Which locations may use smart refresh (rule 34), and whether it is used at all. Times are monotonic seconds.

Smart refresh applies a small request at once: it overtakes all jobs in the OMS's queue. So a location may use it only
while none of its earlier jobs can be unfinished. Of our own jobs the job follower says so. Of those of previous owners
of its partitions, and of requests of unknown outcome, a list of jobs does, if it was asked for after the last moment at
which they could still be queued.
"""

from collections.abc import Iterable
from math import inf
from typing import Final

from consumer.core.oms.answers import Answer, AnswerKind
from consumer.core.oms.job_list import JobList, ListPurpose, ListQuery
from consumer.core.oms.job_schedule import QUERY_REFUSALS, JobOutcome, JobStatus

LIST_JOBS_MAX: Final = 1_000
"""Jobs in a list at most: a list with as many may lack some, and proves nothing."""
LIST_LAG_SECONDS: Final = 10.0
"""What reads the OMS's queue may lag behind what writes to it: a list must be asked for this much later."""
LIST_SECONDS_MIN: Final = 2.0
"""Between lists; doubles up to ``LIST_SECONDS_MAX`` while they clear no location that wants to send."""
LIST_SECONDS_MAX: Final = 60.0
LOCATION_LIST_SECONDS: Final = 0.5
"""Between lists of single locations, which are asked for where the list of all is cut."""
REFUSED_SECONDS: Final = 900.0
"""How long a location, or all of them, do without what was refused: smart refresh, or lists."""
REFUSED_LOCATIONS_MIN: Final = 3
"""Once this many locations in a row are refused, none uses smart refresh for a while."""
UNREADABLE_MAX: Final = 3
"""After this many unreadable answers in a row smart refresh is not used any more: each of them costs a hold."""
ITEMS_MAX: Final = 1_000
"""A larger request goes to plain refresh: smart refresh would queue it, too."""
LOCATIONS_MAX: Final = 100_000
"""Locations that wait for a list, or that one of their own has cleared; more than these do without smart refresh."""

_UNFINISHED: Final = frozenset({JobStatus.PENDING, JobStatus.WORKING, None})
"""A status that cannot be read may be any."""
_ABOUT_THE_CALL: Final = frozenset({AnswerKind.FORBIDDEN, AnswerKind.WRONG_ADDRESS, AnswerKind.GATEWAY_PAGE})
_READABLE: Final = frozenset({AnswerKind.ACCEPTED, AnswerKind.APPLIED, AnswerKind.REFUSED})


class SmartRefresh:
    """The state of all locations with respect to smart refresh. Part of the engine."""

    def __init__(self, list_lag_seconds: float = LIST_LAG_SECONDS) -> None:
        self._list_lag_seconds = list_lag_seconds
        self._jobs: dict[str, set[str]] = {}
        """The locations of each of our unfinished jobs, by jobID."""
        self._queued: dict[str, set[str]] = {}
        """Our unfinished jobs of each location that has any."""
        self._list_from = -inf
        """Lists of all locations, or of one, count if they were asked for after this."""
        self._all_listed = False
        """There was such a list of all locations: those that are not ``_unclear`` had no unfinished job."""
        self._proven: set[str] = set()
        """Locations for which there was such a list of their own."""
        self._unclear: dict[str, float] = {}
        """Locations that a list must clear that is asked for at or after this time."""
        self._wanted: dict[str, None] = {}
        """Locations that would have used smart refresh, if a list had cleared them."""
        self._query: ListQuery | None = None
        self._asked_at = -inf
        self._ask_at = -inf
        self._list_seconds = LIST_SECONDS_MIN
        self._no_list_of_all_until = -inf
        self._refused: dict[str, float] = {}
        """Until when locations do without smart refresh because a request of theirs was refused there."""
        self._refused_in_a_row: set[str] = set()
        self._unreadable = 0
        """Answers in a row."""
        self._paused_until = -inf

    # What happens

    def assigned(self, now: float, doubt_until: float) -> None:
        """A partition was assigned. Its previous owner may have left jobs, and requests that are queued until then."""
        self._list_from = max(self._list_from, now + self._list_lag_seconds, doubt_until)
        self._all_listed = False
        self._proven.clear()

    def queued(self, location: str, job_id: str) -> None:
        """A request of this location was accepted as this job."""
        self._jobs.setdefault(job_id, set()).add(location)
        self._queued.setdefault(location, set()).add(job_id)

    def job_ended(self, job_id: str, outcome: JobOutcome, now: float) -> None:
        """A job has ended, or is followed no longer: then a list must show that it is over."""
        is_over = outcome in {JobOutcome.SUCCESS, JobOutcome.FAILED}
        for location in self._jobs.pop(job_id, ()):
            jobs = self._queued[location]
            jobs.discard(job_id)
            if not jobs:
                del self._queued[location]
            if not is_over:
                self._must_be_listed(location, now)

    def outcome_unknown(self, location: str, hold_until: float) -> None:
        """A request may be queued until this time."""
        self._must_be_listed(location, hold_until + self._list_lag_seconds)

    def answered(self, location: str, answer: Answer, now: float) -> str | None:
        """The answer to a request that went to smart refresh. Returns why it is not used from now on, if so."""
        if answer.kind in _READABLE:
            self._unreadable = 0
            self._refused_in_a_row.clear()
        elif answer.kind is AnswerKind.UNREADABLE:
            self._unreadable += 1
            if self._unreadable == UNREADABLE_MAX:
                self._paused_until = inf
                return f"{UNREADABLE_MAX} answers in a row could not be read: {answer.detail}"
        elif is_about_the_call(answer):
            self._refused = {name: until for name, until in self._refused.items() if until > now}
            self._refused[location] = now + REFUSED_SECONDS
            self._refused_in_a_row.add(location)
            if len(self._refused_in_a_row) >= REFUSED_LOCATIONS_MIN:
                self._refused_in_a_row.clear()
                self._refused.clear()
                self._paused_until = max(self._paused_until, now + REFUSED_SECONDS)
                return f"{REFUSED_LOCATIONS_MIN} locations in a row were refused: HTTP {answer.status}, {answer.detail}"
        return None

    def listed(self, jobs: JobList, now: float) -> None:
        """The answer to ``next_query``. Nothing follows from one that was cut, or has a job of an unknown location."""
        asked_at, self._query = self._asked_at, None
        of_all = jobs.query.location is None
        unfinished = _unfinished_locations(jobs)
        if jobs.query.location is not None and (unfinished is None or unfinished):
            self._postpone(jobs.query.location, is_cut=jobs.jobs is not None and unfinished is None, now=now)
        if unfinished is None:
            if jobs.http_status in {400, *QUERY_REFUSALS} and not jobs.over_quota:
                self._ask_at = now + REFUSED_SECONDS
            elif of_all and jobs.jobs is not None:
                self._no_list_of_all_until = now + REFUSED_SECONDS
            return
        wanted = len(self._wanted)
        if of_all:
            self._take_list_of_all(unfinished, asked_at)
        elif jobs.query.location is not None and not unfinished:
            self._take_list_of(jobs.query.location, asked_at)
        self._wanted = dict.fromkeys(name for name in self._wanted if not self._is_listed(name))
        if len(self._wanted) < wanted:
            self._list_seconds = LIST_SECONDS_MIN

    # What follows

    def is_used(self, now: float) -> bool:
        """Whether smart refresh is used at all at present."""
        return now >= self._paused_until

    def may_use(self, location: str, items: int, now: float) -> bool:
        """Whether a request of this location may go to smart refresh now."""
        if not self.is_used(now) or items > ITEMS_MAX or location in self._queued:
            return False
        if self._refused.get(location, -inf) > now:
            return False
        if self._is_listed(location):
            return True
        if len(self._wanted) < LOCATIONS_MAX:
            self._wanted[location] = None
        return False

    def next_query(self, now: float) -> ListQuery | None:
        """The list to ask for now; ``listed`` must follow. None while there is one, or nothing to learn."""
        if self._query is not None or now < self._ask_at or not self.is_used(now):
            return None
        if now < self._list_from and not self._all_listed and not self._proven:
            return None
        due = next((name for name in self._wanted if self._list_due_at(name) <= now), None)
        if due is None:
            return None
        if now >= self._no_list_of_all_until:
            self._query = ListQuery(limit=LIST_JOBS_MAX, purpose=ListPurpose.SMART_REFRESH)
            self._ask_at = now + self._list_seconds
            self._list_seconds = min(2 * self._list_seconds, LIST_SECONDS_MAX)
        else:
            self._query = ListQuery(due, LIST_JOBS_MAX, ListPurpose.SMART_REFRESH)
            self._ask_at = now + LOCATION_LIST_SECONDS
            self._wanted[due] = self._wanted.pop(due)  # behind the others, should the list not clear it
        self._asked_at = now
        return self._query

    # Inside

    def _postpone(self, location: str, *, is_cut: bool, now: float) -> None:
        """Its own list has not cleared the location: do not ask again soon, least of all if the list was cut."""
        self._wanted.pop(location, None)
        if is_cut and len(self._refused) < LOCATIONS_MAX:
            self._refused[location] = now + REFUSED_SECONDS
        else:
            self._must_be_listed(location, now + LIST_LAG_SECONDS)

    def _must_be_listed(self, location: str, not_before: float) -> None:
        self._unclear[location] = max(not_before, self._unclear.get(location, -inf))

    def _is_listed(self, location: str) -> bool:
        return location not in self._unclear and (self._all_listed or location in self._proven)

    def _list_due_at(self, location: str) -> float:
        from_assignment = -inf if self._all_listed or location in self._proven else self._list_from
        return max(from_assignment, self._unclear.get(location, -inf))

    def _take_list_of_all(self, unfinished: Iterable[str], asked_at: float) -> None:
        still = set(unfinished)
        for location in [name for name, since in self._unclear.items() if since <= asked_at and name not in still]:
            del self._unclear[location]
        if not self._all_listed and asked_at >= self._list_from:
            self._all_listed = True
            for location in still.difference(self._proven):
                self._must_be_listed(location, asked_at)

    def _take_list_of(self, location: str, asked_at: float) -> None:
        if self._unclear.get(location, -inf) <= asked_at:
            self._unclear.pop(location, None)
        if asked_at >= self._list_from and len(self._proven) < LOCATIONS_MAX:
            self._proven.add(location)


def is_about_the_call(answer: Answer) -> bool:
    """Whether a refusal may be about smart refresh itself: it proves nothing about the location or the address."""
    return answer.kind in _ABOUT_THE_CALL


def _unfinished_locations(jobs: JobList) -> set[str] | None:
    """The locations with a job that has not ended; None if the list does not show all of them."""
    if jobs.jobs is None or not jobs.is_complete:
        return None
    unfinished = [job.location for job in jobs.jobs if job.report.status in _UNFINISHED]
    return None if None in unfinished else {location for location in unfinished if location is not None}
