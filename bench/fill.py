"""How full requests are when memory cannot hold full windows: the engine alone, fed from memory, in simulated time.

``python -m bench.fill`` reads a backlog of many locations through a budget that is too small for it, and prints the
chunks sent against the fewest possible. Nothing here talks to Kafka or the OMS, and no clock is read, so the chunks are
the same on every machine.
"""

import argparse
import heapq
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import polars as pl

from consumer.core import backpressure
from consumer.core.changes.items import ASSIGNMENT, LINE, LOCATION, OCCURRED_AT, OFFSET, TIMESTAMP
from consumer.core.engine import Engine
from consumer.core.limits import EngineLimits
from consumer.core.location.planner import ItemLimits
from consumer.core.oms.answers import Accepted

DEBUG = False
MIB: Final = 2**20
_LOCATION: Final = "location"
_ITEM: Final = "item"


@dataclass(frozen=True, slots=True)
class Backlog:
    """A backlog and the process that reads it. The defaults are the bench's ``nightly`` at a tenth of its size."""

    keyed_by: Literal["location", "item"] = "location"
    locations: int = 100
    items_per_location: int = 9_000
    partitions: int = 12
    changes_per_second: int = 40_000
    pending_bytes: int = 224 * MIB // 10
    max_age_seconds: float = 60.0
    poll_changes: int = 1_000
    answer_seconds: float = 0.1
    fetched_bytes: int = 28 * MIB // 10
    """What the client has fetched ahead, and what is lost when its partitions are paused."""
    skew: float = 0.0
    """0: all locations are as large. Above: a location's size falls with its rank to this power."""
    turns: bool = True

    @property
    def sizes(self) -> list[int]:
        """Items of each location."""
        weights = [1 / (rank + 1) ** self.skew for rank in range(self.locations)]
        scale = self.locations * self.items_per_location / sum(weights)
        return [max(round(weight * scale), 1) for weight in weights]


@dataclass(slots=True)
class Result:
    chunks: int = 0
    fewest_chunks: int = 0
    requests: int = 0
    items: int = 0
    seconds: float = 0.0
    pending_bytes_max: float = 0.0
    pauses: int = 0
    """How often a partition with unread changes was paused."""
    idle_seconds: float = 0.0
    """Time in which nothing was read and nothing was in flight."""
    longest_unread_seconds: float = 0.0
    """The longest time in which a partition with unread changes was not read."""

    @property
    def ratio(self) -> float:
        return self.chunks / self.fewest_chunks


class Partition:
    """The unread changes of one partition."""

    def __init__(self, assignment_id: int, changes: pl.DataFrame) -> None:
        self.assignment_id = assignment_id
        constant = {ASSIGNMENT: (assignment_id, pl.Int32), LINE: (0, pl.Int32)}
        self._frame = changes.select(
            pl.format("store {}", pl.col(_LOCATION).cast(pl.String).str.zfill(4)).alias(LOCATION),
            pl.format("sku-{}", pl.col(_ITEM).cast(pl.String).str.zfill(8)).alias("sku"),
            (pl.col(_ITEM) % 100).alias("quantity"),
            pl.int_range(pl.len()).cast(pl.Int64).alias(OFFSET),
            *(pl.lit(value, dtype).alias(name) for name, (value, dtype) in constant.items()),
            pl.int_range(pl.len()).cast(pl.Int64).alias(TIMESTAMP),
            pl.int_range(pl.len()).cast(pl.Int64).alias(OCCURRED_AT),
        )
        self.position = 0
        self.read_at = 0.0

    @property
    def left(self) -> int:
        return self._frame.height - self.position

    def read(self, changes: int, now: float) -> pl.DataFrame:
        frame = self._frame.slice(self.position, changes)
        self.position += frame.height
        self.read_at = now
        return frame


def partitions_of(backlog: Backlog) -> list[Partition]:
    """The changes in random order, each in the partition of its key."""
    sizes = pl.DataFrame({_LOCATION: range(backlog.locations), "size": backlog.sizes})
    items = sizes.select(_LOCATION, pl.int_ranges(0, "size").alias(_ITEM)).explode(_ITEM)
    changes = items.sample(fraction=1.0, shuffle=True, seed=7)
    key = pl.col(_LOCATION if backlog.keyed_by == "location" else _ITEM)
    return [
        Partition(number + 1, changes.filter(key % backlog.partitions == number))
        for number in range(backlog.partitions)
    ]


def run(backlog: Backlog) -> Result:
    """Read the backlog and send all of it."""
    backpressure.TURNS_SHARE = 0.5 if backlog.turns else math.inf
    limits = EngineLimits(
        items=ItemLimits(),
        max_age_seconds=backlog.max_age_seconds,
        max_pending_bytes=backlog.pending_bytes,
        turn_bytes_min=backlog.fetched_bytes,
        max_uncommitted_bytes=backlog.pending_bytes // 2,
        coalescing_bytes_max=backlog.pending_bytes // 4,
    )
    engine = Engine(limits, ["partNumber", "upc", "sku", "binID"])
    partitions = {partition.assignment_id: partition for partition in partitions_of(backlog)}
    for assignment_id in partitions:
        engine.assigned(assignment_id, start=0, read_up_to=None)
    result = Result(fewest_chunks=sum(math.ceil(size / limits.items.chunk_items) for size in backlog.sizes))
    answers: list[tuple[float, int]] = []
    now, paused, round_at = 0.0, frozenset[int](), 0.0
    step = backlog.poll_changes / backlog.changes_per_second
    order = list(partitions)
    while engine.pending_changes or any(partition.left for partition in partitions.values()):
        now += step
        readable = [found for found in order if found not in paused and partitions[found].left]
        if readable:
            chosen = partitions[readable[0]]
            order.remove(chosen.assignment_id)
            order.append(chosen.assignment_id)
            frame = chosen.read(backlog.poll_changes, now)
            ends = [] if chosen.left else [chosen.assignment_id]
            engine.add(frame, [], {chosen.assignment_id: chosen.position}, now, ends)
        elif not answers:
            deadline = engine.next_deadline(now)
            result.idle_seconds += step
            if deadline is not None and deadline > now and not engine.must_free_memory:
                now = deadline
        while answers and answers[0][0] <= now:
            engine.apply(heapq.heappop(answers)[1], Accepted("1"), now)
        if now >= round_at:
            requests = engine.due(now)
            round_at = now + 0.03
            for number, request in enumerate(requests):
                at = now + backlog.answer_seconds * (1 + number // limits.max_in_flight)
                heapq.heappush(answers, (at, request.request_id))
                result.chunks += request.chunks
                result.requests += 1
                result.items += request.items
            engine.commit_points(now)
        if int(now * 4) != int((now - step) * 4) and DEBUG:
            print(
                round(now, 1),
                engine.pending_changes,
                round(engine.pending_bytes / MIB, 1),
                round(engine.locations._windows.row_bytes, 1),
                engine._backpressure.is_over_budget,
                len(answers),
                file=sys.stderr,
            )
        before, paused = paused, engine.update_backpressure(now)
        result.pauses += sum(partitions[found].left > 0 for found in paused - before)
        result.pending_bytes_max = max(result.pending_bytes_max, engine.pending_bytes)
        unread = [now - partition.read_at for partition in partitions.values() if partition.left]
        result.longest_unread_seconds = (
            max(unread, default=0.0)
            if max(unread, default=0.0) > result.longest_unread_seconds
            else result.longest_unread_seconds
        )
    result.seconds = now
    return result


def show(name: str, result: Result) -> None:
    sys.stdout.write(
        f"{name:42} {result.chunks:6} / {result.fewest_chunks:5} = {result.ratio:5.3f}  {result.requests:5} requests, "
        f"{result.seconds:6.1f} s, {result.pending_bytes_max / MIB:5.1f} MiB, {result.pauses:5} pauses, "
        f"idle {result.idle_seconds:5.1f} s, unread for {result.longest_unread_seconds:5.1f} s\n"
    )
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fill", description=__doc__)
    parser.add_argument("--scale", type=float, default=0.1, help="share of the size of nightly")
    parser.add_argument("--no-turns", action="store_true")
    options = parser.parse_args(arguments)
    full = Backlog()
    factor = options.scale / 0.1
    base = replace(
        full,
        locations=round(full.locations * factor),
        changes_per_second=round(full.changes_per_second * factor),
        pending_bytes=round(full.pending_bytes * factor),
        fetched_bytes=round(full.fetched_bytes * factor),
    )
    for turns in (False, True):
        if turns and options.no_turns:
            break
        for keyed_by in ("location", "item"):
            for skew in (0.0, 1.0):
                backlog = replace(base, keyed_by=keyed_by, skew=skew, turns=turns)
                show(f"by {keyed_by}, {'skewed' if skew else 'even'}, {'turns' if turns else 'no turns'}", run(backlog))
    return 0


if __name__ == "__main__":
    sys.exit(main())
