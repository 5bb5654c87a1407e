"""Warnings about events that are skipped and values that are ignored: each once, metrics have the counts."""

from collections.abc import Mapping
from typing import Final

import structlog

from consumer.core.changes.items import SkipReason

_log = structlog.get_logger("inventory_refresh.avro")

_CONSEQUENCES: Final[Mapping[SkipReason, tuple[str, str]]] = {
    SkipReason.DELETE: (
        "the OMS keeps the last count of deleted rows",
        "set events.deletes to zero if a deleted row means that nothing is left, or to dead-letter",
    ),
    SkipReason.TRUNCATE: (
        "the OMS keeps the counts of all rows of the table",
        "check the counts of the table's items in the OMS",
    ),
}
"""Of what is skipped without a setting that asks for it: the consequence, and what to do."""


class Notices:
    """Logs the first of each kind, per process."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def add(self, skipped: Mapping[SkipReason, int], ignored: Mapping[str, int], tombstones: int) -> None:
        """Log what is new in these counts; ``tombstones`` are the skipped ones."""
        if not skipped and not ignored and not tombstones:
            return
        for reason, (consequence, next_step) in _CONSEQUENCES.items():
            if skipped.get(reason) and self._is_new(reason):
                _log.warning("deletes_skipped", kind=reason.value, consequence=consequence, next_step=next_step)
        if tombstones and self._is_new("tombstone"):
            _log.warning(
                "deletes_skipped",
                kind="tombstone",
                consequence="the OMS keeps the last count of the key's item",
                next_step="none if a delete comes before it, as from Debezium; otherwise see events.tombstones",
            )
        for target in ignored:
            if self._is_new(f"value of {target}"):
                _log.warning(
                    "values_ignored",
                    field=target,
                    consequence=_without(target),
                    next_step=f"look at events.fields.{target}; `inventory-refresh decode` shows what is read",
                )

    def _is_new(self, what: str) -> bool:
        is_new = what not in self._logged
        self._logged.add(what)
        return is_new


def _without(target: str) -> str:
    if target == "occurredAt":
        return "changes are ordered by Kafka's timestamp: the event's time is unreadable, or not from 2000 to 2100"
    return "changes are sent without it: the type of the event's field does not fit"
