"""The commands ``inventory-refresh config ...``."""

from typing import Annotated

import typer

from consumer.cli_options import HELP_NAMES, Config

config_app = typer.Typer(
    name="config",
    help="Show the settings in effect, or their JSON Schema for an editor.\n\n"
    "Example: inventory-refresh config show --config config.yaml",
    no_args_is_help=True,
    context_settings=HELP_NAMES,
)


@config_app.command()
def show(
    config: Config = None,
    given_only: Annotated[bool, typer.Option("--given", help="Leave out defaults and what is derived.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the settings in effect, each with its source: file, environment variable, secret file, default or derived.

    Secrets are hidden, also those in URLs and headers.

    Example: inventory-refresh config show --config config.yaml --given
    """
    from consumer.config_command import print_settings  # noqa: PLC0415 - see consumer.cli

    print_settings(config, given_only=given_only, as_json=as_json)


@config_app.command()
def schema() -> None:
    """Print the JSON Schema of the settings file, with which an editor completes and checks it.

    Example: inventory-refresh config schema > config.schema.json

    In the first line of the file: # yaml-language-server: $schema=./config.schema.json
    """
    from consumer.config_command import print_schema  # noqa: PLC0415 - see consumer.cli

    print_schema()
