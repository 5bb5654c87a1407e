"""When refusals of single locations are taken to be about all of them."""

from collections.abc import Collection

from consumer.core.oms.answers import AnswerKind, RefusedWhole
from consumer.core.oms.refused_locations import SHARE_LOCATIONS_MAX, RefusedLocations


def others(_names: Collection[str]) -> bool:
    return True


def said(status: int = 404, *, repeated: bool = True, kind: AnswerKind = AnswerKind.WRONG_ADDRESS) -> RefusedWhole:
    return RefusedWhole(kind, status, 1.0, 0.0, f"HTTP {status}", repeated, f"correct oms.base_url (HTTP {status})")


def test_the_same_answer_to_three_locations_under_two_tokens_stops_everything() -> None:
    refused = RefusedLocations()
    for location in ("Rome", "Oslo"):
        refused.refused(location, said())
        assert refused.stop_reason(others) is None
    refused.refused("Oslo", said())
    assert refused.stop_reason(others) is None

    refused.refused("Bern", said())
    assert refused.stop_reason(others) == "correct oms.base_url (HTTP 404)"


def test_one_token_is_not_enough() -> None:
    refused = RefusedLocations()
    for location in ("Rome", "Oslo", "Bern", "Lima"):
        refused.refused(location, said(repeated=False))
    assert refused.stop_reason(others) is None
    assert refused.may_be_all

    refused.refused("Rome", said())
    assert refused.stop_reason(others)


def test_another_answer_or_an_accepted_request_counts_anew() -> None:
    refused = RefusedLocations()
    for location in ("Rome", "Oslo"):
        refused.refused(location, said())
    refused.refused("Bern", said(403, kind=AnswerKind.FORBIDDEN))
    assert refused.stop_reason(others) is None

    for location in ("Oslo", "Lima"):
        refused.refused(location, said(403, kind=AnswerKind.FORBIDDEN))
    assert refused.stop_reason(others)

    refused.accepted("Kiel")
    assert refused.stop_reason(others) is None
    assert not refused.may_be_all


def test_fewer_locations_are_enough_if_no_others_are_pending() -> None:
    refused = RefusedLocations()
    refused.refused("Rome", said())

    assert refused.stop_reason(others) is None
    assert refused.stop_reason(lambda names: names != {"Rome"})


def test_once_something_was_accepted_fewer_than_three_locations_stop_nothing() -> None:
    """A lone location that the OMS does not know once made the process unready at night."""
    refused = RefusedLocations()
    refused.accepted("Oslo")
    for _ in range(10):
        refused.refused("Rome", said())
    assert refused.stop_reason(lambda _: False) is None

    for location in ("Bern", "Lima"):
        refused.refused(location, said())
    assert refused.stop_reason(lambda _: False)


def test_more_than_half_of_at_least_five_locations_is_too_many() -> None:
    refused = RefusedLocations()
    for location in ("Rome", "Oslo", "Bern", "Rome"):
        refused.content_refused(location)
    assert refused.share_reason() is None

    for location in ("Lima", "Kiel", "Graz"):
        refused.accepted(location)
    assert refused.share_reason() is None

    refused.refused("Brno", said())
    reason = refused.share_reason()
    assert reason
    assert "4 of the last 7" in reason


def test_a_location_counts_once_and_by_its_latest_answer() -> None:
    refused = RefusedLocations()
    locations = [f"store {number}" for number in range(10)]
    for location in locations:
        refused.accepted(location)
    for location in locations[:5]:
        refused.content_refused(location)
        refused.content_refused(location)
    assert refused.share_reason() is None

    refused.content_refused(locations[5])
    assert refused.share_reason()


def test_only_the_last_twenty_locations_count() -> None:
    refused = RefusedLocations()
    for number in range(100):
        refused.accepted(f"store {number}")
    for number in range(100, 100 + SHARE_LOCATIONS_MAX // 2):
        refused.content_refused(f"store {number}")
    assert refused.share_reason() is None

    refused.content_refused("store 200")
    assert refused.share_reason()


def test_one_accepted_request_ends_it_and_five_more_locations_must_be_answered_before_the_next_time() -> None:
    refused = RefusedLocations()
    for number in range(9):
        refused.content_refused(f"store {number}")
    assert refused.share_reason()

    refused.accepted("Rome")
    for number in range(3):
        refused.content_refused(f"store {number}")
    assert refused.share_reason() is None

    refused.content_refused("store 3")
    assert refused.share_reason()
