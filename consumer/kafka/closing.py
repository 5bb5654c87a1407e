"""Leaving the group in bounded time, for the client may wait for ever.

When a rebalance ends just as it leaves, the client calls back though its part in the group is over already, and drops
what the callback asks of it then unanswered.
"""

import logging
from threading import Thread
from typing import Final

from confluent_kafka import Consumer

LEAVE_SECONDS_MAX: Final = 10.0
"""It takes a moment, or some seconds where the broker does not answer. The chart's ``shutdownMarginSeconds`` counts on
it: a pod that is to stop has not much longer."""

_log = logging.getLogger("inventory_refresh.kafka")


def leave(consumer: Consumer, seconds_max: float = LEAVE_SECONDS_MAX) -> None:
    """Close the consumer; its callbacks are called meanwhile, on another thread. Raises what one of them raised.

    When the time is over the group is not told: it misses this member after the session time-out.
    """
    failures: list[BaseException] = []

    def close() -> None:
        try:
            consumer.close()
        except BaseException as failure:  # noqa: BLE001 - raised again below, on the caller's thread
            failures.append(failure)

    thread = Thread(target=close, name="leave-group", daemon=True)
    thread.start()
    thread.join(seconds_max)
    if thread.is_alive():
        _log.warning(
            "the Kafka client has not left its group within %g s; it is not waited for any longer", seconds_max
        )
    if failures:
        raise failures[0]
