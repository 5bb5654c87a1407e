"""Events with several changes: each line becomes a change, with both decoders."""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from consumer.avro import lines as lines_module
from consumer.avro.decoder_thread import build_batch_decoder
from consumer.avro.lines import TooManyRowsError
from consumer.avro.parts import PartDecoder
from consumer.avro.wire import confluent_prefix
from consumer.core.changes.items import ITEM_KEY, LINE, OFFSET, ChangeId
from consumer.errors import SettingsError
from consumer.ports import Decoded, RawBatch
from consumer.settings import AvroSettings, EventsSettings
from tests.support.avro import raw_batch, value_of

DECODERS = pytest.mark.parametrize("decoder", ["columnar", "fastavro"])

LINE_TYPE = {
    "type": "record",
    "name": "Line",
    "fields": [
        {"name": "article", "type": ["null", "string"]},
        {"name": "pieces", "type": "int"},
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["NEW", "USED"]}},
    ],
}
COUNTED: dict[str, Any] = {
    "type": "record",
    "name": "Counted",
    "fields": [
        {"name": "store", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "lines", "type": ["null", {"type": "array", "items": LINE_TYPE}]},
    ],
}
FIELDS = {"locationName": "store", "sku": "lines.article", "quantity": "lines.pieces", "occurredAt": "at"}


def line(article: str | None, pieces: int, state: str = "NEW") -> dict[str, Any]:
    return {"article": article, "pieces": pieces, "state": state}


def counted(*lines: Mapping[str, Any], store: str = "Lund") -> dict[str, Any]:
    return {"store": store, "at": 1_700_000_000_000, "lines": list(lines)}


def framed(schema: Any, *events: Any) -> list[bytes]:
    return [confluent_prefix(7) + value_of(schema, event) for event in events]


def decoder_of(folder: Path, decoder: str, schema: Any, items: str, fields: Mapping[str, str], **more: Any) -> Any:
    path = folder / "schema.avsc"
    path.write_text(json.dumps(schema))
    settings = AvroSettings.model_validate({"schema_file": str(path), "decoder": decoder})
    events = EventsSettings(items=items, fields=dict(fields), match_by_name=True, **more)
    return build_batch_decoder(settings, events, list(ITEM_KEY))


def changes(decoded: Decoded) -> list[tuple[Any, ...]]:
    """Offset, line, location, sku and quantity of each change."""
    names = (OFFSET, LINE, "locationName", "sku", "quantity")
    return decoded.frame.sort(OFFSET, LINE).select(names).rows()


def rejects(decoded: Decoded) -> list[tuple[int, int | None, str]]:
    return [(reject.change_id.offset, reject.line, reject.reason.value) for reject in decoded.rejects]


@DECODERS
def test_each_element_of_an_array_is_a_change_with_the_fields_of_the_event_around_it(
    tmp_path: Path, decoder: str
) -> None:
    events = [counted(line("a", 1), line("b", 0)), counted(line("c", 7), store="Malmo")]
    with closing(decoder_of(tmp_path, decoder, COUNTED, "lines", FIELDS)) as made:
        decoded = made.decode([raw_batch(framed(COUNTED, *events))])

    assert changes(decoded) == [(100, 0, "Lund", "a", 1), (100, 1, "Lund", "b", 0), (101, 0, "Malmo", "c", 7)]
    assert decoded.frame["_occurredAt"].unique().to_list() == [1_700_000_000_000]
    assert (decoded.next_offsets, decoded.rejects) == ({1: 102}, ())


@DECODERS
def test_an_event_without_lines_is_no_change_and_no_reject(tmp_path: Path, decoder: str) -> None:
    events = [counted(), counted(line("a", 1)), {**counted(), "lines": None}]
    with closing(decoder_of(tmp_path, decoder, COUNTED, "lines", FIELDS)) as made:
        decoded = made.decode([raw_batch(framed(COUNTED, *events))])

    assert (changes(decoded), decoded.rejects) == ([(101, 0, "Lund", "a", 1)], ())
    assert decoded.next_offsets == {1: 103}


@DECODERS
def test_good_and_bad_lines_of_one_event_mix_and_a_reject_names_its_line(tmp_path: Path, decoder: str) -> None:
    event = counted(line("a", 1), line(None, 2), line("c", -3), line("d", 4))
    with closing(decoder_of(tmp_path, decoder, COUNTED, "lines", FIELDS)) as made:
        decoded = made.decode([raw_batch(framed(COUNTED, counted(line("z", 9)), event))])

    assert changes(decoded) == [(100, 0, "Lund", "z", 9), (101, 0, "Lund", "a", 1), (101, 3, "Lund", "d", 4)]
    assert rejects(decoded) == [(101, 1, "no_identifier"), (101, 2, "negative_quantity")]
    assert [reject.change_id for reject in decoded.rejects] == [ChangeId(1, 101, 1), ChangeId(1, 101, 2)]
    assert decoded.barriers is not None
    assert decoded.barriers.select("locationName", "sku", OFFSET, LINE).rows() == [("Lund", "c", 101, 2)]


@DECODERS
def test_an_event_that_cannot_be_read_is_rejected_as_a_whole(tmp_path: Path, decoder: str) -> None:
    good, cut = framed(COUNTED, counted(line("a", 1)), counted(line("b", 1), line("c", 2)))
    with closing(decoder_of(tmp_path, decoder, COUNTED, "lines", FIELDS)) as made:
        decoded = made.decode([raw_batch([good, cut[:-3], b"{}", good])])

    assert [change[0] for change in changes(decoded)] == [100, 103]
    assert rejects(decoded) == [(101, None, "corrupt"), (102, None, "not_framed")]


@DECODERS
def test_a_number_beyond_its_type_costs_its_line_only(tmp_path: Path, decoder: str) -> None:
    as_long = json.loads(json.dumps(COUNTED).replace('"pieces", "type": "int"', '"pieces", "type": "long"'))
    event = counted(line("a", 1), line("b", 2**40), line("c", 3))
    with closing(decoder_of(tmp_path, decoder, COUNTED, "lines", FIELDS)) as made:
        decoded = made.decode([raw_batch(framed(as_long, event))])

    assert changes(decoded) == [(100, 0, "Lund", "a", 1), (100, 2, "Lund", "c", 3)]
    assert rejects(decoded) == [(100, 1, "integer_out_of_range")]


@DECODERS
def test_a_map_has_a_change_for_each_of_its_keys(tmp_path: Path, decoder: str) -> None:
    by_location = {
        "type": "record",
        "name": "Stock",
        "fields": [{"name": "sku", "type": "string"}, {"name": "stock", "type": {"type": "map", "values": "int"}}],
    }
    fields = {"locationName": "stock.key", "quantity": "stock.value"}
    events = [{"sku": "a", "stock": {"Lund": 4, "Malmo": 0}}, {"sku": "b", "stock": {}}]
    with closing(decoder_of(tmp_path, decoder, by_location, "stock", fields)) as made:
        decoded = made.decode([raw_batch(framed(by_location, *events))])

    assert changes(decoded) == [(100, 0, "Lund", "a", 4), (100, 1, "Malmo", "a", 0)]


@DECODERS
def test_a_map_of_records_has_the_fields_of_its_values(tmp_path: Path, decoder: str) -> None:
    value = {"type": "record", "name": "Level", "fields": [{"name": "free", "type": "long"}]}
    by_item = {
        "type": "record",
        "name": "Stock",
        "fields": [
            {"name": "body", "type": {"type": "record", "name": "Body", "fields": [
                {"name": "store", "type": "string"}, {"name": "levels", "type": {"type": "map", "values": value}},
            ]}},
        ],
    }  # fmt: skip
    fields = {"locationName": "body.store", "sku": "body.levels.key", "quantity": "body.levels.value.free"}
    events = [{"body": {"store": "Lund", "levels": {"a": {"free": 4}, "b": {"free": 5}}}}]
    with closing(decoder_of(tmp_path, decoder, by_item, "body.levels", fields)) as made:
        decoded = made.decode([raw_batch(framed(by_item, *events))])

    assert changes(decoded) == [(100, 0, "Lund", "a", 4), (100, 1, "Lund", "b", 5)]


@DECODERS
@pytest.mark.parametrize("outer", ["array", "map"])
def test_lines_may_be_nested_twice(tmp_path: Path, decoder: str, outer: str) -> None:
    store = {"type": "record", "name": "Store", "fields": [
        {"name": "name", "type": "string"}, {"name": "lines", "type": {"type": "array", "items": LINE_TYPE}},
    ]}  # fmt: skip
    kind = {"type": "array", "items": store} if outer == "array" else {"type": "map", "values": store}
    schema = {"type": "record", "name": "Stores", "fields": [{"name": "stores", "type": kind}]}
    stores: list[dict[str, Any]] = [
        {"name": "Lund", "lines": [line("a", 1), line("b", 2)]},
        {"name": "Oslo", "lines": []},
        {"name": "Malmo", "lines": [line("a", 3)]},
    ]
    event = {"stores": stores if outer == "array" else {found["name"]: found for found in stores}}
    path = "stores" if outer == "array" else "stores.value"
    location = "stores.name" if outer == "array" else "stores.key"
    fields = {"locationName": location, "sku": f"{path}.lines.article", "quantity": f"{path}.lines.pieces"}
    with closing(decoder_of(tmp_path, decoder, schema, f"{path}.lines", fields)) as made:
        decoded = made.decode([raw_batch(framed(schema, event, event))])

    expected = [(0, "Lund", "a", 1), (1, "Lund", "b", 2), (2, "Malmo", "a", 3)]
    assert changes(decoded) == [(offset, *change) for offset in (100, 101) for change in expected]


@DECODERS
def test_a_map_of_maps_has_a_change_for_each_inner_key(tmp_path: Path, decoder: str) -> None:
    schema = {"type": "record", "name": "Stock", "fields": [
        {"name": "stock", "type": {"type": "map", "values": {"type": "map", "values": "int"}}},
    ]}  # fmt: skip
    fields = {"locationName": "stock.key", "sku": "stock.value.key", "quantity": "stock.value.value"}
    with closing(decoder_of(tmp_path, decoder, schema, "stock.value", fields)) as made:
        decoded = made.decode([raw_batch(framed(schema, {"stock": {"Lund": {"a": 1, "b": 2}, "Oslo": {"a": 3}}}))])

    assert changes(decoded) == [(100, 0, "Lund", "a", 1), (100, 1, "Lund", "b", 2), (100, 2, "Oslo", "a", 3)]


@DECODERS
def test_an_event_with_too_many_lines_is_rejected_as_a_whole(tmp_path: Path, decoder: str) -> None:
    events = [counted(*[line(f"{number}", 1) for number in range(count)]) for count in (3, 4, 2)]
    with closing(decoder_of(tmp_path, decoder, COUNTED, "lines", FIELDS, lines_max=3)) as made:
        decoded = made.decode([raw_batch(framed(COUNTED, *events))])

    assert [change[:2] for change in changes(decoded)] == [(100, 0), (100, 1), (100, 2), (102, 0), (102, 1)]
    assert rejects(decoded) == [(101, None, "too_many_lines")]
    assert decoded.rejects[0].detail == "more than 3 lines (events.lines_max)"


@DECODERS
def test_a_negative_quantity_is_zero_if_the_settings_say_so(tmp_path: Path, decoder: str) -> None:
    event = counted(line("a", -4), line("b", 5))
    with closing(decoder_of(tmp_path, decoder, COUNTED, "lines", FIELDS, negative_quantity="zero")) as made:
        decoded = made.decode([raw_batch(framed(COUNTED, event))])

    assert (changes(decoded), decoded.rejects) == ([(100, 0, "Lund", "a", 0), (100, 1, "Lund", "b", 5)], ())
    assert not decoded.barriers


@pytest.mark.parametrize(
    ("items", "problem"),
    [
        ("rows", "the schema has no field rows"),
        ("store", "the field store is string, not an array or a map"),
        ("store.lines", "the field store is string, not a record with the field lines"),
        ("lines.article", "the field lines.article is .null, string., not an array or a map"),
    ],
)
def test_a_schema_without_lines_there_is_refused_with_the_setting(tmp_path: Path, items: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=rf"{problem} \(events.items\)"):
        decoder_of(tmp_path, "columnar", COUNTED, items, FIELDS)


@DECODERS
def test_a_field_in_another_array_than_the_lines_is_refused(tmp_path: Path, decoder: str) -> None:
    other = {"name": "others", "type": {"type": "array", "items": {"type": "record", "name": "Other", "fields": [
        {"name": "sku", "type": "string"}]}}}  # fmt: skip
    schema = COUNTED | {"fields": [*COUNTED["fields"], other]}
    with pytest.raises(SettingsError, match="the field others is array, not a record with the field sku"):
        decoder_of(tmp_path, decoder, schema, "lines", FIELDS | {"sku": "others.sku"})


@DECODERS
def test_many_lines_come_in_parts_that_together_are_the_whole(
    tmp_path: Path, decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [counted(*[line(f"{number}", count) for number in range(count)]) for count in (3, 0, 9, 2, 1, 30, 4)]
    values: Sequence[bytes | None] = framed(COUNTED, *events)
    batches = [
        raw_batch([*values[:3], None], ends={1: 104}),
        raw_batch(values[3:5], first_offset=104),
        raw_batch([], first_offset=106, ends={1: 106}),
        raw_batch(values[5:], first_offset=106, ends={1: 108}),
    ]
    with closing(decoder_of(tmp_path, decoder, COUNTED, "lines", FIELDS)) as made:
        whole = made.decode(batches)
        for module in ("lines", "rows", "columnar", "messages", "parts"):
            monkeypatch.setattr(f"consumer.avro.{module}.ROWS_MAX", 10)
        with pytest.raises(TooManyRowsError):
            made.decode(batches)
        parts = decoded_in_parts(made, batches)

    assert [change for part in parts for change in changes(part)] == changes(whole)
    assert max(part.frame.height for part in parts) == 30
    assert sorted(part.frame.height for part in parts)[-2] <= 10
    assert sum(part.tombstones for part in parts) == 1
    assert [part.next_offsets for part in parts if part.next_offsets][-1] == whole.next_offsets == {1: 108}
    assert parts[-1].ends == whole.ends == {1: 108}


def decoded_in_parts(made: Any, batches: Sequence[RawBatch]) -> list[Decoded]:
    parts, first = [], 0
    decoder = PartDecoder(made)
    while first < sum(map(len, batches)):
        decoded, first = decoder.decode_part(batches, first)
        parts.append(decoded)
    return parts


@DECODERS
def test_the_columns_of_an_event_are_not_copied_with_its_lines_for_each_line(tmp_path: Path, decoder: str) -> None:
    event = counted(*[line(f"{number}", 1) for number in range(5_000)])
    with closing(decoder_of(tmp_path, decoder, COUNTED, "lines", FIELDS)) as made:
        decoded = made.decode([raw_batch(framed(COUNTED, *[event] * 6))])

    assert decoded.frame.height == lines_module.ROWS_MAX
