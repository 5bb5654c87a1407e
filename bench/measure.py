"""Runs one case: fill the topic, then the service between two bare loops, as often as there are rounds."""

import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, TopicPartition

from bench.cases import Case
from bench.cgroup import Cgroup, CgroupMissingError, memory_cgroup
from bench.load import Load, second_schema_text
from bench.processes import Service, SinkProcess, read_bare, running_service, running_sink
from bench.results import Bare, CaseResult, MemoryPoint, Round, percentile, plan_of, rate_of, thinned
from bench.service_settings import dead_letter_topic, service_settings, sink_options
from bench.verify import change_ages, compare, read_items, refused_bodies
from consumer.sandbox.publisher import publish
from tests.support.service_process import free_port

POLL_SECONDS: Final = 0.02
SAMPLE_SECONDS: Final = 0.25
"""Between two looks at memory, sink and committed offsets."""
ASSIGNED_SECONDS_MAX: Final = 120.0
CALL_SECONDS_MAX: Final = 30.0
IDLE_SECONDS_MAX: Final = 5.0
"""How long a paced case is idle before its first change; the CPU of the second half counts."""

Notify = Callable[[str, float], None]
"""Is called with what happens now, and how much of it is done, from 0 to 1."""


@dataclass(frozen=True)
class World:
    """Where cases run. ``topic(name, partitions)`` makes a topic that exists and can be used during the block."""

    servers: str
    topic: Callable[[str, int], AbstractContextManager[None]]
    notify: Notify
    date: str
    commit: str


def measure(case: Case, world: World, rounds: int) -> CaseResult:
    """All rounds of a case; skipped where its memory limit cannot be set."""
    result = CaseResult(case.name, world.date, world.commit, plan_of(case))
    try:
        with _limit(case):  # found out before the topic is filled
            pass
        if case.is_paced:
            return replace(result, rounds=[_run(case, world, None, Load(case)) for _ in range(rounds)])
        with _new_topic(case, world) as topic:
            load = Load(case)
            _fill(case, world, topic, load)
            runs, bares = [], [_bare(case, world, topic)]
            for _ in range(rounds):
                run = _run(case, world, topic, load)
                bares.append(_bare(case, world, topic))
                bare = sum(case.events / one.seconds for one in bares[-2:]) / 2
                runs.append(replace(run, share_of_bare=run.changes_per_second / bare))
            return replace(result, rounds=runs, bares=bares)
    except CgroupMissingError as missing:
        return replace(result, skipped=str(missing))


@contextmanager
def _new_topic(case: Case, world: World) -> Iterator[str]:
    topic = f"bench-{case.name}-{uuid.uuid4().hex[:8]}"
    with world.topic(topic, case.partitions), world.topic(dead_letter_topic(topic), 1):
        yield topic


def _fill(case: Case, world: World, topic: str, load: Load) -> None:
    world.notify("publishing", 0.0)
    publish(
        load.events(),
        bootstrap_servers=world.servers,
        topic=topic,
        on_progress=lambda published: world.notify("publishing", published / case.events),
    )


def _bare(case: Case, world: World, topic: str) -> Bare:
    world.notify("bare loop", 0.0)
    return read_bare(world.servers, topic, case.events)


@contextmanager
def _limit(case: Case) -> Iterator[Cgroup | None]:
    if case.memory_bytes is None:
        yield None
        return
    with memory_cgroup(case.memory_bytes) as cgroup:
        yield cgroup


def _run(case: Case, world: World, topic: str | None, load: Load) -> Round:
    """One run of the service; with ``topic`` None on a new topic that is filled meanwhile."""
    is_filled = topic is not None
    group = f"bench-{uuid.uuid4().hex}"
    with ExitStack() as stack:
        topic = topic or stack.enter_context(_new_topic(case, world))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        second_schema = folder / "second.avsc"
        second_schema.write_text(second_schema_text(), encoding="utf-8")
        sink = stack.enter_context(running_sink(folder, *sink_options(case, second_schema)))
        cgroup = stack.enter_context(_limit(case))
        kafka = stack.enter_context(_kafka(world.servers, group))
        dead_before = kafka.count(dead_letter_topic(topic))
        services = []
        for _ in range(case.members):
            settings = service_settings(
                case, servers=world.servers, topic=topic, group=group, sink_url=sink.url, port=free_port()
            )
            wrap = cgroup.command([]) if cgroup else None
            service = running_service(settings, folder, wrap=wrap, pending_bytes_max=case.pending_bytes_max)
            services.append(stack.enter_context(service))
        watch = Watch(case, services, sink, world.notify)
        watch.wait_for_assignment()
        if not is_filled:
            watch.be_idle()
            _fill_meanwhile(stack, world, topic, load)
        watch.wait_for_commit(lambda: kafka.committed(topic), case.events)
        return _round(watch, load, kafka.count(dead_letter_topic(topic)) - dead_before, cgroup)


def _fill_meanwhile(stack: ExitStack, world: World, topic: str, load: Load) -> None:
    def fill() -> None:
        publish(load.events(), bootstrap_servers=world.servers, topic=topic)

    publisher = threading.Thread(target=fill, name="publisher")
    publisher.start()
    stack.callback(publisher.join)


class Watch:
    """Follows one run from outside, and takes its figures."""

    def __init__(self, case: Case, services: Sequence[Service], sink: SinkProcess, notify: Notify) -> None:
        self.case = case
        self.services = services
        self.sink = sink
        self.problems: list[str] = []
        self.points: list[MemoryPoint] = []
        self.reasons: Counter[str] = Counter()
        self.startup_cpu_seconds = self.cpu_seconds = self.watched_seconds = 0.0
        self.peak_bytes = 0
        self.idle_cpu_share: float | None = None
        self.started = 0.0
        """When the first member got partitions, in seconds since 1970."""
        self._from = (0.0, 0.0)
        """Monotonic time and CPU seconds at which counting began."""
        self.notify = notify

    def wait_for_assignment(self) -> None:
        self.notify("service starts", 0.0)
        deadline = time.monotonic() + ASSIGNED_SECONDS_MAX
        while not any(service.is_assigned() for service in self.services):
            if time.monotonic() > deadline or self._has_ended():
                self.problems.append("the service got no partitions")
                break
            time.sleep(POLL_SECONDS)
        self.started = time.time()
        self._begin()
        self.startup_cpu_seconds = self._from[1]

    def be_idle(self) -> None:
        """Measure what the service takes with nothing to do."""
        seconds = min(IDLE_SECONDS_MAX, self.case.max_age_seconds) / 2
        self.notify("idle", 0.0)
        time.sleep(seconds)
        self._begin()
        time.sleep(seconds)
        at, cpu = self._from
        self._begin()
        self.idle_cpu_share = (self._from[1] - cpu) / (self._from[0] - at)
        self.started = time.time()

    def wait_for_commit(self, committed: Callable[[], int], events: int) -> None:
        """Wait until this many offsets are committed; then, or at the time limit, take the figures."""
        deadline = time.monotonic() + self.case.seconds_max
        while not self.problems:
            self._sample()
            if committed() >= events:
                break
            if self._has_ended():
                break
            if time.monotonic() > deadline:
                self.problems.append(f"not done after {self.case.seconds_max:g} s")
            time.sleep(SAMPLE_SECONDS)
        self._sample()
        for service in self.services:
            self.reasons += service.reasons()

    def _begin(self) -> None:
        self._from = (time.monotonic(), self._cpu())

    def _cpu(self) -> float:
        return sum(service.cpu_seconds() for service in self.services)

    def _sample(self) -> None:
        items = int(self.sink.stats()["items"])
        self.notify("service", items / self.case.items)
        resident = [service.memory_bytes("VmRSS") for service in self.services]
        self.points.append(MemoryPoint(time.time() - self.started, max(resident), items))
        self.peak_bytes = max(self.peak_bytes, *(service.memory_bytes("VmHWM") for service in self.services))
        at, cpu = self._from
        if all(service.ended() is None for service in self.services):
            self.watched_seconds, self.cpu_seconds = time.monotonic() - at, self._cpu() - cpu

    def _has_ended(self) -> bool:
        for service in self.services:
            if (code := service.ended()) is not None:
                self.problems.append(f"the service ended with exit code {code}")
                return True
        return False


def _round(watch: Watch, load: Load, dead_letters: int, cgroup: Cgroup | None) -> Round:
    case, sink = watch.case, watch.sink
    stats, requests = sink.stats(), sink.requests()
    problems = list(watch.problems)
    codes = [service.stop() for service in watch.services]
    if not problems and any(codes):
        problems.append(f"the service ended with exit code {max(codes)}")
    if cgroup is not None and cgroup.out_of_memory_kills():
        problems.append("the kernel killed it for memory")
    watch.notify("verifying", 0.0)
    items = read_items(sink.bodies)
    delivered = compare(case, items, load.quantities, refused_bodies(sink.bodies))
    problems += delivered.problems(case)
    if stats["items"] != delivered.items:
        problems.append(f"the sink counted {stats['items']:,} items, and its bodies have {delivered.items:,}")
    if dead_letters != case.bad_events:
        problems.append(f"{dead_letters:,} dead letters of {case.bad_events:,} bad events")
    answered_at = [at for _, at, _ in requests]
    ages = change_ages(items, answered_at, load.published_at) if case.is_paced else []
    return Round(
        problems=problems,
        seconds=stats["last"] - watch.started if stats["last"] else 0.0,
        changes_per_second=rate_of(case, requests, watch.started),
        share_of_bare=None,
        cpu_seconds=watch.cpu_seconds,
        startup_cpu_seconds=watch.startup_cpu_seconds,
        peak_bytes=watch.peak_bytes,
        requests=int(stats["requests"]),
        items=int(stats["items"]),
        chunks=int(stats["chunks"]),
        reasons=dict(watch.reasons),
        sink_cpu_seconds=stats["cpu_seconds"],
        cpu_share=watch.cpu_seconds / watch.watched_seconds if watch.watched_seconds else 0.0,
        idle_cpu_share=watch.idle_cpu_share,
        age_p50_seconds=percentile(ages, 0.5),
        age_p99_seconds=percentile(ages, 0.99),
        memory=thinned(watch.points) if case.memory_bytes else (),
    )


class Kafka:
    """The broker, as a client outside the group sees it."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._partitions: dict[str, list[TopicPartition]] = {}

    def committed(self, topic: str) -> int:
        """Offsets committed for the group, over all partitions."""
        found = self._consumer.committed(self._of(topic), timeout=CALL_SECONDS_MAX)
        return sum(max(partition.offset, 0) for partition in found)

    def count(self, topic: str) -> int:
        """Messages in the topic."""
        ends = (self._consumer.get_watermark_offsets(one, timeout=CALL_SECONDS_MAX) for one in self._of(topic))
        return sum(high - low for low, high in ends)

    def _of(self, topic: str) -> list[TopicPartition]:
        if topic not in self._partitions:
            known = self._consumer.list_topics(topic, timeout=CALL_SECONDS_MAX).topics[topic].partitions
            self._partitions[topic] = [TopicPartition(topic, number) for number in sorted(known)]
        return self._partitions[topic]


@contextmanager
def _kafka(servers: str, group: str) -> Iterator[Kafka]:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": group, "log_level": 0})
    try:
        yield Kafka(consumer)
    finally:
        consumer.close()
