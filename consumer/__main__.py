"""The command ``inventory-refresh``, also as ``python -m consumer``.

Signals come first: everything else is imported once they are handled, and only as far as the command needs it.
"""

import sys
from collections.abc import Sequence

from consumer.signals import StopSignals, end_on_sigterm


def main() -> None:
    """Run the command that the arguments name; see ``consumer.cli.main``."""
    arguments = sys.argv[1:]
    signals = None
    if command_of(arguments) == "run":
        signals = StopSignals()
    else:
        end_on_sigterm()
    from consumer.cli import main as run_command  # noqa: PLC0415 - see the module docstring

    run_command(signals)


def command_of(arguments: Sequence[str]) -> str | None:
    """The command that these arguments name: options may stand before it, as in ``-v run``. None without one."""
    return next((argument for argument in arguments if not argument.startswith("-")), None)


if __name__ == "__main__":
    main()
