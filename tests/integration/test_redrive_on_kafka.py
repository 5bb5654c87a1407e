"""Dead letters redriven on a real Kafka: never an older count after a newer one."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from consumer.avro.bundled import schema_text
from consumer.avro.wire import confluent_prefix
from consumer.core.changes.items import RejectReason
from consumer.dead_letters.filters import DeadLetterFilter
from consumer.dead_letters.redrive.plan import Verdict
from consumer.dead_letters.redrive.publisher import Publisher
from consumer.dead_letters.redrive.redrive import Judged, Redrive
from consumer.errors import BrokerError, SettingsError
from tests.support.avro import SCHEMA_ID, TinyRegistry
from tests.support.dead_letters import ENCODER, WAIT_SECONDS_MAX, Sent, Shop

pytestmark = pytest.mark.integration

ANY = DeadLetterFilter()


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
    return {(entry.dead_letter.source.partition, entry.dead_letter.source.offset): entry.verdict for entry in judged}


def redriven(shop: Shop, before_sending: Callable[[], None] = lambda: None) -> dict[Sent, Verdict]:
    """Plan and execute; returns the verdict of every dead letter."""
    with closing(Redrive(shop.settings, before_sending=before_sending)) as redrive:
        planned = verdicts(redrive.plan(ANY))
        return planned | verdicts(redrive.execute())


def planned(shop: Shop, wanted: DeadLetterFilter = ANY) -> list[Judged]:
    with closing(Redrive(shop.settings)) as redrive:
        return redrive.plan(wanted)


def test_a_change_is_redriven_to_its_partition_unchanged_with_the_position_of_the_original(shop: Shop) -> None:
    shop.change("b", 1, partition=1)
    sent = shop.change("a", 5, partition=1)
    shop.job_failed(sent)
    assert redriven(shop) == {sent: Verdict.REDRIVE}
    message = shop.read(1)[-1]
    assert (message.key(), message.value()) == (b"a", encoded("a", 5))
    assert message.headers() == [
        ("trace", b"abc"),
        ("inventory_refresh.redriven_from", f"{shop.topic}/1/{sent[1]}".encode()),
    ]
    assert shop.committed(1) < 0


def test_changes_are_redriven_to_their_own_partitions_whatever_their_keys(shop: Shop) -> None:
    sent = [shop.raw(encoded(sku, 1), "one key for all", partition) for partition, sku in enumerate("ab")]
    shop.job_failed(*sent)
    redriven(shop)
    assert [[message.value() for message in shop.read(partition)] for partition in (0, 1)] == [
        [encoded("a", 1)] * 2,
        [encoded("b", 1)] * 2,
    ]


def test_a_plan_sends_nothing(shop: Shop) -> None:
    shop.job_failed(shop.change("a", 5))
    assert [entry.verdict for entry in planned(shop)] == [Verdict.REDRIVE]
    assert len(shop.read()) == 1


def test_a_change_followed_by_a_newer_one_of_its_item_is_skipped(shop: Shop) -> None:
    old, other = shop.change("a", 5), shop.change("b", 6)
    newer = shop.change("a", 7)
    shop.job_failed(old, other)
    judged = planned(shop)
    assert verdicts(judged) == {old: Verdict.SUPERSEDED, other: Verdict.REDRIVE}
    assert next(entry.detail for entry in judged if entry.detail) == f"see {shop.topic}/0/{newer[1]}"
    redriven(shop)
    assert skus_and_quantities(shop) == values(("a", 5), ("b", 6), ("a", 7), ("b", 6))


def test_a_later_change_in_another_partition_is_newer_too(shop: Shop) -> None:
    old = shop.change("a", 5)
    shop.change("a", 7, partition=1)
    shop.job_failed(old)
    assert redriven(shop) == {old: Verdict.SUPERSEDED}


def test_all_dead_letters_of_an_item_are_redriven_in_order_but_one_alone_only_if_it_is_the_newest(
    shop: Shop,
) -> None:
    first, second = shop.change("a", 5), shop.change("a", 6)
    shop.job_failed(second, first)
    (alone,) = planned(shop, DeadLetterFilter(offset=first[1]))
    assert (alone.verdict, alone.detail) == (Verdict.SUPERSEDED, f"see {shop.topic}/0/{second[1]}")
    assert redriven(shop) == {first: Verdict.REDRIVE, second: Verdict.REDRIVE}
    assert skus_and_quantities(shop)[2:] == values(("a", 5), ("a", 6))


def test_a_newer_change_written_before_the_copy_is_found_and_the_dead_letter_is_skipped(shop: Shop) -> None:
    old, other = shop.change("a", 5), shop.change("b", 6)
    shop.job_failed(old, other)
    tries: list[int] = []

    def interfere() -> None:
        tries.append(1)
        if len(tries) == 1:
            shop.change("a", 9)

    assert redriven(shop, interfere) == {old: Verdict.SUPERSEDED, other: Verdict.REDRIVE}
    assert len(tries) == 2
    assert skus_and_quantities(shop) == values(("a", 5), ("b", 6), ("a", 9), ("b", 6))


def test_a_newer_change_in_an_open_transaction_counts(shop: Shop) -> None:
    old, other = shop.change("a", 5), shop.change("b", 6)
    shop.job_failed(old, other)
    with ExitStack() as stack:
        upstream = stack.enter_context(shop.producing(**{"transactional.id": f"upstream-{shop.topic}"}))
        upstream.init_transactions(WAIT_SECONDS_MAX)
        commit = threading.Timer(1.0, upstream.commit_transaction)

        def interfere() -> None:
            if not commit.is_alive() and not commit.finished.is_set():
                upstream.begin_transaction()
                shop.publish(upstream, encoded("a", 9), "a")
                commit.start()
                stack.callback(commit.join)

        assert redriven(shop, interfere) == {old: Verdict.SUPERSEDED, other: Verdict.REDRIVE}
    assert skus_and_quantities(shop) == values(("a", 5), ("b", 6), ("a", 9), ("b", 6))


def test_a_newer_change_that_was_aborted_does_not_block(shop: Shop) -> None:
    old = shop.change("a", 5)
    shop.job_failed(old)
    with shop.producing(**{"transactional.id": f"upstream-{shop.topic}"}) as upstream:
        upstream.init_transactions(WAIT_SECONDS_MAX)
        upstream.begin_transaction()
        shop.publish(upstream, encoded("a", 9), "a")
        upstream.abort_transaction(WAIT_SECONDS_MAX)
    assert redriven(shop) == {old: Verdict.REDRIVE}


def test_nothing_is_redriven_while_newer_changes_keep_coming(shop: Shop) -> None:
    changes = [shop.change(f"s{number}", 1) for number in range(9)]
    shop.job_failed(*changes)
    coming = iter(range(9))

    def interfere() -> None:
        shop.change(f"s{next(coming)}", 2)

    outcome = redriven(shop, interfere)
    assert sorted(outcome.values()) == [Verdict.CONTENDED] * 5 + [Verdict.SUPERSEDED] * 4
    assert len(shop.read()) == 14


def test_copies_of_a_redrive_that_died_are_never_read(shop: Shop) -> None:
    old = shop.change("a", 5)
    shop.job_failed(old)
    dead_letter = planned(shop)[0].dead_letter
    died = Publisher(shop.settings.kafka)
    died.send([dead_letter])
    assert len(shop.read(skip_open=True)) == 1

    assert redriven(shop) == {old: Verdict.REDRIVE}
    assert len(shop.read()) == 2
    with pytest.raises(BrokerError):
        died.commit()


def test_redriving_again_sends_nothing(shop: Shop) -> None:
    first, second = shop.change("a", 5), shop.change("b", 6)
    shop.job_failed(first, second)
    redriven(shop)
    assert redriven(shop) == {first: Verdict.SUPERSEDED, second: Verdict.SUPERSEDED}
    assert len(shop.read()) == 4


def test_only_the_latest_dead_letter_of_a_change_that_failed_again_is_redriven(shop: Shop) -> None:
    first = shop.change("a", 5)
    shop.job_failed(first)
    redriven(shop)
    copy = (0, shop.read()[-1].offset() or 0)
    shop.job_failed(copy)
    assert redriven(shop) == {first: Verdict.REDRIVEN_BEFORE, copy: Verdict.REDRIVE}
    assert skus_and_quantities(shop) == values(("a", 5), ("a", 5), ("a", 5))


def test_a_dead_letter_that_was_written_twice_is_redriven_once(shop: Shop) -> None:
    sent = shop.change("a", 5)
    shop.job_failed(sent)
    shop.job_failed(sent)
    assert redriven(shop) == {sent: Verdict.REDRIVE}
    assert len(shop.read()) == 2


def test_a_change_deleted_by_retention_is_skipped(shop: Shop, admin: AdminClient) -> None:
    old, other = shop.change("a", 5), shop.change("b", 6)
    shop.job_failed(old, other)
    (deleted,) = admin.delete_records([TopicPartition(shop.topic, 0, other[1])]).values()
    deleted.result(WAIT_SECONDS_MAX)
    assert redriven(shop) == {old: Verdict.NOT_IN_LOG, other: Verdict.REDRIVE}


def test_a_change_is_skipped_if_its_topic_was_recreated_and_another_record_has_its_offset(shop: Shop) -> None:
    sent = shop.change("a", 5)
    shop.rejected(sent, encoded("a", 4), key="a")
    assert redriven(shop) == {sent: Verdict.NOT_IN_LOG}


def test_a_change_that_the_service_would_reject_again_is_skipped_with_the_reason(shop: Shop) -> None:
    value = ENCODER.encode({"locationName": "Rome", "sku": "a", "quantity": -1})
    sent = shop.raw(value, "a")
    shop.rejected(sent, value, RejectReason.NEGATIVE_QUANTITY, key="a")
    corrupt = shop.raw(value[:-3], "b")
    shop.rejected(corrupt, value[:-3], key="b")
    by_offset = {entry.dead_letter.source.offset: (entry.verdict, entry.detail) for entry in planned(shop)}
    assert by_offset[sent[1]] == (Verdict.REJECTED_AGAIN, "negative_quantity: quantity is -1, below 0")
    assert by_offset[corrupt[1]][0] is Verdict.REJECTED_AGAIN
    assert (by_offset[corrupt[1]][1] or "").startswith("corrupt: ")


def test_a_dead_letter_without_the_original_value_is_skipped(shop: Shop) -> None:
    shop.job_failed((0, 99), items={99: b'{"sku": "a", "quantity": 1}'})
    assert redriven(shop) == {(0, 99): Verdict.NO_ORIGINAL}


def test_a_dead_letter_of_a_topic_that_is_not_read_is_skipped(shop: Shop, topic: Callable[..., str]) -> None:
    elsewhere = Shop(shop.servers, topic(), shop.dead_topic)
    sent = elsewhere.change("a", 5)
    elsewhere.job_failed(sent)
    assert redriven(shop) == {sent: Verdict.OTHER_TOPIC}


def test_a_later_change_that_cannot_be_decoded_blocks_unless_it_has_a_dead_letter(shop: Shop) -> None:
    sent = shop.change("a", 5)
    unread = shop.raw(b"\x00\x00\x00\x00\x07junk")
    shop.job_failed(sent)
    assert [entry.verdict for entry in planned(shop)] == [Verdict.REDRIVE], "the service has yet to read and reject it"
    shop.commit(0, unread[1] + 1)
    (entry,) = planned(shop)
    assert (entry.verdict, entry.detail) == (Verdict.UNDECODABLE_AFTER, f"see {shop.topic}/0/{unread[1]}")
    shop.rejected(unread, b"\x00\x00\x00\x00\x07junk")
    assert verdicts(planned(shop)) == {sent: Verdict.REDRIVE, unread: Verdict.REJECTED_AGAIN}


def test_a_later_change_whose_schema_may_still_be_registered_blocks_until_it_has_a_dead_letter(
    kafka: str, topic: Callable[..., str]
) -> None:
    registry = TinyRegistry()
    registry.schemas[SCHEMA_ID] = {"schema": schema_text()}
    shop = Shop(kafka, topic(2), topic(), avro={"registry_url": registry.url})
    sent = shop.change("a", 5)
    new = confluent_prefix(SCHEMA_ID + 1) + encoded("a", 6)[5:]
    waiting = shop.raw(new)
    shop.job_failed(sent)
    try:
        (entry,) = planned(shop)
        assert (entry.verdict, entry.detail) == (Verdict.UNDECODABLE_AFTER, f"see {shop.topic}/0/{waiting[1]}")
        shop.rejected(waiting, new, RejectReason.UNKNOWN_SCHEMA)
        assert verdicts(planned(shop)) == {sent: Verdict.REDRIVE, waiting: Verdict.REJECTED_AGAIN}
    finally:
        registry.down()


def test_many_dead_letters_are_redriven_in_several_transactions_each_item_in_one(shop: Shop) -> None:
    with shop.producing(**{"linger.ms": 5}) as producer:
        for number in range(2_500):
            sku = f"s{number % 1_250}"
            producer.produce(shop.topic, encoded(sku, number), sku, number % 1_250 % 2)
    sent = [(p, message.offset() or 0) for p in (0, 1) for message in shop.read(p)]
    shop.job_failed(*sent)
    batches: list[int] = []
    outcome = redriven(shop, lambda: batches.append(1))
    assert set(outcome.values()) == {Verdict.REDRIVE}
    assert len(outcome) == 2_500
    assert len(batches) == 3
    for partition in (0, 1):
        read = skus_and_quantities(shop, partition)
        assert sorted(read[1_250:]) == sorted(read[:1_250])
        for sku in ("s0", "s1", "s1248", "s1249"):
            own = [value for key, value in read if key == sku]
            assert own[: len(own) // 2] == own[len(own) // 2 :]


def test_redrive_requires_that_the_service_does_not_read_aborted_copies(shop: Shop) -> None:
    sent = shop.change("a", 5)
    shop.job_failed(sent)
    shop.properties = {"isolation.level": "read_uncommitted"}
    with pytest.raises(SettingsError, match=r"isolation\.level"):
        redriven(shop)
    assert len(shop.read()) == 1


def test_an_empty_dead_letter_topic_leaves_nothing_to_redrive(shop: Shop) -> None:
    assert redriven(shop) == {}


@pytest.fixture
def upstream(shop: Shop) -> Iterator[Producer]:
    with shop.producing() as producer:
        yield producer


def test_other_items_may_be_written_in_between_without_end(shop: Shop, upstream: Producer) -> None:
    changes = [shop.change(f"s{number}", 1) for number in range(20)]
    shop.job_failed(*changes)
    ending = threading.Event()

    def keep_publishing() -> None:
        while not ending.is_set():
            upstream.produce(shop.topic, encoded("other", 1), "other", 0)
            upstream.poll(0.001)

    thread = threading.Thread(target=keep_publishing)
    thread.start()
    try:
        outcome = redriven(shop)
    finally:
        ending.set()
        thread.join()
    assert set(outcome.values()) == {Verdict.REDRIVE}
