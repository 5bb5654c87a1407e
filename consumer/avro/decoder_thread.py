"""The decoder on a thread of its own: it turns raw batches into frames, in order."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import structlog

from consumer.avro.batches import BatchDecoder
from consumer.avro.columnar import silence_backtraces
from consumer.avro.mapping import EventMapping
from consumer.avro.messages import MessageReader
from consumer.avro.parts import PartDecoder
from consumer.avro.readers import DecodePath, KeyReaderFactory, ReaderFactory, self_test
from consumer.avro.schema_files import FileOptions, FileSource
from consumer.avro.sources import (
    EmbeddedSource,
    RegistrySource,
    SchemaReaderFactory,
    SchemaSource,
    SchemaUnavailableError,
)
from consumer.avro.wire import Framing, framing_of
from consumer.core.changes.items import ITEM_KEY, PLAIN_COLUMNS
from consumer.errors import SettingsError
from consumer.ports import Decoded, Decoder, RawBatch
from consumer.settings import AvroSettings, EventsSettings
from consumer.settings.memory import DEFAULT_SHARES
from consumer.workers import Workers

JOINED_MESSAGES_MAX: Final = 30_000
"""Messages that are joined into one frame. Larger frames gain nothing and are ready later. A single larger batch still
becomes one frame."""

BATCH_BYTES: Final = 4_096
MESSAGE_BYTES: Final = 512
VALUE_COPIES: Final = 3
"""What is counted for a batch, for each of its messages on top of the value, and for each byte of a value: the client's
message, the joined block and the frame. Measured: 360 bytes a message before it is decoded."""

ROW_BYTES: Final = 320
"""What is counted for each row more than one per message: the lines of an event take many times its bytes. Measured:
110 bytes in a frame, and as much again twice while it is made."""

BACKOFF_SECONDS_MIN: Final = 0.25
BACKOFF_SECONDS_MAX: Final = 10.0
"""Back-off between attempts to get a schema; doubled after each."""

PAUSE_SECONDS: Final = 0.01
CLOSE_SECONDS_MAX: Final = 15.0
"""How long ``close`` waits for the thread, which may be waiting for an answer of the registry."""

_BY_NAME: Final = EventsSettings()
"""Without settings, fields are looked up by their names."""

_log = structlog.get_logger("inventory_refresh.avro")


def build_decoder(
    settings: AvroSettings,
    events: EventsSettings = _BY_NAME,
    item_key: Sequence[str] = ITEM_KEY,
    item_columns: Iterable[str] = PLAIN_COLUMNS,
    memory_bytes: int = DEFAULT_SHARES.decoder_bytes,
) -> Decoder:
    """Build the decoder that the settings describe.

    ``item_key`` (``window.item_key``) are the columns that identify an item; every change needs an identifier among
    them. ``item_columns`` are the columns that the OMS's API accepts; any others stay null. ``memory_bytes`` is what
    batches may take until their frames are taken.

    Raises SettingsError if framing, schema file or registry options cannot work. The registry is not contacted before
    the first message. If the self-test of columnar decoding fails, logs a warning and decodes with fastavro.
    """
    return DecoderThread(build_batch_decoder(settings, events, item_key, item_columns), memory_bytes)


def build_batch_decoder(
    settings: AvroSettings,
    events: EventsSettings = _BY_NAME,
    item_key: Sequence[str] = ITEM_KEY,
    item_columns: Iterable[str] = PLAIN_COLUMNS,
    *,
    is_patient: bool = True,
) -> BatchDecoder:
    """The same without a thread: decodes when called. The caller handles SchemaUnavailableError.

    Unless it ``is_patient``, messages of unknown schemas are rejected at once (otherwise see ``Decoded.awaits``).
    """
    framing = framing_of(settings.framing, global_ids=settings.registry_ids == "global")
    mapping = EventMapping.of(events, item_columns)
    decode_path = _decode_path(settings)
    factory = ReaderFactory(mapping, framing.length, decode_path)
    wait_seconds = settings.unknown_schema_wait if is_patient else 0.0
    source = schema_source(settings, framing, factory, wait_seconds=wait_seconds)
    return BatchDecoder(framing, source, item_key, mapping, _key_reader(settings, framing, mapping, decode_path))


def _key_reader(
    settings: AvroSettings, framing: Framing, mapping: EventMapping, decode_path: DecodePath
) -> MessageReader | None:
    """The reader of Avro keys; None if no column comes from one."""
    of_keys = mapping.of_keys()
    if of_keys is None:
        return None
    framing = replace(framing, headers=False)  # these headers name the schema of the value
    factory = KeyReaderFactory(of_keys, framing.length, decode_path)
    if settings.schema_file is None:
        return MessageReader(framing, schema_source(settings, framing, factory))
    if settings.key_schema_file is None:
        raise SettingsError("avro.key_schema_file: events.key_format avro needs it if avro.schema_file is set")
    return MessageReader(
        framing, FileSource(settings.key_schema_file, framing, factory, FileOptions(is_for_all_ids=True))
    )


def _decode_path(settings: AvroSettings) -> DecodePath:
    if settings.decoder == "fastavro":
        return "fastavro"
    silence_backtraces()
    if self_test():
        return "columnar"
    _log.warning(
        "columnar_decoder_failed_self_test",
        consequence="changes are decoded with fastavro, about ten times slower",
        next_step="set avro.decoder to fastavro, or install the polars version that this release was tested with",
    )
    return "fastavro"


def schema_source(
    settings: AvroSettings, framing: Framing, factory: SchemaReaderFactory, *, wait_seconds: float = 0.0
) -> SchemaSource:
    """Where schemas come from. For ``wait_seconds`` a registry may learn of a schema that it does not know.

    Raises SettingsError if schema file or registry options cannot work.
    """
    if framing.name == "container":
        return EmbeddedSource(factory)
    if settings.schema_file is not None:
        options = FileOptions(is_for_all_ids=settings.schema_file_for_all_ids, schema_id=settings.schema_file_id)
        return FileSource(settings.schema_file, framing, factory, options)
    if framing.name not in {"confluent", "apicurio"}:
        raise SettingsError(f"avro.schema_file: {framing.name} framing needs it; give the path of the writer's schema")
    if settings.registry_url is None:
        raise SettingsError("avro.registry_url: set either this or avro.schema_file")
    return RegistrySource(
        settings.registry_url,
        settings.registry,
        factory,
        wait_seconds=wait_seconds,
        is_tls_strict=settings.registry_tls_strict,
    )


class DecoderThread:
    """``ports.Decoder``: a ``BatchDecoder`` on a thread of its own. All public methods are for the loop's thread."""

    def __init__(self, decoder: BatchDecoder, memory_bytes: int = DEFAULT_SHARES.decoder_bytes) -> None:
        """There is room while less than ``memory_bytes`` are put and not taken, so one more batch may go beyond."""
        self._parts = PartDecoder(decoder)
        self._memory_bytes = memory_bytes
        self._sizes: deque[int] = deque()
        """Bytes of each batch that is put and not taken, oldest first."""
        self._pending_bytes = 0
        self._rows_per_message = 1.0
        """Of what was decoded last. Written by the decoder's thread only, as ``_delivered_bytes`` is."""
        self._delivered_bytes = 0
        self._taken_bytes = 0
        self._workers = Workers("decoder", self._work)
        self._blocked_reason: str | None = None
        """Written by the decoder's thread only."""

    def room(self) -> bool:
        return self._pending_bytes < self._memory_bytes

    def put(self, batch: RawBatch) -> None:
        self._sizes.append(_size_of(batch, self._rows_per_message))
        self._pending_bytes += self._sizes[-1]
        self._workers.submit(batch)

    def take(self) -> list[Decoded]:
        """The frames that are ready, without waiting.

        Raises what ended the thread, once all frames before it are taken: a StopError, or the exception of a bug.
        """
        decoded = self._workers.take()
        self._taken_bytes += sum(map(_frame_bytes, decoded))
        while len(self._sizes) > self._workers.pending:
            self._pending_bytes -= self._sizes.popleft()
        return decoded

    def busy(self) -> bool:
        return self._workers.pending > 0

    def blocked_reason(self) -> str | None:
        return self._blocked_reason

    def close(self) -> None:
        """Drop all pending batches, and end the thread."""
        self._workers.close(CLOSE_SECONDS_MAX)
        self._parts.close()

    # On the decoder's thread

    def _work(self, workers: Workers[RawBatch, Decoded]) -> None:
        try:
            while batches := workers.receive_many(_next_to_join):
                first, messages = 0, sum(map(len, batches))
                while True:
                    part = self._decode(batches, first)
                    if part is None:
                        return
                    decoded, stop = part
                    self._rows_per_message = max(decoded.frame.height / max(stop - first, 1), 1.0)
                    self._delivered_bytes += _frame_bytes(decoded)
                    workers.deliver(decoded, tasks=len(batches) if stop == messages else 0)
                    if stop == messages:
                        break
                    first = stop
                    if self._wait_for_room():
                        return
        finally:
            self._blocked_reason = None

    def _wait_for_room(self) -> bool:
        """Before another part, wait until the loop has taken enough of the others. True when closing."""
        while self._delivered_bytes - self._taken_bytes > self._memory_bytes // 2:
            if self._workers.sleep(PAUSE_SECONDS):
                return True
        return False

    def _decode(self, batches: Sequence[RawBatch], first: int) -> tuple[Decoded, int] | None:
        """``PartDecoder.decode_part``, retrying while a schema is unavailable; None when closing."""
        backoff_seconds = BACKOFF_SECONDS_MIN
        while True:
            try:
                part = self._parts.decode_part(batches, first)
            except SchemaUnavailableError as error:
                if not self._blocked_reason:
                    _log.warning(
                        "decoding_blocked",
                        detail=str(error),
                        next_step="check avro.registry_url and the schema registry; decoding resumes by itself",
                    )
                self._blocked_reason = str(error)
                if self._workers.sleep(backoff_seconds):
                    return None
                backoff_seconds = min(2 * backoff_seconds, BACKOFF_SECONDS_MAX)
            else:
                self._blocked_reason = None
                return part


def _size_of(batch: RawBatch, rows_per_message: float) -> int:
    """About how many bytes the batch takes until its frames are taken."""
    message_bytes = MESSAGE_BYTES + (rows_per_message - 1) * ROW_BYTES
    return BATCH_BYTES + int(len(batch) * message_bytes) + VALUE_COPIES * batch.value_bytes()


def _frame_bytes(decoded: Decoded) -> int:
    return decoded.frame.height * ROW_BYTES


def _next_to_join(queued: deque[RawBatch]) -> list[RawBatch]:
    """Remove the batches that make up the next frame: the first, and those that fit in with it."""
    batches = [queued.popleft()]
    messages = len(batches[0])
    while queued and messages + len(queued[0]) <= JOINED_MESSAGES_MAX:
        messages += len(queued[0])
        batches.append(queued.popleft())
    return batches
