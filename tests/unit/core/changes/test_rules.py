import math
from typing import Any

import polars as pl
import pytest

from consumer.core.changes.items import ITEM_COLUMNS, LOCATION, RejectReason
from consumer.core.changes.rules import REASON, check, describe

GOOD = {LOCATION: "Berlin", "sku": "s1", "quantity": 0}


def frame_of(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={LOCATION: pl.String(), **ITEM_COLUMNS})


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({}, id="only what is needed"),
        pytest.param({"sku": None, "upc": "1"}, id="upc alone"),
        pytest.param({"sku": None, "partNumber": "1"}, id="part number alone"),
        pytest.param({"quantity": 2**53 - 1}, id="the largest exact quantity"),
        pytest.param({"binID": 1}, id="bin 1"),
        pytest.param({"floor": -(2**53 - 1), "safetyStock": -1, "currencyID": 0}, id="integers without a lower bound"),
        pytest.param({"retailPrice": -1.5, "ltd": 0.0}, id="any finite number"),
        pytest.param({"inventoryLocatorName": "ä" * 50}, id="locator of 50 letters, 100 bytes"),
        pytest.param({"lotCode": "l" * 50, "condition": "c" * 50, "serialNumber": "s" * 30}, id="longest lot"),
        pytest.param({"date": "d" * 99, "externalID": "e" * 99}, id="texts without a limit"),
        pytest.param({"attributes": ["a"] * 63}, id="63 attributes"),
        pytest.param({"attributes": []}, id="no attribute"),
    ],
)
def test_a_row_within_the_rules_is_good(changed: dict[str, Any]) -> None:
    frame = frame_of(GOOD | changed, GOOD)

    good, rejected = check(frame)

    assert good.equals(frame)
    assert len(rejected) == 0
    assert rejected.columns == [*frame.columns, REASON]


@pytest.mark.parametrize(
    ("changed", "reason", "detail"),
    [
        pytest.param({LOCATION: None}, RejectReason.NO_LOCATION, "locationName", id="no location"),
        pytest.param({"sku": None}, RejectReason.NO_IDENTIFIER, "partNumber, upc, sku", id="no identifier"),
        pytest.param({"quantity": None}, RejectReason.NO_QUANTITY, "quantity is null", id="no quantity"),
        pytest.param({"quantity": -1}, RejectReason.NEGATIVE_QUANTITY, "quantity is -1", id="negative quantity"),
        pytest.param({"quantity": -(2**63)}, RejectReason.NEGATIVE_QUANTITY, "quantity is", id="the smallest long"),
        pytest.param({"binID": 0}, RejectReason.BIN_ID_TOO_SMALL, "binID is 0", id="bin 0"),
        pytest.param({"inventoryLocatorName": "x" * 51}, RejectReason.LOCATOR_TOO_LONG, "51 characters", id="locator"),
        pytest.param({"lotCode": "x" * 51}, RejectReason.TEXT_TOO_LONG, "lotCode has 51 characters, over 50", id="lot"),
        pytest.param({"condition": "x" * 51}, RejectReason.TEXT_TOO_LONG, "condition has 51", id="condition"),
        pytest.param({"serialNumber": "x" * 31}, RejectReason.TEXT_TOO_LONG, "serialNumber has 31", id="serial number"),
        pytest.param({"attributes": ["a"] * 64}, RejectReason.TOO_MANY_ATTRIBUTES, "64 attributes", id="64 attributes"),
        pytest.param({"attributes": ["a", None]}, RejectReason.NULL_ATTRIBUTE, "null", id="a null attribute"),
        pytest.param({"retailPrice": math.nan}, RejectReason.NOT_A_NUMBER, "retailPrice is nan", id="NaN"),
        pytest.param({"ltd": -math.inf}, RejectReason.NOT_A_NUMBER, "ltd is -inf", id="infinity"),
        pytest.param({"quantity": 2**53}, RejectReason.INTEGER_OUT_OF_RANGE, "quantity is", id="quantity"),
        pytest.param({"binID": 2**53}, RejectReason.INTEGER_OUT_OF_RANGE, "binID is", id="binID"),
        pytest.param({"floor": -(2**53)}, RejectReason.INTEGER_OUT_OF_RANGE, "floor is", id="floor"),
        pytest.param({"safetyStock": 2**63 - 1}, RejectReason.INTEGER_OUT_OF_RANGE, "safetyStock is", id="safetyStock"),
        pytest.param({"currencyID": -(2**63)}, RejectReason.INTEGER_OUT_OF_RANGE, "currencyID is", id="currencyID"),
        pytest.param({LOCATION: None, "quantity": -1}, RejectReason.NO_LOCATION, "", id="the first of two"),
    ],
)
def test_a_row_that_breaks_a_rule_is_rejected_alone(changed: dict[str, Any], reason: RejectReason, detail: str) -> None:
    full = {"binID": 1, "retailPrice": 1.0, "ltd": 1.0, "inventoryLocatorName": "x", "attributes": ["a"], "floor": 1}
    frame = frame_of(GOOD, GOOD | changed, GOOD | full)

    good, rejected = check(frame)

    assert good.equals(frame[[0, 2]])
    assert rejected.drop(REASON).equals(frame[[1]])
    assert rejected[REASON].to_list() == [reason.value]
    assert detail in describe(reason, rejected.row(0, named=True))


def test_other_columns_stay_with_their_rows() -> None:
    frame = frame_of(GOOD, GOOD | {"quantity": -1}).with_columns(_offset=pl.Series([10, 11]))

    good, rejected = check(frame)

    assert (good["_offset"].to_list(), rejected["_offset"].to_list()) == ([10], [11])


def test_an_empty_frame_has_nothing_to_reject() -> None:
    good, rejected = check(frame_of())

    assert (len(good), len(rejected)) == (0, 0)


def test_a_reject_reason_that_is_not_a_rule_has_no_description() -> None:
    with pytest.raises(KeyError):
        describe(RejectReason.CORRUPT, {})


def test_a_change_without_an_identifier_of_the_item_key_is_rejected() -> None:
    rows = frame_of(GOOD, GOOD | {"sku": None, "upc": "1"}, GOOD | {"sku": None, "upc": "2"})

    good, rejected = check(rows, item_key=("sku", "binID"))

    assert good["sku"].to_list() == ["s1"]
    assert rejected[REASON].to_list() == [RejectReason.NO_IDENTIFIER] * 2
