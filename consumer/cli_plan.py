"""The command ``inventory-refresh plan``."""

import os
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from consumer.cli_options import Config, Verbose, bytes_of, load_settings
from consumer.errors import SettingsError

RECORDS: Final = "Which records"
PLAYED: Final = "How they are played"
"""Groups of options in the help."""

Since = Annotated[
    str | None,
    typer.Option(
        help="Begin with the records since then: an ISO 8601 time, or how long ago: 90s, 15m, 2h. Default: the group's "
        "committed offsets.",
        rich_help_panel=RECORDS,
    ),
]
FromStart = Annotated[
    bool, typer.Option("--from-start", help="Begin at the start of the log.", rich_help_panel=RECORDS)
]
Until = Annotated[
    str | None,
    typer.Option(
        help="End with the records before then; same format as --since. Default: now.", rich_help_panel=RECORDS
    ),
]
MessagesMax = Annotated[
    int | None,
    typer.Option(help="Read at most this many records, evenly of all partitions.", min=1, rich_help_panel=RECORDS),
]
AsBacklog = Annotated[
    bool,
    typer.Option(
        "--as-backlog",
        help="All records are there at once, instead of at their timestamps.",
        rich_help_panel=PLAYED,
    ),
]
ChunkSeconds = Annotated[
    float | None,
    typer.Option(
        help="Seconds that the OMS takes for a chunk, for the OMS's time. Default: as ended jobs took, by the OMS's "
        "list of jobs (Unified Commerce) or by running processes.",
        min=0.0,
        rich_help_panel=PLAYED,
    ),
]
Members = Annotated[
    list[str] | None,
    typer.Option(
        "--member",
        metavar="URL",
        help="Status page of a running process, to learn that from; may be repeated. Default: http.members of the "
        "settings.",
        rich_help_panel=PLAYED,
    ),
]
AnswerSeconds = Annotated[
    float,
    typer.Option(help="Seconds until the OMS answers a request.", min=0.001, max=600.0, rich_help_panel=PLAYED),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.NAME=VALUE",
        help="Try another setting next to today's; may be repeated.",
        rich_help_panel=PLAYED,
    ),
]
Memory = Annotated[
    str,
    typer.Option(
        help="What may be pending, if the service has that much; a larger value needs that memory.",
        rich_help_panel=PLAYED,
    ),
]


def plan(
    context: typer.Context,
    config: Config = None,
    since: Since = None,
    from_start: FromStart = False,
    until: Until = None,
    messages_max: MessagesMax = None,
    as_backlog: AsBacklog = False,
    chunk_seconds: ChunkSeconds = None,
    members: Members = None,
    answer_seconds: AnswerSeconds = 1.0,
    assignments: Assignments = None,
    memory: Memory = "8MiB",
    out: Annotated[Path | None, typer.Option(help="Write the bodies of the requests into this new folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    _verbose: Verbose = False,
) -> None:
    """Show what would be sent for the records of the topics, and try other settings. Sends and commits nothing.

    Example: inventory-refresh plan --config config.yaml --since 24h --set window.max_age=15m
    """
    from consumer.dead_letters.filters import parse_time_ms  # noqa: PLC0415 - see consumer.cli
    from consumer.observe.members import base_url  # noqa: PLC0415
    from consumer.plan.command import print_plan  # noqa: PLC0415
    from consumer.plan.records import Wanted  # noqa: PLC0415
    from consumer.plan.simulate import Simulation  # noqa: PLC0415
    from consumer.settings import load  # noqa: PLC0415

    if since is not None and from_start:
        raise SettingsError("plan: give either --since or --from-start")
    now = time.time()
    print_plan(
        load_settings(context, config),
        load(config, os.environ, assignments=assignments) if assignments else None,
        assignments or (),
        Wanted(
            since_ms=None if since is None else parse_time_ms("--since", since, now),
            from_start=from_start,
            until_ms=None if until is None else parse_time_ms("--until", until, now),
            messages_max=messages_max,
        ),
        Simulation(
            backlog=as_backlog,
            answer_seconds=answer_seconds,
            chunk_seconds=chunk_seconds,
            pending_bytes_max=bytes_of("--memory", memory),
        ),
        members=[base_url("--member", member) for member in members or ()],
        out=out,
        as_json=as_json,
    )
