"""Wiring and signals; no decisions.

``Service`` is the whole service in one process, wired to the systems that the settings name. ``run_service`` runs it
for the command ``run``; the demo runs it against an embedded broker and the OMS sandbox.
"""

import gc
import hashlib
import math
import os
import platform
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from importlib.metadata import version
from signal import Signals
from threading import Lock
from typing import Final, NoReturn

import confluent_kafka
import polars as pl
import structlog

from consumer.avro.decoder_thread import build_decoder
from consumer.avro.wire import framing_of
from consumer.container import ContainerMemory, MemoryWatch
from consumer.core.engine import Engine
from consumer.core.oms.job_schedule import JobLimits
from consumer.dead_letters.originals import changes_max
from consumer.dead_letters.writer import DeadLetterWriter
from consumer.kafka.source import KafkaSource
from consumer.loop.hold_queries import OnlySender
from consumer.loop.job_follower import JobFollower
from consumer.loop.loop import Loop, LoopOptions
from consumer.loop.traces import Traces
from consumer.observe.composite import CompositeObserver
from consumer.observe.event_log import EventLog
from consumer.observe.log_setup import RepeatedWarnings
from consumer.observe.metrics import Metrics
from consumer.observe.status.board import StatusBoard
from consumer.observe.status.server import StatusServer
from consumer.oms.apis import APIS
from consumer.oms.client import HttpRefreshClient, build_client
from consumer.settings import Credentials, Settings, redacted
from consumer.settings.engine_limits import engine_limits
from consumer.settings.memory import assumed_limit_bytes, budget_bytes, memory_shares
from consumer.signals import StopSignals, exit_now

LOCATIONS_SECONDS: Final = 5.0
"""How often pending changes are counted by location, if ``metrics.locations_max`` is set; it visits every location."""
STALLED_SECONDS: Final = 180.0
"""A loop without a heartbeat for this long counts as stalled, and /healthz asks for a restart. A turn of a healthy loop
can take 60 s to load what was assigned and 30 s to commit; while it waits for a revoke, it sends heartbeats."""
INSTANCE_DIGITS: Final = 10
"""Of a process's name: 40 bits, so that even 10,000 starts hardly ever share one."""
COLLECT_IDLE_SECONDS_MIN: Final = 5.0
"""In idle turns garbage is collected at most this often."""
COLLECT_SECONDS_MAX: Final = 60.0
"""Garbage is collected at least this often, idle or not."""

_log = structlog.get_logger("inventory_refresh.app")


class SystemClock:
    """``ports.Clock``: if available (CLOCK_BOOTTIME), a monotonic clock that keeps running while the machine sleeps."""

    _id = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def monotonic(self) -> float:
        return time.clock_gettime(self._id)

    def wall(self) -> float:
        return time.time()


class Service:
    """The service in this process. ``run`` may be called once; ``stop`` any time, from any thread."""

    def __init__(self, settings: Settings, credentials: Credentials | None = None) -> None:
        """``credentials`` reloads API key and secret; None: those of the settings are used throughout.

        Raises SettingsError if the container cannot hold ``memory.budget``.
        """
        self._settings = settings
        self._credentials = credentials
        self._clock = SystemClock()
        build = _build()
        self._version = build["version"]
        self._instance = instance_of(socket.gethostname(), os.getpid(), time.time_ns())
        self.board = StatusBoard(
            self._clock,
            version=build["version"],
            settings=redacted(settings),
            stalled_after_seconds=STALLED_SECONDS,
            members=settings.http.members,
            host=socket.gethostname(),
        )
        container = ContainerMemory()
        budget = budget_bytes(settings.memory.budget, container.limit_bytes)
        self._shares = memory_shares(budget)
        self._memory = MemoryWatch(
            container.used_bytes,
            assumed_limit_bytes(budget, container.limit_bytes),
            monotonic=self._clock.monotonic,
        )
        self._limits = engine_limits(settings, self._shares)
        self.metrics = Metrics(
            self._clock,
            limits=self._limits,
            ready=self.board.ready,
            build=build,
            locations_max=settings.metrics.locations_max,
        )
        self.metrics.show_memory(budget, self._memory.limit_bytes, lambda: self._memory.used_bytes)
        self._loop: Loop | None = None
        """None until it runs."""
        self._traces: Traces | None = None
        """None until the loop is made."""
        self._stopping = False
        self._start_lock = Lock()
        """Guards both: either ``stop`` finds the loop, or ``run`` finds that it must not start it."""
        self.url: str | None = None
        """URL of the status page; None before it is served."""

    def stop(self) -> bool:
        """Ask the service to wait for requests in flight, commit and leave the group; ``run`` then returns.

        Returns False if the service is still starting. Then it has read nothing and does not join the group.
        """
        with self._start_lock:
            self._stopping = True
            if self._loop is not None:
                self._loop.stop()
            return self._loop is not None

    def run(self, *, after_turn: Callable[[], None] = lambda: None) -> None:
        """Check Kafka, the dead-letter topic and the OMS, then work until stopped.

        ``after_turn`` is called after each turn of the loop. Raises StopError if the service cannot start or continue.
        """
        _log.info(
            "starting",
            version=self._version,
            instance=self._instance,
            group_id=self._settings.kafka.group_id,
            topics=self._settings.kafka.topics,
        )
        _log.info(
            "memory_budget",
            budget_bytes=self._shares.budget_bytes,
            pending_bytes_max=self._shares.pending_bytes,
            limit_bytes=self._memory.limit_bytes,
        )
        with ExitStack() as stack:
            server = StatusServer(self._settings.http, self.board, self.metrics.registry)
            stack.callback(server.stop)
            server.start()
            self.url = server.url
            loop = self._wired(stack)
            with self._start_lock:
                if self._stopping:
                    return
                self._loop = loop
            with _collecting_in_idle_turns() as collect:

                def end_turn(now: float, idle: bool) -> None:  # noqa: FBT001 - a fact, not a switch
                    collect(now, idle)
                    if self._traces:
                        self._traces.turn()
                    after_turn()

                loop.run(after_turn=end_turn)

    def _open(self, stack: ExitStack) -> tuple[KafkaSource, DeadLetterWriter, HttpRefreshClient]:
        """Open and check the connections to Kafka and the OMS. ``stack`` closes them in reverse order."""
        settings = self._settings
        source = stack.enter_context(
            closing(KafkaSource(settings.kafka, self.metrics.observe, queue_bytes=self._shares.consumer_queue_bytes))
        )
        schema_id_of = framing_of(settings.avro.framing).schema_id_of
        dead_letters = stack.enter_context(
            closing(
                DeadLetterWriter(
                    settings.kafka,
                    settings.dead_letters,
                    schema_id_of=schema_id_of,
                    has_lines=settings.has_lines,
                    queue_bytes=self._shares.dead_letter_queue_bytes,
                    originals_bytes=self._shares.originals_bytes,
                )
            )
        )
        times = source.check_broker()
        client = stack.enter_context(
            closing(
                build_client(
                    settings.oms,
                    settings.window.item_key,
                    monotonic=self._clock.monotonic,
                    wall=self._clock.wall,
                    fence_seconds=(times.session_timeout_seconds - times.heartbeat_interval_seconds) / 2,
                    credentials=self._credentials,
                    bodies_bytes=self._shares.bodies_bytes,
                )
            )
        )
        dead_letters.check()
        unreachable = client.check_credentials()
        if unreachable:
            _log.warning("oms_unreachable_at_start", detail=unreachable, next_step="none: the service keeps trying")
        return source, dead_letters, client

    def _wired(self, stack: ExitStack) -> Loop:
        settings = self._settings
        item_columns = APIS[settings.oms.api].item_columns
        decoder = stack.enter_context(
            closing(
                build_decoder(
                    settings.avro,
                    settings.events,
                    settings.window.item_key,
                    item_columns,
                    self._shares.decoder_bytes,
                )
            )
        )
        source, dead_letters, client = self._open(stack)
        self.metrics.count_tokens(lambda: client.tokens_fetched)
        self.metrics.show_clock_skew(lambda: client.clock_skew_seconds)
        engine = Engine(self._limits, settings.window.item_key)
        event_log = EventLog()
        stack.callback(event_log.close)
        self._traces = self._new_traces(engine, client)
        observer = CompositeObserver(self.metrics, self.board, event_log, self._traces)
        jitter = random.SystemRandom().random
        job_follower = None
        if client.jobs:
            job_follower = JobFollower(
                client=client.jobs,
                limits=JobLimits(
                    age_seconds_max=settings.oms.job_age_max,
                    unfinished_max=settings.oms.unfinished_jobs_max,
                    kept_bytes_max=self._shares.job_offsets_bytes,
                ),
                engine=engine,
                dead_letters=dead_letters,
                observer=observer,
                jitter=jitter,
                adaptive_items=engine.limits.items if settings.window.flush_items == "auto" else None,
                only_sender=self._only_sender(client, source),
            )
        return Loop(
            engine=engine,
            clock=self._clock,
            source=source,
            decoder=decoder,
            client=client,
            dead_letters=dead_letters,
            observer=observer,
            jitter=jitter,
            job_follower=job_follower,
            log_end=source.log_end_offset,
            memory_pressure=self._memory.is_short,
            views_wanted=self.board.views_wanted,
            options=LoopOptions(
                poll_messages_max=settings.kafka.poll_messages_max,
                fetching_changes_max=changes_max(self._shares.originals_bytes),
                revoke_seconds_max=settings.kafka.revoke_timeout,
                schema_wait_seconds=settings.avro.unknown_schema_wait,
                parked_bytes_max=self._shares.parked_bytes,
                instance=self._instance,
                locations_interval_seconds=LOCATIONS_SECONDS if settings.metrics.locations_max else None,
            ),
        )

    def _new_traces(self, engine: Engine, client: HttpRefreshClient) -> Traces:
        return Traces(
            self.board.questions,
            engine,
            self._clock,
            item_key=self._settings.window.item_key,
            bytes_max=self._shares.trace_bytes,
            instance=self._instance,
            follows_jobs=client.jobs is not None,
        )

    def _only_sender(self, client: HttpRefreshClient, source: KafkaSource) -> OnlySender | None:
        """What may end holds early; None if others may send, too."""
        if not self._settings.oms.only_sender:
            return None

        def oms_time() -> float | None:
            skew = client.clock_skew_seconds
            return None if skew is None else self._clock.wall() + skew

        return OnlySender(oms_time, source.partitions_total)


def run_service(
    settings: Settings, credentials: Credentials, signals: StopSignals, warnings: RepeatedWarnings
) -> NoReturn:
    """Run the service until SIGTERM or SIGINT, then end the process with exit code 0. Raises StopError.

    A signal that arrives before the loop runs ends the process at once: nothing has been read, sent or committed, and
    what the main thread is waiting for (a broker, a name server) may take long.
    """
    service = Service(settings, credentials)

    def on_signal(number: Signals) -> None:
        _log.info("stopping", signal=number.name)
        if not service.stop():
            warnings.close()
            _log.info("stopped")
            exit_now()

    signals.call(on_signal)
    try:
        service.run(after_turn=warnings.write_due)
    finally:
        warnings.close()
    _log.info("stopped")
    # Everything is closed. Python's own cleanup of all modules and objects would take up to a second of CPU time.
    exit_now()


def instance_of(host: str, pid: int, started_ns: int) -> str:
    """A short name of a process, which differs between the members of a group and between the starts of each."""
    return hashlib.sha256(f"{host} {pid} {started_ns}".encode()).hexdigest()[:INSTANCE_DIGITS]


def _build() -> dict[str, str]:
    return {
        "version": version("inventory-refresh"),
        "python": platform.python_version(),
        "librdkafka": confluent_kafka.libversion()[0],
        "polars": pl.__version__,
    }


@contextmanager
def _collecting_in_idle_turns() -> Iterator[Callable[[float, bool], None]]:
    """Disable automatic garbage collection; yields a function to call after each turn (time, whether it was idle).

    Automatic collection would scan all message objects over and over, which takes half of the loop's time.
    """
    collected_at = -math.inf

    def collect(now: float, idle: bool) -> None:  # noqa: FBT001 - a fact, not a switch
        nonlocal collected_at
        since = now - collected_at
        if since >= COLLECT_SECONDS_MAX or (idle and since >= COLLECT_IDLE_SECONDS_MIN):
            gc.collect()
            collected_at = now

    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield collect
    finally:
        gc.enable()
        gc.unfreeze()
