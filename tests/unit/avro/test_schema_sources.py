import json
from pathlib import Path

import pytest

from consumer.avro.bundled import schema_text
from consumer.avro.readers import ReaderFactory, Refused
from consumer.avro.sources import (
    UNKNOWN_SECONDS,
    FileSource,
    RegistrySource,
    SchemaUnavailableError,
)
from consumer.avro.wire import BARE, CONFLUENT, confluent_prefix
from consumer.core.changes.items import RejectReason
from consumer.errors import SettingsError
from tests.support.avro import TinyRegistry, by_name

FACTORY = ReaderFactory(by_name(), CONFLUENT.length, "columnar")
SEVEN = confluent_prefix(7)


class HandClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def source_of(
    registry: TinyRegistry, clock: HandClock | None = None, options: dict[str, str] | None = None
) -> RegistrySource:
    return RegistrySource(
        registry.url, {"timeout": 60.0} | (options or {}), CONFLUENT, FACTORY, monotonic=clock or HandClock()
    )


def refused(source: RegistrySource, prefix: bytes = SEVEN) -> Refused:
    reader = source.reader(prefix)
    assert isinstance(reader, Refused)
    return reader


def test_a_schema_is_requested_once(registry: TinyRegistry) -> None:
    registry.add(7, schema_text())
    source = source_of(registry)

    first = source.reader(SEVEN)

    assert not isinstance(first, Refused)
    assert source.reader(SEVEN) is first
    assert registry.requested_paths == ["/schemas/ids/7"]


def test_an_unknown_id_is_remembered_for_a_while_and_then_requested_again(registry: TinyRegistry) -> None:
    clock = HandClock()
    source = source_of(registry, clock)

    assert refused(source).reason is RejectReason.UNKNOWN_SCHEMA
    clock.now = UNKNOWN_SECONDS - 0.1
    registry.add(7, schema_text())
    assert refused(source).reason is RejectReason.UNKNOWN_SCHEMA
    assert len(registry.requested_paths) == 1
    clock.now = UNKNOWN_SECONDS
    assert not isinstance(source.reader(SEVEN), Refused)


def test_the_number_of_cached_schemas_and_unknown_ids_is_bounded(
    registry: TinyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumer.avro.sources.READERS_MAX", 3)
    source = source_of(registry)
    for schema_id in range(10):
        registry.add(schema_id, '"string"')

    for schema_id in range(20):
        source.reader(confluent_prefix(schema_id))
    source.reader(confluent_prefix(7))

    assert list(source._readers) == [confluent_prefix(schema_id) for schema_id in (8, 9, 7)]
    assert list(source._unknown) == [confluent_prefix(schema_id) for schema_id in (17, 18, 19)]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((500, b'{"error_code": 50001, "message": "store"}'), id="500"),
        pytest.param((503, b"<html>no backend</html>"), id="a gateway's 503"),
        pytest.param((429, b"{}"), id="too many requests"),
        pytest.param((404, b'{"error_code": 404, "message": "HTTP 404 Not Found"}'), id="404 of another path"),
        pytest.param((404, b"default backend - 404"), id="404 of a proxy"),
        pytest.param((302, b""), id="a redirect"),
        pytest.param((200, b"<html>sign in</html>"), id="200 of a portal"),
        pytest.param((200, b"[]"), id="200 with other JSON"),
    ],
)
def test_an_answer_that_is_not_from_a_registry_rejects_no_message(
    registry: TinyRegistry, answer: tuple[int, bytes]
) -> None:
    source = source_of(registry)
    registry.add(7, schema_text())
    registry.answer_always = answer

    with pytest.raises(SchemaUnavailableError):
        source.reader(SEVEN)
    registry.answer_always = None

    assert not isinstance(source.reader(SEVEN), Refused)


def test_an_id_beyond_a_signed_int_once_blocked_decoding_forever(registry: TinyRegistry) -> None:
    """Confluent's registry answers as if the path did not exist, so decoding waited: one message stopped everything."""
    registry.answer_always = (404, b'{"error_code": 404, "message": "HTTP 404 Not Found"}')
    source = source_of(registry)

    assert refused(source, confluent_prefix(2**31)).reason is RejectReason.UNKNOWN_SCHEMA
    assert refused(source, confluent_prefix(2**32 - 1)).reason is RejectReason.UNKNOWN_SCHEMA
    assert registry.requested_paths == []
    with pytest.raises(SchemaUnavailableError):
        source.reader(confluent_prefix(2**31 - 1))


def test_a_registry_that_is_down_rejects_no_message(registry: TinyRegistry) -> None:
    registry.add(7, schema_text())
    source = source_of(registry)
    registry.down()

    with pytest.raises(SchemaUnavailableError, match="schema registry"):
        source.reader(SEVEN)
    registry.up()

    assert not isinstance(source.reader(SEVEN), Refused)


@pytest.mark.parametrize("status", [401, 403])
def test_rejected_credentials_stop_the_process_and_name_the_setting(registry: TinyRegistry, status: int) -> None:
    registry.answer_always = (status, b"{}")

    with pytest.raises(SettingsError, match=r"avro\.registry") as caught:
        source_of(registry, options={"basic.auth.user.info": "ann:s3cret"}).reader(SEVEN)

    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        pytest.param("ftp://ann:s3cret@host", {}, id="another protocol"),
        pytest.param("http://host", {"no.such.option": "s3cret"}, id="an unknown option"),
        pytest.param("http://host", {"basic.auth.user.info": "s3cret"}, id="credentials of one part"),
        pytest.param("http://host", {"ssl.ca.location": "/s3cret/nowhere.pem"}, id="a certificate that is not there"),
    ],
)
def test_options_that_the_client_rejects_stop_the_start_and_show_no_secret(url: str, options: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"avro\.registry") as caught:
        RegistrySource(url, options, CONFLUENT, FACTORY)

    assert "s3cret" not in str(caught.value)


def test_references_of_a_schema_are_fetched_recursively(registry: TinyRegistry) -> None:
    amount = {"type": "record", "name": "Amount", "namespace": "shop", "fields": [{"name": "value", "type": "double"}]}
    price = {"type": "record", "name": "shop.Price", "fields": [{"name": "amount", "type": "shop.Amount"}]}
    event = {
        "type": "record",
        "name": "shop.Event",
        "fields": [
            {"name": "locationName", "type": "string"},
            {"name": "sku", "type": "string"},
            {"name": "quantity", "type": "int"},
            {"name": "price", "type": "shop.Price"},
            {"name": "list", "type": ["null", "shop.Amount"]},
        ],
    }
    to_amount = {"name": "shop.Amount", "subject": "amount", "version": 3}
    to_price = {"name": "shop.Price", "subject": "price", "version": 1}
    registry.versions["amount", 3] = {"subject": "amount", "version": 3, "id": 1, "schema": json.dumps(amount)}
    registry.versions["price", 1] = {
        "subject": "price",
        "version": 1,
        "id": 2,
        "schema": json.dumps(price),
        "references": [to_amount],
    }
    registry.add(7, json.dumps(event), references=[to_price, to_amount])

    reader = source_of(registry).reader(SEVEN)

    assert not isinstance(reader, Refused)
    value = SEVEN + b"\x02x\x02s\x02" + b"\x00" * 8 + b"\x00"
    assert reader.read([value]).frame["sku"].to_list() == ["s"]


def test_a_schema_with_a_missing_reference_is_unusable(registry: TinyRegistry) -> None:
    registry.add(7, schema_text(), references=[{"name": "A", "subject": "amount", "version": 3}])

    found = refused(source_of(registry))

    assert (found.reason, found.detail) == (
        RejectReason.UNUSABLE_SCHEMA,
        "schema 7 refers to amount version 3, which the registry does not have",
    )


def test_a_schema_that_is_not_avro_is_unusable(registry: TinyRegistry) -> None:
    registry.add(7, 'syntax = "proto3";', schemaType="PROTOBUF")

    found = refused(source_of(registry))

    assert (found.reason, found.detail) == (RejectReason.UNUSABLE_SCHEMA, "schema 7 is PROTOBUF, not Avro")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(None, "cannot be read", id="not there"),
        pytest.param(b"\xff\xfe", "cannot be read", id="not text"),
        pytest.param(b"{", "not JSON", id="not JSON"),
        pytest.param(b'"string"', "not a record", id="no record"),
        pytest.param(b'{"type": "record", "name": "E", "fields": []}', "no field locationName", id="no location"),
    ],
)
def test_an_unusable_schema_file_stops_the_start(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "event.avsc"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(SettingsError, match=rf"avro\.schema_file: .*{says}"):
        FileSource(str(path), BARE, FACTORY)
