"""Asks for the lists of jobs that clear locations for smart refresh (rule 34)."""

from collections.abc import Sequence

from consumer.core.engine import Engine
from consumer.core.oms.job_list import JobList, ListPurpose
from consumer.core.oms.smart_refresh import SmartRefresh
from consumer.ports import JobClient


class SmartQueries:
    """One query at a time. Times are monotonic seconds."""

    def __init__(self, client: JobClient, engine: Engine, smart: SmartRefresh) -> None:
        self._client = client
        self._engine = engine
        self._smart = smart

    def turn(self, lists: Sequence[JobList], permits: int, now: float) -> int:
        """Take the lists that have come, those of others too, and ask for the next one. Returns the number of calls."""
        for listed in lists:
            if listed.query.purpose is ListPurpose.SMART_REFRESH:
                self._smart.listed(listed, now)
                if listed.over_quota:
                    self._engine.breaker.rate_limiter.on_throttled(sent_at=now, now=now)
        if permits < 1:
            return 0
        query = self._smart.next_query(now)
        if query is None:
            return 0
        self._client.ask_list(query)
        return 1
