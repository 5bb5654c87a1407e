"""The mapping of events to changes, as the settings describe it: known before any schema is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from consumer.avro.leaves import TARGETS, TimeUnit
from consumer.core.changes.items import GRANULAR_COLUMNS, PLAIN_COLUMNS
from consumer.settings import EventsSettings
from consumer.settings.event_sources import Condition, FieldPath, Key, RecordSource, Source, parse_conditions
from consumer.settings.events import WhatToDo

KEY_FIELD: Final = "$key"
"""The field of a key in the record around it that ``fields.plan_key`` makes."""


@dataclass(frozen=True, slots=True)
class EventMapping:
    """Where each column comes from, which events are taken, and what deletes mean; see ``EventsSettings``.

    ``sources`` has the sources of each target (``leaves.TARGETS``), in the order in which they are tried.
    """

    sources: Mapping[str, tuple[Source, ...]]
    settings: EventsSettings
    take: tuple[Condition, ...]
    skip: tuple[Condition, ...]
    deleted_when: tuple[Condition, ...]

    @classmethod
    def of(cls, events: EventsSettings, item_columns: Iterable[str] = PLAIN_COLUMNS) -> "EventMapping":
        """The mapping of these settings.

        Granular columns (``GRANULAR_COLUMNS``) are looked up by name only if ``item_columns``, those of the OMS's API,
        has them: otherwise a field of that name may mean something else.
        """
        columns = set(item_columns)
        return cls(
            sources={
                target: events.sources(target)
                for target in TARGETS
                if target in events.fields or target in columns or target not in GRANULAR_COLUMNS
            },
            settings=events,
            take=parse_conditions(events.take),
            skip=parse_conditions(events.skip),
            deleted_when=parse_conditions(events.deleted_when),
        )

    def paths(self, target: str) -> list[tuple[str, ...]]:
        """The paths in the event's value."""
        return [source.names for source in self.sources.get(target, ()) if isinstance(source, FieldPath)]

    def record_sources(self, target: str) -> list[RecordSource]:
        """The sources outside the event's value."""
        return [source for source in self.sources.get(target, ()) if not isinstance(source, FieldPath)]

    @property
    def record_targets(self) -> list[str]:
        """The targets with a source outside the event's value."""
        return [target for target in TARGETS if self.record_sources(target)]

    def of_keys(self) -> "EventMapping | None":
        """The mapping of Avro keys, whose paths lead into the record of ``fields.plan_key``; None if none is read."""
        if self.settings.key_format != "avro":
            return None
        sources = {
            target: tuple(FieldPath((KEY_FIELD, *source.path)) for source in sources if isinstance(source, Key))
            for target, sources in self.sources.items()
        }
        read = {target: paths for target, paths in sources.items() if paths}
        settings = self.settings.model_copy(update={"envelope": "none"})
        return EventMapping(read, settings, (), (), ()) if read else None

    @property
    def undeclared_unit(self) -> TimeUnit:
        return self.settings.occurred_at_unit

    @property
    def items(self) -> tuple[str, ...] | None:
        """The path of ``events.items``; None: an event is one change."""
        return None if self.settings.items is None else tuple(self.settings.items.split("."))

    @property
    def deletes(self) -> WhatToDo:
        return self.settings.deletes

    @property
    def tombstones(self) -> WhatToDo:
        return self.settings.tombstones
