"""The main job on one machine: generator, embedded broker, the service and the OMS sandbox, all over real sockets.

The service is the one that ``run`` starts. What it did is judged by others: the broker says what is committed, the
dead-letter topic what was rejected, the sandbox what it holds; and what it should hold is reckoned by the generator.
"""

import itertools
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition
from fastavro import parse_schema, schemaless_reader
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from consumer.app import Service
from consumer.avro.bundled import schema_path, schema_text
from consumer.core.changes.items import RejectReason
from consumer.sandbox.demo_faults import demo_faults
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
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import SPECIFIC_KEY, SPECIFIC_SECRET, SandboxSettings
from consumer.sandbox.oms.state import JobRecord
from consumer.sandbox.publisher import publish
from consumer.settings import Settings

TOPIC: Final = "inventory-changes"
DEAD_LETTERS: Final = "inventory-refresh.dead-letters"
GROUP: Final = "inventory-refresh-demo"
MAX_AGE_SECONDS: Final = 5.0
"""In place of the default 300 s: people watch."""
SECONDS_MAX: Final = 240.0
"""The demo has failed if not all is done by then, also on a busy machine. Faults take a while: many a location is held,
and calls are few a second for minutes after an over-quota answer."""
FAULTS_HOLD_SECONDS: Final = 3
"""In place of the default 120 s after an unknown outcome: the sandbox queues at once, or never."""
AFTER_SENDING: Final = (RejectReason.REFUSED_BY_OMS.value, RejectReason.JOB_FAILED.value)
"""Reasons of dead letters that depend on what the OMS does."""
READ_SECONDS_MAX: Final = 60.0
FOREVER_PAUSE_SECONDS: Final = 2.0
FOREVER_BURST_ITEMS: Final = 500
DIFFERENCES_SHOWN_MAX: Final = 20
CONFLUENT_BYTES: Final = 5
"""Before the Avro value: a zero byte and the schema's id."""


@dataclass(frozen=True, slots=True)
class SentRequest:
    """One request as the sandbox's job queue tells it."""

    location: str
    items: int
    chunks: int
    job_id: int


@dataclass(frozen=True, slots=True)
class Result:
    """What the demo found; printed as a table, or as one JSON object with these names."""

    ok: bool
    faults: dict[str, int]
    """Answers and jobs that went wrong, by what they were."""
    changes_read: int
    items_sent: int
    requests: list[SentRequest]
    chunks_used: int
    chunks_fewest: int
    dead_letters: dict[str, int]
    committed: dict[str, int]
    end: dict[str, int]
    differences: list[str]
    seconds: float


def run_demo(*, as_json: bool, forever: bool, seed: int, port: int, faults: bool = False) -> int:
    """Run it, with an OMS that goes wrong in every way if ``faults``, and print what came of it.

    0 if all agrees, else 1.
    """
    console = Console(stderr=as_json)
    sandbox_settings = SandboxSettings(seconds_per_chunk=0.05, seconds_per_job=0.05)
    with EmbeddedBroker([TOPIC, DEAD_LETTERS]) as broker, SandboxServer(sandbox_settings) as sandbox:
        service = Service(_settings(broker.bootstrap_servers, sandbox.url, port, faults=faults))
        plan = plan_demo(seed)
        if faults:
            sandbox.state.order_faults(demo_faults(seed))
        started = time.monotonic()
        publish(plan.events, bootstrap_servers=broker.bootstrap_servers, topic=TOPIC)
        with _running(service) as failed:
            stage = _Stage(broker.bootstrap_servers, sandbox, service, plan, console, quiet=as_json)
            stage.watch(started, failed)
            if forever:
                stage.go_on(seed, failed)
                return 0
        result = stage.result(time.monotonic() - started, faults=faults)
    if as_json:
        print(json.dumps(asdict(result)))  # noqa: T201 - the result is what was asked for
    else:
        _show(console, result)
    return 0 if result.ok else 1


def _settings(bootstrap_servers: str, oms_url: str, port: int, *, faults: bool) -> Settings:
    short = {"unknown_hold": FAULTS_HOLD_SECONDS, "backoff_min": 0.2, "backoff_max": 2} if faults else {}
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
                **short,
            },
            "dead_letters": {"topic": DEAD_LETTERS},
            "http": {"host": "127.0.0.1", "port": port},
            "log": {"level": "warning"},
            # All of its locations, so that the dashboard of one location has something to show.
            "metrics": {"locations_max": LOCATIONS_SMALL + 1},
        }
    )


@contextmanager
def _running(service: Service) -> Iterator[list[BaseException]]:
    """The service in a thread; what ended it, if anything did, is in the list, and raised at the end."""
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


class _Stage:
    """The parts of a demo that runs, and what can be seen of them."""

    def __init__(
        self,
        bootstrap_servers: str,
        sandbox: SandboxServer,
        service: Service,
        plan: DemoPlan,
        console: Console,
        *,
        quiet: bool,
    ) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._sandbox = sandbox
        self._service = service
        self._plan = plan
        self._console = console
        self._quiet = quiet

    def watch(self, started: float, failed: Sequence[BaseException]) -> None:
        """Show progress until all is done, or the time for it is over."""
        with self._live(started) as live:
            while not failed and not self._done() and time.monotonic() - started < SECONDS_MAX:
                live.update(self._progress(started))
                time.sleep(0.1)
            live.update(self._progress(started))

    def go_on(self, seed: int, failed: Sequence[BaseException]) -> None:
        """Publish ever new changes and show them pass, until Ctrl-C."""
        self._console.print(
            f"Metrics and status: {self._service.url}; OMS sandbox: {self._sandbox.url}; Ctrl-C ends it"
        )
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
            self._console.print("Stopping: what is in flight is settled and committed first.")

    def _live(self, started: float) -> Live:
        return Live(self._progress(started), console=self._console, refresh_per_second=5, transient=self._quiet)

    def _done(self) -> bool:
        """All that was published is committed, and the end of every job is known and dealt with."""
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
        """A counter's samples that are not 0, by the value of their label."""
        samples = [
            sample
            for metric in self._service.metrics.registry.collect()
            for sample in metric.samples
            if sample.name == f"inventory_refresh_{name}"
        ]
        return {next(iter(sample.labels.values())): round(sample.value) for sample in samples if sample.value}

    def _committed(self) -> int:
        """Offsets committed, of all partitions together."""
        return sum(max(partition.committed_offset or 0, 0) for partition in self._service.board.latest.partitions)

    def _progress(self, started: float) -> Table:
        summary = self._sandbox.state.summary()
        snapshot = self._service.board.latest
        table = Table("seconds", "read", "pending", "in flight", "breaker", "sent", "committed", box=box.SIMPLE)
        table.add_row(
            f"{time.monotonic() - started:.1f}",
            f"{self._service.board.totals.messages_read:,}",
            f"{snapshot.pending_changes:,} of {snapshot.pending_locations} locations",
            f"{snapshot.requests_in_flight}",
            snapshot.breaker.value.replace("_", "-"),
            f"{summary.items:,} items in {summary.jobs} requests",
            f"{self._committed():,}",
        )
        return table

    def result(self, seconds: float, *, faults: bool) -> Result:
        """Ask the broker and the sandbox what has become of the plan.

        With faults the OMS should hold what all changes but the dead-lettered ones leave.
        """
        committed, end = _offsets(self._bootstrap_servers)
        jobs = self._sandbox.state.jobs()
        letters = _dead_letters(self._bootstrap_servers)
        dead_letters = dict(sorted(Counter(letter.reason for letter in letters).items()))
        in_vain = {letter.event_id for letter in letters if letter.reason in AFTER_SENDING}
        held = held_after(change for change in self._plan.changes if change["eventId"] not in in_vain)
        found = differences(held, as_held(self._sandbox.state.inventory()))
        expected = {reason.value: count for reason, count in self._plan.rejects.items()}
        before_sending = {reason: count for reason, count in dead_letters.items() if reason not in AFTER_SENDING}
        ok = (
            not found
            and committed == end
            and sum(end.values()) == len(self._plan.events) == self._service.board.totals.messages_read
            and before_sending == expected
            and (faults or _went_smoothly(jobs, dead_letters, expected))
        )
        return Result(
            ok=ok,
            faults=self._faults(),
            changes_read=self._service.board.totals.messages_read,
            items_sent=sum(job.items for job in jobs),
            requests=[_sent(job) for job in jobs],
            chunks_used=sum(job.chunks for job in jobs),
            chunks_fewest=_chunks_fewest(self._plan.held, self._sandbox.settings.chunk_items),
            dead_letters=dead_letters,
            committed=committed,
            end=end,
            differences=found[:DIFFERENCES_SHOWN_MAX],
            seconds=round(seconds, 1),
        )

    def _faults(self) -> dict[str, int]:
        answers = self._metrics_by("requests_answered_total") | {"accepted": 0}
        jobs = self._metrics_by("jobs_ended_total") | {"success": 0}
        told = {f"answers: {kind}": count for kind, count in answers.items()}
        return {what: count for what, count in (told | {f"jobs: {end}": n for end, n in jobs.items()}).items() if count}


def _went_smoothly(jobs: Sequence[JobRecord], dead_letters: Mapping[str, int], expected: Mapping[str, int]) -> bool:
    """Nothing was refused, and the burst took two requests."""
    burst = [job.items for job in jobs if job.location == BURST_LOCATION]
    return dead_letters == expected and burst == [12_000, BURST_ITEMS - 12_000]


def _sent(job: JobRecord) -> SentRequest:
    return SentRequest(job.location, job.items, job.chunks, job.job_id)


def _chunks_fewest(held: Held, chunk_items: int) -> int:
    """With every item sent once, in whole chunks as far as they go."""
    return sum(math.ceil(len(items) / chunk_items) for items in held.values())


def as_held(inventory: Mapping[str, Sequence[Mapping[str, Any]]]) -> Held:
    """What the sandbox holds, in the generator's form."""
    key = ("partNumber", "upc", "sku", "binID")
    return {
        location: {
            (item.get(key[0]), item.get(key[1]), item.get(key[2]), item.get(key[3])): dict(item) for item in items
        }
        for location, items in inventory.items()
    }


def _offsets(bootstrap_servers: str) -> tuple[dict[str, int], dict[str, int]]:
    """What the group has committed, and where each partition ends, as the broker tells a stranger."""
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": GROUP, "log_level": 0})
    try:
        partitions = [TopicPartition(TOPIC, partition) for partition in range(PARTITIONS)]
        committed = {str(p.partition): p.offset for p in consumer.committed(partitions, timeout=READ_SECONDS_MAX)}
        end = {str(p.partition): consumer.get_watermark_offsets(p, timeout=READ_SECONDS_MAX)[1] for p in partitions}
    finally:
        consumer.close()
    return committed, end


@dataclass(frozen=True, slots=True)
class _Letter:
    reason: str
    event_id: str
    """Of a change that was sent; "" of others."""


def _dead_letters(bootstrap_servers: str) -> list[_Letter]:
    """All dead letters there are."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": f"{GROUP}-reader",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    letters: list[_Letter] = []
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
                    reason = _text(dict(message.headers() or ()).get("inventory_refresh.reason"))
                    letters.append(_Letter(reason, _event_id(message.value()) if reason in AFTER_SENDING else ""))
    finally:
        consumer.close()
    return letters


def _event_id(value: str | bytes | None) -> str:
    if not isinstance(value, bytes):
        raise TypeError("a dead letter of a change that was sent has the change's own bytes")
    event: Any = schemaless_reader(BytesIO(value[CONFLUENT_BYTES:]), parse_schema(json.loads(schema_text())), None)
    return str(event["eventId"])


def _text(header: str | bytes | None) -> str:
    return header.decode() if isinstance(header, bytes) else header or "no reason"


def _show(console: Console, result: Result) -> None:
    requests = Table("location", "items", "chunks", "jobID", title="Requests", title_justify="left")
    for request in sorted(result.requests, key=lambda request: (-request.items, request.location)):
        requests.add_row(request.location, f"{request.items:,}", str(request.chunks), str(request.job_id))
    console.print(requests)
    table = Table(title="Inventory refresh demo", show_header=False, title_justify="left")
    for what, count in result.faults.items():
        table.add_row(what, str(count))
    table.add_row("changes read", f"{result.changes_read:,}")
    table.add_row("items sent", f"{result.items_sent:,} in {len(result.requests)} requests")
    table.add_row("chunks used / fewest possible", f"{result.chunks_used} / {result.chunks_fewest}")
    for partition, end in result.end.items():
        table.add_row(f"partition {partition}: committed / end", f"{result.committed[partition]:,} / {end:,}")
    for reason, count in result.dead_letters.items():
        table.add_row(f"dead letters: {reason}", str(count))
    table.add_row("items that differ in the OMS", str(len(result.differences)))
    table.add_row("seconds", f"{result.seconds:.1f}")
    console.print(table)
    for difference in result.differences:
        console.print(difference, style="red")
    console.print("All agrees." if result.ok else "NOT all agrees.", style="bold green" if result.ok else "bold red")
