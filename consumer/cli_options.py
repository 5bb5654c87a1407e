"""What several commands share: options, and loading the settings."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from consumer.errors import SettingsError

if TYPE_CHECKING:
    from consumer.settings import LogSettings, Settings

HELP_NAMES: Final = {"help_option_names": ["-h", "--help"]}

_VERBOSE: Final = "inventory_refresh.verbose"
"""Where the group's own -v is kept for its commands."""

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="YAML file with settings; see config.example.yaml. INVENTORY_REFRESH_* variables take precedence.",
    ),
]


def _keep(context: typer.Context, verbose: bool) -> bool:  # noqa: FBT001 - typer's signature
    if verbose:
        context.meta[_VERBOSE] = True
    return verbose


Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", callback=_keep, help="Log in detail, as with log.level: debug.")
]


def is_verbose(context: typer.Context) -> bool:
    """Whether -v was given, before or after the command's name."""
    return bool(context.meta.get(_VERBOSE))


def log_settings(context: typer.Context, settings: "Settings") -> "LogSettings":
    """The settings of the log, with what -v says."""
    return settings.log.model_copy(update={"level": "debug"}) if is_verbose(context) else settings.log


def bytes_of(option: str, text: str) -> int:
    """Bytes from an option's text, such as 8MiB. Raises SettingsError that names the option."""
    from consumer.settings.values import parse_body_bytes  # noqa: PLC0415 - see consumer.cli

    try:
        return int(str(parse_body_bytes(text)))
    except ValueError as error:
        raise SettingsError(f"{option}: {text!r} {error}") from None


def load_settings(context: typer.Context, config: Path | None) -> "Settings":
    """Load the settings of a command, and send the log to standard error. Raises SettingsError."""
    from consumer.observe.log_setup import configure_logging  # noqa: PLC0415 - see consumer.cli
    from consumer.settings import load  # noqa: PLC0415
    from consumer.terminal import native_panics_logged  # noqa: PLC0415

    settings = load(config, os.environ)
    context.with_resource(native_panics_logged())
    configure_logging(log_settings(context, settings))
    return settings
