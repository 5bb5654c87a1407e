"""Dead letters sent back to their topics on a real Kafka: never an older value after a newer one."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from consumer.core.changes.items import RejectReason
from consumer.dead_letters.letters import Filters
from consumer.dead_letters.redrive.plan import Verdict
from consumer.dead_letters.redrive.publisher import Publisher
from consumer.dead_letters.redrive.redrive import Judged, Redrive
from consumer.errors import BrokerError, SettingsError
from tests.support.dead_letters import ENCODER, WAIT_SECONDS_MAX, Sent, Shop

pytestmark = pytest.mark.integration

ANY = Filters()


@pytest.fixture
def shop(kafka: str, topic: Callable[..., str]) -> Shop:
    return Shop(kafka, topic(2), topic())


def skus_and_quantities(shop: Shop, partition: int = 0, first: int = 0) -> list[tuple[str, bytes]]:
    return [((message.key() or b"").decode(), message.value() or b"") for message in shop.read(partition, first)]


def encoded(sku: str, quantity: int) -> bytes:
    return ENCODER.encode({"locationName": "Rome", "sku": sku, "quantity": quantity})


def values(*changes: tuple[str, int]) -> list[tuple[str, bytes]]:
    return [(sku, encoded(sku, quantity)) for sku, quantity in changes]


def verdicts(judged: list[Judged]) -> dict[Sent, Verdict]:
    return {(each.letter.place.partition, each.letter.place.offset): each.verdict for each in judged}


def redriven(shop: Shop, before_sending: Callable[[], None] = lambda: None) -> dict[Sent, Verdict]:
    """Plan and carry out; what became of every letter."""
    with closing(Redrive(shop.settings, before_sending=before_sending)) as redrive:
        told = verdicts(redrive.plan(ANY))
        return told | verdicts(redrive.carry_out())


def planned(shop: Shop, filters: Filters = ANY) -> list[Judged]:
    with closing(Redrive(shop.settings)) as redrive:
        return redrive.plan(filters)


def test_a_change_goes_back_to_its_partition_as_it_came_and_says_where_it_was(shop: Shop) -> None:
    shop.change("b", 1, partition=1)
    sent = shop.change("a", 5, partition=1)
    shop.job_failed(sent)
    assert redriven(shop) == {sent: Verdict.GOES}
    message = shop.read(1)[-1]
    assert (message.key(), message.value()) == (b"a", encoded("a", 5))
    assert message.headers() == [
        ("trace", b"abc"),
        ("inventory_refresh.redriven_from", f"{shop.topic}/1/{sent[1]}".encode()),
    ]
    assert shop.committed(1) < 0


def test_each_goes_back_to_its_own_partition_whatever_its_key(shop: Shop) -> None:
    sent = [shop.raw(encoded(sku, 1), "one key for all", partition) for partition, sku in enumerate("ab")]
    shop.job_failed(*sent)
    redriven(shop)
    assert [[message.value() for message in shop.read(partition)] for partition in (0, 1)] == [
        [encoded("a", 1)] * 2,
        [encoded("b", 1)] * 2,
    ]


def test_nothing_is_sent_by_planning(shop: Shop) -> None:
    shop.job_failed(shop.change("a", 5))
    assert [each.verdict for each in planned(shop)] == [Verdict.GOES]
    assert len(shop.read()) == 1


def test_a_change_that_a_newer_one_of_its_item_followed_stays(shop: Shop) -> None:
    old, other = shop.change("a", 5), shop.change("b", 6)
    newer = shop.change("a", 7)
    shop.job_failed(old, other)
    told = planned(shop)
    assert verdicts(told) == {old: Verdict.SUPERSEDED, other: Verdict.GOES}
    assert next(each.detail for each in told if each.detail) == f"by {shop.topic}/0/{newer[1]}"
    redriven(shop)
    assert skus_and_quantities(shop) == values(("a", 5), ("b", 6), ("a", 7), ("b", 6))


def test_a_later_change_in_another_partition_is_newer_too(shop: Shop) -> None:
    old = shop.change("a", 5)
    shop.change("a", 7, partition=1)
    shop.job_failed(old)
    assert redriven(shop) == {old: Verdict.SUPERSEDED}


def test_all_letters_of_an_item_go_back_in_their_order_and_one_alone_only_if_it_is_the_newest(shop: Shop) -> None:
    first, second = shop.change("a", 5), shop.change("a", 6)
    shop.job_failed(second, first)
    (alone,) = planned(shop, Filters(offset=first[1]))
    assert (alone.verdict, alone.detail) == (Verdict.SUPERSEDED, f"by {shop.topic}/0/{second[1]}")
    assert redriven(shop) == {first: Verdict.GOES, second: Verdict.GOES}
    assert skus_and_quantities(shop)[2:] == values(("a", 5), ("a", 6))


def test_a_newer_change_that_slips_in_before_the_copy_is_found_and_the_letter_stays(shop: Shop) -> None:
    old, other = shop.change("a", 5), shop.change("b", 6)
    shop.job_failed(old, other)
    tries: list[int] = []

    def slip_in() -> None:
        tries.append(1)
        if len(tries) == 1:
            shop.change("a", 9)

    assert redriven(shop, slip_in) == {old: Verdict.SUPERSEDED, other: Verdict.GOES}
    assert len(tries) == 2
    assert skus_and_quantities(shop) == values(("a", 5), ("b", 6), ("a", 9), ("b", 6))


def test_a_newer_change_in_a_transaction_that_is_still_open_counts(shop: Shop) -> None:
    old, other = shop.change("a", 5), shop.change("b", 6)
    shop.job_failed(old, other)
    with ExitStack() as stack:
        upstream = stack.enter_context(shop.producing(**{"transactional.id": f"upstream-{shop.topic}"}))
        upstream.init_transactions(WAIT_SECONDS_MAX)
        commit = threading.Timer(1.0, upstream.commit_transaction)

        def slip_in() -> None:
            if not commit.is_alive() and not commit.finished.is_set():
                upstream.begin_transaction()
                shop.publish(upstream, encoded("a", 9), "a")
                commit.start()
                stack.callback(commit.join)

        assert redriven(shop, slip_in) == {old: Verdict.SUPERSEDED, other: Verdict.GOES}
    assert skus_and_quantities(shop) == values(("a", 5), ("b", 6), ("a", 9), ("b", 6))


def test_a_newer_change_that_was_aborted_is_in_nobodys_way(shop: Shop) -> None:
    old = shop.change("a", 5)
    shop.job_failed(old)
    with shop.producing(**{"transactional.id": f"upstream-{shop.topic}"}) as upstream:
        upstream.init_transactions(WAIT_SECONDS_MAX)
        upstream.begin_transaction()
        shop.publish(upstream, encoded("a", 9), "a")
        upstream.abort_transaction(WAIT_SECONDS_MAX)
    assert redriven(shop) == {old: Verdict.GOES}


def test_where_newer_changes_keep_coming_in_between_nothing_is_sent(shop: Shop) -> None:
    letters = [shop.change(f"s{number}", 1) for number in range(9)]
    shop.job_failed(*letters)
    coming = iter(range(9))

    def slip_in() -> None:
        shop.change(f"s{next(coming)}", 2)

    told = redriven(shop, slip_in)
    assert sorted(told.values()) == [Verdict.CONTENDED] * 5 + [Verdict.SUPERSEDED] * 4
    assert len(shop.read()) == 14


def test_what_is_left_of_a_redrive_that_died_is_seen_by_nobody(shop: Shop) -> None:
    old = shop.change("a", 5)
    shop.job_failed(old)
    letter = planned(shop)[0].letter
    died = Publisher(shop.settings.kafka)
    died.send([letter])
    assert len(shop.read(beside_open=True)) == 1

    assert redriven(shop) == {old: Verdict.GOES}
    assert len(shop.read()) == 2
    with pytest.raises(BrokerError):
        died.commit()


def test_redriving_again_sends_nothing_again(shop: Shop) -> None:
    first, second = shop.change("a", 5), shop.change("b", 6)
    shop.job_failed(first, second)
    redriven(shop)
    assert redriven(shop) == {first: Verdict.SUPERSEDED, second: Verdict.SUPERSEDED}
    assert len(shop.read()) == 4


def test_of_a_change_that_failed_again_only_the_latest_letter_goes(shop: Shop) -> None:
    first = shop.change("a", 5)
    shop.job_failed(first)
    redriven(shop)
    copy = (0, shop.read()[-1].offset() or 0)
    shop.job_failed(copy)
    assert redriven(shop) == {first: Verdict.REDRIVEN_BEFORE, copy: Verdict.GOES}
    assert skus_and_quantities(shop) == values(("a", 5), ("a", 5), ("a", 5))


def test_a_letter_that_came_twice_goes_once(shop: Shop) -> None:
    sent = shop.change("a", 5)
    shop.job_failed(sent)
    shop.job_failed(sent)
    assert redriven(shop) == {sent: Verdict.GOES}
    assert len(shop.read()) == 2


def test_where_retention_took_the_change_what_came_after_it_cannot_be_told(shop: Shop, admin: AdminClient) -> None:
    old, other = shop.change("a", 5), shop.change("b", 6)
    shop.job_failed(old, other)
    (deleted,) = admin.delete_records([TopicPartition(shop.topic, 0, other[1])]).values()
    deleted.result(WAIT_SECONDS_MAX)
    assert redriven(shop) == {old: Verdict.NOT_IN_LOG, other: Verdict.GOES}


def test_where_the_topic_was_made_anew_another_message_stands_at_the_offset(shop: Shop) -> None:
    sent = shop.change("a", 5)
    shop.rejected(sent, encoded("a", 4), key="a")
    assert redriven(shop) == {sent: Verdict.NOT_IN_LOG}


def test_what_the_service_would_reject_again_stays_and_says_why(shop: Shop) -> None:
    value = ENCODER.encode({"locationName": "Rome", "sku": "a", "quantity": -1})
    sent = shop.raw(value, "a")
    shop.rejected(sent, value, RejectReason.NEGATIVE_QUANTITY, key="a")
    corrupt = shop.raw(value[:-3], "b")
    shop.rejected(corrupt, value[:-3], key="b")
    told = {each.letter.place.offset: (each.verdict, each.detail) for each in planned(shop)}
    assert told[sent[1]] == (Verdict.REJECTED_AGAIN, "negative_quantity: quantity is -1, below 0")
    assert told[corrupt[1]][0] is Verdict.REJECTED_AGAIN
    assert told[corrupt[1]][1].startswith("corrupt: ")


def test_a_letter_without_the_changes_own_bytes_stays(shop: Shop) -> None:
    shop.job_failed((0, 99), items={99: b'{"sku": "a", "quantity": 1}'})
    assert redriven(shop) == {(0, 99): Verdict.NO_ORIGINAL}


def test_a_letter_of_a_topic_that_is_not_read_stays(shop: Shop, topic: Callable[..., str]) -> None:
    elsewhere = Shop(shop.servers, topic(), shop.dead_topic)
    sent = elsewhere.change("a", 5)
    elsewhere.job_failed(sent)
    assert redriven(shop) == {sent: Verdict.OTHER_TOPIC}


def test_a_later_change_that_nobody_can_read_may_be_of_the_same_item_unless_it_is_a_dead_letter(shop: Shop) -> None:
    sent = shop.change("a", 5)
    unread = shop.raw(b"\x00\x00\x00\x00\x07junk")
    shop.job_failed(sent)
    assert [each.verdict for each in planned(shop)] == [Verdict.GOES], "the service has yet to read and reject it"
    shop.settle(0, unread[1] + 1)
    (told,) = planned(shop)
    assert (told.verdict, told.detail) == (Verdict.UNREADABLE_SINCE, f"by {shop.topic}/0/{unread[1]}")
    shop.rejected(unread, b"\x00\x00\x00\x00\x07junk")
    assert verdicts(planned(shop)) == {sent: Verdict.GOES, unread: Verdict.REJECTED_AGAIN}


def test_many_letters_go_back_in_several_transactions_each_item_whole(shop: Shop) -> None:
    with shop.producing(**{"linger.ms": 5}) as producer:
        for number in range(2_500):
            sku = f"s{number % 1_250}"
            producer.produce(shop.topic, encoded(sku, number), sku, number % 1_250 % 2)
    sent = [(p, message.offset() or 0) for p in (0, 1) for message in shop.read(p)]
    shop.job_failed(*sent)
    batches: list[int] = []
    told = redriven(shop, lambda: batches.append(1))
    assert set(told.values()) == {Verdict.GOES}
    assert len(told) == 2_500
    assert len(batches) == 3
    for partition in (0, 1):
        read = skus_and_quantities(shop, partition)
        assert sorted(read[1_250:]) == sorted(read[:1_250])
        for sku in ("s0", "s1", "s1248", "s1249"):
            own = [value for key, value in read if key == sku]
            assert own[: len(own) // 2] == own[len(own) // 2 :]


def test_copies_that_are_aborted_must_not_be_read_by_the_service(shop: Shop) -> None:
    sent = shop.change("a", 5)
    shop.job_failed(sent)
    shop.properties = {"isolation.level": "read_uncommitted"}
    with pytest.raises(SettingsError, match=r"isolation\.level"):
        redriven(shop)
    assert len(shop.read()) == 1


def test_where_there_are_no_letters_there_is_nothing_to_do(shop: Shop) -> None:
    assert redriven(shop) == {}


@pytest.fixture
def upstream(shop: Shop) -> Iterator[Producer]:
    with shop.producing() as producer:
        yield producer


def test_other_items_may_come_in_between_without_end(shop: Shop, upstream: Producer) -> None:
    letters = [shop.change(f"s{number}", 1) for number in range(20)]
    shop.job_failed(*letters)
    ending = threading.Event()

    def keep_publishing() -> None:
        while not ending.is_set():
            upstream.produce(shop.topic, encoded("other", 1), "other", 0)
            upstream.poll(0.001)

    thread = threading.Thread(target=keep_publishing)
    thread.start()
    try:
        told = redriven(shop)
    finally:
        ending.set()
        thread.join()
    assert set(told.values()) == {Verdict.GOES}
