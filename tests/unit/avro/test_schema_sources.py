import json
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from consumer.avro.bundled import schema_text
from consumer.avro.readers import ReaderFactory, Refused
from consumer.avro.schema_files import FileSource
from consumer.avro.sources import (
    ASK_AGAIN_SECONDS,
    ASK_SECONDS_MAX,
    UNKNOWN_SECONDS,
    RegistrySource,
    SchemaUnavailableError,
)
from consumer.avro.wire import BARE, CONFLUENT, SchemaRef, confluent_prefix
from consumer.core.changes.items import RejectReason
from consumer.errors import SettingsError
from tests.support.avro import TinyRegistry, by_name

FACTORY = ReaderFactory(by_name(), CONFLUENT.length, "columnar")
SEVEN = SchemaRef("id", 7)


class HandClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def source_of(
    registry: TinyRegistry,
    clock: HandClock | None = None,
    options: dict[str, str] | None = None,
    wait_seconds: float = 0.0,
) -> RegistrySource:
    return RegistrySource(
        registry.url,
        {"timeout": 60.0} | (options or {}),
        FACTORY,
        wait_seconds=wait_seconds,
        monotonic=clock or HandClock(),
    )


def refused(source: RegistrySource, ref: SchemaRef = SEVEN) -> Refused:
    reader = source.reader(ref)
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


def test_an_unknown_schema_may_appear_for_a_while_and_is_asked_for_again_and_again(registry: TinyRegistry) -> None:
    clock = HandClock()
    source = source_of(registry, clock, wait_seconds=60.0)

    assert refused(source).may_appear
    clock.now = ASK_AGAIN_SECONDS - 0.1
    assert refused(source).may_appear
    assert len(registry.requested_paths) == 1
    clock.now = 59.9
    source.begin()
    assert refused(source).may_appear
    assert len(registry.requested_paths) == 2
    clock.now = 61.0
    source.begin()
    assert not refused(source).may_appear
    assert len(registry.requested_paths) == 3

    registry.add(7, schema_text())
    clock.now = 61.0 + UNKNOWN_SECONDS
    assert not isinstance(source.reader(SEVEN), Refused)


def test_junk_with_thousands_of_ids_does_not_hold_up_a_batch_unless_it_cannot_wait(registry: TinyRegistry) -> None:
    clock = HandClock()
    source = source_of(registry, clock, wait_seconds=60.0)
    source.begin()
    assert refused(source, SchemaRef("id", 1)).may_appear
    clock.now = ASK_SECONDS_MAX

    for schema_id in range(2, 100):
        assert refused(source, SchemaRef("id", schema_id)).may_appear
    assert len(registry.requested_paths) == 1
    assert isinstance(source.reader(SchemaRef("id", 2), must_ask=True), Refused)
    assert len(registry.requested_paths) == 2

    source.begin()
    registry.add(3, schema_text())
    assert not isinstance(source.reader(SchemaRef("id", 3)), Refused)


def test_an_id_that_no_registry_can_have_is_not_waited_for(registry: TinyRegistry) -> None:
    source = source_of(registry, wait_seconds=60.0)

    assert not refused(source, SchemaRef("id", 2**31)).may_appear


def test_the_number_of_cached_schemas_and_unknown_ids_is_bounded(
    registry: TinyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumer.avro.sources.READERS_MAX", 3)
    source = source_of(registry)
    for schema_id in range(10):
        registry.add(schema_id, '"string"')

    for schema_id in range(20):
        source.reader(SchemaRef("id", schema_id))
    source.reader(SchemaRef("id", 7))

    assert list(source._readers) == [SchemaRef("id", schema_id) for schema_id in (8, 9, 7)]
    assert list(source._unknown) == [SchemaRef("id", schema_id) for schema_id in (17, 18, 19)]


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

    assert refused(source, SchemaRef("id", 2**31)).reason is RejectReason.UNKNOWN_SCHEMA
    assert refused(source, SchemaRef("id", 2**32 - 1)).reason is RejectReason.UNKNOWN_SCHEMA
    assert registry.requested_paths == []
    with pytest.raises(SchemaUnavailableError):
        source.reader(SchemaRef("id", 2**31 - 1))


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
        RegistrySource(url, options, FACTORY)

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
    value = confluent_prefix(7) + b"\x02x\x02s\x02" + b"\x00" * 8 + b"\x00"
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


def test_no_proxy_with_networks_and_brackets_does_not_keep_the_registry_from_being_read(
    registry: TinyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """httpx itself raises InvalidURL for these."""
    monkeypatch.setenv("NO_PROXY", "fd00::/8,[::1]:8081,10.0.0.0/8")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    registry.add(7, schema_text())

    assert not isinstance(source_of(registry).reader(SEVEN), Refused)


def test_a_registry_elsewhere_is_asked_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            asked.append(connection.recv(4_096))
            connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread = threading.Thread(target=answer, args=[listener], daemon=True)
        thread.start()
        source = RegistrySource("http://registry.invalid:8081", {"timeout": 60.0}, FACTORY)
        with pytest.raises(SchemaUnavailableError):
            source.reader(SEVEN)
        thread.join(60.0)

    assert asked[0].startswith(b"GET http://registry.invalid:8081/schemas/ids/7")


def test_a_proxy_or_authorities_that_cannot_be_used_stop_the_start_in_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy:1080")
    with pytest.raises(SettingsError, match="environment variable HTTPS_PROXY: must be the URL of an HTTP proxy"):
        RegistrySource("https://registry.invalid", {}, FACTORY)
    monkeypatch.delenv("HTTPS_PROXY")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    with pytest.raises(SettingsError, match="environment variable SSL_CERT_FILE: "):
        RegistrySource("https://registry.invalid", {}, FACTORY)


def test_strict_checks_of_the_registrys_certificates_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    create = ssl.create_default_context
    made: list[ssl.SSLContext] = []

    def strict(**options: Any) -> ssl.SSLContext:
        """As from Python 3.13 on."""
        made.append(create(**options))
        made[-1].verify_flags |= ssl.VERIFY_X509_STRICT
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", strict)
    for is_strict in (True, False):
        RegistrySource("https://registry.invalid", {}, FACTORY, is_tls_strict=is_strict)

    assert [bool(context.verify_flags & ssl.VERIFY_X509_STRICT) for context in made] == [True, False]
