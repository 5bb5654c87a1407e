"""The command ``inventory-refresh``: parse, call, print."""

import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from consumer.errors import SettingsError, StopError

app = typer.Typer(
    name="inventory-refresh",
    help="Hands inventory changes from Kafka to the OMS in few, well-sized refresh requests.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

dead_letters = typer.Typer(
    name="dead-letters",
    help="Looks into the dead letters, and sends those back to their topics whose cause is mended.",
    no_args_is_help=True,
)
app.add_typer(dead_letters)

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="Settings as YAML; see config.example.yaml. INVENTORY_REFRESH_… in the environment wins."
    ),
]


def main() -> None:
    """Run a command.

    Exit codes: 0 done; 1 the demo does not agree, or a bug; 2 settings; 3 Kafka; 4 OMS; 5 dead letters.
    """
    # Rust's panics on corrupt bytes are caught and decided by fastavro; their backtraces would only fill the log.
    os.environ.setdefault("RUST_BACKTRACE", "0")
    try:
        app()
    except StopError as stop:
        print(f"inventory-refresh: {stop}", file=sys.stderr)  # noqa: T201 - the one line for whoever started it
        sys.exit(stop.exit_code)


@app.command()
def run(
    config: Config = None,
    check: Annotated[
        bool, typer.Option("--check", help="Check settings, Kafka, dead letters and credentials, then stop.")
    ] = False,
) -> None:
    """Run the service until SIGTERM or SIGINT.

    Example: inventory-refresh run --config config.yaml
    """
    from consumer.app import run_service  # noqa: PLC0415 - help should not wait for polars and librdkafka
    from consumer.observe.log_setup import configure_logging  # noqa: PLC0415
    from consumer.settings import credentials_reader, load  # noqa: PLC0415

    settings = load(config, os.environ)
    configure_logging(settings.log)
    run_service(settings, credentials_reader(settings, config, os.environ), only_check=check)
    if check:
        typer.echo("Settings, Kafka, dead letters and credentials are in order.")


@app.command()
def job(
    job_ids: Annotated[list[str], typer.Argument(help="jobIDs, as the log shows them.", metavar="JOBID...")],
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a job.")] = False,
) -> None:
    """Ask the OMS what became of jobs, such as those that the log names as left or dropped.

    Example: inventory-refresh job --config config.yaml 1234567 1234570
    """
    from consumer.job_command import ask_jobs  # noqa: PLC0415
    from consumer.settings import load  # noqa: PLC0415

    ask_jobs(load(config, os.environ), job_ids, as_json=as_json)


@app.command()
def demo(
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object, nothing else.")] = False,
    forever: Annotated[
        bool, typer.Option("--forever", help="Go on with ever new changes, to watch the metrics; Ctrl-C ends it.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Another seed makes other changes.")] = 1,
    port: Annotated[int, typer.Option(help="Of metrics and status page; 0 takes a free one.", min=0, max=65_535)] = 0,
    faults: Annotated[
        bool,
        typer.Option("--faults", help="With an OMS that goes wrong in every way: outages, quota, lost answers, jobs."),
    ] = False,
) -> None:
    """Run the whole main job on this machine: an embedded broker, an OMS sandbox, and the service between them.

    Exit code 0 only if the OMS then holds the last change of every item and every offset is committed.
    """
    _need_sandbox()
    from consumer.observe.log_setup import configure_logging  # noqa: PLC0415
    from consumer.sandbox.demo import run_demo  # noqa: PLC0415 - needs the extra
    from consumer.settings import LogSettings  # noqa: PLC0415

    configure_logging(LogSettings(level="error"))
    sys.exit(run_demo(as_json=as_json, forever=forever, seed=seed, port=port, faults=faults))


@app.command()
def sandbox(
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65_535)] = 8_090,
    seconds_per_chunk: Annotated[float, typer.Option(help="Cost of a begun chunk of 3,000 items, in seconds.")] = 1.0,
    seconds_per_job: Annotated[float, typer.Option(help="What a job costs besides its chunks, in seconds.")] = 0.5,
    token_seconds: Annotated[int, typer.Option(help="How long a token is good for, in seconds.")] = 3_600,
    max_items: Annotated[int, typer.Option(help="Items the sandbox takes in one request.")] = 12_000,
    tenant: Annotated[int, typer.Option(help="The tenant of Unified Commerce, as in oms.tenant.")] = 10_001,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:KEY=VALUE,...", help="What is to go wrong; may be repeated. docs/sandbox.md has all."
        ),
    ] = None,
    fault_seed: Annotated[int, typer.Option(help="The same seed and calls: the same faults.")] = 1,
    count_only: Annotated[
        bool, typer.Option("--count-only", help="Count items, check and hold nothing: for benchmarks of the service.")
    ] = False,
) -> None:
    """Run an OMS to try things with: tokens, the refresh endpoints, a queue of jobs, and counts to read back.

    Example: inventory-refresh sandbox --port 8090, then open http://127.0.0.1:8090/

    With faults:

    - --fault quota:rate=0.05,retry_after=2

    - --fault limit:calls=10 (a second, refresh and get-job together)

    - --fault latency:median=0.2,p99=2 --fault hang:seconds=90,rate=0.01

    - --fault reset:when=after_queue,rate=0.02 --fault answer:status=504,when=after_queue,rate=0.01

    - --fault outage:begin=60,duration=600 --fault revoke:every=300

    - --fault fail_job:rate=0.02 --fault stall_job:seconds=120,rate=0.01

    - --fault refuse:prefix=BAD-,quantity=999,named=false
    """
    _need_sandbox()
    from consumer.sandbox.oms.options import settings_from_options  # noqa: PLC0415 - needs the extra
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
        tenant=tenant,
        validation="count" if count_only else "full",
    )
    serve(settings, lambda url: typer.echo(f"OMS sandbox at {url} (status page there; Ctrl-C ends it)", err=True))


@app.command()
def produce(
    config: Config = None,
    topic: Annotated[str | None, typer.Option(help="Where to; the first of kafka.topics if not given.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="Events as JSON lines, fields as in schemas/inventory-change.avsc; - is standard input."),
    ] = None,
    count: Annotated[int | None, typer.Option(help="Make up so many changes of distinct items instead.", min=1)] = None,
    locations: Annotated[int, typer.Option(help="Over so many locations.", min=1)] = 100,
    seed: Annotated[int, typer.Option(help="Another seed makes other changes.")] = 1,
) -> None:
    """Publish inventory changes, to try a set-up with: from a file, or made up.

    Example: inventory-refresh produce --config config.yaml --count 10000
    """
    from consumer.sandbox.produce import produce_events  # noqa: PLC0415
    from consumer.settings import load  # noqa: PLC0415

    if (file is None) == (count is None):
        raise SettingsError("produce: give either --file or --count")
    produce_events(load(config, os.environ), topic=topic, file=file, count=count, locations=locations, seed=seed)


Reason = Annotated[str | None, typer.Option(help="Only letters of this reason, such as no_quantity.")]
Location = Annotated[str | None, typer.Option(help="Only letters of this location.")]
Since = Annotated[
    str | None, typer.Option(help="Only letters written since: a time in ISO 8601, or how long ago: 90s, 15m, 2h.")
]
Until = Annotated[str | None, typer.Option(help="Only letters written before; as --since.")]
SourceTopic = Annotated[str | None, typer.Option("--topic", help="Only changes of this source topic.")]
SourcePartition = Annotated[
    int | None, typer.Option("--partition", help="Only changes of this source partition.", min=0)
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
    limit: Annotated[int | None, typer.Option(help="The first so many.", min=1)] = None,
    each: Annotated[bool, typer.Option("--each", help="Print one line a letter, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a letter, nothing else.")] = False,
) -> None:
    """Count dead letters by reason and location.

    Example: inventory-refresh dead-letters list --config config.yaml --since 2h
    """
    from consumer.dead_letters.commands import list_letters  # noqa: PLC0415
    from consumer.dead_letters.letters import filters_of  # noqa: PLC0415
    from consumer.settings import load  # noqa: PLC0415

    filters = filters_of(time.time(), reason, location, since, until, topic, partition, offset)
    list_letters(load(config, os.environ), filters, limit=limit, each=each, as_lines=as_json)


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
    limit: Annotated[int, typer.Option(help="The first so many.", min=1)] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a letter, nothing else.")] = False,
) -> None:
    """Print dead letters in full: reason, headers, and the decoded event, or its bytes where it cannot be decoded.

    Example: inventory-refresh dead-letters show --config config.yaml --topic changes --partition 3 --offset 4711
    """
    from consumer.dead_letters.commands import show_letters  # noqa: PLC0415
    from consumer.dead_letters.letters import filters_of  # noqa: PLC0415
    from consumer.settings import load  # noqa: PLC0415

    filters = filters_of(time.time(), reason, location, since, until, topic, partition, offset)
    show_letters(load(config, os.environ), filters, limit=limit, as_lines=as_json)


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
    limit: Annotated[int | None, typer.Option(help="The first so many.", min=1, max=100_000)] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would go and what stays, send nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before sending.")] = False,
) -> None:
    """Send changes back to their topics, those only of whose items the topics have nothing newer.

    Example: inventory-refresh dead-letters redrive --config config.yaml --reason job_failed --location Rome --dry-run
    """
    from consumer.dead_letters.commands import redrive_letters  # noqa: PLC0415
    from consumer.dead_letters.letters import filters_of  # noqa: PLC0415
    from consumer.settings import load  # noqa: PLC0415

    if not (yes or dry_run or sys.stdin.isatty()):
        raise SettingsError("redrive: there is nobody to ask: give --yes to send, or --dry-run to look only")
    filters = filters_of(time.time(), reason, location, since, until, topic, partition, offset)
    redrive_letters(
        load(config, os.environ),
        filters,
        limit=limit,
        dry_run=dry_run,
        confirm=lambda question: yes or typer.confirm(question),
    )


def _need_sandbox() -> None:
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise SettingsError(f"this command needs {' and '.join(missing)}: pip install 'inventory-refresh[sandbox]'")
