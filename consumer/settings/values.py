"""Single values of options, from text or YAML: durations, lists, maps, addresses.

Each function raises ValueError with what is allowed; the caller names the option.
"""

import ipaddress
import json
import math
import re
from typing import Any, Final
from urllib.parse import urlsplit

_UNIT_SECONDS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|)", re.ASCII)
OMS_ITEMS_MAX: Final = 12_000
"""The OMS takes no more items in one request."""

_NOT_A_DURATION: Final = "must be seconds, or text such as 500ms, 90s, 5m, 1h"


def parse_seconds(value: object) -> object:
    """Seconds from a number or from text with a unit."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise ValueError(_NOT_A_DURATION)
        return float(match[1]) * _UNIT_SECONDS[match[2]]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(_NOT_A_DURATION)
    return float(value)


def parse_items_or_auto(value: object) -> object:
    """A number of items within one request, or ``auto``."""
    if isinstance(value, str):
        text = value.strip().lower()
        value = int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else text
    if value == "auto" or (isinstance(value, int) and 1 <= value <= OMS_ITEMS_MAX):
        return value
    raise ValueError(f"must be a number of 1 to {OMS_ITEMS_MAX} items, or auto")


def parse_list(value: object) -> object:
    """A list of texts from a list, from a JSON list, or from text with commas."""
    if isinstance(value, str):
        value = _json(value) if value.lstrip().startswith("[") else [part.strip() for part in value.split(",")]
    if not isinstance(value, list | tuple) or not all(isinstance(part, str) and part for part in value):
        raise ValueError("must be a list of texts, or text with commas")
    return list(value)


def parse_scalar_map(value: object) -> dict[str, Any]:
    """A map of names to texts, numbers, true or false, from a map or from a JSON object."""
    parsed = _map(value)
    for name, part in parsed.items():
        if not isinstance(part, str | int | float | bool):
            raise ValueError(f'must have text, a number, true or false at "{name}"')  # noqa: TRY004 - one kind for all
    return parsed


def parse_map(value: object) -> dict[str, Any]:
    """A map of names to texts, from a map or from a JSON object."""
    parsed = _map(value)
    for name, part in parsed.items():
        if not isinstance(part, str):
            raise ValueError(f'must have text at "{name}"')  # noqa: TRY004 - one kind for all
    return parsed


def parse_url(value: str) -> str:
    """An http(s) address without credentials, query or fragment; a slash at the end is dropped."""
    allowed = "must be an address such as https://host:port, without credentials, query or fragment"
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError(allowed) from None
    # Also past the host: a password with a slash in it makes the rest of it, and the host, a path.
    if not usable or "@" in value or parts.query or parts.fragment or re.search(r"\s", value):
        raise ValueError(allowed)
    return value.rstrip("/")


def parse_url_list(value: str) -> str:
    """One or more addresses, separated by commas."""
    return ",".join(parse_url(part.strip()) for part in value.split(","))


def is_loopback(url: str) -> bool:
    """Whether the address is this machine's own, judged by its text: no name is looked up."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _map(value: object) -> dict[str, Any]:
    if isinstance(value, str):
        value = _json(value)
    if not isinstance(value, dict) or not all(isinstance(name, str) and name for name in value):
        raise ValueError("must be a map of names to values, or a JSON object")
    return value


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        # The parser's own words may hold a piece of the text, and the text a secret.
        raise ValueError("must be valid JSON where it begins with a bracket") from None
