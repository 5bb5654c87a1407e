"""Sources of schemas: a schema registry or a file. Readers are made once per schema and cached, up to a limit."""

import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import structlog
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import OAuthTokenError, SchemaRegistryError
from fastavro.schema import fingerprint, to_parsing_canonical_form

from consumer.avro.readers import Reader, Refused, refused_schema
from consumer.avro.wire import Framing, confluent_prefix, single_object_prefix
from consumer.core.changes.items import RejectReason
from consumer.errors import InvariantError, SettingsError
from consumer.text import one_line

READERS_MAX: Final = 1_000
"""Cached readers; the least recently used one is evicted. A topic usually has a handful of schemas."""

UNKNOWN_SECONDS: Final = 30.0
"""How long an unknown schema id is not requested again. It may still be registered later."""

SCHEMA_ID_MAX: Final = 2**31 - 1
"""Schema ids are signed 32-bit integers."""

REFERENCES_MAX: Final = 100
"""Schemas that one schema may refer to, directly or indirectly."""

REGISTRY_DEFAULTS: Final[Mapping[str, Any]] = {"timeout": 10.0, "max.retries": 0, "cache.capacity": READERS_MAX}
"""Options of the client, unless ``avro.registry`` sets them; ``timeout`` is in seconds. The client does not retry: the
decoder's thread does, with a back-off that can be interrupted and is visible in the log and on the status page."""

_log = structlog.get_logger("inventory_refresh.avro")


class SchemaUnavailableError(Exception):
    """The schema is unavailable at the moment, so the messages can be neither decoded nor rejected: retry later."""


class SchemaSource(Protocol):
    """Finds the reader for messages with a given prefix."""

    def reader(self, prefix: bytes) -> Reader | Refused:
        """The reader, or the reason why no message with this prefix can be read.

        Raises SchemaUnavailableError if this is unknown at the moment, SettingsError if these settings cannot work.
        """

    def close(self) -> None: ...


class SchemaReaderFactory(Protocol):
    """Makes the reader of a schema."""

    def reader(self, text: str, references: Sequence[str] = ()) -> Reader | Refused:
        """The reader, given the schema as text and the schemas that it refers to."""


@dataclass(frozen=True, slots=True)
class FileOptions:
    """``setting`` names the file. ``schema_id`` is the id of its schema in Confluent framing, if it is known.

    ``is_for_all_ids``: messages with any id have been written with this schema.
    """

    setting: str = "avro.schema_file"
    is_for_all_ids: bool = False
    schema_id: int | None = None


_NO_OPTIONS: Final = FileOptions()


class FileSource:
    """One schema from a file, for all messages; with single-object framing only for those with its fingerprint.

    With Confluent framing it is the schema of one id: of a known one, otherwise of the first that comes. A message with
    another id may have been written with another schema, and would be read as if it had been written with this one.
    """

    def __init__(
        self, path: str, framing: Framing, factory: SchemaReaderFactory, options: FileOptions = _NO_OPTIONS
    ) -> None:
        """Raises SettingsError if the file cannot be read or its schema cannot be used."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"{options.setting}: {path} cannot be read ({error}); give the path of a schema file"
            ) from error
        reader = factory.reader(text)
        if isinstance(reader, Refused):
            raise SettingsError(f"{options.setting}: {path} cannot be used, {reader.detail}; fix it or events.fields")
        self._framing = framing
        self._options = options
        self._id_prefix: bytes | None = None
        self._is_of_one_id = framing.name == "confluent" and not options.is_for_all_ids
        if options.schema_id is not None and self._is_of_one_id:
            self._id_prefix = confluent_prefix(options.schema_id)
        self._reader = reader
        self._prefix = single_object_prefix(schema_fingerprint(text)) if framing.name == "single-object" else None

    def reader(self, prefix: bytes) -> Reader | Refused:
        if self._is_of_one_id and prefix != self._id_prefix:
            self._take_id(prefix)
        if self._prefix is None or prefix == self._prefix:
            return self._reader
        return Refused(
            RejectReason.UNKNOWN_SCHEMA,
            f"fingerprint {prefix[2:].hex()}, but that of the schema file is {self._prefix[2:].hex()}",
        )

    def _take_id(self, prefix: bytes) -> None:
        """Take the first id for that of the schema. Raises SettingsError for another."""
        schema_id = self._framing.schema_id(prefix)
        if self._id_prefix is None:
            self._id_prefix = prefix
            _log.warning(
                "schema_file_id_assumed",
                schema_id=schema_id,
                next_step=f"set avro.schema_file_id: {schema_id} if that is right: a restart may see another id first",
            )
            return
        raise SettingsError(
            f"avro.schema_file: a message has schema id {schema_id}, but the file has the schema of id "
            f"{self._framing.schema_id(self._id_prefix)}, and other schemas would be misread; set avro.registry_url "
            "instead, or avro.schema_file_for_all_ids: true if all messages have been written with this schema"
        )

    def close(self) -> None:
        """Nothing to close."""


@dataclass(frozen=True, slots=True)
class _Unknown:
    refused: Refused
    until: float


class RegistrySource:
    """Schemas by id from a schema registry, through Confluent's client.

    ``options`` are options of the client, on top of ``REGISTRY_DEFAULTS``; ``monotonic`` returns seconds.
    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any],
        framing: Framing,
        factory: SchemaReaderFactory,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises SettingsError if the client rejects the options."""
        try:
            self._client = SchemaRegistryClient({"url": url, **REGISTRY_DEFAULTS, **options})
        except (ValueError, TypeError, OSError) as error:
            raise SettingsError(f"avro.registry_url or avro.registry: {_redacted(error, options)}") from error
        self._options = options
        self._framing = framing
        self._factory = factory
        self._monotonic = monotonic
        self._readers: OrderedDict[bytes, Reader | Refused] = OrderedDict()
        self._unknown: OrderedDict[bytes, _Unknown] = OrderedDict()

    def reader(self, prefix: bytes) -> Reader | Refused:
        if prefix in self._readers:
            self._readers.move_to_end(prefix)
            return self._readers[prefix]
        unknown = self._unknown.get(prefix)
        if unknown is not None and self._monotonic() < unknown.until:
            return unknown.refused
        schema_id = self._framing.schema_id(prefix)
        if schema_id is None:
            raise InvariantError(f"{self._framing.name} framing has no schema ids")
        found = self._fetch(schema_id)
        if isinstance(found, Refused) and found.reason is RejectReason.UNKNOWN_SCHEMA:
            _put(self._unknown, prefix, _Unknown(found, self._monotonic() + UNKNOWN_SECONDS))
        else:
            self._unknown.pop(prefix, None)
            _put(self._readers, prefix, found)
        return found

    def close(self) -> None:
        self._client.close()

    def _fetch(self, schema_id: int) -> Reader | Refused:
        if schema_id > SCHEMA_ID_MAX:
            # A registry may answer as if the path did not exist, and decoding would wait forever.
            return Refused(RejectReason.UNKNOWN_SCHEMA, f"no registry has a schema {schema_id}, beyond {SCHEMA_ID_MAX}")
        schema = self._call(lambda: self._client.get_schema(schema_id))
        if schema is None:
            return Refused(RejectReason.UNKNOWN_SCHEMA, f"the schema registry has no schema {schema_id}")
        if (schema.schema_type or "AVRO") != "AVRO":
            return refused_schema(f"schema {schema_id} is {schema.schema_type}, not Avro")
        if not isinstance(schema.schema_str, str):
            return refused_schema(f"schema {schema_id} is not text")
        references: list[str] = []
        problem = self._collect_references(schema, references, set())
        if problem:
            return refused_schema(f"schema {schema_id} {problem}")
        return self._factory.reader(schema.schema_str, references)

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

    def _call(self, get: Callable[[], Schema]) -> Schema | None:
        """Call the registry; None if it has no such schema. All errors of the client are classified here."""
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
    if status == 404 and code is not None and 40400 < code < 40500:
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


def schema_fingerprint(text: str) -> bytes:
    """The CRC-64-AVRO fingerprint of a schema, as in the prefix of single-object framing."""
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(json.loads(text)), "CRC-64-AVRO"))


def _redacted(error: Exception, options: Mapping[str, Any]) -> str:
    """An error as one line, without possible passwords: values of the options, and the user part of a URL."""
    text = re.sub(r"//\S*@", "//***@", one_line(f"{type(error).__name__}: {error}"))
    for value in options.values():
        if isinstance(value, str) and value:
            # An error may contain only the password of "user:password".
            for secret in filter(None, (value, value.partition(":")[2])):
                text = text.replace(secret, "***")
    return text


def _put(cache: OrderedDict[bytes, Any], prefix: bytes, value: Any) -> None:
    cache[prefix] = value
    cache.move_to_end(prefix)
    while len(cache) > READERS_MAX:
        cache.popitem(last=False)
