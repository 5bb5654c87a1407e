"""The section ``events``: how a decoded event becomes a change of an item. How its bytes are decoded is ``avro``."""

from typing import Final, Literal

from pydantic import Field, field_validator

from consumer.core.changes.columns import EVENT_LINES_MAX, GRANULAR_COLUMN_TYPES, LOCATION, PLAIN_COLUMN_TYPES
from consumer.settings.section import Section, Text, TextMap

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

    items: Text | None = Field(
        default=None,
        description="Path of an array or a map in the event, each of whose elements is a change. Paths of fields lead "
        "through it: `lines.sku`, and in a map `stock.key` and `stock.value`. If the path itself leads through an "
        "array or a map (`stores.lines`), their elements are taken one by one, too. Unset: an event is one change.",
    )
    lines_max: int = Field(
        default=10_000,
        ge=1,
        le=EVENT_LINES_MAX,
        description="Changes in one event, at most. An event with more is dead-lettered as a whole.",
    )
    negative_quantity: Literal["reject", "zero"] = Field(
        default="reject",
        description="What a quantity below 0 means: `reject` dead-letters the change, and with it older counts of its "
        "item that have not been sent; `zero` sends 0.",
    )

    @field_validator("items")
    @classmethod
    def _items_are_a_path(cls, items: str | None) -> str | None:
        if items is not None and not all(items.split(".")):
            raise ValueError(f"must be the path of an array or a map, such as lines or a.lines, not {items!r}")
        return items

    @field_validator("fields")
    @classmethod
    def _fields_are_known(cls, fields: dict[str, str]) -> dict[str, str]:
        for name, path in fields.items():
            if name not in FIELD_TARGETS:
                raise ValueError(f"cannot map {name!r}; known fields are {', '.join(FIELD_TARGETS)}")
            if not all(part for choice in path.split(",") for part in choice.strip().split(".")):
                raise ValueError(f"must map {name} to a path such as a.b, not {path!r}")
        return fields
