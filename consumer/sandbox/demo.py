"""The whole job on one machine: generator, embedded broker, the service and the OMS sandbox, over real sockets.

The service is the same as in ``run``. Its result is checked independently: committed offsets are read from the broker,
rejected changes from the dead-letter topic, the inventory from the sandbox; the generator computes the expected result.
"""

import itertools
import json
import math
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition
from fastavro import parse_schema, schemaless_reader
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from consumer.app import Service
from consumer.avro.bundled import schema_path, schema_text
from consumer.core.oms.breaker import BreakerState
from consumer.dead_letters.reader import dead_letter_of
from consumer.errors import InvariantError
from consumer.sandbox.demo_faults import demo_faults
from consumer.sandbox.demo_result import (
    DIFFERENCES_SHOWN_MAX,
    PROGRAM,
    REASONS_AFTER_SENDING,
    Result,
    SentRequest,
    program_name,
    show,
)
from consumer.sandbox.embedded_broker import PARTITIONS, EmbeddedBroker
from consumer.sandbox.generator import (
    BURST_ITEMS,
    BURST_LOCATION,
    LOCATIONS_SMALL,
    DemoPlan,
    Held,
    differences,
    held_after,
    plan_demo,
)
from consumer.sandbox.oms.app import TOKEN_PATH
from consumer.sandbox.oms.reports import JobRecord
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import SPECIFIC_KEY, SPECIFIC_SECRET, SandboxSettings
from consumer.sandbox.publisher import publish
from consumer.settings import Settings
from consumer.terminal import console

TOPIC: Final = "inventory-changes"
DEAD_LETTERS: Final = "inventory-refresh.dead-letters"
GROUP: Final = "inventory-refresh-demo"
MAX_AGE_SECONDS: Final = 5.0
"""Instead of the default 300 s, to make the demo short."""
SECONDS_MAX: Final = 240.0
"""The demo fails if it takes longer than this. With faults it takes a while: locations are held after unknown outcomes,
and the rate of calls stays low for minutes after an over-quota answer."""
FAULTS_HOLD_SECONDS: Final = 3
"""Instead of the default 120 s: the sandbox queues a request at once, or never."""
READ_SECONDS_MAX: Final = 60.0
BAR_WIDTH: Final = 20
INTRODUCTION: Final = (
    "Changes are collected per location, and sent when it has 12,000 items or when its oldest change is "
    f"{MAX_AGE_SECONDS:g} s old."
)
FOREVER_PAUSE_SECONDS: Final = 2.0
FOREVER_BURST_ITEMS: Final = 500
CONFLUENT_BYTES: Final = 5
"""Header before the Avro value: a zero byte and the schema ID."""


def run_demo(*, as_json: bool, forever: bool, seed: int, port: int, faults: bool = False) -> int:
    """Run the demo, with an OMS that fails in every way if ``faults``, and print the result.

    Returns the exit code: 0 if the result is as expected, else 1.
    """
    screen = console(stderr=as_json)
    sandbox_settings = SandboxSettings(seconds_per_chunk=0.05, seconds_per_job=0.05)
    with EmbeddedBroker([TOPIC, DEAD_LETTERS]) as broker, SandboxServer(sandbox_settings) as sandbox:
        with screen.status("Starting a Kafka broker, a simulated OMS and the service, all on this machine"):
            service = Service(_settings(broker.bootstrap_servers, sandbox.url, port, faults=faults))
            plan = plan_demo(seed)
            if faults:
                sandbox.state.add_faults(demo_faults(seed))
            started = time.monotonic()
            publish(plan.events, bootstrap_servers=broker.bootstrap_servers, topic=TOPIC)
        with _running(service) as failed:
            demo = _RunningDemo(broker.bootstrap_servers, sandbox, service, plan, screen)
            if forever:
                demo.show_addresses(failed)
            demo.wait_until_done(started, failed)
            if forever:
                demo.publish_forever(seed, failed)
                return 0
        result = demo.result(time.monotonic() - started, faults=faults)
    if as_json:
        print(json.dumps(asdict(result)))  # noqa: T201 - the output of --json
    else:
        show(screen, result, program_name(sys.argv[0], shutil.which(PROGRAM), Path.cwd()))
    return 0 if result.ok else 1


def _settings(bootstrap_servers: str, oms_url: str, port: int, *, faults: bool) -> Settings:
    short_times = {"unknown_hold": FAULTS_HOLD_SECONDS, "backoff_min": 0.2, "backoff_max": 2} if faults else {}
    return Settings.model_validate(
        {
            "kafka": {
                "bootstrap_servers": bootstrap_servers,
                "topics": [TOPIC],
                "group_id": GROUP,
            },
            "avro": {"schema_file": str(schema_path())},
            "window": {"max_age": MAX_AGE_SECONDS},
            "oms": {
                "base_url": oms_url,
                "token_url": oms_url + TOKEN_PATH,
                "api_key": SPECIFIC_KEY,
                "api_secret": SPECIFIC_SECRET,
                **short_times,
            },
            "dead_letters": {"topic": DEAD_LETTERS},
            "http": {"host": "127.0.0.1", "port": port},
            "log": {"level": "warning"},
            # Every location has its own series, for the dashboard of one location.
            "metrics": {"locations_max": LOCATIONS_SMALL + 1},
        }
    )


@contextmanager
def _running(service: Service) -> Iterator[list[BaseException]]:
    """Run the service on a thread. If it fails, the exception is in the list, and raised at the end of the block."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            service.run()
        except BaseException as error:  # noqa: BLE001 - raised again on the main thread
            failed.append(error)

    thread = threading.Thread(target=run, name="service")
    thread.start()
    try:
        yield failed
    finally:
        service.stop()
        thread.join()
    if failed:
        raise failed[0]


class _RunningDemo:
    """The running demo: service, broker and sandbox, and what they report."""

    def __init__(
        self,
        bootstrap_servers: str,
        sandbox: SandboxServer,
        service: Service,
        plan: DemoPlan,
        screen: Console,
    ) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._sandbox = sandbox
        self._service = service
        self._plan = plan
        self._screen = screen
        self._endless = False

    def show_addresses(self, failed: Sequence[BaseException]) -> None:
        """Say where to look while the demo goes on."""
        while self._service.url is None and not failed:
            time.sleep(0.05)
        self._screen.print(f"[bold]Status page:[/] {self._service.url}/", highlight=False)
        self._screen.print(f"[bold]The OMS:[/]     {self._sandbox.url}/", highlight=False)

    def wait_until_done(self, started: float, failed: Sequence[BaseException]) -> None:
        """Show the progress until the demo is done, or its time is up."""
        with self._live(started) as live:
            while not failed and not self._done() and time.monotonic() - started < SECONDS_MAX:
                live.update(self._progress(started))
                time.sleep(0.1)

    def publish_forever(self, seed: int, failed: Sequence[BaseException]) -> None:
        """Publish new changes and show the progress until Ctrl-C."""
        self._screen.print("The OMS has the first changes. New ones follow every 2 s; stop with Ctrl-C.")
        self._endless = True
        started = time.monotonic()
        try:
            with self._live(started) as live:
                for turn in itertools.count(1):
                    events = plan_demo(seed + turn, burst_items=FOREVER_BURST_ITEMS).events
                    publish(events, bootstrap_servers=self._bootstrap_servers, topic=TOPIC)
                    until = time.monotonic() + FOREVER_PAUSE_SECONDS
                    while time.monotonic() < until and not failed:
                        live.update(self._progress(started))
                        time.sleep(0.2)
                    if failed:
                        return
        except KeyboardInterrupt:
            self._screen.print("Stopping: waiting for requests in flight, then committing.")

    def _live(self, started: float) -> Live:
        """What goes on, on a terminal. It is removed at the end, since the result says it all."""
        screen = self._screen if self._screen.is_terminal else Console(quiet=True)
        return Live(self._progress(started), console=screen, refresh_per_second=5, transient=True)

    def _done(self) -> bool:
        """True once every offset is committed, every job has ended, and every dead letter is confirmed."""
        latest = self._service.board.latest
        return (
            self._committed() == len(self._plan.events)
            and all(job.finished is not None for job in self._sandbox.state.jobs())
            and not latest.unfinished_jobs
            and self._metric("dead_letters_confirmed_total")
            == sum(self._metrics_by("changes_dead_lettered_total").values())
        )

    def _metric(self, name: str) -> float:
        return self._service.metrics.registry.get_sample_value(f"inventory_refresh_{name}") or 0.0

    def _metrics_by(self, name: str) -> dict[str, int]:
        """The samples of a counter that are not 0, by the value of their label."""
        samples = [
            sample
            for metric in self._service.metrics.registry.collect()
            for sample in metric.samples
            if sample.name == f"inventory_refresh_{name}"
        ]
        return {next(iter(sample.labels.values())): round(sample.value) for sample in samples if sample.value}

    def _committed(self) -> int:
        """The sum of the committed offsets of all partitions."""
        return sum(max(partition.committed_offset or 0, 0) for partition in self._service.board.latest.partitions)

    def _progress(self, started: float) -> RenderableType:
        """How far the demo is, with bars as long as it is known how much there is."""
        summary, snapshot = self._sandbox.state.summary(), self._service.board.latest
        read, committed = self._service.board.totals.messages_read, self._committed()
        messages = None if self._endless else len(self._plan.events)
        items = None if self._endless else sum(map(len, self._plan.held.values()))
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True)
        for name, count, of, unit in (
            ("Read", read, messages, "messages"),
            ("Accepted", summary.items, items, f"items, in {summary.jobs:,} request{'' if summary.jobs == 1 else 's'}"),
            ("Committed", committed, messages, "offsets"),
        ):
            bar = "" if of is None else ProgressBar(total=of, completed=min(count, of), width=BAR_WIDTH)
            table.add_row(name, bar, f"{count:,} {unit}")
        waiting = f"{snapshot.pending_changes:,} changes at {snapshot.pending_locations} locations"
        breaker = "" if snapshot.breaker is BreakerState.CLOSED else ", the OMS is unavailable"
        table.add_row("Waiting", "", f"{waiting}, {snapshot.requests_in_flight} in flight{breaker}")
        table.add_row("Time", "", f"{time.monotonic() - started:.0f} s")
        return Group("", INTRODUCTION, "", table)

    def result(self, seconds: float, *, faults: bool) -> Result:
        """Compare what broker and sandbox hold with the plan.

        With faults, changes that were dead-lettered after sending are left out of the expected result.
        """
        committed, end = _offsets(self._bootstrap_servers)
        jobs = self._sandbox.state.jobs()
        dead_letters = _read_dead_letters(self._bootstrap_servers)
        by_reason = dict(sorted(Counter(letter.reason for letter in dead_letters).items()))
        failed = {letter.event_id for letter in dead_letters if letter.reason in REASONS_AFTER_SENDING}
        held = held_after(change for change in self._plan.changes if change["eventId"] not in failed)
        found = differences(held, as_held(self._sandbox.state.inventory()))
        expected = {reason.value: count for reason, count in self._plan.rejects.items()}
        before_sending = {reason: count for reason, count in by_reason.items() if reason not in REASONS_AFTER_SENDING}
        ok = (
            not found
            and committed == end
            and sum(end.values()) == len(self._plan.events) == self._service.board.totals.messages_read
            and before_sending == expected
            and (faults or _went_smoothly(jobs, by_reason, expected))
        )
        return Result(
            ok=ok,
            faults=self._faults(),
            changes_read=self._service.board.totals.messages_read,
            changes_valid=len(self._plan.changes),
            items_expected=sum(map(len, held.values())),
            items_accepted=sum(job.items for job in jobs),
            requests=[_sent(job) for job in jobs],
            chunks_used=sum(job.chunks for job in jobs),
            chunks_min=_chunks_min(self._plan.held, self._sandbox.settings.chunk_items),
            dead_letters=by_reason,
            committed=committed,
            end=end,
            differences=found[:DIFFERENCES_SHOWN_MAX],
            items_wrong=len(found),
            seconds=round(seconds, 1),
        )

    def _faults(self) -> dict[str, int]:
        answers = self._metrics_by("requests_answered_total") | {"accepted": 0}
        jobs = self._metrics_by("jobs_ended_total") | {"success": 0}
        named = {f"answers: {kind}": count for kind, count in answers.items()}
        named |= {f"jobs: {outcome}": count for outcome, count in jobs.items()}
        return {name: count for name, count in named.items() if count}


def _went_smoothly(jobs: Sequence[JobRecord], dead_letters: Mapping[str, int], expected: Mapping[str, int]) -> bool:
    """True if no change was dead-lettered after sending, and the burst took two requests."""
    burst = [job.items for job in jobs if job.location == BURST_LOCATION]
    return dead_letters == expected and burst == [12_000, BURST_ITEMS - 12_000]


def _sent(job: JobRecord) -> SentRequest:
    return SentRequest(job.location, job.items, job.chunks, job.job_id)


def _chunks_min(held: Held, chunk_items: int) -> int:
    return sum(math.ceil(len(items) / chunk_items) for items in held.values())


def as_held(inventory: Mapping[str, Sequence[Mapping[str, Any]]]) -> Held:
    """The sandbox's inventory in the generator's format."""
    key = ("partNumber", "upc", "sku", "binID")
    return {
        location: {
            (item.get(key[0]), item.get(key[1]), item.get(key[2]), item.get(key[3])): dict(item) for item in items
        }
        for location, items in inventory.items()
    }


def _offsets(bootstrap_servers: str) -> tuple[dict[str, int], dict[str, int]]:
    """The group's committed offsets and the end offsets of the partitions, read by a client outside the group."""
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": GROUP, "log_level": 0})
    try:
        partitions = [TopicPartition(TOPIC, partition) for partition in range(PARTITIONS)]
        committed = {str(p.partition): p.offset for p in consumer.committed(partitions, timeout=READ_SECONDS_MAX)}
        end = {str(p.partition): consumer.get_watermark_offsets(p, timeout=READ_SECONDS_MAX)[1] for p in partitions}
    finally:
        consumer.close()
    return committed, end


@dataclass(frozen=True, slots=True)
class _DeadLetter:
    reason: str
    event_id: str | None
    """Of a change that was sent; None for others."""


def _read_dead_letters(bootstrap_servers: str) -> list[_DeadLetter]:
    """All dead letters in the topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": f"{GROUP}-reader",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    letters: list[_DeadLetter] = []
    try:
        partitions = [TopicPartition(DEAD_LETTERS, partition, 0) for partition in range(PARTITIONS)]
        expected = sum(
            consumer.get_watermark_offsets(partition, timeout=READ_SECONDS_MAX)[1] for partition in partitions
        )
        consumer.assign(partitions)
        deadline = time.monotonic() + READ_SECONDS_MAX
        while len(letters) < expected and time.monotonic() < deadline:
            for message in consumer.consume(expected, 0.2):
                if message.error() is None:
                    dead_letter = dead_letter_of(message)
                    reason = dead_letter.reason if dead_letter else "no reason"
                    was_sent = reason in REASONS_AFTER_SENDING
                    letters.append(_DeadLetter(reason, _event_id(message.value()) if was_sent else None))
    finally:
        consumer.close()
    return letters


def _event_id(value: str | bytes | None) -> str:
    if not isinstance(value, bytes):
        raise InvariantError("the dead letter of a change that was sent does not contain the original record")
    event: Any = schemaless_reader(BytesIO(value[CONFLUENT_BYTES:]), parse_schema(json.loads(schema_text())), None)
    return str(event["eventId"])
