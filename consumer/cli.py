"""The command ``inventory-refresh``: parse, call, print.

Each command imports what it needs when it runs: ``--help`` must not wait for polars, librdkafka and httpx to load.
"""

import io
import os
import sys
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from consumer.cli_config import config_app
from consumer.cli_dead_letters import dead_letters_app
from consumer.cli_options import HELP_NAMES, Config, Verbose, is_verbose, load_settings, log_settings
from consumer.cli_plan import plan
from consumer.cli_trace import trace
from consumer.errors import SettingsError, StopError
from consumer.signals import StopSignals

RUN: Final = "Run"
LOOK: Final = "Look into it"
TRY_OUT: Final = "Try it out"
"""Groups of commands in the help."""
FROM_FILE: Final = "Changes from a file"
GENERATED: Final = "Generated changes"
QUEUE: Final = "How fast the OMS works"
FAULTS: Final = "Faults"
"""Groups of options in the help."""

app = typer.Typer(
    name="inventory-refresh",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=HELP_NAMES,
    epilog="Example: inventory-refresh demo, or inventory-refresh run --config config.yaml",
)


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
    _version: Annotated[
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    _verbose: Verbose = False,
) -> None:
    """Sends inventory changes from Kafka to the OMS in few, large refresh requests."""


@app.command(rich_help_panel=RUN)
def run(context: typer.Context, config: Config = None, _verbose: Verbose = False) -> None:
    """Run the service until SIGTERM or SIGINT.

    Example: inventory-refresh run --config config.yaml
    """
    from consumer.app import run_service  # noqa: PLC0415 - see the module docstring
    from consumer.observe.log_setup import configure_logging  # noqa: PLC0415
    from consumer.settings import credentials_reader, load  # noqa: PLC0415
    from consumer.terminal import native_panics_logged  # noqa: PLC0415

    settings = load(config, os.environ)
    with native_panics_logged():
        warnings = configure_logging(log_settings(context, settings), folds=True)
        credentials = credentials_reader(settings, config, os.environ)
        run_service(settings, credentials, context.obj or StopSignals(), warnings)


@app.command(rich_help_panel=RUN)
def check(
    context: typer.Context,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object; see docs/check.md.")] = False,
    timeout: Annotated[
        float, typer.Option(help="Seconds that each of brokers, registry and OMS may take to answer.", min=1, max=600)
    ] = 5.0,
    _verbose: Verbose = False,
) -> None:
    """Check settings, Kafka, schemas, mapping and the OMS, and say what to do. Sends no change and joins no group.

    The log is shown only with --verbose.

    Example: inventory-refresh check --config config.yaml
    """
    from consumer.checks.command import print_checks  # noqa: PLC0415
    from consumer.observe.log_setup import configure_logging  # noqa: PLC0415
    from consumer.settings import Credentials, Settings, credentials_reader, load  # noqa: PLC0415
    from consumer.terminal import native_panics_logged  # noqa: PLC0415

    def loaded() -> tuple[Settings, Credentials]:
        settings = load(config, os.environ)
        context.with_resource(native_panics_logged())
        # The report says what the log would, and what to do.
        configure_logging(log_settings(context, settings), None if is_verbose(context) else io.StringIO())
        return settings, credentials_reader(settings, config, os.environ)

    raise typer.Exit(print_checks(loaded, as_json=as_json, seconds_max=timeout))


@app.command(rich_help_panel=LOOK)
def job(
    context: typer.Context,
    job_ids: Annotated[list[str], typer.Argument(help="jobIDs, as shown in the log.", metavar="JOBID...")],
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per job.")] = False,
    _verbose: Verbose = False,
) -> None:
    """Ask the OMS for the status of jobs, such as those logged in jobs_abandoned.

    Example: inventory-refresh job --config config.yaml 1234567 1234570
    """
    from consumer.job_command import print_jobs  # noqa: PLC0415

    print_jobs(load_settings(context, config), job_ids, as_json=as_json)


@app.command(rich_help_panel=LOOK)
def status(
    urls: Annotated[
        list[str] | None,
        typer.Argument(
            help="Addresses of status pages, or a name of several; default: http.members of the settings, or else this "
            "machine.",
            metavar="URL",
        ),
    ] = None,
    config: Config = None,
    once: Annotated[bool, typer.Option("--once", help="Print the state once, as if not on a terminal.")] = False,
    locations: Annotated[
        int, typer.Option(help="Show this many locations, those with the oldest changes.", min=0, max=500)
    ] = 10,
) -> None:
    """Show what running processes do: their state, what waits and why, locations, problems; live, until Ctrl-C.

    In a pod of the chart it shows all pods of the release. Exits with 1 if a process does not answer (with --once).

    Example: inventory-refresh status http://pod-0:8080 http://pod-1:8080
    """
    from consumer.status_command import known_urls, show_status  # noqa: PLC0415 - see the module docstring

    if not show_status(urls or known_urls(config, os.environ), once=once, locations_max=locations):
        raise typer.Exit(1)


@app.command(rich_help_panel=LOOK)
def decode(
    context: typer.Context,
    values: Annotated[
        list[Path] | None, typer.Argument(help="Files with one message's value each; default: read a topic.")
    ] = None,
    config: Config = None,
    topic: Annotated[str | None, typer.Option(help="Topic to read; default: the first of kafka.topics.")] = None,
    last: Annotated[int, typer.Option(help="Show this many of the latest messages.", min=1, max=10_000)] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per message.")] = False,
    _verbose: Verbose = False,
) -> None:
    """Show what becomes of messages: the change or the reject, and where each field comes from. Sends nothing.

    Example: inventory-refresh decode --config config.yaml --topic stock --last 20
    """
    from consumer.decode_command import print_decoded  # noqa: PLC0415

    print_decoded(load_settings(context, config), values or [], topic=topic, last=last, as_json=as_json)


app.command(rich_help_panel=LOOK)(plan)
app.command(rich_help_panel=LOOK)(trace)


@app.command(rich_help_panel=TRY_OUT)
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

    Example: inventory-refresh demo --forever --port 8080

    Exits with 0 only if the OMS then holds the last change of every item and every offset is committed.
    """
    from consumer.observe.log_setup import configure_logging  # noqa: PLC0415
    from consumer.sandbox.demo import run_demo  # noqa: PLC0415 - needs the extra "sandbox"
    from consumer.settings import LogSettings  # noqa: PLC0415
    from consumer.terminal import native_stderr_discarded  # noqa: PLC0415

    with native_stderr_discarded():
        configure_logging(LogSettings(level="error"))
        exit_code = run_demo(as_json=as_json, forever=forever, seed=seed, port=port, faults=faults)
    sys.exit(exit_code)


@app.command(rich_help_panel=TRY_OUT)
def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.", min=0, max=65_535)] = 8_090,
    seconds_per_chunk: Annotated[
        float,
        typer.Option(help="Seconds that each started chunk of 3,000 items takes.", rich_help_panel=QUEUE),
    ] = 1.0,
    seconds_per_job: Annotated[
        float, typer.Option(help="Seconds that a job takes in addition to its chunks.", rich_help_panel=QUEUE)
    ] = 0.5,
    token_seconds: Annotated[int, typer.Option(help="Lifetime of a token, in seconds.")] = 3_600,
    max_items: Annotated[int, typer.Option(help="Items accepted in a request, at most.")] = 12_000,
    sync_items_max: Annotated[
        int, typer.Option(help="Items up to which a request of smart refresh is applied at once.")
    ] = 25,
    tenant: Annotated[int, typer.Option(help="Tenant for Unified Commerce, as in oms.tenant.")] = 10_001,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:KEY=VALUE,...",
            help="Fault to inject; may be repeated. See docs/sandbox.md.",
            rich_help_panel=FAULTS,
        ),
    ] = None,
    fault_seed: Annotated[
        int,
        typer.Option(help="Seed of the faults: the same seed and calls give the same faults.", rich_help_panel=FAULTS),
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


@app.command(rich_help_panel=TRY_OUT)
def produce(
    context: typer.Context,
    config: Config = None,
    topic: Annotated[str | None, typer.Option(help="Topic to publish to; default: the first of kafka.topics.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Changes as JSON lines or CSV, with the fields of schemas/inventory-change.avsc; - reads standard "
            "input.",
            rich_help_panel=FROM_FILE,
        ),
    ] = None,
    file_format: Annotated[
        Literal["jsonl", "csv"] | None,
        typer.Option(
            "--format",
            help="Format of the file; default: csv if its name ends in .csv, else jsonl.",
            rich_help_panel=FROM_FILE,
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(help="Generate this many changes of distinct items instead.", min=1, rich_help_panel=GENERATED),
    ] = None,
    locations: Annotated[
        int,
        typer.Option(
            help="Number of locations to spread the generated changes over.", min=1, rich_help_panel=GENERATED
        ),
    ] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the generated changes.", rich_help_panel=GENERATED)] = 1,
    _verbose: Verbose = False,
) -> None:
    """Publish inventory changes from a file, or generated ones, to try out a setup.

    Example: inventory-refresh produce --config config.yaml --count 10000

    Example: inventory-refresh produce --config config.yaml --file stock.csv, whose first line names the columns:
    locationName,sku,quantity
    """
    from consumer.sandbox.change_files import FileFormat  # noqa: PLC0415 - see the module docstring
    from consumer.sandbox.produce import ChangesFile, Generated, produce_events  # noqa: PLC0415

    settings = load_settings(context, config)
    if file is not None and count is None:
        known = FileFormat(file_format) if file_format else None
        produce_events(settings, ChangesFile(file, known), topic=topic)
    elif file is None and count is not None:
        produce_events(settings, Generated(count, locations, seed), topic=topic)
    else:
        raise SettingsError("produce: give either --file or --count")


app.add_typer(dead_letters_app, rich_help_panel=LOOK)
app.add_typer(config_app, rich_help_panel=LOOK)
