"""Where schemas come from: a schema registry, or a file. Readers are made once per schema and kept, up to a bound."""

import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import OAuthTokenError, SchemaRegistryError
from fastavro.schema import fingerprint, to_parsing_canonical_form

from consumer.avro.readers import Reader, ReaderFactory, Refused, refused_schema
from consumer.avro.wire import Framing, single_object_prefix
from consumer.core.changes.items import RejectReason
from consumer.errors import SettingsError

READERS_MAX: Final = 1_000
"""Schemas kept ready; the one not used for longest makes room. A topic has a handful."""

UNKNOWN_SECONDS: Final = 30.0
"""So long an id that the registry does not know is not asked for again; it may be registered yet."""

SCHEMA_ID_MAX: Final = 2**31 - 1
"""Registries number their schemas with a signed int."""

REFERENCES_MAX: Final = 100
"""Schemas that one schema may refer to, directly or not."""

REGISTRY_DEFAULTS: Final[Mapping[str, Any]] = {"timeout": 10.0, "max.retries": 0, "cache.capacity": READERS_MAX}
"""The client's options unless ``avro.registry`` says otherwise. ``timeout`` in seconds. It does not retry: the caller
waits, with a back-off that a stop interrupts and that people see."""


class SchemaUnavailableError(Exception):
    """The schema cannot be had now, and nothing is known of the messages: wait, and decode them again."""


class SchemaSource(Protocol):
    """Finds the reader for messages of one prefix."""

    def reader(self, prefix: bytes) -> Reader | Refused:
        """The reader, or why no message of this prefix can be read.

        Raises SchemaUnavailableError when that cannot be told now, SettingsError when it never can.
        """

    def close(self) -> None: ...


class FileSource:
    """One schema from a file: for every message, but with single-object framing only for those of its fingerprint."""

    def __init__(self, path: str, framing: Framing, factory: ReaderFactory) -> None:
        """Raises SettingsError when the file is not there or its schema cannot be used."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"avro.schema_file: {path} cannot be read ({error}); give the path of a schema file"
            ) from error
        reader = factory.reader(text)
        if isinstance(reader, Refused):
            raise SettingsError(f"avro.schema_file: {path} cannot be used, {reader.detail}; correct it or avro.fields")
        self._reader = reader
        self._prefix = single_object_prefix(schema_fingerprint(text)) if framing.name == "single-object" else None

    def reader(self, prefix: bytes) -> Reader | Refused:
        if self._prefix is None or prefix == self._prefix:
            return self._reader
        return Refused(
            RejectReason.UNKNOWN_SCHEMA,
            f"fingerprint {prefix[2:].hex()}, but the schema file's is {self._prefix[2:].hex()}",
        )

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, slots=True)
class _Unknown:
    refused: Refused
    until: float


class RegistrySource:
    """Schemas by id from a schema registry, by Confluent's client.

    ``options`` are any of the client's, over ``REGISTRY_DEFAULTS``; ``clock`` gives monotonic seconds.
    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any],
        framing: Framing,
        factory: ReaderFactory,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises SettingsError when the client does not take the options."""
        try:
            self._client = SchemaRegistryClient({"url": url, **REGISTRY_DEFAULTS, **options})
        except (ValueError, TypeError, OSError) as error:
            raise SettingsError(f"avro.registry_url or avro.registry: {_told(error, options)}") from error
        self._options = options
        self._framing = framing
        self._factory = factory
        self._clock = clock
        self._readers: OrderedDict[bytes, Reader | Refused] = OrderedDict()
        self._unknown: OrderedDict[bytes, _Unknown] = OrderedDict()

    def reader(self, prefix: bytes) -> Reader | Refused:
        if prefix in self._readers:
            self._readers.move_to_end(prefix)
            return self._readers[prefix]
        unknown = self._unknown.get(prefix)
        if unknown is not None and self._clock() < unknown.until:
            return unknown.refused
        schema_id = self._framing.schema_id(prefix)
        if schema_id is None:
            raise ValueError(f"{self._framing.name} framing has no schema ids")
        found = self._fetch(schema_id)
        if isinstance(found, Refused) and found.reason is RejectReason.UNKNOWN_SCHEMA:
            _keep(self._unknown, prefix, _Unknown(found, self._clock() + UNKNOWN_SECONDS))
        else:
            self._unknown.pop(prefix, None)
            _keep(self._readers, prefix, found)
        return found

    def close(self) -> None:
        self._client.close()

    def _fetch(self, schema_id: int) -> Reader | Refused:
        if schema_id > SCHEMA_ID_MAX:
            # A registry may answer as to a path that it does not have, and that would be waited for.
            return Refused(RejectReason.UNKNOWN_SCHEMA, f"no registry has a schema {schema_id}, beyond {SCHEMA_ID_MAX}")
        schema = self._asked(lambda: self._client.get_schema(schema_id))
        if schema is None:
            return Refused(RejectReason.UNKNOWN_SCHEMA, f"the schema registry has no schema {schema_id}")
        if (schema.schema_type or "AVRO") != "AVRO":
            return refused_schema(f"schema {schema_id} is {schema.schema_type}, not Avro")
        if not isinstance(schema.schema_str, str):
            return refused_schema(f"schema {schema_id} is there, but not as text")
        gathered: list[str] = []
        missing = self._gather(schema, gathered, set())
        if missing:
            return refused_schema(f"schema {schema_id} {missing}")
        return self._factory.reader(schema.schema_str, gathered)

    def _gather(self, schema: Schema, gathered: list[str], seen: set[tuple[str, int]]) -> str:
        """Gather the schemas referred to, each after those it refers to itself; says what is missing, or ""."""
        for reference in schema.references or []:
            subject, version = str(reference.subject), reference.version
            if not isinstance(version, int):
                return f"refers to {subject} version {version!r}, which is no number"
            if (subject, version) in seen:
                continue
            seen.add((subject, version))
            if len(seen) > REFERENCES_MAX:
                return f"refers to more than {REFERENCES_MAX} schemas"
            found = self._asked(partial(self._referenced, subject, version))
            if found is None or not isinstance(found.schema_str, str):
                return f"refers to {subject} version {version}, which the registry does not have"
            missing = self._gather(found, gathered, seen)
            if missing:
                return missing
            gathered.append(found.schema_str)
        return ""

    def _referenced(self, subject: str, version: int) -> Schema:
        return self._client.get_version(subject, version, deleted=True).schema

    def _asked(self, ask: Callable[[], Schema]) -> Schema | None:
        """The registry's answer, None when it has no such schema; each error of the client classified once."""
        try:
            return ask()
        except SchemaRegistryError as error:
            _raise_unless_not_found(error)
            return None
        except OAuthTokenError as error:
            raise SchemaUnavailableError("no token for the schema registry (avro.registry)") from error
        except Exception as error:
            # The client lets its HTTP library's errors through, of a library that it chooses itself; whatever it could
            # not do is no fault of the messages.
            raise SchemaUnavailableError(f"schema registry: {_told(error, self._options)}") from error


def _raise_unless_not_found(error: SchemaRegistryError) -> None:
    """Raise what an error answer of the registry means; return where it says that it has no such schema."""
    status: int = error.http_status_code
    code: int | None = error.error_code  # whatever the answer's body had
    if status == 404 and code is not None and 40400 < code < 40500:
        return
    if status in {401, 403}:
        raise SettingsError(
            f"the schema registry refuses us (HTTP {status}): set avro.registry's credentials, "
            "such as basic.auth.user.info, and their permission to read schemas"
        )
    if status == 404:
        # A registry says more than a bare 404: this is a proxy, or another path. Were it taken as "no such schema", a
        # wrong address would send every change to the dead letters.
        raise SchemaUnavailableError("HTTP 404 without a schema registry's error code: is avro.registry_url right?")
    raise SchemaUnavailableError(f"the schema registry answered HTTP {status}")


def schema_fingerprint(text: str) -> bytes:
    """The CRC-64-AVRO fingerprint of a schema, as it stands in single-object framing."""
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(json.loads(text)), "CRC-64-AVRO"))


def _told(error: Exception, options: Mapping[str, Any]) -> str:
    """An error's text on one line, without what may be a password: options' values, what a URL has before "@"."""
    text = re.sub(r"//\S*@", "//***@", " ".join(f"{type(error).__name__}: {error}".split()))
    for value in options.values():
        if isinstance(value, str) and value:
            # Of "user:password" an error may hold the second half alone.
            for secret in filter(None, (value, value.partition(":")[2])):
                text = text.replace(secret, "***")
    return text


def _keep(kept: OrderedDict[bytes, Any], prefix: bytes, value: Any) -> None:
    kept[prefix] = value
    kept.move_to_end(prefix)
    while len(kept) > READERS_MAX:
        kept.popitem(last=False)
