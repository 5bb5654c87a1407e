"""The decoder beside the loop: one thread that turns queued raw batches into frames, in order."""

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

import structlog

from consumer.avro.batches import BatchDecoder
from consumer.avro.columnar import silence_backtraces
from consumer.avro.readers import DecodePath, ReaderFactory, self_test
from consumer.avro.sources import FileSource, RegistrySource, SchemaSource, SchemaUnavailableError
from consumer.avro.wire import FRAMINGS, Framing
from consumer.core.changes.items import GRANULAR_COLUMNS, ITEM_KEY, PLAIN_COLUMNS
from consumer.errors import SettingsError
from consumer.ports import Decoded, Decoder, RawBatch
from consumer.settings import AvroSettings

JOINED_MESSAGES_MAX: Final = 30_000
"""Messages in one frame (more only when one batch has more): larger frames gain nothing and come later."""

BATCHES_IN_HAND_MAX: Final = 12
"""Batches put and not yet taken: twice what a frame joins at 5,000 messages a poll, so that the thread never idles."""

BACKOFF_SECONDS_MIN: Final = 0.25
BACKOFF_SECONDS_MAX: Final = 10.0
"""Between tries while a schema cannot be had; doubled each time."""

CLOSE_SECONDS_MAX: Final = 15.0
"""How long ``close`` waits for the thread: a question to the registry may be under way."""

_log = structlog.get_logger(__name__)


def build_decoder(
    settings: AvroSettings, item_key: Sequence[str] = ITEM_KEY, item_columns: Iterable[str] = PLAIN_COLUMNS
) -> Decoder:
    """The decoder that the settings describe, its thread started.

    ``item_key`` (``window.item_key``) are the columns that tell items apart: a change needs an identifier among them.
    ``item_columns`` are those that the OMS's API takes; the others are not looked for in events, and stay null.

    Raises SettingsError when framing, schema file or registry options cannot work. The registry is not
    asked before the first message. Where the self-test of columnar decoding fails, warns and decodes with fastavro.
    """
    return DecoderPipe(build_batch_decoder(settings, item_key, item_columns))


def build_batch_decoder(
    settings: AvroSettings, item_key: Sequence[str] = ITEM_KEY, item_columns: Iterable[str] = PLAIN_COLUMNS
) -> BatchDecoder:
    """The same without a thread: decodes when called, and leaves the waiting to the caller."""
    framing = FRAMINGS[settings.framing]
    granular = {name: name for name in item_columns if name in GRANULAR_COLUMNS}
    factory = ReaderFactory(granular | settings.fields, framing.length, _way(settings))
    return BatchDecoder(framing, _source(settings, framing, factory), item_key)


def _way(settings: AvroSettings) -> DecodePath:
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


def _source(settings: AvroSettings, framing: Framing, factory: ReaderFactory) -> SchemaSource:
    if settings.schema_file is not None:
        return FileSource(settings.schema_file, framing, factory)
    if framing.name != "confluent":
        raise SettingsError(f"avro.schema_file: {framing.name} framing needs it; give the path of the writer's schema")
    if settings.registry_url is None:
        raise SettingsError("avro.registry_url: neither it nor avro.schema_file is set; give one of them")
    return RegistrySource(settings.registry_url, settings.registry, framing, factory)


class DecoderPipe:
    """``ports.Decoder`` around a ``BatchDecoder``. All methods are for the loop's thread."""

    def __init__(self, decoder: BatchDecoder) -> None:
        self._decoder = decoder
        self._changed = threading.Condition()
        self._queued: deque[RawBatch] = deque()
        self._done: list[tuple[Decoded, int]] = []
        self._in_hand = 0
        self._waiting_for = ""
        self._error: BaseException | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="decoder", daemon=True)
        self._thread.start()

    def room(self) -> bool:
        with self._changed:
            return self._in_hand < BATCHES_IN_HAND_MAX

    def put(self, batch: RawBatch) -> None:
        with self._changed:
            self._queued.append(batch)
            self._in_hand += 1
            self._changed.notify_all()

    def take(self) -> list[Decoded]:
        """What is done, without waiting.

        Raises what ended the thread, once all that was done before is taken: a StopError, or a bug's exception.
        """
        with self._changed:
            done, self._done = self._done, []
            self._in_hand -= sum(batches for _, batches in done)
            if not done and self._error is not None:
                raise self._error
            return [decoded for decoded, _ in done]

    def busy(self) -> bool:
        with self._changed:
            return self._in_hand > 0

    def waiting_for(self) -> str:
        with self._changed:
            return self._waiting_for

    def close(self) -> None:
        """Drop what is in hand, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(CLOSE_SECONDS_MAX)
        self._decoder.close()

    def _run(self) -> None:
        try:
            while batches := self._next():
                decoded = self._decode(batches)
                if decoded is None:
                    return
                with self._changed:
                    self._done.append((decoded, len(batches)))
        except BaseException as error:  # noqa: BLE001 - also a panic of polars; all go to the loop's thread, by take()
            with self._changed:
                self._error = error
                self._waiting_for = ""

    def _next(self) -> list[RawBatch]:
        """The queued batches that make up the next frame, waiting for the first; none when closing."""
        with self._changed:
            self._changed.wait_for(lambda: self._queued or self._closing)
            if self._closing:
                return []
            batches = [self._queued.popleft()]
            messages = len(batches[0])
            while self._queued and messages + len(self._queued[0]) <= JOINED_MESSAGES_MAX:
                messages += len(self._queued[0])
                batches.append(self._queued.popleft())
            return batches

    def _decode(self, batches: Sequence[RawBatch]) -> Decoded | None:
        """Decode, waiting as long as a schema cannot be had; None when closing."""
        backoff_seconds = BACKOFF_SECONDS_MIN
        while True:
            try:
                decoded = self._decoder.decode(batches)
            except SchemaUnavailableError as error:
                if not self._waiting_for:
                    _log.warning("decoding_blocked", detail=str(error))
                if self._wait(str(error), backoff_seconds):
                    return None
                backoff_seconds = min(2 * backoff_seconds, BACKOFF_SECONDS_MAX)
            else:
                with self._changed:
                    self._waiting_for = ""
                return decoded

    def _wait(self, waiting_for: str, seconds: float) -> bool:
        """Say what is waited for, and wait so long; True, and at once, when closing."""
        with self._changed:
            self._waiting_for = waiting_for
            return self._changed.wait_for(lambda: self._closing, seconds)
