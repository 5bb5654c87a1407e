"""Two worlds for the same tests: the simulated one, and a real Kafka with the OMS sandbox over real sockets.

The simulation proves something only if its broker and its OMS behave like the real ones. Every contract test therefore
runs in both worlds.
"""

import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any, Protocol

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from consumer.app import SystemClock
from consumer.core.changes.items import ITEM_KEY
from consumer.core.oms.answers import Answer, AnswerKind
from consumer.kafka.source import KafkaSource
from consumer.oms.client import build_client
from consumer.ports import RefreshClient
from consumer.sandbox.oms.app import TOKEN_PATH
from consumer.sandbox.oms.faults.scripted import FaultRequest
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import SPECIFIC_KEY, SPECIFIC_SECRET, SandboxSettings
from consumer.settings import KafkaSettings, OmsSettings
from tests.simulation.broker import Broker
from tests.simulation.checkers import Checker
from tests.simulation.group import Group
from tests.simulation.oms import Oms, Wire, _CallOutcome
from tests.simulation.plan import POLL_SECONDS_MAX, SESSION_SECONDS, Entry, EntryKind, Rates, SimulationPlan, draw_plan
from tests.simulation.process import Environment, Process
from tests.simulation.world import World
from tests.support.kafka_members import Member, publish
from tests.support.service_process import REQUEST_SECONDS_MAX, WAIT_SECONDS_MAX, wait_until

REFUSED_QUANTITY = 999
"""The OMS of either world refuses an item with this quantity."""
PARTITIONS = 3


class KafkaWorld(Protocol):
    """One topic, one group."""

    def publish(self, partition: int, count: int) -> None:
        """Publish ``count`` messages to a partition. Values are consecutive numbers over all partitions."""

    def join(self) -> Member:
        """Return a member that has subscribed; partitions are assigned while it polls."""

    def pass_poll_interval(self) -> None:
        """Let the poll interval pass, so that the group removes every member that did not poll."""

    def committed(self, partition: int) -> tuple[int, str] | None:
        """Offset and metadata as a client outside the group sees them; None if nothing is committed."""


class OmsWorld(Protocol):
    """One OMS, and a client of it."""

    @property
    def client(self) -> RefreshClient: ...

    def now(self) -> float:
        """The client's clock, as ``Submission.commit_started_at`` is measured."""

    def lose_answers(self) -> None:
        """From now on requests are queued, but their answers are lost."""

    def go_down(self) -> None: ...

    def forget_tokens(self) -> None: ...

    def quantities(self, location: str) -> list[int]:
        """The quantities of all items queued for the location, in order."""


class Unchecked(Checker):
    """Contract tests may commit and send anything."""

    def committed(self, partition: int, offset: int, metadata: str) -> None: ...

    def queued(self, wire: Wire, items: Any) -> None: ...

    def applied(self, wire: Wire, items: Any) -> None: ...

    def submitted(self, owner: str, partition_of: Any, submission: Any) -> None: ...

    def answered(self, owner: str, answered: Any) -> None: ...


def calm_plan() -> SimulationPlan:
    """No faults, and no messages except those that a test publishes."""
    bad = Entry(0.0, 0, EntryKind.BAD, REFUSED_QUANTITY, "B0", "Berlin")
    return replace(draw_plan(1), partitions=PARTITIONS, log_start=0, rates=Rates(), entries=(bad,), faults=())


class Simulated:
    """Kafka and OMS in the simulated world. Simulated time passes only while a port waits."""

    def __init__(self) -> None:
        plan = calm_plan()
        self._world = World(plan.seed)
        checker = Unchecked(self._world, plan)
        group = Group(
            self._world, plan.seed, PARTITIONS, session_seconds=SESSION_SECONDS, rebalance_seconds=POLL_SECONDS_MAX
        )
        self._broker = Broker(self._world, replace(plan, entries=()), checker, group)
        self._oms = ScriptedOms(self._world, plan, checker)
        self._environment = Environment(self._world, plan, self._broker, self._oms, checker, {})
        self._numbers = 0
        self._processes: list[Process] = []

    def publish(self, partition: int, count: int) -> None:
        for _ in range(count):
            self._numbers += 1
            self._broker.logs[partition].entries.append(
                Entry(self._world.now, partition, EntryKind.CHANGE, self._numbers)
            )

    def _process(self) -> Process:
        process = Process("ABCDEFGH"[len(self._processes)], self._environment)
        self._processes.append(process)
        return process

    def join(self) -> Member:
        return Member.of(self._process().source)

    def pass_poll_interval(self) -> None:
        self._process().sleep(POLL_SECONDS_MAX + 2.0)

    def committed(self, partition: int) -> tuple[int, str] | None:
        found = self._broker.committed.get(partition)
        return (found.offset, found.metadata) if found else None

    # The OMS

    @property
    def client(self) -> RefreshClient:
        if not self._processes:
            process = self._process()
            process.source.partition_of[1] = 0
            process.assigned_at[1] = 0.0
        return self._processes[0].client

    def now(self) -> float:
        return self._processes[0].uptime()

    def lose_answers(self) -> None:
        self._oms.outcome = _CallOutcome(Answer(AnswerKind.UNKNOWN, detail="connection lost"), 0.01)

    def go_down(self) -> None:
        self._oms.down_until = float("inf")

    def forget_tokens(self) -> None:
        self._oms.token += 1

    def quantities(self, location: str) -> list[int]:
        return [item["quantity"] for wire in self._oms.taken if wire.location == location for item in wire.items]

    def close(self) -> None: ...


class ScriptedOms(Oms):
    """The simulated OMS without random faults."""

    outcome: _CallOutcome | None = None

    def __init__(self, world: World, plan: SimulationPlan, checker: Checker) -> None:
        super().__init__(world, plan, checker)
        self.taken: list[Wire] = []

    @property
    def rates(self) -> Rates:
        return Rates(oms=1.0) if self.outcome else Rates()

    def _faulty(self, wire: Wire) -> _CallOutcome:
        del wire
        assert self.outcome is not None
        return self.outcome

    def _queue(self, wire: Wire) -> Answer:
        self.taken.append(wire)
        return super()._queue(wire)


class RealKafka:
    """A real topic and group; a member that does not poll for ``POLL_INTERVAL_MS`` is removed."""

    POLL_INTERVAL_MS = 15_000

    def __init__(self, servers: str, topic: str) -> None:
        self._settings = KafkaSettings(
            bootstrap_servers=servers,
            topics=[topic],
            group_id=f"group-{uuid.uuid4().hex[:8]}",
            revoke_timeout=3.0,
            properties={
                "session.timeout.ms": self.POLL_INTERVAL_MS,
                "heartbeat.interval.ms": 300,
                "max.poll.interval.ms": self.POLL_INTERVAL_MS,
            },
        )
        self._numbers = 0
        self._stack = ExitStack()

    def publish(self, partition: int, count: int) -> None:
        numbers = range(self._numbers + 1, self._numbers + count + 1)
        self._numbers += count
        publish(
            self._settings.bootstrap_servers,
            self._settings.topics[0],
            [(partition, b"%d" % number) for number in numbers],
        )

    def join(self) -> Member:
        return Member.of(self._stack.enter_context(closing(KafkaSource(self._settings))))

    def pass_poll_interval(self) -> None:
        group = self._settings.group_id
        admin = AdminClient({"bootstrap.servers": self._settings.bootstrap_servers})
        wait_until(
            lambda: not admin.describe_consumer_groups([group])[group].result(REQUEST_SECONDS_MAX).members,
            "the group has removed its members",
        )

    def committed(self, partition: int) -> tuple[int, str] | None:
        outsider = Consumer(
            {"bootstrap.servers": self._settings.bootstrap_servers, "group.id": self._settings.group_id, "log_level": 0}
        )
        try:
            (found,) = outsider.committed(
                [TopicPartition(self._settings.topics[0], partition)], timeout=REQUEST_SECONDS_MAX
            )
        finally:
            outsider.close()
        return None if found.offset < 0 else (found.offset, found.metadata or "")

    def close(self) -> None:
        self._stack.close()


class RealOms:
    """The OMS sandbox and the client of the service."""

    def __init__(self) -> None:
        refuse = {"fault": "refuse", "quantity": REFUSED_QUANTITY}
        self._sandbox = SandboxServer(SandboxSettings.model_validate({"time_scale": 0.0, "faults": [refuse]}))
        self._sandbox.start()
        url = self._sandbox.url
        self._clock = SystemClock()
        settings = OmsSettings.model_validate(
            {
                "base_url": url,
                "token_url": url + TOKEN_PATH,
                "api_key": SPECIFIC_KEY,
                "api_secret": SPECIFIC_SECRET,
                "track_jobs": False,
            }
        )
        self.client = build_client(
            settings, ITEM_KEY, monotonic=self._clock.monotonic, wall=self._clock.wall, fence_seconds=30.0
        )

    def now(self) -> float:
        return self._clock.monotonic()

    def lose_answers(self) -> None:
        self._order(rules=[{"fault": "reset", "when": "after_queue"}])

    def go_down(self) -> None:
        self._order(rules=[{"fault": "outage"}])

    def forget_tokens(self) -> None:
        self._order(revoke_tokens=True)

    def _order(self, **order: Any) -> None:
        self._sandbox.state.add_faults(FaultRequest.model_validate(order))

    def quantities(self, location: str) -> list[int]:
        return [item["quantity"] for item in self._sandbox.state.inventory().get(location, ())]

    def close(self) -> None:
        self.client.close()
        self._sandbox.stop()


def answers_of(client: RefreshClient, count: int) -> Sequence[Answer]:
    """Wait for ``count`` answers. Raises TimeoutError."""
    answers: list[Answer] = []
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while len(answers) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {len(answers)} answers")
        client.wait(0.1)
        answers += [answered.answer for answered in client.answers()]
    return answers
