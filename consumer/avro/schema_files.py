"""Schemas from files: one for all messages, or several, of which each message names one."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from consumer.avro.readers import Reader, Refused
from consumer.avro.sources import SchemaReaderFactory, schema_fingerprint
from consumer.avro.wire import Framing, RefKind, SchemaRef
from consumer.core.changes.items import RejectReason
from consumer.errors import SettingsError

FILES_MAX: Final = 1_000
"""Schema files. A topic usually has a handful."""

_NAMED_BY: Final[dict[RefKind, str]] = {
    "id": "the schema's id, such as 7.avsc",
    "global id": "the schema's global id, such as 7.avsc",
    "schema version id": "the schema version id, such as 8b1f3f52-0a3e-4a57-9d53-6b2c7a0c1d22.avsc",
}


_WITH_IDS: Final[frozenset[RefKind]] = frozenset({"id", "global id", "GUID", "schema version id"})

_log = structlog.get_logger("inventory_refresh.avro")


@dataclass(frozen=True, slots=True)
class FileOptions:
    """``schema_id`` is the id of the schema in a single file, if it is known.

    ``is_for_all_ids``: messages with any id have been written with this schema.
    """

    is_for_all_ids: bool = False
    schema_id: int | None = None


_NO_OPTIONS: Final = FileOptions()


class FileSource:
    """Schemas from ``avro.schema_file``.

    Of several files, a message's is the one with its fingerprint, or the one that is named by the id in the message. A
    single file is the schema of all messages; with single-object framing only of those with its fingerprint. If
    messages have ids, it is the schema of one id: of a known one, otherwise of the first that comes. A message with
    another id may have been written with another schema, and would be misread.
    """

    def __init__(
        self, paths: str, framing: Framing, factory: SchemaReaderFactory, options: FileOptions = _NO_OPTIONS
    ) -> None:
        """``paths`` are files or folders, separated by commas. Raises SettingsError if they cannot be used."""
        files = list(_files(paths))
        is_folder = any(Path(path).is_dir() for path in _split(paths))
        self._kind = framing.kind
        self._options = options
        self._only_ref: SchemaRef | None = None
        self._only: Reader | None = None
        self._by_name: dict[str, Reader | Refused] = {}
        if self._kind == "fingerprint":
            texts = {path: _text(path) for path in files}
            readers = {path: factory.reader(text) for path, text in texts.items()}
            self._by_name = {_fingerprint(path, text): readers[path] for path, text in texts.items()}
        elif len(files) == 1 and not is_folder:
            self._only = _usable(files[0], factory)
            return
        elif self._kind in _NAMED_BY:
            self._by_name = {_id(path, self._kind): factory.reader(_text(path)) for path in files}
        else:
            raise SettingsError(f"avro.schema_file: {framing.name} framing names no schema; give the path of one file")
        if all(isinstance(reader, Refused) for reader in self._by_name.values()):
            _usable(files[0], factory)

    def reader(self, ref: SchemaRef, *, must_ask: bool = False) -> Reader | Refused:
        del must_ask
        if self._only is not None:
            if ref.kind in _WITH_IDS and ref != self._only_ref and not self._options.is_for_all_ids:
                self._take_ref(ref)
            return self._only
        name = str(ref.value)
        if ref.kind == self._kind and name in self._by_name:
            return self._by_name[name]
        known = ", ".join(sorted(self._by_name)[:3]) + (", ..." if len(self._by_name) > 3 else "")
        return Refused(RejectReason.UNKNOWN_SCHEMA, f"avro.schema_file has no {ref}; it has {known}")

    def _take_ref(self, ref: SchemaRef) -> None:
        """Take the id for that of the only schema. Raises SettingsError if it has another one."""
        if self._only_ref is None and self._options.schema_id in {None, ref.value}:
            self._only_ref = ref
            if self._options.schema_id is None:
                _log.warning(
                    "schema_file_id_assumed",
                    schema_id=ref.value,
                    next_step="set avro.schema_file_id if that is right: a restart may see another id first",
                )
            return
        known = self._options.schema_id if self._only_ref is None else self._only_ref.value
        raise SettingsError(
            f"avro.schema_file: a message has schema id {ref.value}, but the file has the schema of id {known}, and "
            "other schemas would be misread; set avro.registry_url instead, give the schema of each id as a file, or "
            "set avro.schema_file_for_all_ids: true if all messages have been written with this schema"
        )

    def begin(self) -> None:
        """Nothing is asked for."""

    def close(self) -> None:
        """Nothing to close."""


def _split(paths: str) -> list[str]:
    return [path.strip() for path in paths.split(",") if path.strip()]


def _files(paths: str) -> Iterator[Path]:
    found = [
        path
        for given in map(Path, _split(paths))
        for path in (sorted(given.glob("*.avsc")) if given.is_dir() else [given])
    ]
    if not found:
        raise SettingsError(f"avro.schema_file: {paths} has no schema; give a file, or a folder with files *.avsc")
    if len(found) > FILES_MAX:
        raise SettingsError(f"avro.schema_file: {len(found)} files, more than {FILES_MAX}")
    yield from found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"avro.schema_file: {path} cannot be read ({error}); give the path of a schema file"
        ) from error


def _usable(path: Path, factory: SchemaReaderFactory) -> Reader:
    reader = factory.reader(_text(path))
    if isinstance(reader, Refused):
        raise SettingsError(f"avro.schema_file: {path} cannot be used, {reader.detail}; fix it or events.fields")
    return reader


def _fingerprint(path: Path, text: str) -> str:
    try:
        return schema_fingerprint(text).hex()
    except Exception as error:
        # The library raises errors of many types for what is no schema.
        raise SettingsError(f"avro.schema_file: {path} cannot be used, {error}; correct it") from error


def _id(path: Path, kind: RefKind) -> str:
    name = path.stem.lower()
    is_number = name.isdecimal() and str(int(name)) == name
    if kind == "schema version id" or is_number:
        return name
    raise SettingsError(f"avro.schema_file: of several files, each must be named by {_NAMED_BY[kind]}, not {path.name}")
