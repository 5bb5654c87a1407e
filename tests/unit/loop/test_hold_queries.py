"""Holds that end early because the job of the lost request has ended."""

from typing import Any

import pytest

from consumer.core.engine import Engine
from consumer.core.limits import EngineLimits
from consumer.core.location.request import Request
from consumer.core.oms.answers import Accepted, Hold, Retry
from consumer.core.oms.job_list import JobList, ListedJob, ListPurpose, ListQuery
from consumer.core.oms.job_schedule import JobReport, JobStatus
from consumer.loop.hold_queries import FIRST_SECONDS, REFUSED_SECONDS, HoldQueries, OnlySender
from tests.support.fakes import FakeJobs, FakeObserver
from tests.support.frames import change, frame

AGE = 10.0
HOLD = 120.0
LOST_AT = AGE + 30.0
AHEAD = 1_700_000_000.0
ROME = ListQuery("Rome", purpose=ListPurpose.HOLD)


class Stage:
    """Rome's request has an unknown outcome; its hold lasts two minutes."""

    def __init__(self, *, only_sender: bool = True, partitions_total: int | None = 1, **assigned: Any) -> None:
        self.engine = Engine(EngineLimits(max_age_seconds=AGE, only_sender=only_sender))
        self.engine.assigned(1, **{"start": 0, "read_up_to": None, **assigned})
        self.jobs = FakeJobs()
        self.observer = FakeObserver([])
        self.partitions_total = partitions_total
        self.skew_is_known = True
        self.now = LOST_AT
        self.holds = HoldQueries(
            self.jobs, self.engine, self.observer, OnlySender(self._oms_time, lambda: self.partitions_total)
        )
        self.offset = 0
        self.add("Rome", "a", "b")
        self.request = self.due()
        self.engine.apply(self.request.request_id, Hold(HOLD, 0.0), LOST_AT)
        self.engine.breaker.record_success(sent_at=LOST_AT)

    def _oms_time(self) -> float | None:
        return AHEAD + self.now if self.skew_is_known else None

    def add(self, location: str, *skus: str) -> None:
        rows = [change(location, sku, offset=self.offset + index) for index, sku in enumerate(skus)]
        self.offset += len(rows)
        self.engine.add(frame(rows), [], {1: self.offset}, 0.0)

    def due(self, at: float = AGE) -> Request:
        (request,) = self.engine.due(at)
        return request

    def turn(self, seconds: float, *lists: JobList) -> int:
        self.now += seconds
        return self.holds.turn(lists, 1, self.now)

    def answer(self, *, added: float = AGE + 1.0, items: int = 2) -> JobList:
        report = JobReport("8", JobStatus.SUCCESS, added=AHEAD + added)
        return JobList(ROME, (ListedJob(report, "Rome", items),), is_complete=True)

    @property
    def shortened(self) -> list[tuple[str, float]]:
        return [what for kind, what in self.observer.diary if kind == "hold shortened"]


def test_a_hold_ends_once_the_job_of_the_lost_request_has_ended_and_its_changes_are_planned_again() -> None:
    stage = Stage()
    assert stage.turn(FIRST_SECONDS - 1.0) == 0
    assert stage.turn(1.0) == 1
    assert stage.jobs.asked_lists == [ROME]
    stage.add("Rome", "c")
    stage.turn(1.0, stage.answer())

    assert stage.shortened == [("Rome", HOLD - FIRST_SECONDS - 1.0)]
    assert stage.due(stage.now).items == 3
    (point,) = stage.engine.commit_points(stage.now)
    assert point.offset == 0


def test_until_the_job_is_found_the_list_is_asked_for_again_with_growing_waits() -> None:
    stage = Stage()
    asked = []
    answers: list[JobList] = []
    for _ in range(110):
        calls = stage.turn(1.0, *answers)
        asked += [stage.now - LOST_AT] * calls
        answers = [JobList(ROME, (), is_complete=True)] if calls else []

    assert asked == [5.0, 10.0, 20.0, 40.0, 70.0, 100.0]
    assert not stage.shortened


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param(lambda: Stage(only_sender=False), id="others send, too"),
        pytest.param(lambda: Stage(partitions_total=2), id="another member has a partition"),
        pytest.param(lambda: Stage(partitions_total=None), id="the number of partitions is not known"),
    ],
)
def test_nothing_is_asked_if_the_job_may_be_somebody_elses(stage: Any) -> None:
    built = stage()
    assert built.turn(60.0) == 0


def test_nothing_is_asked_before_the_oms_has_told_its_time() -> None:
    stage = Stage()
    stage.skew_is_known = False
    assert stage.turn(60.0) == 0


def test_a_hold_does_not_end_if_a_partition_has_come_in_doubt_meanwhile() -> None:
    stage = Stage()
    assert stage.turn(FIRST_SECONDS) == 1
    stage.partitions_total = 2
    stage.engine.assigned(2, start=0, read_up_to=0, in_doubt=True, now=stage.now)
    stage.turn(1.0, stage.answer())

    assert not stage.shortened
    assert stage.engine.due(stage.now) == []


def test_a_hold_after_two_unknown_outcomes_in_a_row_lasts_its_time() -> None:
    stage = Stage()
    again = LOST_AT + HOLD
    stage.engine.apply(stage.due(again).request_id, Hold(HOLD, 0.0), again)
    stage.engine.breaker.record_success(sent_at=again)
    stage.now = again

    assert stage.turn(60.0) == 0


def test_an_accepted_request_makes_the_next_unknown_outcome_a_first_one() -> None:
    stage = Stage()
    again = LOST_AT + HOLD
    stage.engine.apply(stage.due(again).request_id, Accepted("9"), again)
    stage.add("Rome", "c")
    stage.engine.apply(stage.due(again + 1.0).request_id, Hold(HOLD, 0.0), again + 1.0)
    stage.engine.breaker.record_success(sent_at=again + 1.0)
    stage.now = again + 1.0

    assert stage.turn(60.0) == 1


def test_a_list_that_comes_after_the_hold_ends_nothing_else() -> None:
    stage = Stage()
    assert stage.turn(FIRST_SECONDS) == 1
    again = LOST_AT + HOLD
    stage.engine.apply(stage.due(again).request_id, Retry(500.0, whole_oms=False), again)
    stage.now = again
    stage.turn(1.0, stage.answer())

    assert not stage.shortened
    assert stage.engine.due(stage.now) == []


def test_a_refused_list_is_not_asked_for_again_soon() -> None:
    stage = Stage()
    assert stage.turn(FIRST_SECONDS) == 1
    stage.turn(1.0, JobList(ROME, http_status=403, detail="HTTP 403"))
    assert stage.turn(60.0) == 0
    assert REFUSED_SECONDS > HOLD


def test_without_a_permit_nothing_is_asked() -> None:
    stage = Stage()
    stage.now += 60.0
    assert stage.holds.turn((), 0, stage.now) == 0
