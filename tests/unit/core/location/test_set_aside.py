"""Locations that are refused whole while others are accepted: when they are set aside, and how that ends."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from consumer.core.changes.items import OFFSET
from consumer.core.engine import Engine
from consumer.core.limits import EngineLimits
from consumer.core.location.request import Refusal, Request
from consumer.core.location.set_aside import SetAsideLimits
from consumer.core.oms.answers import Answer, AnswerKind
from consumer.core.settlement import Settled
from tests.support.frames import change, frame

AGE = 10.0
NOT_FOUND = Answer(AnswerKind.WRONG_ADDRESS, status=404, detail="no such location")
PAGE = Answer(AnswerKind.GATEWAY_PAGE, status=403, detail="<html>")
ACCEPTED = Answer(AnswerKind.ACCEPTED, job_id="1", status=200)
REFUSED = Answer(AnswerKind.REFUSED, status=400, detail="bad sku")


class Stage:
    """Rome and Oslo send one item after another, unless a test adds more; ``reply`` says what the OMS answers."""

    def __init__(self, reply: Callable[[Request], Answer], **limits: Any) -> None:
        self.reply = reply
        self.now = 0.0
        self.engine = Engine(EngineLimits(max_age_seconds=AGE, **limits), size_of=len)
        self.engine.assigned(1, start=0, read_up_to=None)
        self.offset = 0
        self.sent: list[tuple[float, Request]] = []
        self.settled: list[Settled] = []
        self.refusals: list[Refusal] = []

    def add(self, location: str, *skus: str) -> None:
        rows = [change(location, sku, offset=self.offset + index) for index, sku in enumerate(skus)]
        self.offset += len(rows)
        self.engine.add(frame(rows), [], {1: self.offset}, self.now)

    def run(self, seconds: float, step: float = 1.0) -> None:
        """Answer whatever is due for so long. Another location is accepted all the time."""
        until = self.now + seconds
        while self.now < until:
            self.now += step
            self.refusals += self.engine.end_set_aside(self.now)
            for request in self.engine.due(self.now):
                self.sent.append((self.now, request))
                settled = self.engine.settle(request.request_id, self.reply(request), jitter=0.0, now=self.now)
                self.settled.append(settled)
                self.refusals += settled.refusals

    def sent_for(self, location: str) -> list[float]:
        return [at for at, request in self.sent if request.location == location]

    @property
    def set_aside(self) -> list[str]:
        return [location.name for location in self.engine.locations.set_aside.locations]

    @property
    def is_stopped(self) -> bool:
        return self.engine.sending_stopped is not None

    @property
    def dead_lettered(self) -> list[int]:
        return [offset for refusal in self.refusals for offset in refusal.rows[OFFSET]]

    def committable(self) -> int:
        (point,) = self.engine.commit_points(self.now)
        return point.offset


def only_rome(answer: Answer) -> Callable[[Request], Answer]:
    return lambda request: answer if request.location == "Rome" else ACCEPTED


def begin(reply: Callable[[Request], Answer], **limits: Any) -> Stage:
    """Rome is refused while Oslo is accepted, until Rome is set aside."""
    stage = Stage(reply, **limits)
    stage.add("Rome", "a", "b")
    for number in range(4):
        stage.add("Oslo", f"{number}")
        stage.run(AGE)
    assert stage.set_aside == ["Rome"]
    return stage


@pytest.mark.parametrize(("answer", "times"), [(NOT_FOUND, 2), (PAGE, 3)])
def test_a_location_is_set_aside_only_after_others_were_accepted_since_its_first_refusal(
    answer: Answer, times: int
) -> None:
    stage = Stage(only_rome(answer))
    stage.add("Rome", "a")
    stage.run(AGE + 30.0)
    assert len(stage.sent_for("Rome")) > times
    assert stage.set_aside == []

    stage.add("Oslo", "a")
    stage.run(AGE + 60.0)
    assert stage.set_aside == ["Rome"]
    assert stage.engine.sending_stopped is None
    assert not any(settled.fatal_reason for settled in stage.settled)


def test_an_accepted_part_of_the_location_itself_proves_nothing_about_others() -> None:
    """An accepted part of a bisection once counted as another location, and the next page set its location aside."""
    answers = iter([REFUSED, PAGE, ACCEPTED, NOT_FOUND])
    stage = Stage(lambda _: next(answers, NOT_FOUND))
    stage.add("Rome", "a", "b", "c", "d")
    stage.run(AGE + 20.0)

    assert len(stage.sent) > 4
    assert stage.set_aside == []


def test_it_is_probed_every_minute_first_and_every_quarter_of_an_hour_in_the_end() -> None:
    stage = begin(only_rome(NOT_FOUND), set_aside=SetAsideLimits(seconds_max=7_200.0))
    stage.sent.clear()
    stage.run(7_000.0)

    times = stage.sent_for("Rome")
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert [round(gap / 60) for gap in gaps] == [2, 4, 8, 15, 15, 15, 15, 15, 15][: len(gaps)]
    assert len(gaps) >= 6


def test_it_is_sent_behind_all_others() -> None:
    stage = begin(only_rome(NOT_FOUND), max_in_flight=1)
    for location in ("Oslo", "Bern", "Lima"):
        stage.add(location, "a")
    stage.now += 900.0
    assert [request.location for request in stage.engine.due(stage.now)] != ["Rome"]


def test_an_accepted_probe_ends_it() -> None:
    stage = begin(only_rome(NOT_FOUND))
    stage.reply = lambda _: ACCEPTED
    stage.run(900.0)

    assert stage.set_aside == []
    assert stage.dead_lettered == []
    assert stage.committable() == stage.offset


def test_after_an_hour_what_was_refused_is_dead_lettered_and_later_changes_are_sent_as_usual() -> None:
    stage = begin(only_rome(NOT_FOUND))
    stage.run(3_000.0)
    stage.add("Rome", "later")
    assert stage.dead_lettered == []
    stage.run(600.0)

    assert stage.dead_lettered == [0, 1]
    assert {refusal.detail for refusal in stage.refusals} == {"HTTP 404: no such location"}
    assert stage.set_aside == []
    assert list(stage.engine.pending_by_location()) == ["Rome"]
    assert not any(settled.too_many_refused for settled in stage.settled)


def test_a_location_whose_partitions_are_gone_may_end_with_nothing_to_dead_letter() -> None:
    """Its window is empty, while it still waits for its next probe. That once ended the process."""
    stage = begin(only_rome(NOT_FOUND), set_aside=SetAsideLimits(seconds_max=4 * AGE))
    stage.engine.forget([1], stage.now)
    assert stage.set_aside == ["Rome"]
    stage.run(100.0)

    assert stage.set_aside == []
    assert stage.refusals == []


def test_it_ends_at_once_for_a_location_that_an_operator_has_named() -> None:
    limits = SetAsideLimits(dead_letter=frozenset({"Rome"}))
    stage = Stage(only_rome(NOT_FOUND), set_aside=limits)
    stage.add("Rome", "a")
    stage.add("Oslo", "a")
    stage.run(AGE + 10.0)

    assert stage.dead_lettered == [0]


def test_it_ends_when_a_partition_was_read_half_as_far_as_it_may() -> None:
    stage = begin(only_rome(NOT_FOUND), max_uncommitted_offsets=40)
    while stage.offset < 20:
        stage.add("Oslo", "again")
    stage.run(30.0)
    assert stage.dead_lettered == []

    stage.add("Oslo", "one more")
    stage.run(1.0)
    assert stage.dead_lettered == [0, 1]


def test_nothing_is_dead_lettered_while_the_oms_may_refuse_everybody() -> None:
    stage = begin(only_rome(NOT_FOUND))
    stage.reply = lambda _: Answer(AnswerKind.FORBIDDEN, status=403, detail="no", repeated=True)
    for location in ("Oslo", "Bern", "Lima"):
        stage.add(location, "a")
    stage.run(7_200.0)
    assert (stage.is_stopped, stage.dead_lettered) == (True, [])

    stage.reply = only_rome(NOT_FOUND)
    stage.run(7_200.0)
    assert (stage.is_stopped, stage.dead_lettered) == (False, [0, 1])


def test_a_refused_location_that_is_no_longer_pending_does_not_stop_one_that_was_not_refused() -> None:
    stage = Stage(lambda _: ACCEPTED)
    stage.engine.assigned(2, start=0, read_up_to=None)
    stage.engine.add(frame([change("Rome", "a", offset=0, assignment=2)]), [], {2: 1}, 0.0)
    stage.add("Oslo", "a")
    stage.add("Bern", "a")
    rome, oslo, bern = stage.engine.due(AGE)
    said = Answer(AnswerKind.FORBIDDEN, status=403, repeated=True)

    stage.engine.settle(rome.request_id, said, jitter=0.0, now=AGE)
    stage.engine.begin_revoke([2])
    stage.engine.forget([2], AGE)
    settled = stage.engine.settle(oslo.request_id, said, jitter=0.0, now=AGE)
    assert (settled.fatal_reason, stage.is_stopped) == (None, False)

    settled = stage.engine.settle(bern.request_id, said, jitter=0.0, now=AGE)
    assert settled.fatal_reason
    assert stage.is_stopped


def test_locations_that_are_set_aside_do_not_stop_the_others_however_many_they_are() -> None:
    unknown = {"Rome", "Bern", "Lima", "Kiel"}
    stage = Stage(lambda request: NOT_FOUND if request.location in unknown else ACCEPTED)
    for location in (*sorted(unknown), "Oslo"):
        stage.add(location, "a")
    for number in range(12):
        stage.add("Oslo", f"{number}")
        stage.run(AGE)
    assert stage.set_aside == sorted(unknown)

    stage.run(1_800.0)
    assert stage.engine.sending_stopped is None
    assert stage.engine.breaker.failures == 0


def test_a_page_about_one_item_is_found_by_parts_and_only_that_item_is_dead_lettered() -> None:
    stage = Stage(lambda request: PAGE if "bad" in request.rows["sku"].to_list() else ACCEPTED)
    stage.add("Rome", "a", "b", "bad", "c")
    for number in range(150):
        stage.add("Oslo", f"{number}")
        stage.run(AGE)
        if stage.dead_lettered:
            break

    assert stage.dead_lettered == [2]
    at = [at for at, request in stage.sent if request.rows["sku"].to_list() == ["bad"]]
    assert len(at) >= 2
    assert at[-1] - at[0] >= 60.0
    assert stage.set_aside == []


def test_a_change_that_a_gateway_refuses_is_not_dead_lettered_before_others_of_its_location_are_accepted() -> None:
    stage = Stage(only_rome(PAGE))
    stage.add("Rome", "a")
    for number in range(60):
        stage.add("Oslo", f"{number}")
        stage.run(AGE)

    assert stage.set_aside == ["Rome"]
    assert stage.dead_lettered == []


def test_a_revoke_ends_it() -> None:
    stage = begin(only_rome(NOT_FOUND))
    stage.engine.begin_revoke([1])
    stage.engine.forget([1], stage.now)
    stage.now += 3_600.0
    stage.engine.locations.advance(stage.now)

    assert stage.set_aside == []
    assert stage.engine.end_set_aside(stage.now) == []


def test_while_most_locations_are_refused_bodies_are_split_but_nothing_is_dead_lettered() -> None:
    bad = {f"store {number}" for number in range(8)}
    stage = Stage(lambda request: REFUSED if request.location in bad else ACCEPTED, max_in_flight=1)
    for location in sorted(bad):
        stage.add(location, "a", "b")
    stage.run(3_600.0)
    assert stage.dead_lettered == []
    assert stage.engine.sending_stopped
    assert len({request.location for _, request in stage.sent[-16:]}) == 8

    stage.add("Rome", "a")
    stage.run(120.0)
    assert stage.sent_for("Rome")
    assert stage.dead_lettered


def test_what_is_remembered_about_refused_changes_counts_as_memory() -> None:
    stage = begin(only_rome(NOT_FOUND), set_aside=SetAsideLimits(change_bytes=24))
    assert stage.engine.locations.set_aside.size_bytes == 2 * 24

    stage.reply = lambda _: ACCEPTED
    stage.run(900.0)
    assert stage.engine.locations.set_aside.size_bytes == 0
