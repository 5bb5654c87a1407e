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
from dataclasses import dataclass
from typing import Final, Literal

import polars as pl

from consumer.core.changes.items import ASSIGNMENT, LINE, LOCATION, OCCURRED_AT, OFFSET, TIMESTAMP
from consumer.core.engine import Engine
from consumer.core.limits import UNCOMMITTED_SHARE, EngineLimits
from consumer.core.location.planner import ItemLimits
from consumer.core.oms.answers import Accepted, Applied
from consumer.core.oms.job_list import JobList
from consumer.core.oms.job_schedule import Job, JobOutcome, JobResult
from consumer.core.oms.smart_refresh import LIST_LAG_SECONDS, SmartRefresh
from consumer.errors import InvariantError

PENDING_BYTES: Final = 224 * 2**20
"""The memory for pending changes in a container of 1 GiB."""
ROUND_SECONDS: Final = 0.03
IDLE_SECONDS_MAX: Final = 0.25
"""A poll waits this long, and small windows are looked at after each."""
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
    pending_bytes: int = PENDING_BYTES // 10
    chunk_items: int = 3_000
    max_age_seconds: float = 60.0
    poll_changes: int = 1_000
    answer_seconds: float = 0.1
    skew: float = 0.0
    """0: all locations are as large. Above: a location's size falls with its rank to this power."""
    turns: bool = True
    smart_refresh: bool = False
    """Small windows may leave early, and each job ends as soon as it is accepted."""

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
    seconds: float = 0.0
    pending_bytes_max: float = 0.0
    pauses: int = 0
    """How often a partition with unread changes was paused."""
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


class Run:
    """One process that reads a backlog and sends all of it, in simulated time."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._limits = limits_of(backlog)
        self._engine = Engine(self._limits)
        self._partitions = {partition.assignment_id: partition for partition in partitions_of(backlog)}
        self._order = list(self._partitions)
        self._paused: frozenset[int] = frozenset()
        self._now = 0.0
        self._round_at = 0.0
        self._answers: list[tuple[float, int]] = []
        """A heap of (time, request)."""
        chunk_items = self._limits.items.chunk_items
        self.result = Result(fewest_chunks=sum(math.ceil(size / chunk_items) for size in backlog.sizes))
        for assignment_id in self._partitions:
            self._engine.assigned(assignment_id, start=0, read_up_to=None)
            self._partitions[assignment_id].read_at = LIST_LAG_SECONDS
        self._now = LIST_LAG_SECONDS
        if self._engine.smart:
            _clear_all(self._engine.smart, self._now)

    def run(self) -> Result:
        while self._engine.pending_changes or any(partition.left for partition in self._partitions.values()):
            self._now += self._backlog.poll_changes / self._backlog.changes_per_second
            if not self._read() and not self._answers:
                self._wait()
            while self._answers and self._answers[0][0] <= self._now:
                self._accept(heapq.heappop(self._answers)[1])
            if self._now >= self._round_at:
                self._send()
            self._pause()
        self.result.seconds = self._now - LIST_LAG_SECONDS
        return self.result

    def _read(self) -> bool:
        """Read from one partition after another, as the client returns what it has fetched of each."""
        unread = [found for found in self._order if found not in self._paused and self._partitions[found].left]
        if not unread:
            return False
        partition = self._partitions[unread[0]]
        self._order.remove(partition.assignment_id)
        self._order.append(partition.assignment_id)
        frame = partition.read(self._backlog.poll_changes, self._now)
        ends = [] if partition.left else [partition.assignment_id]
        self._engine.add(frame, [], {partition.assignment_id: partition.position}, self._now, ends)
        return True

    def _wait(self) -> None:
        """Nothing is there to be read and nothing in flight: go on when something is due."""
        deadline = self._engine.next_deadline(self._now)
        if deadline is not None and not self._engine.must_free_memory:
            self._now = max(self._now, min(deadline, self._now + IDLE_SECONDS_MAX))

    def _accept(self, request_id: int) -> None:
        """The OMS applies what is small at once, and makes a job of the rest."""
        request = self._engine.locations.in_flight(request_id).request
        if request.is_smart and request.items <= self._limits.small.items:
            self._engine.apply(request_id, Applied(), self._now)
            return
        job_id = str(request_id)
        self._engine.apply(request_id, Accepted(job_id), self._now)
        ended = JobResult(Job(job_id, request.location, request.items, request.chunks), JobOutcome.SUCCESS)
        self._engine.job_ended(ended, self._now)

    def _send(self) -> None:
        self._round_at = self._now + ROUND_SECONDS
        for number, request in enumerate(self._engine.due(self._now)):
            queued = 1 + number // self._limits.max_in_flight
            heapq.heappush(self._answers, (self._now + queued * self._backlog.answer_seconds, request.request_id))
            self.result.chunks += request.chunks
            self.result.requests += 1
        self._engine.commit_points(self._now)

    def _pause(self) -> None:
        result, paused = self.result, self._engine.update_backpressure(self._now)
        result.pauses += sum(self._partitions[found].left > 0 for found in paused - self._paused)
        self._paused = paused
        result.pending_bytes_max = max(result.pending_bytes_max, self._engine.pending_bytes)
        waited = [self._now - partition.read_at for partition in self._partitions.values() if partition.left]
        result.longest_unread_seconds = max([result.longest_unread_seconds, *waited])


def limits_of(backlog: Backlog) -> EngineLimits:
    chunk_items = backlog.chunk_items
    return EngineLimits(
        items=ItemLimits(chunk_items=chunk_items, max_items=4 * chunk_items, flush_items=4 * chunk_items),
        max_age_seconds=backlog.max_age_seconds,
        max_pending_bytes=backlog.pending_bytes,
        max_uncommitted_bytes=int(UNCOMMITTED_SHARE * backlog.pending_bytes),
        coalescing_bytes_max=backlog.pending_bytes // 4,
        turns_share=EngineLimits().turns_share if backlog.turns else math.inf,
        turn_bytes_min=backlog.pending_bytes // 8,
        smart_refresh=backlog.smart_refresh,
    )


def _clear_all(smart: SmartRefresh, now: float) -> None:
    """A list of jobs shows that no location has one."""
    smart.may_use("any", 1, now)
    query = smart.next_query(now)
    if query is None:
        raise InvariantError("no list is asked for")
    smart.listed(JobList(query, (), is_complete=True), now)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.fill", description=__doc__)
    parser.add_argument("--scale", type=float, default=0.1, help="share of the size of nightly (0.1)")
    options = parser.parse_args(arguments)
    sys.stdout.write(f"{HEADER}\n")
    for share in (1.0, 0.6, 0.4, 0.2):
        for skew in (0.0, 1.0):
            for keyed_by in ("location", "item"):
                for turns in (False, True):
                    backlog = Backlog(
                        keyed_by=keyed_by,
                        skew=skew,
                        turns=turns,
                        locations=round(1_000 * options.scale),
                        changes_per_second=round(400_000 * options.scale),
                        pending_bytes=round(share * options.scale * PENDING_BYTES),
                    )
                    sys.stdout.write(line(share, backlog, Run(backlog).run()))
                    sys.stdout.flush()
    return 0


HEADER: Final = (
    f"{'memory':>6} {'locations':9} {'keyed by':8} {'turns':5} {'chunks':>6} {'/ fewest':>8} {'requests':>8} {'s':>5} "
    f"{'pauses':>6} {'unread s':>8}"
)


def line(share: float, backlog: Backlog, result: Result) -> str:
    """A line of the table."""
    return (
        f"{share:6} {'skewed' if backlog.skew else 'even':9} {backlog.keyed_by:8} {'yes' if backlog.turns else 'no':5} "
        f"{result.chunks:6} {result.ratio:8.3f} {result.requests:8} {result.seconds:5.1f} {result.pauses:6} "
        f"{result.longest_unread_seconds:8.1f}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
