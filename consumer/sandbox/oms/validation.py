"""The OMS's rules for a refresh request: parses a body into location and items, or refuses it with the reason.

Source of the rules: the documentation of Inventory Refresh. Where it is silent, this sandbox is strict (no ``null``, no
unknown field), so that a request that passes here should pass in any OMS.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Final, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

# pydantic reads the TypedDict of typing only from Python 3.12 on.
from typing_extensions import TypedDict

from consumer.errors import InvariantError
from consumer.sandbox.oms.errors import OmsCode, RefusalError
from consumer.sandbox.oms.settings import Package

IDENTIFIERS: Final = ("partNumber", "upc", "sku")
LOCATION_FIELDS: Final[Mapping[Package, str]] = {
    Package.SPECIFIC: "locationName",
    Package.V5: "locationName",
    Package.UNIFIED: "locationCode",
}
"""The name of the location field in each package's API."""

_STRICT: Final = ConfigDict(extra="forbid", strict=True)
_Name = Annotated[str, Field(min_length=1)]
_Number = Annotated[float, Field(allow_inf_nan=False)]
# The documentation's table says integer, its example sends "101": both are accepted.
_Count = Annotated[int, Field(ge=0)]
_Digits = Annotated[str, Field(pattern=r"^[0-9]{1,19}$")]


@with_config(_STRICT)
class Item(TypedDict):
    """One item of a request, as it is sent."""

    quantity: Annotated[_Count | _Digits, Field(union_mode="left_to_right")]
    partNumber: NotRequired[_Name]
    upc: NotRequired[_Name]
    sku: NotRequired[_Name]
    binID: NotRequired[Annotated[int, Field(ge=1)]]
    ltd: NotRequired[_Number]
    floor: NotRequired[int]
    safetyStock: NotRequired[int]
    currencyID: NotRequired[int]
    retailPrice: NotRequired[_Number]
    inventoryLocatorName: NotRequired[Annotated[str, Field(max_length=50)]]
    attributes: NotRequired[Annotated[list[str], Field(max_length=63)]]


@with_config(_STRICT)
class GranularItem(Item):
    """One item of a Unified Commerce request, where these fields also identify the item.

    ``lTD`` does not: it is how the vendor's client spells ``ltd``.
    """

    lotCode: NotRequired[Annotated[str, Field(min_length=1, max_length=50)]]
    condition: NotRequired[Annotated[str, Field(min_length=1, max_length=50)]]
    date: NotRequired[_Name]
    serialNumber: NotRequired[Annotated[str, Field(min_length=1, max_length=30)]]
    externalID: NotRequired[_Name]
    deliveryDate: NotRequired[_Name]
    tags: NotRequired[Annotated[dict[_Name, _Name], Field(min_length=1)]]
    lTD: NotRequired[_Number]


_FIELD_RULES: Final = {
    "locationName": "a string of at least 1 character",
    "locationCode": "a string of at least 1 character",
    "quantity": "an integer of at least 0",
    "partNumber": "a string of at least 1 character",
    "upc": "a string of at least 1 character",
    "sku": "a string of at least 1 character",
    "binID": "an integer of at least 1",
    "ltd": "a number",
    "floor": "an integer",
    "safetyStock": "an integer",
    "currencyID": "an integer",
    "retailPrice": "a number",
    "inventoryLocatorName": "a string of at most 50 characters",
    "attributes": "an array of at most 63 strings",
    "lotCode": "a string of 1 to 50 characters",
    "condition": "a string of 1 to 50 characters",
    "date": "a string of at least 1 character",
    "serialNumber": "a string of 1 to 30 characters",
    "externalID": "a string of at least 1 character",
    "deliveryDate": "a string of at least 1 character",
    "tags": "an object of at least 1 string, with names and strings of at least 1 character",
    "lTD": "a number",
}
"""What a field must be, for error messages; the types above check it."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """A valid request. ``items`` is None if they were only counted."""

    location: str
    item_count: int
    items: list[Item] | None


def parse_refresh(body: bytes, *, max_items: int, package: Package = Package.SPECIFIC) -> Refresh:
    """Parse a request's body and check every rule of the package's API.

    Raises RefusalError (400) with code 5003 if the body is not JSON or has no items or too many, 5011 if something is
    missing, 5015 if a value is invalid. Its message names the first invalid item and field.
    """
    try:
        request = _adapter(max_items, package).validate_json(body)
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False, include_input=False)[0], max_items) from None
    items: list[Item] = request["items"]
    for index, item in enumerate(items):
        if "sku" not in item and "partNumber" not in item and "upc" not in item:
            message = f"items[{index}]: one of {', '.join(IDENTIFIERS)} is required"
            raise RefusalError(400, OmsCode.MISSING_REQUEST_DATA, message, item=index)
    return Refresh(request[LOCATION_FIELDS[package]], len(items), items)


def count_refresh(body: bytes, *, max_items: int, package: Package = Package.SPECIFIC) -> Refresh:
    """Parse a request's location and count its items, without parsing them.

    In JSON the bytes ``"quantity"`` followed by a colon are always a key: inside a string the quotes would be escaped.
    Raises RefusalError (400) if there is no location, no item, or too many items.
    """
    field = LOCATION_FIELDS[package]
    found = re.search(rb'"%s"\s*:\s*(?=")' % field.encode(), body)
    if found is None:
        raise RefusalError(400, OmsCode.MISSING_REQUEST_DATA, f"{field} is required", field=field)
    closing = re.compile(rb'"(?:[^"\\]|\\.)+"').match(body, found.end())
    if closing is None:
        raise _wrong(field, field)
    try:
        location = json.loads(closing.group())
    except ValueError:
        raise _wrong(field, field) from None
    count = body.count(b'"quantity":') or len(re.findall(rb'"quantity"\s+:', body))
    if not 1 <= count <= max_items:
        raise _wrong_item_count(count, max_items)
    return Refresh(location, count, None)


@cache
def _adapter(max_items: int, package: Package) -> TypeAdapter[Any]:
    """The validator of whole requests. The item limit is a setting, so the type is made at run time."""

    @with_config(_STRICT)
    class Body(TypedDict):
        locationName: _Name
        items: Annotated[list[Item], Field(min_length=1, max_length=max_items)]

    @with_config(_STRICT)
    class UnifiedBody(TypedDict):
        locationCode: _Name
        items: Annotated[list[GranularItem], Field(min_length=1, max_length=max_items)]

    return TypeAdapter(UnifiedBody if package is Package.UNIFIED else Body)


def _refusal(error: Mapping[str, Any], max_items: int) -> RefusalError:
    kind, position = error["type"], error["loc"]
    if kind == "json_invalid":
        return RefusalError(400, OmsCode.BAD_REQUEST, f"the body is not JSON: {error['msg']}")
    match position:
        case ():
            return RefusalError(400, OmsCode.INVALID_REQUEST_DATA, "the body must be an object")
        case ("items",) if kind in ("too_short", "too_long"):
            return _wrong_item_count(int(error["ctx"]["actual_length"] or 0), max_items)
        case ("items",) if kind != "missing":
            return RefusalError(400, OmsCode.INVALID_REQUEST_DATA, "items must be an array", field="items")
        case (str(field),):
            return _wrong_field(kind, field, field, None)
        case _:
            return _refused_item(kind, position)


def _refused_item(kind: str, position: tuple[int | str, ...]) -> RefusalError:
    match position:
        case ("items", int(item)):
            return RefusalError(400, OmsCode.INVALID_REQUEST_DATA, f"items[{item}] must be an object", item=item)
        case ("items", int(item), str(field), *_):
            return _wrong_field(kind, f"items[{item}].{field}", field, item)
    raise InvariantError(f"unknown position in a request: {position}")


def _wrong_field(kind: str, path: str, field: str, item: int | None) -> RefusalError:
    if kind == "missing":
        return RefusalError(400, OmsCode.MISSING_REQUEST_DATA, f"{path} is required", item=item, field=field)
    if kind == "extra_forbidden":
        return RefusalError(400, OmsCode.INVALID_REQUEST_DATA, f"{path} is not a known field", item=item, field=field)
    return _wrong(path, field, item)


def _wrong(path: str, field: str, item: int | None = None) -> RefusalError:
    message = f"{path} must be {_FIELD_RULES[field]}"
    return RefusalError(400, OmsCode.INVALID_REQUEST_DATA, message, item=item, field=field)


def _wrong_item_count(count: int, max_items: int) -> RefusalError:
    message = f"items must be an array of 1 to {max_items} items, not {count}"
    return RefusalError(400, OmsCode.BAD_REQUEST, message, field="items")
