"""Messages of each wire format, as the service's decoder reads them with its settings."""

import bz2
import json
import lzma
import uuid
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest

from consumer.avro.bundled import schema_path, schema_text
from consumer.avro.decoder_thread import build_batch_decoder
from consumer.avro.decompress import DECOMPRESSED_BYTES_MAX
from consumer.avro.encode import EventEncoder
from consumer.avro.sources import schema_fingerprint
from consumer.avro.wire import confluent_prefix
from consumer.errors import SettingsError
from consumer.ports import Decoded, Headers
from consumer.settings import AvroSettings
from tests.support.avro import EVENT, TinyRegistry, message, raw_batch, value_of

GUID = uuid.UUID("8b1f3f52-0a3e-4a57-9d53-6b2c7a0c1d22")
SCHEMA: dict[str, Any] = json.loads(schema_text())
OTHER = {
    "type": "record",
    "name": "Other",
    "fields": [
        {"name": "sku", "type": "string"},
        {"name": "quantity", "type": "int"},
        {"name": "locationName", "type": "string"},
    ],
}


def bare(sku: str = "s1", schema: Any = SCHEMA) -> bytes:
    return value_of(schema, EVENT | {"sku": sku})


def decode(
    settings: dict[str, Any], values: Sequence[bytes | None], headers: Sequence[Headers] | None = None
) -> Decoded:
    with closing(build_batch_decoder(AvroSettings.model_validate(settings), is_patient=False)) as decoder:
        return decoder.decode([raw_batch(values, headers=headers)])


def skus(decoded: Decoded) -> list[str]:
    return decoded.frame["sku"].to_list()


def rejected(decoded: Decoded) -> list[tuple[int, str]]:
    return [(reject.change_id.offset - 100, reject.reason.value) for reject in decoded.rejects]


# A header names the schema


def guid_header(guid: uuid.UUID = GUID) -> Headers:
    return [("trace", b"t"), ("__value_schema_id", b"\x01" + guid.bytes)]


def test_values_whose_schema_guid_is_in_a_header_are_read_among_others_with_a_prefix(registry: TinyRegistry) -> None:
    """A bare value that begins with a zero byte looks like one with a prefix: only the header tells them apart."""
    other = uuid.UUID(int=7)
    registry.add(7, schema_text())
    registry.guids = {str(GUID): {"schema": schema_text()}, str(other): {"schema": json.dumps(OTHER)}}
    values = [message(sku="a"), bare("b"), None, bare("c", OTHER), message(sku="d"), bare("e")]
    headers: list[Headers] = [(), guid_header(), (), guid_header(other), [("other", None)], guid_header()]

    decoded = decode({"registry_url": registry.url}, values, headers)

    assert skus(decoded) == ["a", "b", "c", "d", "e"]
    assert decoded.tombstones == 1
    assert sorted(registry.requested_paths) == [
        "/schemas/guids/" + str(other),
        f"/schemas/guids/{GUID}",
        "/schemas/ids/7",
    ]


def test_a_header_of_confluents_may_have_an_id_instead_of_a_guid(registry: TinyRegistry) -> None:
    registry.add(7, schema_text())

    decoded = decode({"registry_url": registry.url}, [bare()], [[("__value_schema_id", confluent_prefix(7))]])

    assert skus(decoded) == ["s1"]


def test_a_dead_letter_of_a_value_with_a_header_has_no_id_from_its_first_bytes(registry: TinyRegistry) -> None:
    registry.guids = {str(GUID): {"schema": schema_text()}}

    decoded = decode({"registry_url": registry.url}, [confluent_prefix(7) + b"junk"], [guid_header()])

    assert [reject.schema_id for reject in decoded.rejects] == [None]


@pytest.mark.parametrize("value", [b"", b"\x01", b"\x01" + GUID.bytes + b"x", b"\x02" + GUID.bytes])
def test_a_header_that_has_no_id_is_said_so(registry: TinyRegistry, value: bytes) -> None:
    decoded = decode({"registry_url": registry.url}, [bare()], [[("__value_schema_id", value)]])

    assert rejected(decoded) == [(0, "not_framed")]
    assert "the header __value_schema_id names the schema" in decoded.rejects[0].detail


def test_a_guid_that_the_registry_does_not_know_is_rejected_and_stops_nothing(registry: TinyRegistry) -> None:
    """A registry without GUIDs answers as if the path did not exist, which means a wrong address for ids."""
    registry.add(7, schema_text())

    decoded = decode({"registry_url": registry.url}, [bare(), message(sku="a")], [guid_header(), ()])

    assert skus(decoded) == ["a"]
    assert decoded.rejects[0].detail == f"the schema registry has no schema with the GUID {GUID}"


# Apicurio Registry


def eight_bytes(schema_id: int, value: bytes) -> bytes:
    return b"\x00" + schema_id.to_bytes(8, "big") + value


def test_ids_of_eight_bytes_are_content_ids_of_the_confluent_api(registry: TinyRegistry) -> None:
    registry.add(13, schema_text())
    settings = {"registry_url": f"{registry.url}/apis/ccompat/v7", "framing": "apicurio", "registry_ids": "content"}

    decoded = decode(settings, [eight_bytes(13, bare("a")), eight_bytes(14, bare()), eight_bytes(13, bare("b"))])

    assert skus(decoded) == ["a", "b"]
    assert rejected(decoded) == [(1, "unknown_schema")]
    assert decoded.rejects[0].schema_id == 14


@pytest.mark.parametrize("path", ["apis/ccompat/v7", "apis/registry/v2", "apis/registry/v3/"])
@pytest.mark.parametrize("framing", ["confluent", "apicurio"])
def test_global_ids_are_looked_up_through_apicurios_own_api(registry: TinyRegistry, path: str, framing: str) -> None:
    registry.global_ids[21] = SCHEMA
    settings = {"registry_url": f"{registry.url}/{path}", "framing": framing, "registry_ids": "global"}
    prefix = (lambda number: eight_bytes(number, b"")) if framing == "apicurio" else confluent_prefix

    decoded = decode(settings, [prefix(21) + bare("a"), prefix(22) + bare("b")])

    assert skus(decoded) == ["a"]
    assert rejected(decoded) == [(1, "unknown_schema")]
    assert decoded.rejects[0].detail == "the schema registry has no schema with the global id 22"


def test_headers_of_apicurio_name_the_kind_of_their_id(registry: TinyRegistry) -> None:
    registry.add(13, schema_text())
    registry.global_ids[13] = OTHER
    headers: list[Headers] = [
        [("apicurio.value.contentId", (13).to_bytes(8, "big")), ("apicurio.value.encoding", b"BINARY")],
        [("apicurio.value.globalId", (13).to_bytes(8, "big"))],
    ]

    decoded = decode({"registry_url": f"{registry.url}/apis/ccompat/v7"}, [bare("a"), bare("b", OTHER)], headers)

    assert skus(decoded) == ["a", "b"]


def test_a_global_id_in_a_header_needs_apicurios_address(registry: TinyRegistry) -> None:
    decoded = decode({"registry_url": registry.url}, [bare()], [[("apicurio.value.globalId", (13).to_bytes(8, "big"))]])

    assert rejected(decoded) == [(0, "unusable_schema")]
    assert "give its URL in avro.registry_url, ending in /apis/ccompat/v7" in decoded.rejects[0].detail


# AWS Glue


def glue(value: bytes, version_id: uuid.UUID = GUID, compression: int = 0) -> bytes:
    return bytes([3, compression]) + version_id.bytes + value


def test_values_with_the_header_of_glue_are_read_compressed_or_not(tmp_path: Path) -> None:
    other = uuid.UUID(int=9, version=4)
    (tmp_path / f"{GUID}.avsc").write_text(schema_text(), encoding="utf-8")
    (tmp_path / f"{str(other).upper()}.avsc").write_text(json.dumps(OTHER), encoding="utf-8")
    values = [
        glue(bare("a")),
        glue(zlib.compress(bare("b")), compression=5),
        glue(bare("c", OTHER), other),
        glue(bare("d"), uuid.UUID(int=1)),
        glue(bare("e"), compression=7),
        glue(bare("f"), compression=5),
        glue(zlib.compress(bare("g"))[:-5], compression=5),
        glue(zlib.compress(bytes(DECOMPRESSED_BYTES_MAX + 1)), compression=5),
    ]

    decoded = decode({"framing": "aws-glue", "schema_file": str(tmp_path)}, values)

    assert skus(decoded) == ["a", "b", "c"]
    assert rejected(decoded) == [
        (3, "unknown_schema"),
        (4, "not_framed"),
        (5, "corrupt"),
        (6, "corrupt"),
        (7, "corrupt"),
    ]
    assert "more than 16777216 bytes" in decoded.rejects[-1].detail


def test_one_schema_file_may_be_that_of_all_schema_version_ids() -> None:
    settings = {"framing": "aws-glue", "schema_file": str(schema_path()), "schema_file_for_all_ids": True}

    assert skus(decode(settings, [glue(bare("a")), glue(bare("b"), uuid.UUID(int=1))])) == ["a", "b"]


def test_decompressed_values_are_not_all_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumer.avro.messages.UNWRAPPED_BYTES_MAX", 100)
    values = [glue(zlib.compress(bare(f"s{number}")), compression=5) for number in range(20)]
    values[3] = glue(bare(), compression=5)

    decoded = decode({"framing": "aws-glue", "schema_file": str(schema_path())}, values)

    assert skus(decoded) == [f"s{number}" for number in range(20) if number != 3]
    assert rejected(decoded) == [(3, "corrupt")]


# Several schema files


def test_single_objects_of_several_schemas_are_read_by_their_fingerprints(tmp_path: Path) -> None:
    (tmp_path / "one.avsc").write_text(schema_text(), encoding="utf-8")
    (tmp_path / "two.avsc").write_text(json.dumps(OTHER), encoding="utf-8")
    (tmp_path / "README.md").write_text("no schema", encoding="utf-8")
    unknown = b"\xc3\x01" + schema_fingerprint('"int"')
    values = [
        EventEncoder.single_object(schema_text()).encode(EVENT | {"sku": "a"}),
        EventEncoder.single_object(json.dumps(OTHER)).encode(EVENT | {"sku": "b"}),
        unknown,
    ]

    for paths in (str(tmp_path), f"{tmp_path}/one.avsc, {tmp_path}/two.avsc"):
        decoded = decode({"framing": "single-object", "schema_file": paths}, values)
        assert skus(decoded) == ["a", "b"]
        assert rejected(decoded) == [(2, "unknown_schema")]


def test_with_several_files_a_schema_is_found_by_the_id_in_the_message(tmp_path: Path) -> None:
    (tmp_path / "7.avsc").write_text(schema_text(), encoding="utf-8")
    (tmp_path / "8.avsc").write_text(json.dumps(OTHER), encoding="utf-8")
    values = [message(sku="a", schema_id=7), confluent_prefix(8) + bare("b", OTHER), message(sku="c", schema_id=9)]

    decoded = decode({"schema_file": str(tmp_path)}, values)

    assert skus(decoded) == ["a", "b"]
    assert decoded.rejects[0].detail == "avro.schema_file has no schema 9; it has 7, 8"


@pytest.mark.parametrize(
    ("framing", "names", "says"),
    [
        pytest.param("confluent", ["event.avsc", "7.avsc"], "named by the schema's id", id="a name that is no id"),
        pytest.param("bare", ["a.avsc", "b.avsc"], "bare framing names no schema", id="several for bare values"),
        pytest.param("confluent", [], "has no schema", id="an empty folder"),
    ],
)
def test_schema_files_that_no_message_can_name_stop_the_start(
    tmp_path: Path, framing: str, names: list[str], says: str
) -> None:
    for name in names:
        (tmp_path / name).write_text(schema_text(), encoding="utf-8")

    with pytest.raises(SettingsError, match=rf"avro\.schema_file: .*{says}"):
        decode({"framing": framing, "schema_file": str(tmp_path)}, [])


# Container files


def container(*events: dict[str, Any], schema: Any = SCHEMA, codec: str = "null") -> bytes:
    stream = BytesIO()
    fastavro.writer(stream, fastavro.parse_schema(schema), events, codec=codec)
    return stream.getvalue()


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz"])
def test_container_files_with_one_row_are_read_with_their_own_schemas(codec: str) -> None:
    values = [container(EVENT | {"sku": "a"}, codec=codec), container(EVENT | {"sku": "b"}, schema=OTHER, codec=codec)]

    assert skus(decode({"framing": "container"}, values)) == ["a", "b"]


CONTAINER = container(EVENT)


@pytest.mark.parametrize(
    ("value", "reason", "says"),
    [
        pytest.param(message(), "not_framed", "begins with", id="no container file"),
        pytest.param(CONTAINER[:-1], "not_framed", "cut off", id="truncated"),
        pytest.param(CONTAINER[:-1] + b"?", "not_framed", "without the sync marker", id="no marker"),
        pytest.param(
            container(EVENT, codec="deflate").replace(b"deflate", b"snapper"),
            "not_framed",
            "readable are null, deflate, bzip2, xz",
            id="a codec that needs a library",
        ),
    ],
)
def test_a_container_file_that_cannot_be_read_is_rejected(value: bytes, reason: str, says: str) -> None:
    decoded = decode({"framing": "container"}, [value, container(EVENT | {"sku": "a"})])

    assert skus(decoded) == ["a"]
    assert rejected(decoded) == [(0, reason)]
    assert says in decoded.rejects[0].detail


@pytest.mark.parametrize(
    ("codec", "compress"),
    [
        ("deflate", lambda data: zlib.compress(data, wbits=-15)),
        ("bzip2", bz2.compress),
        ("xz", lzma.compress),
    ],
)
def test_a_container_file_that_would_fill_the_memory_is_corrupt(codec: str, compress: Callable[[bytes], bytes]) -> None:
    bomb = compress(bytes(DECOMPRESSED_BYTES_MAX + 1))
    file = container(EVENT, codec=codec)
    sync = file[-16:]
    header = file[: file.index(sync) + 16]
    value = header + b"\x02" + _long(len(bomb)) + bomb + sync

    assert rejected(decode({"framing": "container"}, [value])) == [(0, "corrupt")]


def _long(number: int) -> bytes:
    stream = BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema("long"), number)
    return stream.getvalue()


# What is not framed as set


SINGLE = EventEncoder.single_object(schema_text()).encode(EVENT)


@pytest.mark.parametrize(
    ("framing", "value", "headers", "says"),
    [
        pytest.param("confluent", glue(bare()), (), f"schema version id {GUID}", id="glue"),
        pytest.param("confluent", SINGLE, (), "single-object encoding", id="single object"),
        pytest.param("confluent", container(EVENT), (), "set avro.framing to container", id="container"),
        pytest.param("confluent", eight_bytes(13, bare()), (), "13; set avro.framing to apicurio", id="8 bytes"),
        pytest.param("confluent", b' {"sku": "a"}\n', (), "looks like JSON", id="JSON"),
        pytest.param("confluent", b"<a/>", (), "looks like XML", id="XML"),
        pytest.param("confluent", b"", (), "the value is empty", id="empty"),
        pytest.param("single-object", message(), (), "Confluent framing, schema id 7", id="confluent"),
        pytest.param("single-object", bare(), guid_header(), "header __value_schema_id names the schema", id="header"),
        pytest.param("bare", message(), (), "Confluent framing, schema id 7", id="confluent for bare"),
        pytest.param("bare", glue(bare()), (), "AWS Glue framing", id="glue for bare"),
        pytest.param("bare", bare() + b"x", (), "after the value", id="only too long"),
    ],
)
def test_a_message_that_is_framed_in_another_way_says_which_setting_reads_it(
    framing: str, value: bytes, headers: Headers, says: str
) -> None:
    decoded = decode({"framing": framing, "schema_file": str(schema_path())}, [value], [headers])

    (reject,) = decoded.rejects
    assert says in reject.detail
    assert reject.detail.isprintable()
