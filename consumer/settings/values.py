"""Parsing of single values, from text or YAML: durations, sizes in bytes, lists, maps, URLs.

Each function raises ValueError with what is allowed; the caller adds the name of the setting.
"""

import ipaddress
import json
import math
import re
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from consumer.network import parse_proxy
from consumer.settings.memory import BUDGET_BYTES_MAX, BUDGET_BYTES_MIN, GIB, KIB, MIB, size

_UNIT_SECONDS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|)", re.ASCII)
_UNIT_BYTES: Final = {"kib": KIB, "mib": MIB, "gib": GIB}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(kib|mib|gib)", re.ASCII)
OMS_ITEMS_MAX: Final = 12_000
"""The OMS accepts no more items in a request."""

BODY_BYTES_MIN: Final = 16 * KIB
"""Less than this no gateway limits bodies to; a single change may take about 5 KiB."""
BODY_BYTES_MAX: Final = GIB

_NOT_A_SIZE: Final = (
    f"must be text such as 400MiB or 1.5GiB (units KiB, MiB, GiB), from {size(BUDGET_BYTES_MIN)} to "
    f"{size(BUDGET_BYTES_MAX)}, or auto"
)
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,8190}[\x21-\x7e])?")
_FIXED_HEADERS: Final = frozenset(
    [
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-request-id",
        "x-vol-tenant",
    ]
)
"""Headers that the service or its HTTP client sends itself."""

_NOT_A_DURATION: Final = "must be a number of seconds, or text such as 500ms, 90s, 5m, 1h"


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


def seconds_text(seconds: float) -> str:
    """Text that ``parse_seconds`` reads, in the largest unit without a fraction: ``5m``, ``90s``, ``500ms``."""
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    milliseconds = round(seconds * 1000, 6)
    if milliseconds % 1000 and milliseconds.is_integer():
        return f"{milliseconds:.0f}ms"
    return f"{seconds:.15g}s"


def parse_bytes_or_auto(value: object) -> object:
    """Bytes from text with a unit, or ``auto``. The bounds of memory.budget hold for both."""
    text = value.strip().lower() if isinstance(value, str) else ""
    if text == "auto":
        return text
    match = _SIZE.fullmatch(text)
    count = math.floor(float(match[1]) * _UNIT_BYTES[match[2]]) if match else 0
    if not BUDGET_BYTES_MIN <= count <= BUDGET_BYTES_MAX:
        raise ValueError(_NOT_A_SIZE)
    return count


def parse_body_bytes(value: object) -> object:
    """Bytes from a whole number or from text with a unit."""
    match = _SIZE.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if match:
        value = math.floor(float(match[1]) * _UNIT_BYTES[match[2]])
    elif isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) <= 12:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not BODY_BYTES_MIN <= value <= BODY_BYTES_MAX:
        raise ValueError(f"must be bytes, or text such as 1MiB, from {size(BODY_BYTES_MIN)} to {size(BODY_BYTES_MAX)}")
    return value


def parse_items_or_auto(value: object) -> object:
    """Number of items in a request, or ``auto``."""
    if isinstance(value, str):
        text = value.strip().lower()
        value = int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else text
    if value == "auto" or (isinstance(value, int) and 1 <= value <= OMS_ITEMS_MAX):
        return value
    raise ValueError(f"must be a number from 1 to {OMS_ITEMS_MAX}, or auto")


def parse_list(value: object) -> object:
    """List of texts from a list, a JSON list, or text with commas."""
    if isinstance(value, str):
        value = _json(value) if value.lstrip().startswith("[") else [part.strip() for part in value.split(",")]
    if not isinstance(value, list | tuple) or not all(isinstance(part, str) and part for part in value):
        raise ValueError("must be a list of texts, or text separated by commas")
    return list(value)


def parse_scalar_map(value: object) -> dict[str, Any]:
    """Map of names to texts, numbers or booleans, from a map or a JSON object."""
    parsed = _map(value)
    for name, part in parsed.items():
        if not isinstance(part, str | int | float | bool):
            raise ValueError(f'must have text, a number, true or false for "{name}"')  # noqa: TRY004 - pydantic expects ValueError
    return parsed


def parse_map(value: object) -> dict[str, Any]:
    """Map of names to texts, from a map or a JSON object."""
    parsed = _map(value)
    for name, part in parsed.items():
        if not isinstance(part, str):
            raise ValueError(f'must have text for "{name}"')  # noqa: TRY004 - pydantic expects ValueError
    return parsed


def parse_headers(value: object) -> dict[str, Any]:
    """Map of HTTP header names to values, from a map or a JSON object, without those that the service itself sends."""
    parsed = parse_map(value)
    seen: set[str] = set()
    for name, text in parsed.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(text):
            raise ValueError(f'must have names and printable values of HTTP headers, which "{name}" is not')
        if name.lower() in _FIXED_HEADERS or name.lower() in seen:
            raise ValueError(f'must not contain "{name}": the service sends it itself, or it is given twice')
        seen.add(name.lower())
    return parsed


def parse_proxy_or_direct(value: object) -> object:
    """A proxy's URL, or ``direct``."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str):
        raise ValueError("must be text (put it in quotes)")  # noqa: TRY004 - pydantic expects ValueError
    return text if text == "direct" else parse_proxy(text)


def parse_value_lists(value: object) -> dict[str, Any]:
    """Map of names to texts, separated by commas, from a map or a JSON object whose values may also be lists."""
    parsed = _map(value)
    return parse_map({name: _joined(name, part) for name, part in parsed.items()})


def _joined(name: str, part: object) -> object:
    values = part if isinstance(part, list) else [part]
    if not all(isinstance(entry, str | bool | int) for entry in values):
        raise ValueError(f'must have texts separated by commas for "{name}"')
    return ",".join(str(entry).lower() if isinstance(entry, bool) else str(entry) for entry in values)


def parse_member(value: str) -> str:
    """``host:port`` of a status page, or of several with the same name. An IPv6 address has brackets."""
    split_host_port(value)
    return value


def split_host_port(value: str) -> tuple[str, int]:
    """Host and port of ``host:port``."""
    try:
        parts = urlsplit(f"//{value}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.netloc != value or "@" in value or re.search(r"\s", value):
        raise ValueError("must be host:port, such as inventory-refresh.shop.svc:8080 or [fd00::7]:8080")
    return host, port


def parse_url(value: str) -> str:
    """An http(s) URL without credentials, query or fragment; a trailing slash is dropped."""
    allowed = "must be a URL such as https://host:port, without credentials, query or fragment"
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError(allowed) from None
    # "@" is searched in the whole URL: after a slash in a password, the parser takes the rest and the host for a path.
    if not usable or "@" in value or parts.query or parts.fragment or re.search(r"\s", value):
        raise ValueError(allowed)
    return value.rstrip("/")


def parse_url_list(value: str) -> str:
    """One or more URLs, separated by commas."""
    return ",".join(parse_url(part.strip()) for part in value.split(","))


def is_loopback(url: str) -> bool:
    """Whether the URL is of this machine. Judged by its text: no name is looked up."""
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
        # The parser's own message may quote the text, which may contain a secret.
        raise ValueError("must be valid JSON if it begins with a bracket") from None
