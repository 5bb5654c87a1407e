"""The section ``events``: how a decoded event becomes a change of an item. How its bytes are decoded is ``avro``."""

from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from consumer.core.changes.columns import EVENT_LINES_MAX, IDENTIFIERS, LOCATION
from consumer.settings.event_sources import (
    FIELD_TARGETS,
    FieldPath,
    Key,
    Source,
    parse_conditions,
    parse_sources,
)
from consumer.settings.section import Section, Text, TextList, TextMap
from consumer.settings.values import parse_value_lists

ValueLists = Annotated[dict[str, str], BeforeValidator(parse_value_lists)]
WhatToDo = Literal["skip", "zero", "dead-letter"]

DEBEZIUM_PLACEHOLDER: Final = "__debezium_unavailable_value"
"""Debezium writes it for a large column that did not change and that the database did not log."""


class EventsSettings(Section):
    """Events: how a decoded event becomes a change. docs/events.md has an example for each kind of topic."""

    fields: TextMap = Field(
        default_factory=dict,
        description="Maps a field of the OMS (or `locationName`, `occurredAt`) to where its value comes from: the path "
        "of a field in the event (`item.sku`), `=text` (a constant), `$topic`, `$key` or `$key.a.b`, `$header.name`, "
        "`$timestamp` (only for occurredAt), or `none`. Of several, separated by commas, the first that has a value "
        "counts.",
    )
    match_by_name: bool = Field(
        default=False,
        description="Look up fields that are not mapped under their own names. Without any `events.fields` this is "
        "always done (lotCode, condition, date, serialNumber, externalID, deliveryDate and tags only with oms.api "
        "unified-commerce).",
    )
    take: ValueLists = Field(
        default_factory=dict,
        description="Take only events that match every entry: the path of a field and its values, separated by commas "
        "(`kind: COUNTED`). `$record` stands for the name of the event's record, `a.$record` for that of the record in "
        "field a. All other events are skipped and counted.",
    )
    skip: ValueLists = Field(
        default_factory=dict, description="Skip events that match any entry, written as in `events.take`."
    )
    envelope: Literal["auto", "debezium", "none"] = Field(
        default="auto",
        description="`auto` unwraps events that are Debezium envelopes (`before`, `after`, `op`): paths then lead into "
        "the row. `debezium` refuses all others, `none` unwraps nothing.",
    )
    deleted_when: ValueLists = Field(
        default_factory=lambda: {"__deleted": "true"},
        description="Rows that match any entry, written as in `events.take`, are deletes. A Debezium envelope with op "
        "`d` always is one.",
    )
    deletes: WhatToDo = Field(
        default="skip",
        description="What a delete means: `skip` (the OMS keeps the last count), `zero` (quantity 0) or `dead-letter`.",
    )
    tombstones: WhatToDo = Field(
        default="skip",
        description="What a message without a value means, as for `events.deletes`. `zero` needs the location and an "
        "identifier from the key, a header, the topic or a constant.",
    )
    occurred_at_unit: Literal["milliseconds", "seconds", "microseconds", "nanoseconds"] = Field(
        default="milliseconds",
        description="Unit of an occurredAt whose schema does not declare one. A time before 2000 or after 2100 is then "
        "ignored.",
    )
    trim: Literal["trailing", "both", "none"] = Field(
        default="trailing", description="Which spaces are cut from the location and the identifiers."
    )
    absent_values: TextList = Field(
        default_factory=lambda: [DEBEZIUM_PLACEHOLDER],
        description="Texts that mean that a field has no value, as does the empty text.",
    )
    key_format: Literal["text", "json", "avro"] = Field(
        default="text",
        description="What `$key` reads: UTF-8 text, JSON, or Avro with the framing of the values. A path into the key "
        "needs json or avro.",
    )

    items: Text | None = Field(
        default=None,
        description="Path of an array or a map in the event, each of whose elements is a change. Paths of fields lead "
        "through it: `lines.sku`, and in a map `stock.key` and `stock.value`. If the path itself leads through an "
        "array or a map (`stores.lines`), their elements are taken one by one, too. Unset: an event is one change, "
        "or one for each row of a container file.",
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

    def sources(self, target: str) -> tuple[Source, ...]:
        """The sources of a field of the OMS; without any, the column stays null."""
        if target in self.fields:
            return parse_sources(target, self.fields[target])
        return (FieldPath((target,)),) if self.match_by_name or not self.fields else ()

    @field_validator("items")
    @classmethod
    def _items_are_a_path(cls, items: str | None) -> str | None:
        if items is not None and not all(items.split(".")):
            raise ValueError(f"must be the path of an array or a map, such as lines or a.lines, not {items!r}")
        return items

    @field_validator("fields")
    @classmethod
    def _fields_are_known(cls, fields: dict[str, str]) -> dict[str, str]:
        for name, text in fields.items():
            if name not in FIELD_TARGETS:
                raise ValueError(f"cannot map {name!r}; known fields are {', '.join(FIELD_TARGETS)}")
            parse_sources(name, text)
        return fields

    @field_validator("take", "skip", "deleted_when")
    @classmethod
    def _conditions_are_valid(cls, entries: dict[str, str]) -> dict[str, str]:
        parse_conditions(entries)
        return entries

    @model_validator(mode="after")
    def _options_fit_together(self) -> Self:
        problems = [*_missing_fields(self), *_tombstones(self), *_key(self)]
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _missing_fields(events: EventsSettings) -> list[str]:
    missing = [name for name in (LOCATION, "quantity") if not events.sources(name)]
    if not any(events.sources(name) for name in IDENTIFIERS):
        missing.append(f"one of {', '.join(IDENTIFIERS)}")
    if not missing:
        return []
    problem = f"events.fields: must also map {' and '.join(missing)}"
    return [f"{problem}, or set events.match_by_name: true to look up by name what is not mapped"]


def _tombstones(events: EventsSettings) -> list[str]:
    if events.tombstones != "zero":
        return []
    missing = [] if _outside(events, LOCATION) else [LOCATION]
    if not any(_outside(events, name) for name in IDENTIFIERS):
        missing.append(f"one of {', '.join(IDENTIFIERS)}")
    if not missing:
        return []
    problem = f"events.tombstones: zero needs {' and '.join(missing)} from another source than the value"
    return [f"{problem}, such as events.fields.sku: $key"]


def _outside(events: EventsSettings, target: str) -> bool:
    return any(not isinstance(source, FieldPath) for source in events.sources(target))


def _key(events: EventsSettings) -> list[str]:
    with_path = [
        name
        for name in FIELD_TARGETS
        if any(isinstance(source, Key) and source.path for source in events.sources(name))
    ]
    if with_path and events.key_format == "text":
        return [f"events.key_format: must be json or avro, because {', '.join(with_path)} comes from a path in the key"]
    return []
