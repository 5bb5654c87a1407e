"""How partitions wait for a schema that the registry does not know yet (rule 23)."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.avro.lines import TooManyRowsError
from consumer.avro.parts import PartDecoder
from consumer.core.changes.items import ASSIGNMENT, CHANGE_SCHEMA, LOCATION, OFFSET, ChangeId, RejectReason
from consumer.facts import Fact, SchemaWaitBegan, SchemaWaitEnded
from consumer.loop.schema_wait import MESSAGE_BYTES, PERIOD_SECONDS, RETRY_SECONDS_MAX, SchemaWait
from consumer.ports import Assignment, AwaitedSchema, Decoded, RawBatch, Reject
from tests.support.facts import assignment

WAIT_SECONDS = 60.0


class SlowDecoder:
    """``ports.Decoder`` that decodes when ``work`` is called. A value is the name of its schema; None a tombstone."""

    def __init__(self, known: Iterable[str] = ("known",), *, part_messages_max: int | None = None) -> None:
        """``part_messages_max``: events have so many lines that at most this many are decoded at a time."""
        self.known = set(known)
        self.queued: list[RawBatch] = []
        self.has_room = True
        self.take_max: int | None = None
        self._part_messages_max = part_messages_max
        self._parts = PartDecoder(self)
        self._done: list[Decoded] = []

    def room(self) -> bool:
        return self.has_room

    def put(self, batch: RawBatch) -> None:
        self.queued.append(batch)

    def take(self) -> list[Decoded]:
        taken = len(self._done) if self.take_max is None else self.take_max
        done, self._done = self._done[:taken], self._done[taken:]
        return done

    def busy(self) -> bool:
        return bool(self.queued or self._done)

    def blocked_reason(self) -> str | None:
        return None

    def close(self) -> None:
        """Nothing to close."""

    def work(self, batches: int | None = None) -> None:
        """Decode the oldest batches, joined; None: all of them, one by one."""
        if batches is None:
            while self.queued:
                self.work(1)
            return
        taken, self.queued = self.queued[:batches], self.queued[batches:]
        first, messages = 0, sum(map(len, taken))
        while taken:
            decoded, first = self._parts.decode_part(taken, first)
            self._done.append(decoded)
            if first == messages:
                break

    def decode(self, batches: Sequence[RawBatch]) -> Decoded:
        """Decode batches at once; ``work`` calls it, for parts."""
        messages = sum(map(len, batches))
        if messages > 1 and self._part_messages_max is not None and messages > self._part_messages_max:
            raise TooManyRowsError
        rows: list[tuple[int, int]] = []
        rejects: list[Reject] = []
        awaits: dict[int, AwaitedSchema] = {}
        ends: dict[int, int] = {}
        next_offsets: dict[int, int] = {}
        tombstones = 0
        impatient = {owner for batch in batches for owner in batch.impatient}
        for batch in batches:
            for value, owner, offset in zip(batch.values, batch.assignments, batch.offsets, strict=True):
                name = None if value is None else value.decode()
                if owner in awaits:
                    continue
                next_offsets[owner] = offset + 1
                if name is None:
                    tombstones += 1
                elif name in self.known:
                    rows.append((owner, offset))
                elif owner in impatient:
                    rejects.append(Reject(ChangeId(owner, offset), RejectReason.UNKNOWN_SCHEMA, name, value))
                else:
                    awaits[owner] = AwaitedSchema(offset, name)
                    next_offsets[owner] = offset
            ends |= batch.ends
        ends = {owner: end for owner, end in ends.items() if owner not in awaits}
        columns = {ASSIGNMENT: [owner for owner, _ in rows], OFFSET: [offset for _, offset in rows]}
        frame = pl.DataFrame({**columns, LOCATION: ["Berlin"] * len(rows)}, schema_overrides=CHANGE_SCHEMA)
        return Decoded(
            frame=frame,
            rejects=tuple(rejects),
            tombstones=tombstones,
            next_offsets=next_offsets | ends,
            polled_at=0.0,
            ends=ends,
            awaits=awaits,
            batches=len(batches),
            barriers=frame,  # as if each count were followed by one that cannot be sent
        )


def batch(owner: int, first: int, *names: str | None, end: int | None = None) -> RawBatch:
    """Messages of one assignment, by the names of their schemas."""
    values = [None if name is None else name.encode() for name in names]
    offsets = list(range(first, first + len(values)))
    ends = {} if end is None else {owner: end}
    return RawBatch(values, [owner] * len(values), offsets, [None] * len(values), ends, lambda _: (None, ()))


def both(*batches: RawBatch) -> RawBatch:
    """The messages of several assignments in one batch."""
    return RawBatch(
        [value for part in batches for value in part.values],
        [owner for part in batches for owner in part.assignments],
        [offset for part in batches for offset in part.offsets],
        [None for part in batches for _ in part.values],
        {owner: end for part in batches for owner, end in part.ends.items()},
        lambda _: (None, ()),
    )


class Bench:
    """A ``SchemaWait`` with its decoder, what came out of it, and the time."""

    def __init__(
        self, *, bytes_max: int = 1_000_000, wait_seconds: float = WAIT_SECONDS, part_messages_max: int | None = None
    ) -> None:
        self.decoder = SlowDecoder(part_messages_max=part_messages_max)
        self.wait = SchemaWait(self.decoder, self, wait_seconds, bytes_max)
        self.assigned: dict[int, Assignment] = {owner: assignment(owner) for owner in (1, 2, 3)}
        self.now = 1_000.0
        self.facts: list[Any] = []
        self.decoded: list[Decoded] = []

    def observe(self, fact: Fact) -> None:
        self.facts.append(fact)

    def put(self, *batches: RawBatch) -> None:
        for added in batches:
            self.wait.put(added, self.now)

    def turn(self, seconds: float = 0.0, *, batches: int | None = None) -> None:
        """Time passes, what is due is tried again, and the decoder works."""
        self.now += seconds
        self.wait.retry(self.now)
        self.decoder.work(batches)
        self.decoded += self.wait.take(self.now, self.assigned)

    def rows(self, owner: int = 1) -> list[int]:
        return [
            offset
            for decoded in self.decoded
            for offset in decoded.frame.filter(pl.col(ASSIGNMENT) == owner)[OFFSET].to_list()
        ]

    def rejected(self) -> list[tuple[int, int]]:
        return [reject.change_id[:2] for decoded in self.decoded for reject in decoded.rejects]

    def next_offset(self, owner: int = 1) -> int | None:
        offsets = [decoded.next_offsets[owner] for decoded in self.decoded if owner in decoded.next_offsets]
        return offsets[-1] if offsets else None


def test_from_the_first_unknown_schema_on_a_partition_waits_and_the_others_go_on() -> None:
    bench = Bench()
    bench.put(both(batch(1, 10, "known", "new", "known"), batch(2, 5, "known", "known")))
    bench.turn()
    bench.put(both(batch(1, 13, "known", end=20), batch(2, 7, "known", end=8)))
    bench.turn()

    assert (bench.rows(1), bench.rows(2)) == ([10], [5, 6, 7])
    assert (bench.next_offset(1), bench.next_offset(2)) == (11, 8)
    assert [decoded.ends for decoded in bench.decoded] == [{}, {2: 8}]
    assert bench.wait.parked_messages == 3
    assert bench.facts == [SchemaWaitBegan(bench.assigned[1], "new")]


def test_once_the_schema_is_known_everything_is_decoded_in_order_and_with_its_end() -> None:
    bench = Bench()
    bench.put(batch(1, 10, "new", "known"))
    bench.turn()
    bench.put(batch(1, 12, None, "known"), batch(1, 14, "known", end=20))
    bench.turn(0.1)
    bench.decoder.known.add("new")
    bench.turn(1.0)
    bench.put(batch(1, 20, "new"))
    bench.turn()

    assert bench.rows() == [10, 11, 13, 14, 20]
    assert sum(decoded.tombstones for decoded in bench.decoded) == 1
    assert [end for decoded in bench.decoded for end in decoded.ends.values()] == [20]
    assert bench.wait.parked_messages == 0
    ended = bench.facts[-1]
    assert isinstance(ended, SchemaWaitEnded)
    assert (round(ended.seconds, 1), ended.is_impatient) == (1.1, False)


@pytest.mark.parametrize("part_messages_max", [None, 1, 2])
@pytest.mark.parametrize("joined", [1, 3])
def test_what_the_decoder_had_when_the_wait_began_does_not_overtake(joined: int, part_messages_max: int | None) -> None:
    bench = Bench(part_messages_max=part_messages_max)
    bench.put(batch(1, 0, "new"), both(batch(1, 1, "known", None), batch(2, 0, "known")), batch(1, 3, "junk", end=4))
    bench.turn(batches=1)
    bench.put(batch(1, 4, "known"))
    bench.turn(10.0, batches=joined)
    bench.turn(10.0, batches=joined)
    assert bench.rows() == []
    assert bench.rows(2) == [0]
    assert [decoded.ends for decoded in bench.decoded if decoded.ends] == []
    assert sum(decoded.tombstones for decoded in bench.decoded) == 0

    bench.decoder.known.update({"new", "junk"})
    for _ in range(4):
        bench.turn(10.0)

    assert bench.rows() == [0, 1, 3, 4]
    assert sum(decoded.tombstones for decoded in bench.decoded) == 1


@pytest.mark.parametrize("part_messages_max", [1, 2])
def test_once_one_part_of_a_batch_awaits_a_schema_the_next_parts_have_nothing_of_its_partition(
    part_messages_max: int,
) -> None:
    bench = Bench(part_messages_max=part_messages_max)
    bench.put(both(batch(1, 0, "known", "new", None, "known"), batch(2, 0, "known"), batch(1, 4, "known", end=5)))
    bench.turn()

    assert (bench.rows(), bench.next_offset(), bench.rows(2)) == ([0], 1, [0])
    assert sum(decoded.tombstones for decoded in bench.decoded) == 0
    assert bench.wait.parked_messages == 4

    bench.decoder.known.add("new")
    bench.turn(1.0)
    assert (bench.rows(), bench.next_offset()) == ([0, 1, 3, 4], 5)
    assert sum(decoded.tombstones for decoded in bench.decoded) == 1


def test_a_message_that_has_waited_still_has_its_topic() -> None:
    bench = Bench()
    bench.put(replace(both(batch(1, 0, "new"), batch(2, 0, "known")), topics={1: "shops", 2: "depots"}))
    bench.turn()
    bench.wait.retry(bench.now + 1.0)

    assert bench.decoder.queued[-1].topics[1] == "shops"


def test_what_is_read_while_the_decoder_tries_again_does_not_overtake() -> None:
    bench = Bench()
    bench.put(batch(1, 0, "new", "newer"))
    bench.turn()
    bench.now += 1.0
    bench.wait.retry(bench.now)
    bench.put(batch(1, 2, "known"))
    bench.decoder.known.add("new")
    bench.turn()
    assert bench.rows() == [0]

    bench.decoder.known.add("newer")
    bench.turn(1.0)
    bench.turn(1.0)

    assert bench.rows() == [0, 1, 2]
    assert len(bench.facts) == 2


def test_the_pauses_between_attempts_grow_up_to_a_limit() -> None:
    bench = Bench()
    bench.put(batch(1, 0, "new"))
    bench.turn()
    times = []
    for _ in range(6):
        assert bench.wait.retry_at is not None
        times.append(bench.wait.retry_at - bench.now)
        bench.turn(times[-1])

    assert times == [0.5, 1.0, 2.0, 4.0, RETRY_SECONDS_MAX, RETRY_SECONDS_MAX]


def test_nothing_is_tried_again_while_the_decoder_has_no_room() -> None:
    bench = Bench()
    bench.put(batch(1, 0, "new"))
    bench.turn()
    bench.decoder.has_room = False
    bench.turn(5.0)

    assert bench.wait.parked_messages == 1


def until_impatient(bench: Bench) -> None:
    for _ in range(40):
        bench.turn(RETRY_SECONDS_MAX)


def test_after_the_wait_unknown_schemas_are_rejected_at_once_for_ten_minutes() -> None:
    bench = Bench()
    bench.put(batch(1, 0, "junk", "known"))
    began = bench.now
    until_impatient(bench)
    assert bench.rejected() == [(1, 0)]
    assert bench.rows() == [1]
    ended = bench.facts[-1]
    assert isinstance(ended, SchemaWaitEnded)
    assert ended.is_impatient
    assert WAIT_SECONDS <= ended.seconds <= WAIT_SECONDS + RETRY_SECONDS_MAX

    bench.put(batch(1, 2, "more junk"))
    bench.turn()
    assert bench.rejected() == [(1, 0), (1, 2)]

    bench.now = began + PERIOD_SECONDS + WAIT_SECONDS + RETRY_SECONDS_MAX
    bench.put(batch(1, 3, "new"))
    bench.turn()
    assert bench.rejected() == [(1, 0), (1, 2)]
    assert bench.wait.parked_messages == 1


def test_several_waits_of_a_partition_share_its_patience() -> None:
    bench = Bench()
    bench.put(batch(1, 0, "first"))
    bench.turn()
    bench.turn(40.0)
    bench.decoder.known.add("first")
    bench.turn(5.0)
    assert bench.rows() == [0]

    bench.put(batch(1, 1, "second"))
    bench.turn()
    for _ in range(3):
        bench.turn(RETRY_SECONDS_MAX)
    assert bench.rejected() == [(1, 1)]


def test_without_patience_nothing_is_parked() -> None:
    bench = Bench(wait_seconds=0.0)
    bench.put(batch(1, 0, "junk", "known"))
    bench.turn()

    assert (bench.rejected(), bench.rows(), bench.facts) == ([(1, 0)], [1], [])


def test_partitions_that_wait_are_paused_once_too_much_is_parked() -> None:
    bench = Bench(bytes_max=10 * MESSAGE_BYTES)
    bench.put(both(batch(1, 0, "new"), batch(2, 0, "known")))
    bench.turn()
    assert bench.wait.to_pause() == frozenset()

    bench.put(both(batch(1, 1, *["known"] * 10), batch(2, 1, "known")))
    assert bench.wait.to_pause() == {1}

    bench.decoder.known.add("new")
    bench.turn(1.0)
    assert bench.wait.to_pause() == frozenset()
    assert bench.rows() == list(range(11))


def test_they_stay_paused_while_all_of_it_is_tried_again() -> None:
    bench = Bench(bytes_max=10 * MESSAGE_BYTES)
    bench.put(batch(1, 0, "new"))
    bench.turn()
    bench.put(batch(1, 1, *["known"] * 10))
    bench.wait.retry(bench.now + 10.0)
    assert (bench.wait.parked_messages, bench.wait.to_pause()) == (0, frozenset({1}))

    bench.turn()
    assert (bench.wait.parked_messages, bench.wait.to_pause()) == (11, frozenset({1}))


def test_what_is_parked_of_a_revoked_partition_is_dropped() -> None:
    bench = Bench()
    bench.put(batch(1, 0, "new"))
    bench.turn()
    bench.put(batch(2, 0, "new"))
    del bench.assigned[1], bench.assigned[2]
    bench.wait.forget([1, 2])
    bench.turn(1.0)

    assert bench.wait.parked_messages == 0
    assert bench.wait.retry_at is None
    assert len(bench.facts) == 1


@settings(deadline=None, max_examples=200)
@given(st.randoms(use_true_random=False))
def test_no_message_is_lost_or_overtaken_whatever_is_unknown_and_for_however_long(random: Random) -> None:
    bench = Bench(bytes_max=20 * MESSAGE_BYTES, part_messages_max=random.choice((None, None, 1, 3)))
    sent: defaultdict[int, list[int]] = defaultdict(list)
    ends = [1_000.0 + random.uniform(0, 20) for _ in range(3)]
    for _ in range(random.randint(5, 60)):
        parts = []
        for owner in random.sample((1, 2, 3), random.randint(1, 3)):
            names = random.choices(("known", "new0", "new1", "new2", None), (8, 1, 1, 1, 1), k=random.randint(0, 4))
            parts.append(batch(owner, len(sent[owner]), *names))
            sent[owner] += range(len(sent[owner]), len(sent[owner]) + len(names))
        bench.put(both(*parts))
        bench.decoder.known |= {f"new{at}" for at, end in enumerate(ends) if bench.now >= end}
        bench.decoder.take_max = random.choice((None, 0, 1, 2))
        bench.turn(random.uniform(0, 1.0), batches=random.randint(0, 3))
    bench.decoder.known |= {"new0", "new1", "new2"}
    bench.decoder.take_max = None
    for _ in range(20):
        bench.turn(RETRY_SECONDS_MAX)

    rows = {owner: bench.rows(owner) for owner in (1, 2, 3)}
    assert all(offsets == sorted(set(offsets)) for offsets in rows.values())
    assert all(decoded.frame.equals(decoded.barriers) for decoded in bench.decoded if decoded.barriers is not None)
    tombstones = sum(decoded.tombstones for decoded in bench.decoded)
    assert sum(map(len, rows.values())) + tombstones == sum(map(len, sent.values()))
    assert all(bench.next_offset(owner) == len(offsets) for owner, offsets in sent.items() if offsets)
    assert bench.rejected() == []
