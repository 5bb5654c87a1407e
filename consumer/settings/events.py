"""The section ``events``: how a decoded event becomes a change of an item. How its bytes are decoded is ``avro``."""

from typing import Final

from pydantic import Field, field_validator

from consumer.core.changes.columns import GRANULAR_COLUMN_TYPES, LOCATION, PLAIN_COLUMN_TYPES
from consumer.settings.section import Section, TextMap

FIELD_TARGETS: Final = (LOCATION, *PLAIN_COLUMN_TYPES, *GRANULAR_COLUMN_TYPES, "occurredAt")
"""The names that ``events.fields`` can map to a path in the event."""


class EventsSettings(Section):
    """Events: how a decoded event becomes a change."""

    fields: TextMap = Field(
        default_factory=dict,
        description="Maps a field of the OMS (or `locationName`, `occurredAt`) to the path of a field in the event, "
        "with dots between levels. Of several paths separated by commas, the first that the schema has is used. "
        "Fields that are not mapped are looked up under their own names (lotCode, condition, date, serialNumber and "
        "externalID only with oms.api unified-commerce).",
    )

    @field_validator("fields")
    @classmethod
    def _fields_are_known(cls, fields: dict[str, str]) -> dict[str, str]:
        for name, path in fields.items():
            if name not in FIELD_TARGETS:
                raise ValueError(f"cannot map {name!r}; known fields are {', '.join(FIELD_TARGETS)}")
            if not all(part for choice in path.split(",") for part in choice.strip().split(".")):
                raise ValueError(f"must map {name} to a path such as a.b, not {path!r}")
        return fields
