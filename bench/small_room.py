"""The service with less room for pending changes than its memory budget gives; everything else is as usual.

``memory.budget`` would shrink the client's queue and the decoder, too, which are not what the case is about.

    python -m bench.small_room BYTES run --config FILE
"""

import sys
from dataclasses import replace

from consumer.signals import StopSignals


def main() -> None:
    """Run the service; the first argument is the limit of its engine in bytes."""
    signals = StopSignals()
    from consumer import app, cli  # noqa: PLC0415 - signals come first, see consumer.__main__
    from consumer.settings.memory import memory_shares  # noqa: PLC0415

    pending_bytes = int(sys.argv.pop(1))
    setattr(app, "memory_shares", lambda budget: replace(memory_shares(budget), pending_bytes=pending_bytes))  # noqa: B010 - not its own name
    cli.main(signals)


if __name__ == "__main__":
    main()
