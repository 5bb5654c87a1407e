"""What the loop relies on of its source: the simulated broker and a real Kafka must both keep it."""

from consumer.core.partition.commit_metadata import CommitMetadata, format_metadata
from consumer.ports import Commit, CommitRefused, Committed
from tests.contract.worlds import PARTITIONS, KafkaWorld
from tests.support.kafka_members import Member, poll_until


def number_of(member: Member, partition: int) -> int:
    return next(number for number, each in member.held.items() if each.partition == partition)


def read_of(member: Member, partition: int) -> list[int]:
    """The offsets read of a partition that the member has now."""
    number = number_of(member, partition)
    return [offset for found, offset in member.rows if found == number]


def commit(member: Member, partition: int, offset: int, metadata: str = "") -> Committed | CommitRefused:
    return member.source.commit([Commit(member.held[number_of(member, partition)], offset, metadata)])


def has_all(member: Member) -> bool:
    return len(member.held) == PARTITIONS


def share(group: KafkaWorld, first: Member) -> Member:
    """Another member joins, and each has something."""
    second = group.join()
    poll_until(lambda: second.held and len(first.held) + len(second.held) == PARTITIONS, first, second)
    return second


def test_a_new_group_gets_every_partition_with_its_log_bounds_and_nothing_committed(group: KafkaWorld) -> None:
    group.publish(1, 5)
    member = group.join()
    poll_until(lambda: has_all(member), member)

    found = sorted((each.partition, each.committed, each.low, each.high) for each in member.held.values())
    assert found == [(0, None, 0, 0), (1, None, 0, 5), (2, None, 0, 0)]
    assert sorted(member.held) == sorted(each.assignment_id for each in member.held.values())


def test_messages_come_in_order_and_the_end_of_the_partition_after_the_last_of_them(
    group: KafkaWorld,
) -> None:
    group.publish(0, 40)
    group.publish(2, 3)
    member = group.join()
    poll_until(lambda: len(member.ends) == PARTITIONS, member)

    assert read_of(member, 0) == list(range(40))
    assert read_of(member, 2) == [0, 1, 2]
    assert {member.held[number].partition: end for number, end in member.ends.items()} == {0: 40, 1: 0, 2: 3}
    assert sorted(int(value) for value in member.values if value) == list(range(1, 44))


def test_the_end_is_reported_again_after_further_messages_were_read(group: KafkaWorld) -> None:
    member = group.join()
    poll_until(lambda: len(member.ends) == PARTITIONS, member)
    group.publish(0, 2)
    poll_until(lambda: member.ends[number_of(member, 0)] == 2, member)

    assert read_of(member, 0) == [0, 1]


def test_the_next_owner_and_any_other_client_see_the_committed_offset_and_its_metadata(group: KafkaWorld) -> None:
    group.publish(0, 9)
    first = group.join()
    poll_until(lambda: has_all(first), first)
    mark = format_metadata(CommitMetadata(9, True, first.held[number_of(first, 0)].topic_id))
    assert commit(first, 0, 4, mark) == Committed()
    assert group.committed(0) == (4, mark)

    first.source.close()
    second = group.join()
    poll_until(lambda: has_all(second) and read_of(second, 0)[-1:] == [8], second)
    given = second.held[number_of(second, 0)]
    assert (given.committed, given.metadata) == (4, mark)
    assert read_of(second, 0) == [4, 5, 6, 7, 8]


def test_a_paused_partition_resumes_where_it_was_and_other_partitions_are_read_meanwhile(group: KafkaWorld) -> None:
    group.publish(0, 3)
    member = group.join()
    poll_until(lambda: has_all(member) and len(read_of(member, 0)) == 3, member)
    member.source.pause([number_of(member, 0)])
    group.publish(0, 3)
    group.publish(1, 2)
    poll_until(lambda: len(read_of(member, 1)) == 2, member)
    assert read_of(member, 0) == [0, 1, 2]

    member.source.resume([number_of(member, 0)])
    poll_until(lambda: len(read_of(member, 0)) == 6, member)
    assert read_of(member, 0) == list(range(6))


def test_a_revoke_arrives_in_a_poll_and_a_commit_made_in_it_is_accepted(group: KafkaWorld) -> None:
    group.publish(0, 9)
    group.publish(1, 9)
    group.publish(2, 9)
    first = group.join()
    poll_until(lambda: has_all(first), first)
    outcomes = []

    def commit_all(numbers: object) -> None:
        del numbers
        held = list(first.held.values())
        outcomes.append(first.source.commit([Commit(each, 5 + each.partition, f"m{each.partition}") for each in held]))

    first.when_revoked = commit_all
    second = share(group, first)

    assert outcomes == [Committed()]
    assert [kind for kind, _ in first.rebalances].count("revoked") == 1
    assert {each.partition: (each.committed, each.metadata) for each in second.held.values()} == {
        each.partition: (5 + each.partition, f"m{each.partition}") for each in second.held.values()
    }


def test_partitions_that_a_member_keeps_through_a_rebalance_keep_their_assignment_id(group: KafkaWorld) -> None:
    first = group.join()
    poll_until(lambda: has_all(first), first)
    numbers = {each.partition: number for number, each in first.held.items()}
    share(group, first)
    for partition in range(PARTITIONS):
        group.publish(partition, 2)
    kept = {each.partition: number for number, each in first.held.items()}
    poll_until(lambda: all(len(read_of(first, partition)) == 2 for partition in kept), first)

    assert kept.items() <= numbers.items()


def test_closing_revokes_the_partitions_first_and_a_commit_made_in_it_is_accepted(group: KafkaWorld) -> None:
    group.publish(0, 4)
    member = group.join()
    poll_until(lambda: has_all(member), member)
    member.when_revoked = lambda _: outcomes.append(commit(member, 0, 3, "last"))
    outcomes: list[Committed | CommitRefused] = []
    member.source.close()

    assert outcomes == [Committed()]
    assert group.committed(0) == (3, "last")


def test_a_reassigned_partition_has_a_new_assignment_id_and_starts_at_the_committed_offset(group: KafkaWorld) -> None:
    for partition in range(PARTITIONS):
        group.publish(partition, 6)
    first = group.join()
    poll_until(lambda: has_all(first) and len(first.rows) == 18, first)
    for partition in range(PARTITIONS):
        assert commit(first, partition, 2) == Committed()
    before = {each.partition: number for number, each in first.held.items()}
    second = share(group, first)
    went = {each.partition for each in second.held.values()}
    second.source.close()
    poll_until(lambda: has_all(first) and all(len(read_of(first, each)) >= 4 for each in went), first)

    for partition in went:
        assert number_of(first, partition) not in before.values()
        assert read_of(first, partition) == [2, 3, 4, 5]


def test_a_commit_for_a_revoked_assignment_is_refused_and_changes_nothing(group: KafkaWorld) -> None:
    group.publish(0, 4)
    first = group.join()
    poll_until(lambda: has_all(first), first)
    before = dict(first.held)
    share(group, first)
    gone = next(each for number, each in before.items() if number not in first.held)

    assert isinstance(first.source.commit([Commit(gone, 1, "late")]), CommitRefused)
    assert group.committed(gone.partition) is None


def test_a_member_that_exceeds_the_poll_interval_loses_its_partitions_and_cannot_commit(group: KafkaWorld) -> None:
    group.publish(0, 4)
    sleeper = group.join()
    poll_until(lambda: has_all(sleeper), sleeper)
    group.pass_poll_interval()

    assert isinstance(commit(sleeper, 0, 4), CommitRefused)
    assert group.committed(0) is None
    poll_until(lambda: ("lost" in {kind for kind, _ in sleeper.rebalances}) and has_all(sleeper), sleeper)
    assert [kind for kind, _ in sleeper.rebalances].count("revoked") == 0
    assert commit(sleeper, 0, 4) == Committed()
