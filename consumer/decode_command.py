"""What the command ``decode`` does: show what becomes of messages, without sending or committing anything."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Message

from consumer.avro.batches import BatchDecoder
from consumer.avro.decoder_thread import build_batch_decoder
from consumer.avro.leaves import TARGETS
from consumer.core.changes.items import LINE, OCCURRED_AT, json_values
from consumer.dead_letters.log_reader import LogReader
from consumer.dead_letters.record import record_of
from consumer.dead_letters.redrive.events import retry_schema
from consumer.errors import SettingsError
from consumer.oms.apis import APIS
from consumer.ports import Headers, RawBatch
from consumer.settings import Settings
from consumer.settings.memory import MIB, size
from consumer.terminal import console

CLIENT_ID: Final = "inventory-refresh-decode"
KEPT_BYTES_MAX: Final = 16 * MIB
"""Of the messages that are shown: next to the service there are ``memory.SIDE_COMMAND_BYTES``."""
SAMPLE_BYTES: Final = 1_024
"""Of a message on top of its key and value."""
VALUE_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of a file with a value; a wrong path must not fill the memory."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A message to decode, and a name for it: topic, partition and offset, or the file."""

    name: str
    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    timestamp: int | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """What becomes of a message: changes, rejects (reason and detail) and what is skipped (counts by reason).

    ``sources`` says of each field of the OMS where the schema's events have it, or which other source it has.
    """

    name: str
    changes: Sequence[Mapping[str, Any]] = ()
    rejects: Sequence[tuple[str, str]] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)


def print_decoded(settings: Settings, files: Sequence[Path], *, topic: str | None, last: int, as_json: bool) -> None:
    """Print what becomes of the last messages of a topic, or of the values in files.

    Raises SettingsError if a file cannot be read, BrokerError if the topic cannot be.
    """
    source = topic or settings.kafka.topics[0]
    samples = _from_files(files) if files else _from_topic(settings, source, last)
    count = 0
    columns = APIS[settings.oms.api].item_columns
    out = console(highlight=False, soft_wrap=True)
    with closing(build_batch_decoder(settings.avro, settings.events, settings.window.item_key, columns)) as decoder:
        for count, sample in enumerate(samples, start=1):  # noqa: B007 - used after the loop
            shown = decode(decoder, sample)
            if as_json:
                print(json.dumps(_as_object(shown), ensure_ascii=False))  # noqa: T201 - the result of the command
            else:
                out.print(_as_text(shown), markup=False)
    if not count:
        console(stderr=True).print(f'Topic "{source}" has no messages.', markup=False)


def decode(decoder: BatchDecoder, sample: Sample) -> Shown:
    """Decode one message as the service does."""
    batch = RawBatch(
        values=[sample.value],
        assignments=[0],
        offsets=[0],
        timestamps=[sample.timestamp],
        ends={},
        origin=lambda _: (sample.key, sample.headers),
        topics={0: sample.topic},
    )
    decoded = retry_schema(lambda: decoder.decode([batch]))
    skipped = {reason.value: count for reason, count in decoded.skipped.items()}
    if decoded.tombstones:
        skipped["tombstone"] = decoded.tombstones
    rows = decoded.frame.sort(LINE).select([name for name in TARGETS if name in decoded.frame.columns] + [OCCURRED_AT])
    return Shown(
        sample.name,
        [{name.lstrip("_"): value for name, value in json_values(row).items()} for row in rows.to_dicts()],
        [(reject.reason.value, reject.detail) for reject in decoded.rejects],
        skipped,
        decoded.ignored,
        decoder.sources_of(sample.value, sample.headers),
    )


def _from_files(files: Sequence[Path]) -> Iterator[Sample]:
    for file in files:
        try:
            with file.open("rb") as opened:
                value = opened.read(VALUE_BYTES_MAX + 1)
        except OSError as error:
            raise SettingsError(f"decode: {str(file)!r} cannot be read: {error.strerror}") from error
        if len(value) > VALUE_BYTES_MAX:
            raise SettingsError(
                f"decode: {str(file)!r} is larger than {VALUE_BYTES_MAX} bytes; give one value per file"
            )
        yield Sample(file.name, topic="", value=value)


def _from_topic(settings: Settings, topic: str, last: int) -> Iterator[Sample]:
    """The last messages of each partition, at most ``last`` in all, by time.

    They are at most ``KEPT_BYTES_MAX`` in all; a line on stderr says so if there would be more.
    """
    with closing(LogReader(settings.kafka, CLIENT_ID)) as log:
        bounds = {partition: log.bounds(partition) for partition in log.partitions(topic)}
        starts = {partition: max(low, high - last) for partition, (low, high) in bounds.items()}
        ends = {partition: high for partition, (_, high) in bounds.items()}
        kept = _Latest(last)
        for messages in log.read(starts, ends):
            kept.add(map(_sample, messages))
    if kept.has_dropped:
        limit = size(KEPT_BYTES_MAX)
        text = f"Only the last {len(kept.samples)} messages are shown: more of them would take more than {limit}."
        console(stderr=True).print(text, markup=False)
    yield from kept.samples


class _Latest:
    """The latest samples by time, at most ``count`` of them and at most ``KEPT_BYTES_MAX``."""

    def __init__(self, count: int) -> None:
        self.samples: list[Sample] = []
        self._count = count
        self._dropped_at = -1
        """Nothing older than what was dropped is shown: there would be a gap."""

    def add(self, samples: Iterable[Sample]) -> None:
        newer = (sample for sample in samples if _time_of(sample) > self._dropped_at)
        self.samples = sorted([*self.samples, *newer], key=_time_of)[-self._count :]
        excess = sum(map(_bytes_of, self.samples)) - KEPT_BYTES_MAX
        while excess > 0 and len(self.samples) > 1:
            dropped = self.samples.pop(0)
            self._dropped_at = _time_of(dropped)
            excess -= _bytes_of(dropped)

    @property
    def has_dropped(self) -> bool:
        """Whether samples were left out only because of their size."""
        return self._dropped_at >= 0


def _time_of(sample: Sample) -> int:
    return max(sample.timestamp or 0, 0)


def _bytes_of(sample: Sample) -> int:
    return SAMPLE_BYTES + len(sample.key or b"") + len(sample.value or b"")


def _sample(message: Message) -> Sample:
    record = record_of(message)
    source = record.position
    return Sample(
        f"{source.topic}[{source.partition}] @ {source.offset}",
        source.topic,
        record.value,
        record.key,
        record.headers,
        record.timestamp,
    )


def _as_object(shown: Shown) -> dict[str, Any]:
    return {
        "message": shown.name,
        "changes": list(shown.changes),
        "rejects": [{"reason": reason, "detail": detail} for reason, detail in shown.rejects],
        "skipped": dict(shown.skipped),
        "ignored": dict(shown.ignored),
        "sources": dict(shown.sources),
    }


def _as_text(shown: Shown) -> str:
    lines = []
    for change in shown.changes:
        lines.append(f"{shown.name}: change")
        lines += [
            f"  {name:<20} {value!s:<24} {shown.sources.get(name, '')}".rstrip() for name, value in change.items()
        ]
    lines += [f"{shown.name}: reject {reason}: {detail}" for reason, detail in shown.rejects]
    lines += [f"{shown.name}: skipped ({reason})" for reason in shown.skipped]
    lines += [f"  {name:<20} ignored: {shown.sources.get(name, 'no usable value')}" for name in shown.ignored]
    return "\n".join(lines)
