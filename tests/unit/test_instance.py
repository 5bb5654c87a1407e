"""The name of a process in the ids of its requests."""

from consumer.app import INSTANCE_DIGITS, instance_of
from consumer.ports import x_request_id


def test_members_and_restarts_have_different_names_and_a_name_lasts() -> None:
    starts = [("pod-1", 1, 1_000), ("pod-2", 1, 1_000), ("pod-1", 2, 1_000), ("pod-1", 1, 1_001), ("pod-1", 11, 000)]
    names = [instance_of(*start) for start in starts]
    assert len(set(names)) == len(names)
    assert names == [instance_of(*start) for start in starts]
    assert {len(name) for name in names} == {INSTANCE_DIGITS}


def test_an_id_is_fit_for_a_header() -> None:
    assert x_request_id("0badc0ffee", 17) == "0badc0ffee-17"
