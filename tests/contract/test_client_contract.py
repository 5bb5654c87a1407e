"""What the loop expects of the OMS and its client. The simulated and the real ones must both meet it."""

from consumer.core.changes.blocks import Rows
from consumer.core.oms.answers import Answer, AnswerKind
from consumer.ports import Submission
from tests.contract.worlds import REFUSED_QUANTITY, OmsWorld, answers_of
from tests.support.frames import change, frame


def send(oms: OmsWorld, *quantities: int, age_seconds: float = 0.0, number: int = 1) -> Answer:
    """Send one request, one item per quantity, whose covering commit is ``age_seconds`` old."""
    rows = frame([change("Berlin", f"sku-{at}", quantity, offset=at) for at, quantity in enumerate(quantities)])
    client = oms.client
    client.submit(Submission(number, "Berlin", Rows(rows), commit_started_at=oms.now() - age_seconds))
    (answer,) = answers_of(client, 1)
    return answer


def test_a_queued_request_is_answered_with_a_job_id(oms: OmsWorld) -> None:
    first, second = send(oms, 1, 2), send(oms, 3, number=2)

    assert (first.kind, second.kind) == (AnswerKind.ACCEPTED, AnswerKind.ACCEPTED)
    assert first.job_id
    assert first.job_id != second.job_id


def test_several_changes_of_an_item_are_sent_as_one_item_with_the_newest_count(oms: OmsWorld) -> None:
    rows = frame([change("Berlin", "a", quantity, offset=quantity) for quantity in (1, 2, 3)])
    client = oms.client
    client.submit(Submission(1, "Berlin", Rows(rows), commit_started_at=oms.now()))

    assert [answer.kind for answer in answers_of(client, 1)] == [AnswerKind.ACCEPTED]
    assert oms.quantities("Berlin") == [3]


def test_a_request_with_one_bad_item_is_refused_as_a_whole(oms: OmsWorld) -> None:
    answer = send(oms, 1, REFUSED_QUANTITY)

    assert (answer.kind, answer.status) == (AnswerKind.REFUSED, 400)
    assert oms.quantities("Berlin") == []


def test_a_request_whose_commit_is_too_old_is_not_sent(oms: OmsWorld) -> None:
    assert send(oms, 1, age_seconds=60.0).kind is AnswerKind.NOT_SENT
    assert oms.quantities("Berlin") == []


def test_a_lost_answer_is_an_unknown_outcome_although_the_request_was_queued(oms: OmsWorld) -> None:
    _ = oms.client
    oms.lose_answers()

    assert send(oms, 7).kind is AnswerKind.UNKNOWN
    assert oms.quantities("Berlin") == [7]


def test_an_outage_reported_by_the_oms_proves_that_nothing_was_queued(oms: OmsWorld) -> None:
    _ = oms.client
    oms.go_down()

    answer = send(oms, 1)
    assert (answer.kind, answer.status) == (AnswerKind.UNAVAILABLE, 503)
    assert oms.quantities("Berlin") == []


def test_a_request_with_a_revoked_token_is_sent_again_with_a_new_one(oms: OmsWorld) -> None:
    assert send(oms, 1).kind is AnswerKind.ACCEPTED
    oms.forget_tokens()

    assert send(oms, 2, 3, number=2).kind is AnswerKind.ACCEPTED
    assert sorted(oms.quantities("Berlin"))[-2:] == [2, 3]
