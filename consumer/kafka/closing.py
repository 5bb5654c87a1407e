"""Closing a consumer within a bounded time: the client itself may wait for ever.

If a rebalance ends while the consumer closes, the client still calls back, although it has left the group already, and
never answers what the callback asks of it.
"""

from threading import Thread
from typing import Final

import structlog
from confluent_kafka import Consumer

CLOSE_SECONDS_MAX: Final = 10.0
"""Closing takes a moment, or some seconds if the broker does not answer. The chart's ``shutdownMarginSeconds`` relies
on this limit: a pod that is being stopped has little more time left."""

_log = structlog.get_logger("inventory_refresh.kafka")


def close_within(consumer: Consumer, seconds_max: float = CLOSE_SECONDS_MAX) -> None:
    """Close the consumer, or give up after ``seconds_max``. Raises what a callback of the consumer raised.

    The callbacks run on another thread meanwhile. After giving up, the group notices only by the session timeout that
    this member has left.
    """
    failures: list[BaseException] = []

    def close() -> None:
        try:
            consumer.close()
        except BaseException as failure:  # noqa: BLE001 - raised again below, on the caller's thread
            failures.append(failure)

    thread = Thread(target=close, name="close-consumer", daemon=True)
    thread.start()
    thread.join(seconds_max)
    if thread.is_alive():
        _log.warning(
            "consumer_close_timed_out",
            timeout_seconds=seconds_max,
            detail="the group notices that this member has left only after the session timeout",
        )
    if failures:
        raise failures[0]
