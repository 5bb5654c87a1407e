"""Bugs that the fuzzer found."""

import json
from typing import Any

import pytest

from consumer.avro.readers import ReaderFactory, Refused
from consumer.core.changes.items import RejectReason
from tests.support.avro import by_name


@pytest.mark.parametrize("decode_path", ["columnar", "fastavro"])
def test_a_price_of_type_int_beyond_32_bits_was_once_accepted(decode_path: Any) -> None:
    fields = {"locationName": "string", "sku": "string", "quantity": "int", "retailPrice": ["null", "int"]}
    schema = {"type": "record", "name": "E", "fields": [{"name": name, "type": t} for name, t in fields.items()]}
    reader = ReaderFactory(by_name(), 0, decode_path).reader(json.dumps(schema))
    assert not isinstance(reader, Refused)

    reading = reader.read([b"\x02x\x02s\x02" + price for price in (b"\x02\x80\x80\x80\x80\x10", b"\x02\x08", b"\x00")])

    assert [(bad.reason, bad.detail) for bad in reading.bad] == [
        (RejectReason.INTEGER_OUT_OF_RANGE, "retailPrice is 2147483648, not from -2147483648 to 2147483647")
    ]
    assert reading.frame["retailPrice"].to_list() == [4.0, None]
