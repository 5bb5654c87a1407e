"""Container files with several rows: each row becomes a change, with both decoders."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from io import BytesIO
from typing import Any

import fastavro
import pytest

from consumer.avro import container_rows
from consumer.avro.batches import BatchDecoder
from consumer.avro.decoder_thread import build_batch_decoder
from consumer.avro.lines import TooManyRowsError
from consumer.avro.parts import PartDecoder
from consumer.core.changes.items import LINE, OFFSET, ChangeId, SkipReason
from consumer.ports import Decoded
from consumer.settings import AvroSettings, EventsSettings
from tests.support.avro import raw_batch, value_of

SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Stock",
    "fields": [
        {"name": "locationName", "type": "string"},
        {"name": "sku", "type": ["null", "string"]},
        {"name": "quantity", "type": "long"},
        {"name": "notes", "type": {"type": "map", "values": ["null", "double", {"type": "array", "items": "string"}]}},
        {"name": "checksum", "type": {"type": "fixed", "name": "Checksum", "size": 4}},
    ],
}
OTHER: dict[str, Any] = {"type": "record", "name": "Other", "fields": [{"name": "text", "type": "string"}]}
NODE: dict[str, Any] = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}


@pytest.fixture(params=["columnar", "fastavro"])
def decoder(request: pytest.FixtureRequest) -> Iterator[BatchDecoder]:
    with closing(decoder_of(request.param)) as made:
        yield made


def decoder_of(decode_path: str = "columnar", **events: Any) -> BatchDecoder:
    settings = AvroSettings.model_validate({"framing": "container", "decoder": decode_path})
    return build_batch_decoder(settings, EventsSettings(**events), is_patient=False)


def row(sku: str | None, quantity: int = 1) -> dict[str, Any]:
    notes = {"weight": 1.5, "nothing": None, "tags": ["a", "b"]}
    return {"locationName": "Lund", "sku": sku, "quantity": quantity, "notes": notes, "checksum": b"1234"}


def file_of(*rows: Any, schema: Any = SCHEMA, codec: str = "null", block_bytes: int = 16_000) -> bytes:
    stream = BytesIO()
    fastavro.writer(
        stream, fastavro.parse_schema(schema), rows, codec=codec, sync_interval=block_bytes, sync_marker=b"s" * 16
    )
    return stream.getvalue()


def with_block(rows: int, data: bytes, schema: Any = SCHEMA) -> bytes:
    """A file with a single block that says it has so many rows."""
    return file_of(schema=schema) + value_of("long", rows) + value_of("bytes", data) + b"s" * 16


def decode(decoder: BatchDecoder, *files: bytes | None) -> Decoded:
    return decoder.decode([raw_batch(files)])


def changes(decoded: Decoded) -> list[tuple[Any, ...]]:
    return decoded.frame.sort(OFFSET, LINE).select(OFFSET, LINE, "sku", "quantity").rows()


def rejects(decoded: Decoded) -> list[tuple[int, int | None, str]]:
    return [(reject.change_id.offset, reject.line, reject.reason.value) for reject in decoded.rejects]


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz"])
def test_each_row_of_a_file_is_a_change(decoder: BatchDecoder, codec: str) -> None:
    files = [file_of(row("a", 1), row("b", 2), codec=codec), file_of(row("c", 3), codec=codec)]

    decoded = decode(decoder, *files)

    assert changes(decoded) == [(100, 0, "a", 1), (100, 1, "b", 2), (101, 0, "c", 3)]
    assert (rejects(decoded), decoded.next_offsets) == ([], {1: 102})


@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_rows_are_numbered_across_the_blocks_of_their_file(decoder: BatchDecoder, codec: str) -> None:
    many = file_of(*(row(f"s{number}", number) for number in range(50)), codec=codec, block_bytes=100)
    assert many.count(b"s" * 16) > 10

    decoded = decode(decoder, file_of(row("first")), many)

    assert changes(decoded)[1:] == [(101, number, f"s{number}", number) for number in range(50)]


def test_files_of_several_schemas_mix(decoder: BatchDecoder) -> None:
    other = {**SCHEMA, "fields": SCHEMA["fields"][:3]}
    files = [file_of(row("a"), row("b")), file_of(row("c"), row("d"), schema=other), file_of(row("e"))]

    found = [(offset, line, sku) for offset, line, sku, _ in changes(decode(decoder, *files))]

    assert found == [(100, 0, "a"), (100, 1, "b"), (101, 0, "c"), (101, 1, "d"), (102, 0, "e")]


def test_a_bad_row_is_rejected_with_its_line_and_the_others_are_changes(decoder: BatchDecoder) -> None:
    decoded = decode(decoder, file_of(row("z")), file_of(row("a"), row(None), row("c", 2**60), row("d", -1), row("e")))

    assert changes(decoded) == [(100, 0, "z", 1), (101, 0, "a", 1), (101, 4, "e", 1)]
    assert rejects(decoded) == [
        (101, 1, "no_identifier"),
        (101, 2, "integer_out_of_range"),
        (101, 3, "negative_quantity"),
    ]
    assert decoded.rejects[0].change_id == ChangeId(1, 101, 1)
    assert decoded.barriers is not None
    assert decoded.barriers.select(OFFSET, LINE, "sku").rows() == [(101, 2, "c"), (101, 3, "d")]


def test_a_row_of_a_branch_that_cannot_be_read_is_rejected_with_its_line(decoder: BatchDecoder) -> None:
    rows = [("Stock", row("a")), ("Other", {"text": "x"}), ("Stock", row("c"))]

    decoded = decode(decoder, file_of(*rows, schema=[SCHEMA, OTHER]))

    assert changes(decoded) == [(100, 0, "a", 1), (100, 2, "c", 1)]
    assert rejects(decoded) == [(100, 1, "unusable_schema")]


def test_a_bad_file_with_one_row_names_line_0(decoder: BatchDecoder) -> None:
    assert rejects(decode(decoder, file_of(row(None)))) == [(100, 0, "no_identifier")]


def test_a_file_without_rows_is_skipped_and_counted(decoder: BatchDecoder) -> None:
    decoded = decode(decoder, file_of(), file_of(row("a")), file_of(), with_block(0, b""))

    assert changes(decoded) == [(101, 0, "a", 1)]
    assert (rejects(decoded), dict(decoded.skipped)) == ([], {SkipReason.NO_LINES: 3})
    assert decoded.next_offsets == {1: 104}


@pytest.mark.parametrize("decode_path", ["columnar", "fastavro"])
def test_a_file_with_too_many_rows_is_rejected_as_a_whole(decode_path: str) -> None:
    with closing(decoder_of(decode_path, lines_max=3)) as decoder:
        decoded = decode(decoder, file_of(*[row("a")] * 4), file_of(*[row("b")] * 3), with_block(2**60, b""))

    assert [change[:2] for change in changes(decoded)] == [(101, 0), (101, 1), (101, 2)]
    assert rejects(decoded) == [(100, None, "too_many_lines"), (102, None, "too_many_lines")]
    assert decoded.rejects[0].detail == "more than 3 lines (events.lines_max)"


ONE = value_of(SCHEMA, row("a"))
BAD_BRANCH = ONE.replace(b"\x02\x02a", b"\x04\x02a", 1)
BAD_TEXT = ONE.replace(b"\x08Lund", b"\x08L\xff\xffd", 1)


@pytest.mark.parametrize(
    ("file", "reason", "says"),
    [
        pytest.param(with_block(3, ONE + ONE), "corrupt", "row 2: the value is cut off", id="a row is missing"),
        pytest.param(with_block(2, ONE + ONE[:-1]), "corrupt", "row 1: the value is cut off", id="a row is cut off"),
        pytest.param(with_block(2, ONE * 3), "trailing_bytes", "bytes after the rows", id="more than the rows"),
        pytest.param(with_block(0, ONE), "trailing_bytes", "bytes after the rows", id="bytes without rows"),
        pytest.param(with_block(2, ONE + BAD_BRANCH), "corrupt", "row 1: a union has no branch 2", id="no such branch"),
        pytest.param(with_block(3, ONE + BAD_TEXT + ONE), "corrupt", "row 1: ", id="no UTF-8"),
        pytest.param(file_of(row("a"), row("b"))[:-20], "not_framed", "cut off", id="the file is cut off"),
        pytest.param(
            file_of(row("a"), row("b"), codec="deflate")[:-20] + b"????" + b"s" * 16, "corrupt", "", id="deflate"
        ),
    ],
)
def test_a_file_that_is_corrupt_anywhere_is_rejected_as_a_whole(
    decoder: BatchDecoder, file: bytes, reason: str, says: str
) -> None:
    decoded = decode(decoder, file_of(row("x"), row("y")), file, file_of(row("z")))

    assert [change[:3] for change in changes(decoded)] == [(100, 0, "x"), (100, 1, "y"), (102, 0, "z")]
    assert rejects(decoded) == [(101, None, reason)]
    assert says in decoded.rejects[0].detail


def test_rows_with_recursive_fields_are_read_and_nest_within_a_limit(decoder: BatchDecoder) -> None:
    schema = {**SCHEMA, "fields": [*SCHEMA["fields"], {"name": "node", "type": NODE}]}
    deep = ONE + b"\x02" * 100_000 + b"\x00"
    good = [row("a") | {"node": {"next": {"next": None}}}, row("b") | {"node": {"next": None}}]

    decoded = decode(decoder, file_of(*good, schema=schema), with_block(2, deep + deep, schema))

    assert changes(decoded) == [(100, 0, "a", 1), (100, 1, "b", 1)]
    assert rejects(decoded) == [(101, None, "corrupt")]
    assert "nests deeper" in decoded.rejects[0].detail


def test_many_bytes_are_read_in_parts_of_whole_files(decoder: BatchDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_rows, "READ_BYTES_MAX", 10)

    decoded = decode(decoder, *[file_of(row("a"), row("b"))] * 3, file_of())

    assert [change[:3] for change in changes(decoded)] == [
        (100 + n, line, "ab"[line]) for n in range(3) for line in (0, 1)
    ]
    assert dict(decoded.skipped) == {SkipReason.NO_LINES: 1}


def test_files_with_too_many_rows_together_are_read_fewer_at_a_time(
    decoder: BatchDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("lines", "messages", "container_rows", "parts"):
        monkeypatch.setattr(f"consumer.avro.{module}.ROWS_MAX", 5)
    other = {**SCHEMA, "fields": SCHEMA["fields"][:3]}
    large, small = file_of(*[row("a")] * 7), file_of(*[row("b")] * 2, schema=other)
    for files in ([large, large], [small, file_of(*[row("c")] * 4)]):
        with pytest.raises(TooManyRowsError):
            decode(decoder, *files)

    parts, found, first = PartDecoder(decoder), [], 0
    batch = raw_batch([large, small, None, small, large])
    while first < len(batch):
        part, first = parts.decode_part([batch], first)
        found += [change[:2] for change in changes(part)]

    assert found == [(100 + n, line) for n, rows in ((0, 7), (1, 2), (3, 2), (4, 7)) for line in range(rows)]


def test_rows_that_are_no_changes_count_too(decoder: BatchDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_rows, "ROWS_MAX", 5)
    files = [file_of(*[("Other", {"text": "x"})] * 3, schema=[SCHEMA, OTHER])] * 2

    with pytest.raises(TooManyRowsError):
        decode(decoder, *files)
    assert len(decode(decoder, files[0]).rejects) == 3


# Where each row must be an event of its own


COUNTED: dict[str, Any] = {
    "type": "record",
    "name": "Counted",
    "fields": [
        {"name": "locationName", "type": "string"},
        {
            "name": "lines",
            "type": {"type": "array", "items": {**SCHEMA, "name": "Line", "fields": SCHEMA["fields"][1:3]}},
        },
    ],
}


@pytest.mark.parametrize("decode_path", ["columnar", "fastavro"])
def test_with_items_a_file_must_have_one_row_whose_lines_are_numbered(decode_path: str) -> None:
    def counted(*skus: str | None) -> dict[str, Any]:
        return {"locationName": "Lund", "lines": [{"sku": sku, "quantity": 1} for sku in skus]}

    fields = {"sku": "lines.sku", "quantity": "lines.quantity"}
    files: Sequence[bytes] = [
        file_of(*rows, schema=COUNTED)
        for rows in ([counted("a", None, "c")], [counted("d"), counted("e")], [], [counted()])
    ]
    cut = with_block(1, value_of(COUNTED, counted("f"))[:-1], COUNTED)
    with closing(decoder_of(decode_path, items="lines", fields=fields, match_by_name=True)) as decoder:
        decoded = decode(decoder, *files, cut)

    assert changes(decoded) == [(100, 0, "a", 1), (100, 2, "c", 1)]
    assert rejects(decoded) == [
        (100, 1, "no_identifier"),
        (101, None, "not_one_row"),
        (102, None, "not_one_row"),
        (104, None, "corrupt"),
    ]
    assert "has 2 rows" in decoded.rejects[1].detail
    assert dict(decoded.skipped) == {SkipReason.NO_LINES: 1}


@pytest.mark.parametrize("decode_path", ["columnar", "fastavro"])
def test_a_file_of_debezium_envelopes_must_have_one_row(decode_path: str) -> None:
    value = {**SCHEMA, "name": "Value", "fields": SCHEMA["fields"][:3]}
    envelope = {
        "type": "record",
        "name": "Envelope",
        "fields": [
            {"name": "before", "type": ["null", value]},
            {"name": "after", "type": ["null", "Value"]},
            {"name": "op", "type": "string"},
        ],
    }

    def moved(old: str, new: str) -> dict[str, Any]:
        return {"before": row(old), "after": row(new), "op": "u"}

    files = [
        file_of(moved("a", "b"), schema=envelope),
        file_of(moved("c", "d"), moved("e", "f"), schema=envelope),
        file_of(schema=envelope),
    ]
    with closing(decoder_of(decode_path, deletes="zero")) as decoder:
        decoded = decode(decoder, *files)

    assert changes(decoded) == [(100, 0, "a", 0), (100, 1, "b", 1)]
    assert rejects(decoded) == [(101, None, "not_one_row")]
    assert "Debezium" in decoded.rejects[0].detail
    assert dict(decoded.skipped) == {SkipReason.NO_LINES: 1}


def test_a_key_must_have_one_row() -> None:
    key = {"type": "record", "name": "Key", "fields": [{"name": "sku", "type": "string"}]}
    keys = [file_of(*({"sku": sku} for sku in skus), schema=key) for skus in ("k", "lm", "")]
    with closing(decoder_of(key_format="avro", fields={"sku": "$key.sku"}, match_by_name=True)) as decoder:
        decoded = decoder.decode([raw_batch([file_of(row("a"), row("b"))] * 3, keys=keys)])

    assert changes(decoded) == [(100, 0, "k", 1), (100, 1, "k", 1)]
    assert {found[0] for found in rejects(decoded)} == {101, 102}


def test_sources_are_described_from_the_first_row() -> None:
    with closing(decoder_of()) as decoder:
        assert decoder.sources_of(file_of(row("a"), row("b")))["sku"]
        assert decoder.sources_of(file_of()) == decoder.sources_of(None)
        assert decoder.sources_of(with_block(2, b"")) == decoder.sources_of(None)


def test_the_schema_of_rows_is_parsed_once() -> None:
    container_rows._walker.cache_clear()
    with closing(decoder_of()) as decoder:
        decode(decoder, *[file_of(row("a"), row("b"))] * 5)

    assert container_rows._walker.cache_info().misses == 1
    assert container_rows._walker.cache_info().maxsize == container_rows.WALKERS_MAX
