"""The way out of the process, as the environment describes it: proxies, and the authorities that TLS trusts.

Shared by the clients of the OMS and of the schema registry. The rules for proxies are those of curl and Go, which
differ from httpx's: networks in NO_PROXY count, IPv6 addresses may have brackets, and loopback needs no proxy.
"""

import ipaddress
import os
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from consumer.errors import SettingsError

CERT_FILE_VARIABLE: Final = "SSL_CERT_FILE"
CERT_DIR_VARIABLE: Final = "SSL_CERT_DIR"

_PORTS: Final = {"http": 80, "https": 443}
_NOT_A_PROXY: Final = "must be the URL of an HTTP proxy such as http://user:password@host:port (SOCKS is not supported)"


def parse_proxy(text: str) -> str:
    """A proxy's URL; ``host:port`` alone is an http:// one. Raises ValueError with what is allowed."""
    url = text.strip() if "://" in text else f"http://{text.strip()}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0 and parts.path in ("", "/")
    except ValueError:
        usable = False
    if not usable or any(character.isspace() for character in url):
        raise ValueError(_NOT_A_PROXY)
    return url


def environment_proxy(url: str, environ: Mapping[str, str]) -> str | None:
    """The proxy for calls of this URL by HTTPS_PROXY or HTTP_PROXY, ALL_PROXY and NO_PROXY; None for a direct way.

    Variables in lower case come first. Raises SettingsError if the proxy's URL cannot be used.
    """
    parts = urlsplit(url)
    names = (f"{parts.scheme}_proxy", "all_proxy")
    found = next(((name, text) for name in names if (text := _variable(name, environ))), None)
    if found is None or is_without_proxy(url, _variable("no_proxy", environ)):
        return None
    name, text = found
    try:
        return parse_proxy(text)
    except ValueError as error:
        raise SettingsError(f"environment variable {name.upper()}: {error}") from None


def is_without_proxy(url: str, no_proxy: str) -> bool:
    """Whether NO_PROXY excludes this URL; loopback is always excluded.

    Entries are names (with all that is below them), addresses, networks, each with or without a port, or ``*``.
    """
    parts = urlsplit(url)
    address = _address(parts.hostname or "")
    if parts.hostname == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_excludes(entry, parts, address) for entry in no_proxy.replace(",", " ").split())


@contextmanager
def proxies_for_httpx(urls: Sequence[str]) -> Iterator[None]:
    """For libraries that create httpx clients: for that long, the environment has proxy variables that httpx takes.

    They say the same about these URLs, and nothing about others. httpx raises an error of its own for networks and
    brackets in NO_PROXY, and for proxies that it does not support. Raises SettingsError for those.
    """
    proxies = {urlsplit(url).scheme: environment_proxy(url, os.environ) for url in urls}
    no_proxy = _variable("no_proxy", os.environ)
    direct = [urlsplit(url).hostname or "" for url in urls if is_without_proxy(url, no_proxy)]
    replaced = {f"{scheme}_proxy": proxy for scheme, proxy in proxies.items() if proxy}
    with _variables({**replaced, "no_proxy": ",".join(direct)}):
        yield


@contextmanager
def _variables(proxies: Mapping[str, str]) -> Iterator[None]:
    names = [name for base in (*_PORTS, "all", "no") for name in (f"{base}_proxy", f"{base}_proxy".upper())]
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ.update(proxies)
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)


def check_authorities(environ: Mapping[str, str]) -> None:
    """Raise SettingsError if SSL_CERT_FILE names no file with certificates: Python's own error would not name it."""
    path = environ.get(CERT_FILE_VARIABLE)
    if not path:
        return
    variable = f"environment variable {CERT_FILE_VARIABLE}"
    try:
        with Path(path).open("rb") as file:
            file.read(1)
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise SettingsError(f"{variable}: {path} has no CA certificate in PEM format; correct or unset it") from None
    except OSError as error:
        raise SettingsError(f"{variable}: {path} cannot be read: {error.strerror}; correct or unset it") from None


def _variable(name: str, environ: Mapping[str, str]) -> str:
    return environ.get(name) or environ.get(name.upper()) or ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _excludes(entry: str, parts: SplitResult, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
    if entry == "*":
        return True
    name, port = _split_port(entry.lower())
    if port and port != str(parts.port or _PORTS.get(parts.scheme)):
        return False
    if address is not None:
        try:
            return address in ipaddress.ip_network(name, strict=False)
        except ValueError:
            return False
    host = (parts.hostname or "").rstrip(".")
    suffix = name.removeprefix("*").strip(".")
    return bool(suffix) and (host == suffix or host.endswith(f".{suffix}"))


def _split_port(entry: str) -> tuple[str, str]:
    """Name and port of an entry; an IPv6 address with a port is in brackets."""
    if entry.startswith("["):
        name, _, port = entry[1:].partition("]")
        return name, port.removeprefix(":")
    name, _, port = entry.rpartition(":")
    return (name, port) if name and ":" not in name and port.isdigit() else (entry, "")
