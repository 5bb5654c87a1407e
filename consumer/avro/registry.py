"""A schema registry's API: Confluent's, and of Apicurio Registry also its own, for global ids.

Confluent's client makes the calls. All its errors are classified here.
"""

import json
import os
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import OAuthTokenError, SchemaRegistryError

from consumer.avro.wire import SchemaRef
from consumer.errors import InvariantError, SettingsError
from consumer.network import check_authorities, proxies_for_httpx
from consumer.text import one_line

READERS_MAX: Final = 1_000
"""Cached readers; the least recently used one is evicted. A topic usually has a handful of schemas."""

REFERENCES_MAX: Final = 100
"""Schemas that one schema may refer to, directly or indirectly."""

REGISTRY_DEFAULTS: Final[Mapping[str, Any]] = {"timeout": 10.0, "max.retries": 0, "cache.capacity": READERS_MAX}
"""Options of the client, unless ``avro.registry`` sets them; ``timeout`` is in seconds. The client does not retry: the
decoder's thread does, with a back-off that can be interrupted and is visible in the log and on the status page."""

APICURIO_PATH: Final = re.compile(r"/apis/(?:ccompat|registry)/v\d+(?=/?\s*(?:,|$))")
"""The end of an Apicurio Registry's URL: of its Confluent API, or of its own."""
CONFLUENT_API: Final = "/apis/ccompat/v7"
APICURIO_API: Final = "/apis/registry/v2"
"""Both 2.x and 3.x have it, and its answers say whether an id or the path is unknown, which those of v3 do not."""

_FILES: Final = ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location")
"""Options with paths. The client's error for a missing file does not name it."""
_TOKEN_URL: Final = "bearer.auth.issuer.endpoint.url"  # noqa: S105 - the name of an option


class SchemaUnavailableError(Exception):
    """The schema is unavailable at the moment, so the messages can be neither decoded nor rejected: retry later."""


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """A schema's text, and the texts of those that it refers to, each after those that it refers to itself."""

    text: str
    references: Sequence[str] = ()


class RegistryApi:
    """Gets schemas from a registry. ``url`` may have several URLs, separated by commas."""

    def __init__(self, url: str, options: Mapping[str, Any], *, is_tls_strict: bool = True) -> None:
        """Raises SettingsError if the client rejects the options, or if a proxy or SSL_CERT_FILE cannot be used.

        Without ``is_tls_strict``, certificates are taken that fail only Python's strict checks.
        """
        self._options = options
        self._is_tls_strict = is_tls_strict
        for name in _FILES:
            if options.get(name) and not Path(options[name]).is_file():
                raise SettingsError(f'avro.registry: "{name}": there is no such file')
        if "ssl.ca.location" not in options:
            check_authorities(os.environ)
        self._client = self._open(APICURIO_PATH.sub(CONFLUENT_API, url) if "/apis/registry/" in url else url)
        self._apicurio: SchemaRegistryClient | None = None
        if APICURIO_PATH.search(url):
            self._apicurio = self._open(APICURIO_PATH.sub(APICURIO_API, url))

    def _open(self, url: str) -> SchemaRegistryClient:
        urls = [*url.split(","), *filter(None, [self._options.get(_TOKEN_URL)])]
        try:
            with proxies_for_httpx(urls):
                client = SchemaRegistryClient({"url": url, **REGISTRY_DEFAULTS, **self._options})
        except (ValueError, TypeError, OSError, ImportError) as error:
            raise SettingsError(f"avro.registry_url or avro.registry: {_redacted(error, self._options)}") from error
        if not self._is_tls_strict:
            # The client has no option for it, but its TLS context.
            client._rest_client.verify.verify_flags &= ~ssl.VERIFY_X509_STRICT  # noqa: SLF001
        return client

    def close(self) -> None:
        self._client.close()
        if self._apicurio is not None:
            self._apicurio.close()

    def schema(self, ref: SchemaRef) -> RegisteredSchema | str | None:
        """The schema; None if the registry has none, and in words if it has one that is not an Avro schema.

        Raises SchemaUnavailableError if this is unknown at the moment, SettingsError if these settings cannot work.
        """
        match ref.kind, ref.value:
            case "id", int() as schema_id:
                found = self._call(lambda: self._client.get_schema(schema_id))
            case "GUID", str() as guid:
                found = self._by_guid(guid)
            case "global id", int() as global_id:
                return self._by_global_id(global_id)
            case _:
                raise InvariantError(f"a registry has no {ref.kind}")
        if found is None:
            return None
        if (found.schema_type or "AVRO") != "AVRO":
            return f"is {found.schema_type}, not Avro"
        if not isinstance(found.schema_str, str):
            return "is not text"
        references: list[str] = []
        return self._collect_references(found, references, set()) or RegisteredSchema(found.schema_str, references)

    def _by_guid(self, guid: str) -> Schema | None:
        try:
            found: Schema | None = self._call(lambda: self._client.get_schema_by_guid(guid))
        except SchemaUnavailableError:
            # A registry without GUIDs answers as if the path did not exist. If it answers other calls, it is there, and
            # a single header with a GUID must not stop everything.
            self._call(self._client.get_schema_types)
            return None
        return found

    def _by_global_id(self, global_id: int) -> RegisteredSchema | str | None:
        client = self._apicurio
        if client is None:
            return f"is one of Apicurio Registry: give its URL in avro.registry_url, ending in {CONFLUENT_API}"
        # The client has no public call for another API; its REST client brings credentials, certificates and retries.
        get = client._rest_client.get  # noqa: SLF001
        found = self._call(lambda: get(f"ids/globalIds/{global_id}", {"dereference": "true"}))
        return None if found is None else RegisteredSchema(json.dumps(found))

    def _collect_references(self, schema: Schema, collected: list[str], seen: set[tuple[str, int]]) -> str | None:
        """Fetch the schemas that a schema refers to, into ``collected``, each after those that it refers to itself.

        Returns what is wrong with a reference, if anything is.
        """
        for reference in schema.references or []:
            subject, version = str(reference.subject), reference.version
            if not isinstance(version, int):
                return f"refers to {subject} version {version!r}, which is not a number"
            if (subject, version) in seen:
                continue
            seen.add((subject, version))
            if len(seen) > REFERENCES_MAX:
                return f"refers to more than {REFERENCES_MAX} schemas"
            found = self._call(partial(self._get_version, subject, version))
            if found is None or not isinstance(found.schema_str, str):
                return f"refers to {subject} version {version}, which the registry does not have"
            problem = self._collect_references(found, collected, seen)
            if problem:
                return problem
            collected.append(found.schema_str)
        return None

    def _get_version(self, subject: str, version: int) -> Schema:
        return self._client.get_version(subject, version, deleted=True).schema

    def _call(self, get: Callable[[], Any]) -> Any:
        """Call the registry; None if it has no such schema."""
        try:
            return get()
        except SchemaRegistryError as error:
            _raise_unless_not_found(error)
            return None
        except OAuthTokenError as error:
            raise SchemaUnavailableError("no token for the schema registry (avro.registry)") from error
        except Exception as error:
            # The client also raises the errors of the HTTP library that it uses. None of them says anything about the
            # messages.
            raise SchemaUnavailableError(f"schema registry: {_redacted(error, self._options)}") from error


def _raise_unless_not_found(error: SchemaRegistryError) -> None:
    """Raise the error that a response of the registry means; return if it means that there is no such schema."""
    status: int = error.http_status_code
    code: int | None = error.error_code  # from the response's body
    if status == 404 and code is not None and (40400 < code < 40500 or "global ID" in str(error)):
        return
    if status in {401, 403}:
        raise SettingsError(
            f"the schema registry denies access (HTTP {status}): set credentials in avro.registry, "
            "such as basic.auth.user.info, and allow them to read schemas"
        )
    if status == 404:
        # A registry sends an error code with its 404, so this is a proxy or a wrong path. Taken as "no such schema", a
        # wrong address would dead-letter every change.
        raise SchemaUnavailableError("HTTP 404 without a schema registry's error code: is avro.registry_url right?")
    raise SchemaUnavailableError(f"the schema registry answered HTTP {status}")


def _redacted(error: Exception, options: Mapping[str, Any]) -> str:
    """An error as one line, without possible passwords: values of the options, and the user part of a URL."""
    text = re.sub(r"//\S*@", "//***@", one_line(f"{type(error).__name__}: {error}"))
    for value in options.values():
        if isinstance(value, str) and value:
            # An error may contain only the password of "user:password".
            for secret in filter(None, (value, value.partition(":")[2])):
                text = text.replace(secret, "***")
    return text
