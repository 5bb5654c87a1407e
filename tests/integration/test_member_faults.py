"""Members are killed, suspended and restarted while changes arrive: real processes on a real Kafka."""

import pytest

from tests.support.fleet import CLASSIC, CONSUMER, LONG_SESSIONS, OpenFleet, both_protocols

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@both_protocols
def test_other_members_take_over_from_members_killed_while_sending(fleet: OpenFleet, protocol: str) -> None:
    ours = fleet(protocol=protocol)
    ours.start("a")
    ours.start("b")
    ours.wait_until_shared("a", "b")
    with ours.stock.publishing():
        ours.wait_until(lambda: ours.members["a"].snapshot()["requests_in_flight"] > 0, "a sends")
        ours.kill("a")
        ours.wait_until_shared("b")
        ours.start("c")
        ours.wait_until(lambda: ours.members["b"].snapshot()["requests_in_flight"] > 0, "b sends")
        ours.kill("b")
        ours.wait_until_shared("c")
    ours.finish()


@both_protocols
def test_a_member_suspended_past_its_session_sends_nothing_old_when_it_resumes(fleet: OpenFleet, protocol: str) -> None:
    ours = fleet(protocol=protocol)
    sleeper = ours.start("sleeper", window={"max_age": 3})
    ours.start("other")
    ours.wait_until_shared("sleeper", "other")
    ours.stock.publish()
    ours.wait_until(lambda: sleeper.snapshot()["pending_changes"] > 0, "the sleeper has changes to send")
    ours.freeze("sleeper")
    ours.stock.publish()
    ours.wait_until_shared("other")
    ours.wait_until_held()
    ours.thaw("sleeper")
    ours.wait_until(lambda: bool(sleeper.events("partitions_lost")), "the sleeper learns that its partitions are lost")
    ours.wait_until_shared("sleeper", "other")
    ours.stock.publish()
    ours.finish()


@pytest.mark.parametrize("protocol", [CLASSIC])
def test_two_members_are_suspended_in_turn_while_changes_arrive(fleet: OpenFleet, protocol: str) -> None:
    ours = fleet(protocol=protocol)
    for name in ("a", "b"):
        ours.start(name)
    ours.wait_until_shared("a", "b")
    with ours.stock.publishing():
        for sleeper, other in (("a", "b"), ("b", "a")):
            ours.freeze(sleeper)
            ours.wait_until_shared(other)
            ours.thaw(sleeper)
            ours.wait_until(lambda name=sleeper: bool(ours.members[name].events("partitions_lost")), "it learns")  # type: ignore[misc]
            ours.wait_until_shared("a", "b")
    ours.finish()


@pytest.mark.parametrize("protocol", [CONSUMER])
def test_a_member_suspended_within_its_session_keeps_its_partitions(fleet: OpenFleet, protocol: str) -> None:
    ours = fleet(protocol=protocol, **LONG_SESSIONS)
    sleeper = ours.start("sleeper")
    ours.wait_until_shared("sleeper")
    with ours.stock.publishing():
        ours.wait_until(lambda: sleeper.snapshot()["requests_in_flight"] > 0, "it sends")
        ours.freeze("sleeper")
        rounds = ours.stock.round
        ours.wait_until(lambda: ours.stock.round > rounds + 20, "changes arrive meanwhile")
        ours.thaw("sleeper")
    ours.finish()
    assert not sleeper.events("partitions_lost")


def test_three_members_are_restarted_one_by_one_while_changes_arrive(fleet: OpenFleet) -> None:
    ours = fleet(partitions=6, **LONG_SESSIONS)
    names = ("a", "b", "c")
    for name in names:
        ours.start(name)
    ours.wait_until_shared(*names)
    with ours.stock.publishing():
        for name in names:
            assert ours.members[name].stop() == 0
            ours.start(name)
            ours.wait_until_shared(*names)
    ours.finish()
    assert ours.ledger.repeated() == {}, "accepted changes are not sent again"
