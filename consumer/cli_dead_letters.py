"""The commands ``inventory-refresh dead-letters ...``."""

import sys
import time
from typing import Annotated, Final

import typer

from consumer.cli_options import HELP_NAMES, Config, Verbose, bytes_of, load_settings
from consumer.errors import SettingsError

dead_letters_app = typer.Typer(
    name="dead-letters",
    help="Inspect dead letters, and redrive them to their topics once the cause is fixed.\n\n"
    "Example: inventory-refresh dead-letters list --config config.yaml --since 24h",
    no_args_is_help=True,
    context_settings=HELP_NAMES,
)

FILTERS: Final = "Filters: a dead letter is taken if it matches all of them"

Reason = Annotated[
    str | None,
    typer.Option(help="Only dead letters with this reason, such as no_quantity.", rich_help_panel=FILTERS),
]
Location = Annotated[str | None, typer.Option(help="Only dead letters of this location.", rich_help_panel=FILTERS)]
Since = Annotated[
    str | None,
    typer.Option(
        help="Only dead letters written since then: an ISO 8601 time, or how long ago: 90s, 15m, 2h.",
        rich_help_panel=FILTERS,
    ),
]
Until = Annotated[
    str | None,
    typer.Option(help="Only dead letters written before then; same format as --since.", rich_help_panel=FILTERS),
]
SourceTopic = Annotated[
    str | None, typer.Option("--topic", help="Only changes from this source topic.", rich_help_panel=FILTERS)
]
SourcePartition = Annotated[
    int | None,
    typer.Option("--partition", help="Only changes from this source partition.", min=0, rich_help_panel=FILTERS),
]
SourceOffset = Annotated[
    int | None,
    typer.Option("--offset", help="Only the change at this source offset.", min=0, rich_help_panel=FILTERS),
]
JobId = Annotated[
    str | None,
    typer.Option("--job", help="Only changes of this job; its jobID is in the log.", rich_help_panel=FILTERS),
]
RequestId = Annotated[
    str | None,
    typer.Option(
        "--request", help="Only changes of this request; its request_id is in the log.", rich_help_panel=FILTERS
    ),
]


@dead_letters_app.command("list")
def list_dead_letters(
    context: typer.Context,
    config: Config = None,
    reason: Reason = None,
    location: Location = None,
    since: Since = None,
    until: Until = None,
    topic: SourceTopic = None,
    partition: SourcePartition = None,
    offset: SourceOffset = None,
    job: JobId = None,
    request: RequestId = None,
    limit: Annotated[int | None, typer.Option(help="Read at most this many matching dead letters.", min=1)] = None,
    lines: Annotated[bool, typer.Option("--lines", "-l", help="Also print one line per dead letter.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print only one JSON object per dead letter.")] = False,
    _verbose: Verbose = False,
) -> None:
    """Count dead letters by reason and location.

    Example: inventory-refresh dead-letters list --config config.yaml --since 2h
    """
    from consumer.dead_letters import commands  # noqa: PLC0415 - see consumer.cli
    from consumer.dead_letters.filters import filter_of  # noqa: PLC0415

    wanted = filter_of(
        time.time(),
        since=since,
        until=until,
        reason=reason,
        location=location,
        topic=topic,
        partition=partition,
        offset=offset,
        job_id=job,
        request_id=request,
    )
    commands.list_dead_letters(
        load_settings(context, config), wanted, limit=limit, with_lines=lines, as_json_lines=as_json
    )


@dead_letters_app.command("show")
def show_dead_letters(
    context: typer.Context,
    config: Config = None,
    reason: Reason = None,
    location: Location = None,
    since: Since = None,
    until: Until = None,
    topic: SourceTopic = None,
    partition: SourcePartition = None,
    offset: SourceOffset = None,
    job: JobId = None,
    request: RequestId = None,
    limit: Annotated[int, typer.Option(help="Read at most this many matching dead letters.", min=1)] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print only one JSON object per dead letter.")] = False,
    _verbose: Verbose = False,
) -> None:
    """Print dead letters in full: reason, headers, and the decoded event, or its bytes if it cannot be decoded.

    Example: inventory-refresh dead-letters show --config config.yaml --topic changes --partition 3 --offset 4711
    """
    from consumer.dead_letters import commands  # noqa: PLC0415
    from consumer.dead_letters.filters import filter_of  # noqa: PLC0415

    wanted = filter_of(
        time.time(),
        since=since,
        until=until,
        reason=reason,
        location=location,
        topic=topic,
        partition=partition,
        offset=offset,
        job_id=job,
        request_id=request,
    )
    commands.show_dead_letters(load_settings(context, config), wanted, limit=limit, as_json_lines=as_json)


@dead_letters_app.command("redrive")
def redrive_dead_letters(
    context: typer.Context,
    config: Config = None,
    reason: Reason = None,
    location: Location = None,
    since: Since = None,
    until: Until = None,
    topic: SourceTopic = None,
    partition: SourcePartition = None,
    offset: SourceOffset = None,
    job: JobId = None,
    request: RequestId = None,
    limit: Annotated[
        int | None, typer.Option(help="Read at most this many matching dead letters.", min=1, max=100_000)
    ] = None,
    memory: Annotated[
        str, typer.Option(help="What the dead letters of this run may take; a larger value needs that memory.")
    ] = "24MiB",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be redriven and what would be skipped.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Redrive without asking for confirmation.")] = False,
    _verbose: Verbose = False,
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
    wanted = filter_of(
        time.time(),
        since=since,
        until=until,
        reason=reason,
        location=location,
        topic=topic,
        partition=partition,
        offset=offset,
        job_id=job,
        request_id=request,
    )
    commands.redrive_dead_letters(
        load_settings(context, config),
        wanted,
        limit=limit,
        memory_bytes=bytes_of("--memory", memory),
        dry_run=dry_run,
        confirm=lambda question: yes or typer.confirm(question),
    )
