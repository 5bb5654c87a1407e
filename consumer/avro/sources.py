"""Sources of schemas. Readers are made once per schema and cached, up to a limit.

The schema of a message comes from a registry (here), from files (``schema_files``) or with the message (here).
"""

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from fastavro.schema import fingerprint, to_parsing_canonical_form

from consumer.avro.readers import Reader, Refused, refused_schema
from consumer.avro.registry import READERS_MAX, RegistryApi, SchemaUnavailableError
from consumer.avro.wire import SchemaRef
from consumer.core.changes.items import RejectReason

__all__ = [
    "READERS_MAX",
    "EmbeddedSource",
    "RegistrySource",
    "SchemaReaderFactory",
    "SchemaSource",
    "SchemaUnavailableError",
]

UNKNOWN_SECONDS: Final = 30.0
"""How long an unknown schema is not requested again once it was waited for. It may still be registered later."""

ASK_AGAIN_SECONDS: Final = 0.5
"""And while its messages wait for it."""

ASK_SECONDS_MAX: Final = 1.0
"""How long one batch may ask about unknown schemas that may wait. The others are asked about with a later batch."""

SCHEMA_ID_MAX: Final = 2**31 - 1
"""Schema ids are signed 32-bit integers."""
GLOBAL_ID_MAX: Final = 2**63 - 1
"""Apicurio's are signed 64-bit integers."""


class SchemaReaderFactory(Protocol):
    """Makes the reader of a schema."""

    def reader(self, text: str, references: Sequence[str] = ()) -> Reader | Refused:
        """The reader, given the schema as text and the schemas that it refers to."""


class SchemaSource(Protocol):
    """Finds the reader for messages of a schema."""

    def reader(self, ref: SchemaRef, *, must_ask: bool = False) -> Reader | Refused:
        """The reader, or the reason why no message of this schema can be read.

        A refusal that says ``may_appear`` is not final: the schema is unknown, but may be registered any moment. Its
        messages must wait. ``must_ask``: they cannot wait, so the source must find out now.

        Raises SchemaUnavailableError if this is unknown at the moment, SettingsError if these settings cannot work.
        """

    def begin(self) -> None:
        """A batch is about to be decoded. Its time for asking about unknown schemas that may wait begins now."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Unknown:
    """A schema that the registry did not have. ``since`` is when that was first seen; until ``ask_at`` it counts."""

    detail: str
    since: float
    ask_at: float


class RegistrySource:
    """Schemas by id from a schema registry, through Confluent's client.

    ``options`` are options of the client, on top of ``REGISTRY_DEFAULTS``; ``monotonic`` returns seconds. For
    ``wait_seconds`` after it is first seen, an unknown schema may appear.
    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any],
        factory: SchemaReaderFactory,
        *,
        is_tls_strict: bool = True,
        wait_seconds: float = 0.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises SettingsError if the client rejects the options, or if a proxy or SSL_CERT_FILE cannot be used.

        Without ``is_tls_strict``, certificates are taken that fail only Python's strict checks.
        """
        self._api = RegistryApi(url, options, is_tls_strict=is_tls_strict)
        self._factory = factory
        self._wait_seconds = wait_seconds
        self._monotonic = monotonic
        self._asks_until = monotonic() + ASK_SECONDS_MAX
        self._readers: OrderedDict[SchemaRef, Reader | Refused] = OrderedDict()
        self._unknown: OrderedDict[SchemaRef, _Unknown] = OrderedDict()

    def begin(self) -> None:
        self._asks_until = self._monotonic() + ASK_SECONDS_MAX

    def reader(self, ref: SchemaRef, *, must_ask: bool = False) -> Reader | Refused:
        if ref in self._readers:
            self._readers.move_to_end(ref)
            return self._readers[ref]
        if isinstance(ref.value, int) and ref.value > (SCHEMA_ID_MAX if ref.kind == "id" else GLOBAL_ID_MAX):
            # A registry may answer as if the path did not exist, and decoding would wait forever.
            return Refused(RejectReason.UNKNOWN_SCHEMA, f"no registry has a {ref}: the number is too large")
        unknown = self._unknown.get(ref)
        now = self._monotonic()
        if unknown is not None and now < unknown.ask_at:
            return self._refusal(unknown, now)
        if not must_ask and now >= self._asks_until and self._may_wait(unknown, now):
            # Asking about each of thousands of ids, of junk for example, would hold up all other messages.
            return Refused(RejectReason.UNKNOWN_SCHEMA, f"the schema registry was not asked about {ref}", True)
        found = self._fetch(ref)
        if not isinstance(found, Refused) or found.reason is not RejectReason.UNKNOWN_SCHEMA:
            self._unknown.pop(ref, None)
            _put(self._readers, ref, found)
            return found
        now = self._monotonic()
        since = unknown.since if unknown is not None else now
        pause = ASK_AGAIN_SECONDS if self._may_wait(unknown, now) else UNKNOWN_SECONDS
        unknown = _Unknown(found.detail, since, now + pause)
        _put(self._unknown, ref, unknown)
        return self._refusal(unknown, now)

    def _may_wait(self, unknown: _Unknown | None, now: float) -> bool:
        return self._wait_seconds > 0 and (unknown is None or now < unknown.since + self._wait_seconds)

    def _refusal(self, unknown: _Unknown, now: float) -> Refused:
        return Refused(RejectReason.UNKNOWN_SCHEMA, unknown.detail, may_appear=self._may_wait(unknown, now))

    def close(self) -> None:
        self._api.close()

    def _fetch(self, ref: SchemaRef) -> Reader | Refused:
        found = self._api.schema(ref)
        if found is None:
            return Refused(RejectReason.UNKNOWN_SCHEMA, f"the schema registry has no {ref}")
        if isinstance(found, str):
            return refused_schema(f"{ref} {found}")
        return self._factory.reader(found.text, found.references)


class EmbeddedSource:
    """Schemas that come with their messages, in container files."""

    def __init__(self, factory: SchemaReaderFactory) -> None:
        self._factory = factory
        self._readers: OrderedDict[SchemaRef, Reader | Refused] = OrderedDict()

    def reader(self, ref: SchemaRef, *, must_ask: bool = False) -> Reader | Refused:
        del must_ask
        found = self._readers.get(ref)
        if found is None:
            found = self._factory.reader(str(ref.value))
        _put(self._readers, ref, found)
        return found

    def begin(self) -> None:
        """Nothing is asked for."""

    def close(self) -> None:
        """Nothing to close."""


def schema_fingerprint(text: str) -> bytes:
    """The CRC-64-AVRO fingerprint of a schema, as in the prefix of single-object framing."""
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(json.loads(text)), "CRC-64-AVRO"))


def _put(cache: OrderedDict[SchemaRef, Any], ref: SchemaRef, value: Any) -> None:
    cache[ref] = value
    cache.move_to_end(ref)
    while len(cache) > READERS_MAX:
        cache.popitem(last=False)
