"""Where an item is: what the loop remembers and answers, and that a question changes nothing."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from consumer.core.changes.items import RejectReason
from consumer.core.oms.answers import Answer, AnswerKind
from consumer.core.oms.job_schedule import JobOutcome
from consumer.core.trace.memory import Outcome
from consumer.core.trace.pending import Place
from consumer.core.trace.query import ItemQuery
from consumer.loop import traces
from consumer.mailbox import Mailbox
from tests.support.fakes import ACCEPTED
from tests.support.frames import change
from tests.support.traces import INSTANCE, MAX_AGE_SECONDS, TracedEngine
from tests.unit.loop.test_loop import Stage


def fates(traced: TracedEngine, sku: str = "a") -> list[tuple[int, str, str | None]]:
    """Offset, outcome, and job or reason of what has left."""
    return [
        (left.offset, left.fate.outcome.value, left.fate.job_id or left.fate.reason)
        for left in traced.trace(sku).left.changes
    ]


def test_an_accepted_change_is_remembered_with_its_request_and_the_end_of_its_job() -> None:
    traced = TracedEngine()
    traced.read(change("Rome", "a", offset=7), change("Rome", "b", offset=8))
    sent_at = traced.clock.wall() + MAX_AGE_SECONDS
    traced.answer(traced.send(), job_id="77")

    (left,) = traced.trace("a").left.changes
    assert (left.partition, left.offset, left.coalesced_into) == (("stock", 0), 7, None)
    fate = left.fate
    assert (fate.request_id, fate.items, fate.job_id, fate.sent_at, fate.at) == (
        f"{INSTANCE}-1",
        2,
        "77",
        sent_at,
        sent_at + 1.0,
    )
    assert fate.job_outcome is None
    traced.end_job("77", JobOutcome.FAILED, "not\nprocessed")
    (left,) = traced.trace("a").left.changes
    assert (left.fate.job_outcome, left.fate.job_messages) == (JobOutcome.FAILED, "not processed")


def test_a_request_in_flight_has_its_id_and_what_its_location_does() -> None:
    traced = TracedEngine()
    traced.read(change("Rome", "a", offset=7))
    traced.send()

    found = traced.trace("a")
    assert (found.request_id, found.sent_at) == (f"{INSTANCE}-1", traced.clock.now)
    assert found.view is not None
    assert found.view.state == "in_flight"
    assert found.partitions == {1: ("stock", 0)}


@pytest.mark.parametrize(
    ("kind", "state"),
    [(AnswerKind.UNKNOWN, "held"), (AnswerKind.UNAVAILABLE, "backing_off")],
    ids=["held", "backing-off"],
)
def test_a_location_that_waits_says_why_until_a_request_is_accepted(kind: AnswerKind, state: str) -> None:
    traced = TracedEngine()
    traced.read(change("Rome", "a", offset=7))
    traced.answer(traced.send(), kind, status=503, detail="try\nlater")

    found = traced.trace("a")
    assert found.view is not None
    assert (found.view.state, found.failed and found.failed.detail) == (state, "try later")
    assert found.failed is not None
    assert found.failed.request_id == f"{INSTANCE}-1"
    traced.answer(traced.send(), job_id="77")
    assert traced.trace("a").failed is None


def test_a_refused_change_is_remembered_with_what_the_oms_said_and_others_of_its_request_are_pending() -> None:
    traced = TracedEngine()
    traced.read(change("Rome", "a", offset=7))
    traced.answer(traced.send(), AnswerKind.REFUSED, status=400, detail="sku a is not known")

    (left,) = traced.trace("a").left.changes
    assert (left.offset, left.fate.outcome, left.fate.reason) == (7, Outcome.DEAD_LETTERED, RejectReason.REFUSED_BY_OMS)
    assert "sku a is not known" in left.fate.detail
    assert left.fate.request_id is not None
    assert traced.trace("a").pending.changes == []


def test_a_reject_whose_item_is_known_is_found_and_so_is_the_older_change_that_it_supersedes() -> None:
    traced = TracedEngine()
    traced.read(change("Rome", "a", 5, offset=7), change("Rome", "b", 5, offset=8))
    traced.reject(change("Rome", "a", -1, offset=9), RejectReason.NEGATIVE_QUANTITY, "quantity is -1")

    assert sorted(fates(traced)) == [
        (7, "dead_lettered", RejectReason.SUPERSEDED_BY_REJECT),
        (9, "dead_lettered", RejectReason.NEGATIVE_QUANTITY),
    ]
    assert fates(traced, "b") == []
    assert traced.trace("b").pending.changes[0].place is Place.WINDOW


def test_rejects_of_one_location_and_kind_are_remembered_together_and_others_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traced = TracedEngine()
    monkeypatch.setattr(traces, "REJECT_GROUPS_MAX", 0)
    traced.reject(change("Rome", "a", -1, offset=9), RejectReason.NEGATIVE_QUANTITY, "quantity is -1")
    assert fates(traced) == []


def test_what_is_forgotten_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = TracedEngine(bytes_max=3_000)
    started = traced.clock.wall()
    assert traced.trace("a").complete_since == started
    for offset in range(3):
        traced.read(change("Rome", "a", offset=offset))
        traced.answer(traced.send(), job_id=str(offset))
        accepted_at = traced.clock.wall()
    found = traced.trace("a")
    assert [left.offset for left in found.left.changes] == [2]
    assert started < found.complete_since < accepted_at
    monkeypatch.setattr(traces, "FAILED_MAX", 1)
    for offset, location in enumerate(("Milan", "Rome"), start=9):
        traced.read(change(location, "a", offset=offset))
        traced.answer(traced.send(), AnswerKind.UNKNOWN)
    assert [traced.trace("a", location).failed for location in ("Milan", "Rome")].count(None) == 1


def test_a_bug_in_answering_is_raised_where_it_was_asked_and_does_not_end_the_loop() -> None:
    traced = TracedEngine()
    broken: Any = "not a query"
    with traced.answering(), pytest.raises(AttributeError):
        traced.questions.ask(broken, 60.0)
    assert traced.trace("a").pending.changes == []


Step = Callable[[Stage], None]
STEPS: list[Step] = [
    lambda stage: stage.add_changes(0, 2),
    lambda stage: stage.turns(30, 1.0),
    lambda stage: stage.add_changes(2, 4),
    lambda stage: stage.client.answer(stage.client.submitted[0], Answer(AnswerKind.UNKNOWN)),
    lambda stage: stage.turns(30, 1.0),
    lambda stage: setattr(stage.client, "reply", ACCEPTED),
    lambda stage: stage.turns(200, 1.0),
    lambda stage: stage.add_changes(6, 1, "Milan"),
    lambda stage: stage.turns(60, 1.0),
]


def played(*, asks: bool) -> tuple[Stage, int]:
    """The whole story of a loop, with a question waiting in every turn or none."""
    stage = Stage()
    traced = TracedEngine(engine=stage.engine, clock=stage.clock)
    answered = 0

    def turn() -> None:
        nonlocal answered
        loop_turn()
        if asks:
            for location in ("Rome", "Milan", "nowhere"):
                traced.traces.trace(ItemQuery.of_any_identifier(location, "sku-1"))
            answered += 1

    loop_turn, stage.loop.turn = stage.loop.turn, turn  # type: ignore[method-assign]
    for step in STEPS:
        step(stage)
    return stage, answered


def test_a_question_in_every_turn_changes_nothing_that_the_loop_does() -> None:
    asked, answered = played(asks=True)
    silent, _ = played(asks=False)

    assert answered == 320
    assert asked.diary == silent.diary
    assert asked.source.committed == silent.source.committed == {1: 7}
    assert asked.clock.now == silent.clock.now


def test_one_question_is_answered_a_turn_and_none_without_one() -> None:
    traced = TracedEngine(questions=Mailbox(3))
    answers: list[object] = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(traced.questions.ask(ItemQuery.of_any_identifier("Rome", "a"), 60.0))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    while traced.questions._asked.qsize() < len(threads):
        pass
    traced.traces.turn()
    assert traced.questions._asked.qsize() == 1
    traced.traces.turn()
    traced.traces.turn()
    for thread in threads:
        thread.join(60.0)
    assert len(answers) == len(threads)
