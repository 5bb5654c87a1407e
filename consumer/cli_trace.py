"""The command ``inventory-refresh trace``."""

import time
from typing import Annotated, Final

import typer

from consumer.cli_options import Config, Verbose, load_settings
from consumer.errors import SettingsError

ITEM: Final = "The item: all that are given must match"
"""A group of options in the help."""

PartNumber = Annotated[str | None, typer.Option(help="Its partNumber, whole and exact.", rich_help_panel=ITEM)]
Upc = Annotated[str | None, typer.Option(help="Its upc.", rich_help_panel=ITEM)]
Sku = Annotated[str | None, typer.Option(help="Its sku.", rich_help_panel=ITEM)]
Members = Annotated[
    list[str] | None,
    typer.Option(
        "--member",
        metavar="URL",
        help="Address of a member's status page, or a name of several; may be repeated. Default: http.members, or "
        "else this machine.",
    ),
]


def trace(
    context: typer.Context,
    location: Annotated[str, typer.Option(help="Name of the location, as in the events.")],
    config: Config = None,
    part_number: PartNumber = None,
    upc: Upc = None,
    sku: Sku = None,
    since: Annotated[
        str,
        typer.Option(help="Read the topics from then on: an ISO 8601 time, or how long ago: 90s, 15m, 2h."),
    ] = "2h",
    member: Members = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object; see docs/trace.md.")] = False,
    _verbose: Verbose = False,
) -> None:
    """Show every change of an item and what became of it: waiting, in a request, applied, dead-lettered, and why.

    Asks all members, and reads the source topics and the dead-letter topic. Sends and commits nothing.

    Example: inventory-refresh trace --config config.yaml --location "Store 12" --sku B-1 --since 4h
    """
    from consumer.dead_letters.filters import parse_time_ms  # noqa: PLC0415 - see consumer.cli
    from consumer.trace.command import print_trace  # noqa: PLC0415

    named = {"partNumber": part_number, "upc": upc, "sku": sku}
    identifiers = {name: value for name, value in named.items() if value}
    if not identifiers:
        raise SettingsError("trace: name the item: --sku, --upc or --part-number")
    since_ms = parse_time_ms("--since", since, time.time())
    print_trace(load_settings(context, config), location, identifiers, since_ms, member or (), as_json=as_json)
