"""The command ``inventory-refresh``: parse, call, print.

Each command imports what it needs when it runs: ``--help`` must not wait for polars, librdkafka and httpx to load.
"""

import importlib.util
import io
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consumer.errors import SettingsError, StopError
from consumer.signals import StopSignals

if TYPE_CHECKING:
    from consumer.settings import Settings

app = typer.Typer(
    name="inventory-refresh",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

dead_letters = typer.Typer(
    name="dead-letters",
    help="Inspect dead letters, and redrive them to their topics once the cause is fixed.",
    no_args_is_help=True,
)
app.add_typer(dead_letters)

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="YAML file with settings; see config.example.yaml. INVENTORY_REFRESH_* variables take precedence.",
    ),
]


def main(signals: StopSignals | None = None) -> None:
    """Run a command. ``signals`` are those that ``run`` waits for; None: it begins to wait when it starts.

    Exit codes: 0 success; 1 a bug, or the demo found a difference; 2 settings; 3 Kafka; 4 OMS; 5 dead letters.
    """
    # Polars panics on corrupt bytes; the decoder catches that and falls back to fastavro. Backtraces only fill the log.
    os.environ.setdefault("RUST_BACKTRACE", "0")
    try:
        app(obj=signals)
    except StopError as stop:
        print(f"inventory-refresh: {stop}", file=sys.stderr)  # noqa: T201 - the one line that says what to change
        sys.exit(stop.exit_code)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's signature
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - see the module docstring

        typer.echo(f"inventory-refresh {version('inventory-refresh')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Sends inventory changes from Kafka to the OMS in few, large refresh requests."""


@app.command()
def run(context: typer.Context, config: Config = None) -> None:
    """Run the service until SIGTERM or SIGINT.

    Example: inventory-refresh run --config config.yaml
    """
    from consumer.app import run_service  # noqa: PLC0415 - see the module docstring
    from consumer.settings import credentials_reader  # noqa: PLC0415

    settings = _load(config)
    run_service(settings, credentials_reader(settings, config, os.environ), context.obj or StopSignals())


@app.command()
def check(
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object; see docs/check.md.")] = False,
    timeout: Annotated[
        float, typer.Option(help="Seconds that each of brokers, registry and OMS may take to answer.", min=1, max=600)
    ] = 5.0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also show the log.")] = False,
) -> None:
    """Check settings, Kafka, schemas, mapping and the OMS, and say what to do. Sends no change and joins no group.

    Example: inventory-refresh check --config config.yaml
    """
    from consumer.checks.command import print_checks  # noqa: PLC0415
    from consumer.observe.log_setup import configure_logging  # noqa: PLC0415
    from consumer.settings import Credentials, credentials_reader, load  # noqa: PLC0415

    def loaded() -> "tuple[Settings, Credentials]":
        settings = load(config, os.environ)
        # The report says what the log would, and what to do.
        configure_logging(settings.log, None if verbose else io.StringIO())
        return settings, credentials_reader(settings, config, os.environ)

    raise typer.Exit(print_checks(loaded, as_json=as_json, seconds_max=timeout))


@app.command()
def job(
    job_ids: Annotated[list[str], typer.Argument(help="jobIDs, as shown in the log.", metavar="JOBID...")],
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per job.")] = False,
) -> None:
    """Ask the OMS for the status of jobs, such as those logged in jobs_abandoned.

    Example: inventory-refresh job --config config.yaml 1234567 1234570
    """
    from consumer.job_command import print_jobs  # noqa: PLC0415

    print_jobs(_load(config), job_ids, as_json=as_json)


@app.command()
def status(
    urls: Annotated[
        list[str] | None,
        typer.Argument(
            help="Addresses of status pages, or a name of several; default: http://127.0.0.1:8080.", metavar="URL"
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print the state once, as if not on a terminal.")] = False,
    locations: Annotated[
        int, typer.Option(help="Show this many locations, those with the oldest changes.", min=0, max=500)
    ] = 10,
) -> None:
    """Show what running processes do: their state, what waits and why, locations, problems; live, until Ctrl-C.

    Exits with 1 if a process does not answer (with --once).

    Example: inventory-refresh status http://pod-0:8080 http://pod-1:8080
    """
    from consumer.status_command import show_status  # noqa: PLC0415 - see the module docstring

    if not show_status(urls or ["http://127.0.0.1:8080"], once=once, locations_max=locations):
        raise typer.Exit(1)


@app.command()
def decode(
    values: Annotated[
        list[Path] | None, typer.Argument(help="Files with one message's value each; default: read a topic.")
    ] = None,
    config: Config = None,
    topic: Annotated[str | None, typer.Option(help="Topic to read; default: the first of kafka.topics.")] = None,
    last: Annotated[int, typer.Option(help="Show this many of the latest messages.", min=1, max=10_000)] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per message.")] = False,
) -> None:
    """Show what becomes of messages: the change or the reject, and where each field comes from. Sends nothing.

    Example: inventory-refresh decode --config config.yaml --topic stock --last 20
    """
    from consumer.decode_command import print_decoded  # noqa: PLC0415

    print_decoded(_load(config), values or [], topic=topic, last=last, as_json=as_json)


@app.command()
def demo(
    as_json: Annotated[bool, typer.Option("--json", help="Print only the result, as one JSON object.")] = False,
    forever: Annotated[
        bool, typer.Option("--forever", help="Keep publishing changes, to watch the metrics; stop with Ctrl-C.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the generated changes.")] = 1,
    port: Annotated[
        int, typer.Option(help="Port of the status page and metrics; 0 picks a free one.", min=0, max=65_535)
    ] = 0,
    faults: Annotated[
        bool,
        typer.Option("--faults", help="Inject faults into the OMS: outages, quota, lost answers, failed jobs."),
    ] = False,
) -> None:
    """Run the whole service on this machine, between an embedded Kafka broker and an OMS sandbox.

    Exits with 0 only if the OMS then holds the last change of every item and every offset is committed.
    """
    _need_sandbox()
    from consumer.observe.log_setup import configure_logging  # noqa: PLC0415
    from consumer.sandbox.demo import run_demo  # noqa: PLC0415 - needs the extra "sandbox"
    from consumer.settings import LogSettings  # noqa: PLC0415

    configure_logging(LogSettings(level="error"))
    sys.exit(run_demo(as_json=as_json, forever=forever, seed=seed, port=port, faults=faults))


@app.command()
def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.", min=0, max=65_535)] = 8_090,
    seconds_per_chunk: Annotated[
        float, typer.Option(help="Seconds that each started chunk of 3,000 items takes.")
    ] = 1.0,
    seconds_per_job: Annotated[float, typer.Option(help="Seconds that a job takes in addition to its chunks.")] = 0.5,
    token_seconds: Annotated[int, typer.Option(help="Lifetime of a token, in seconds.")] = 3_600,
    max_items: Annotated[int, typer.Option(help="Items accepted in a request, at most.")] = 12_000,
    sync_items_max: Annotated[
        int, typer.Option(help="Items up to which a request of smart refresh is applied at once.")
    ] = 25,
    tenant: Annotated[int, typer.Option(help="Tenant for Unified Commerce, as in oms.tenant.")] = 10_001,
    fault: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:KEY=VALUE,...", help="Fault to inject; may be repeated. See docs/sandbox.md."),
    ] = None,
    fault_seed: Annotated[
        int, typer.Option(help="Seed of the faults: the same seed and calls give the same faults.")
    ] = 1,
    count_only: Annotated[
        bool, typer.Option("--count-only", help="Only count items, without checking or storing them; for benchmarks.")
    ] = False,
) -> None:
    """Run a simulated OMS: tokens, the refresh endpoints, a queue of jobs, and counts to read back.

    Example: inventory-refresh sandbox --port 8090, then open http://127.0.0.1:8090/

    Faults to inject:

    - --fault quota:rate=0.05,retry_after=2

    - --fault limit:calls=10 (per second, refresh and get-job together)

    - --fault latency:median=0.2,p99=2 --fault hang:seconds=90,rate=0.01

    - --fault reset:when=after_queue,rate=0.02 --fault answer:status=504,when=after_queue,rate=0.01

    - --fault outage:begin=60,duration=600 --fault revoke:every=300

    - --fault fail_job:rate=0.02 --fault stall_job:seconds=120,rate=0.01

    - --fault refuse:prefix=BAD-,quantity=999,named=false
    """
    _need_sandbox()
    from consumer.sandbox.oms.options import settings_from_options  # noqa: PLC0415 - needs the extra "sandbox"
    from consumer.sandbox.oms.server import serve  # noqa: PLC0415

    settings = settings_from_options(
        fault or (),
        fault_seed=fault_seed,
        host=host,
        port=port,
        seconds_per_chunk=seconds_per_chunk,
        seconds_per_job=seconds_per_job,
        token_seconds=token_seconds,
        max_items=max_items,
        sync_items_max=sync_items_max,
        tenant=tenant,
        validation="count" if count_only else "full",
    )
    serve(settings, lambda url: typer.echo(f"OMS sandbox at {url} (with a status page; stop with Ctrl-C)", err=True))


@app.command()
def produce(
    config: Config = None,
    topic: Annotated[str | None, typer.Option(help="Topic to publish to; default: the first of kafka.topics.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Events as JSON lines, with the fields of schemas/inventory-change.avsc; - reads standard input."
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option(help="Generate this many changes of distinct items instead.", min=1)
    ] = None,
    locations: Annotated[
        int, typer.Option(help="Number of locations to spread the generated changes over.", min=1)
    ] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the generated changes.")] = 1,
) -> None:
    """Publish inventory changes from a file, or generated ones, to try out a setup.

    Example: inventory-refresh produce --config config.yaml --count 10000
    """
    from consumer.sandbox.produce import produce_events  # noqa: PLC0415

    if (file is None) == (count is None):
        raise SettingsError("produce: give either --file or --count")
    produce_events(_load(config), topic=topic, file=file, count=count, locations=locations, seed=seed)


Reason = Annotated[str | None, typer.Option(help="Only dead letters with this reason, such as no_quantity.")]
Location = Annotated[str | None, typer.Option(help="Only dead letters of this location.")]
Since = Annotated[
    str | None,
    typer.Option(help="Only dead letters written since then: an ISO 8601 time, or how long ago: 90s, 15m, 2h."),
]
Until = Annotated[str | None, typer.Option(help="Only dead letters written before then; same format as --since.")]
SourceTopic = Annotated[str | None, typer.Option("--topic", help="Only changes from this source topic.")]
SourcePartition = Annotated[
    int | None, typer.Option("--partition", help="Only changes from this source partition.", min=0)
]
SourceOffset = Annotated[int | None, typer.Option("--offset", help="Only the change at this source offset.", min=0)]


@dead_letters.command("list")
def list_dead_letters(
    config: Config = None,
    reason: Reason = None,
    location: Location = None,
    since: Since = None,
    until: Until = None,
    topic: SourceTopic = None,
    partition: SourcePartition = None,
    offset: SourceOffset = None,
    limit: Annotated[int | None, typer.Option(help="Read at most this many matching dead letters.", min=1)] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also print one line per dead letter.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print only one JSON object per dead letter.")] = False,
) -> None:
    """Count dead letters by reason and location.

    Example: inventory-refresh dead-letters list --config config.yaml --since 2h
    """
    from consumer.dead_letters import commands  # noqa: PLC0415
    from consumer.dead_letters.filters import filter_of  # noqa: PLC0415

    wanted = filter_of(time.time(), reason, location, since, until, topic, partition, offset)
    commands.list_dead_letters(_load(config), wanted, limit=limit, verbose=verbose, as_lines=as_json)


@dead_letters.command("show")
def show_dead_letters(
    config: Config = None,
    reason: Reason = None,
    location: Location = None,
    since: Since = None,
    until: Until = None,
    topic: SourceTopic = None,
    partition: SourcePartition = None,
    offset: SourceOffset = None,
    limit: Annotated[int, typer.Option(help="Read at most this many matching dead letters.", min=1)] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print only one JSON object per dead letter.")] = False,
) -> None:
    """Print dead letters in full: reason, headers, and the decoded event, or its bytes if it cannot be decoded.

    Example: inventory-refresh dead-letters show --config config.yaml --topic changes --partition 3 --offset 4711
    """
    from consumer.dead_letters import commands  # noqa: PLC0415
    from consumer.dead_letters.filters import filter_of  # noqa: PLC0415

    wanted = filter_of(time.time(), reason, location, since, until, topic, partition, offset)
    commands.show_dead_letters(_load(config), wanted, limit=limit, as_lines=as_json)


@dead_letters.command("redrive")
def redrive_dead_letters(
    config: Config = None,
    reason: Reason = None,
    location: Location = None,
    since: Since = None,
    until: Until = None,
    topic: SourceTopic = None,
    partition: SourcePartition = None,
    offset: SourceOffset = None,
    limit: Annotated[
        int | None, typer.Option(help="Read at most this many matching dead letters.", min=1, max=100_000)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be redriven and what would be skipped.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Redrive without asking for confirmation.")] = False,
) -> None:
    """Redrive dead letters: send changes back to their topics, unless a topic has something newer for the item.

    Example: inventory-refresh dead-letters redrive --config config.yaml --reason job_failed --location Rome --dry-run
    """
    from consumer.dead_letters import commands  # noqa: PLC0415
    from consumer.dead_letters.filters import filter_of  # noqa: PLC0415

    if not (yes or dry_run or sys.stdin.isatty()):
        raise SettingsError(
            "redrive: there is no terminal to ask for confirmation: use --yes to redrive, or --dry-run to only look"
        )
    wanted = filter_of(time.time(), reason, location, since, until, topic, partition, offset)
    commands.redrive_dead_letters(
        _load(config),
        wanted,
        limit=limit,
        dry_run=dry_run,
        confirm=lambda question: yes or typer.confirm(question),
    )


def _load(config: Path | None) -> "Settings":
    """Load the settings for a command that prints results, and send the log to standard error."""
    from consumer.observe.log_setup import configure_logging  # noqa: PLC0415
    from consumer.settings import load  # noqa: PLC0415

    settings = load(config, os.environ)
    configure_logging(settings.log)
    return settings


def _need_sandbox() -> None:
    missing = [name for name in ("anyio", "typing_extensions") if importlib.util.find_spec(name) is None]
    if missing:
        raise SettingsError(f"this command needs {' and '.join(missing)}: pip install 'inventory-refresh[sandbox]'")
