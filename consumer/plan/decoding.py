"""Decoding records for a command as the service does, without a thread."""

from collections.abc import Iterator

from consumer.avro.decoder_thread import build_batch_decoder
from consumer.avro.parts import PartDecoder
from consumer.dead_letters.redrive.events import retry_schema
from consumer.oms.apis import APIS
from consumer.ports import Decoded, RawBatch
from consumer.settings import Settings


def decoder_of(settings: Settings) -> PartDecoder:
    """The service's decoder; it waits for no schema that the registry does not know. Close it afterwards."""
    columns = APIS[settings.oms.api].item_columns
    return PartDecoder(
        build_batch_decoder(settings.avro, settings.events, settings.window.item_key, columns, is_patient=False)
    )


def decoded_parts(decoder: PartDecoder, batch: RawBatch) -> Iterator[tuple[Decoded, int]]:
    """The messages in parts, each with its number of messages. Raises DeadLettersError if the registry is down."""
    first = 0
    while first < len(batch):
        decoded, stop = retry_schema(lambda first=first: decoder.decode_part([batch], first))  # type: ignore[misc]
        yield decoded, stop - first
        first = stop
