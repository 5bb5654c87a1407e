import pytest

from consumer.avro.bundled import schema_text
from consumer.avro.encode import EventEncoder, encode_events
from consumer.avro.recognise import describe_unframed
from consumer.avro.sources import schema_fingerprint
from consumer.avro.wire import APICURIO, BARE, CONFLUENT, SINGLE_OBJECT, Framing, confluent_prefix

EVENT = {"locationName": "Berlin", "sku": "s1", "quantity": 5}


@pytest.mark.parametrize(
    ("framing", "value", "prefix"),
    [
        pytest.param(CONFLUENT, b"\x00\x00\x00\x01\x02rest", b"\x00\x00\x00\x01\x02", id="confluent"),
        pytest.param(CONFLUENT, b"\x00\x00\x00\x01\x02", b"\x00\x00\x00\x01\x02", id="confluent and nothing more"),
        pytest.param(CONFLUENT, b"\x00\x00\x00\x01", None, id="confluent too short"),
        pytest.param(CONFLUENT, b"\x01\x00\x00\x01\x02rest", None, id="another magic byte"),
        pytest.param(SINGLE_OBJECT, b"\xc3\x0112345678rest", b"\xc3\x0112345678", id="single object"),
        pytest.param(SINGLE_OBJECT, b"\xc3\x0212345678rest", None, id="another marker"),
        pytest.param(BARE, b"anything", b"", id="bare"),
        pytest.param(BARE, b"", b"", id="bare and empty"),
    ],
)
def test_the_prefix_of_a_message_depends_on_the_framing(framing: Framing, value: bytes, prefix: bytes | None) -> None:
    assert framing.prefix_of(value) == prefix
    if prefix is None:
        assert framing.name in describe_unframed(framing, value, ())


def test_a_message_has_a_schema_id_if_it_is_framed_with_one() -> None:
    assert CONFLUENT.schema_id_of(confluent_prefix(42) + b"value") == 42
    assert CONFLUENT.schema_id_of(confluent_prefix(2**32 - 1)) == 2**32 - 1
    assert APICURIO.schema_id_of(b"\x00" + (42).to_bytes(8, "big") + b"value") == 42
    assert CONFLUENT.schema_id_of(b"{}") is None
    assert SINGLE_OBJECT.schema_id_of(b"\xc3\x0112345678") is None
    assert BARE.schema_id_of(b"value") is None


def test_a_header_that_names_the_schema_takes_precedence_over_what_looks_like_an_id() -> None:
    bare = confluent_prefix(42) + b"value"

    assert CONFLUENT.schema_id_of(bare, [("__value_schema_id", b"\x01" + bytes(range(16)))]) is None
    assert CONFLUENT.schema_id_of(bare, [("apicurio.value.contentId", (7).to_bytes(8, "big"))]) == 7


def test_the_fingerprint_is_the_one_of_avros_specification() -> None:
    assert schema_fingerprint('"int"') == bytes.fromhex("8f5c393f1ad57572")


def test_an_event_is_encoded_with_its_framing_and_absent_optional_fields() -> None:
    bare = EventEncoder(schema_text(), b"").encode(EVENT)

    assert (
        encode_events([EVENT, EVENT], schema_text=schema_text(), schema_id=258) == [b"\x00\x00\x00\x01\x02" + bare] * 2
    )
    assert EventEncoder.single_object(schema_text()).encode(EVENT)[10:] == bare


@pytest.mark.parametrize(
    "event",
    [
        pytest.param({"locationName": "Berlin", "sku": "s1"}, id="a needed field is missing"),
        pytest.param(EVENT | {"quantity": "five"}, id="another type"),
        pytest.param(EVENT | {"quantity": 2**63}, id="a number beyond a long"),
    ],
)
def test_an_event_that_does_not_match_its_schema_is_refused(event: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError)):
        EventEncoder(schema_text(), b"").encode(event)
