"""Where an item is, asked all the time in the simulated world: every answer is true, and no run is changed by it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from weakref import WeakKeyDictionary

import polars as pl
import pytest

from consumer.core.changes.coalesce import change_ids
from consumer.core.changes.items import CHANGE_ID, ITEM_KEY, ChangeId
from consumer.core.oms.answers import Accepted
from consumer.core.trace import memory, pending
from consumer.core.trace.memory import Outcome
from consumer.core.trace.query import ItemQuery
from consumer.facts import Fact, PartitionsAssigned, RequestAnswered
from consumer.loop.traces import Traces
from consumer.mailbox import Mailbox
from tests.simulation.plan import draw_plan
from tests.simulation.process import Process, ProcessObserver
from tests.simulation.simulation import simulate

SEEDS = 20
EVERY_FACTS = 3
"""Facts between two questions."""

Place = tuple[int, int, int]
"""Partition, offset and line."""


@dataclass
class Asked:
    """The traces of a process, and what it has really sent."""

    traces: Traces
    process: Process
    random: Random
    partitions: dict[int, int] = field(default_factory=dict)
    accepted: dict[tuple[str, str], set[Place]] = field(default_factory=dict)
    questions: int = 0

    def observe(self, fact: Fact) -> None:
        self.traces.observe(fact)
        if isinstance(fact, PartitionsAssigned):
            self.partitions |= {found.assignment_id: found.partition for found in fact.assignments}
        if isinstance(fact, RequestAnswered) and isinstance(fact.decision, Accepted):
            rows = fact.request.rows
            for (sku,), of_item in rows.partition_by("sku", as_dict=True).items():
                known = self.accepted.setdefault((fact.request.location, str(sku)), set())
                known.update(self._places(change_ids(of_item)))
        if self.random.randrange(EVERY_FACTS) == 0:
            self.ask()

    def ask(self) -> None:
        """Ask about a change that was published, whether or not it was read."""
        entry = self.random.choice(self.process.plan.entries)
        change = self.random.choice(entry.changes)
        found = self.traces.trace(ItemQuery(change.location, ({"sku": change.item},)))
        self.questions += 1

        is_known = {self._place(item.change_id): item.place for item in found.pending.changes}
        assert set(is_known) == set(self._places(self._pending(change.location, change.item)))
        left = {(item.partition[1], item.offset, item.line): item.fate for item in found.left.changes}
        for (partition, offset, line), fate in left.items():
            published = self.process.checker.logs[partition].change(offset, line)
            assert (published.location, published.item) == (change.location, change.item)
            if fate.outcome is Outcome.ACCEPTED:
                assert (offset, line) in self.process.checker._accepted[partition]
        of_requests = {place for place, fate in left.items() if fate.outcome is Outcome.ACCEPTED}
        dead = set(left) - of_requests
        assert of_requests | dead >= self.accepted.get((change.location, change.item), set())

    def _pending(self, location: str, sku: str) -> pl.DataFrame:
        """Everything that the engine holds of the item."""
        engine = self.process.engine
        frames = [rows for found in engine.partitions._by_id.values() for rows in found.recovery._frames]
        known = engine.locations.find(location)
        if known is not None:
            frames.append(engine.locations._windows.rows_of(known.window))
            frames += [known.in_flight.request.rows] if known.in_flight else []
        frames = [frame for frame in frames if {"sku", "locationName"} <= set(frame.columns)]
        if not frames:
            return pl.DataFrame(schema=dict.fromkeys(CHANGE_ID, pl.Int64))
        rows = pl.concat(frames, how="diagonal").with_columns(pl.col("_line").fill_null(0))
        return change_ids(rows.filter((pl.col("locationName") == location) & (pl.col("sku") == sku)))

    def _places(self, ids: pl.DataFrame) -> Iterator[Place]:
        return (self._place(ChangeId(*row)) for row in ids.iter_rows())

    def _place(self, change_id: ChangeId) -> Place:
        return self.process.source.partition_of[change_id.assignment_id], change_id.offset, change_id.line


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> WeakKeyDictionary[Process, Asked]:
    """Every process of a simulation is asked all the time."""
    for module, limit in ((memory, "FOUND_MAX"), (memory, "LOOKS_MAX"), (pending, "CHANGES_MAX")):
        monkeypatch.setattr(module, limit, 1_000_000)
    processes: WeakKeyDictionary[Process, Asked] = WeakKeyDictionary()
    observe = ProcessObserver.observe

    def observe_and_ask(self: ProcessObserver, fact: Fact) -> None:
        observe(self, fact)
        process = self._process
        if process not in processes:
            traces = Traces(
                Mailbox(1),
                process.engine,
                process,
                item_key=ITEM_KEY,
                bytes_max=10**9,
                instance="0",
                follows_jobs=True,
            )
            processes[process] = Asked(traces, process, Random(1))  # noqa: S311 - not for secrets
        processes[process].observe(fact)

    monkeypatch.setattr(ProcessObserver, "observe", observe_and_ask)
    return processes


@pytest.mark.parametrize("seed", range(SEEDS))
def test_answers_are_true_whatever_fails(seed: int, asked: WeakKeyDictionary[Process, Asked]) -> None:
    done = simulate(draw_plan(seed))

    assert done.violation == ""
    assert sum(process.questions for process in asked.values()) > 0


def test_asking_changes_no_run(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    silent = simulate(draw_plan(5))
    request.getfixturevalue("asked")
    busy = simulate(draw_plan(5))

    assert (busy.steps, busy.seconds, busy.violation) == (silent.steps, silent.seconds, "")
