import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import polars as pl
import pytest

from consumer.avro.batches import BatchDecoder
from consumer.avro.bundled import schema_path, schema_text
from consumer.avro.decoder_thread import (
    BATCH_BYTES,
    JOINED_MESSAGES_MAX,
    MESSAGE_BYTES,
    PAUSE_SECONDS,
    ROW_BYTES,
    VALUE_COPIES,
    DecoderThread,
    build_batch_decoder,
    build_decoder,
)
from consumer.avro.lines import ROWS_MAX, TooManyRowsError
from consumer.avro.sources import SchemaUnavailableError
from consumer.core.changes.items import OFFSET, RejectReason
from consumer.errors import SettingsError
from consumer.ports import AwaitedSchema, Decoded, Decoder, RawBatch
from consumer.settings import AvroSettings
from tests.support.avro import SCHEMA_ID, TinyRegistry, message, raw_batch

WAIT_SECONDS_MAX = 60.0


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def taken(decoder: Decoder, messages: int) -> list[Decoded]:
    """Take until this many messages are accounted for."""
    done: list[Decoded] = []

    def enough() -> bool:
        done.extend(decoder.take())
        return sum(len(decoded.frame) + len(decoded.rejects) + decoded.tombstones for decoded in done) >= messages

    until(enough)
    return done


@pytest.fixture
def file_decoder() -> Iterator[Decoder]:
    with closing(build_decoder(AvroSettings(schema_file=str(schema_path())))) as decoder:
        yield decoder


class Gate(BatchDecoder):
    """A decoder that fails until it is opened; it records how batches were joined."""

    def __init__(self) -> None:
        self.open = False
        self.joined: list[int] = []

    def decode(self, batches: Sequence[RawBatch]) -> Decoded:
        if not self.open:
            raise SchemaUnavailableError("the gate")
        self.joined.append(len(batches))
        offsets = [offset for batch in batches for offset in batch.offsets]
        return Decoded(pl.DataFrame({OFFSET: offsets}), (), 0, {}, 0.0)

    def close(self) -> None:
        pass


def test_frames_come_in_the_order_of_the_batches(file_decoder: Decoder) -> None:
    for number in range(10):
        file_decoder.put(raw_batch([message(), message()], first_offset=2 * number))

    done = taken(file_decoder, 20)

    assert [offset for decoded in done for offset in decoded.frame[OFFSET]] == list(range(20))
    assert not file_decoder.busy()
    assert file_decoder.take() == []


@pytest.mark.parametrize("value_bytes", [0, 100, 100_000])
def test_there_is_room_for_so_many_bytes_and_for_more_once_they_are_taken(value_bytes: int) -> None:
    gate = Gate()
    values = [b"x" * value_bytes] * 100
    batch_bytes = BATCH_BYTES + len(values) * (MESSAGE_BYTES + VALUE_COPIES * value_bytes)
    with closing(DecoderThread(gate, memory_bytes=12 * batch_bytes)) as decoder:
        for number in range(12):
            assert decoder.room()
            decoder.put(raw_batch(values, first_offset=number * len(values)))
        assert not decoder.room()
        assert decoder.busy()

        gate.open = True
        taken(decoder, 12 * len(values))

        assert decoder.room()


def test_one_batch_fits_however_little_memory_there_is() -> None:
    with closing(DecoderThread(Gate(), memory_bytes=1)) as decoder:
        assert decoder.room()
        decoder.put(raw_batch([b"x"] * 100))
        assert not decoder.room()


def test_queued_batches_are_joined_up_to_a_limit() -> None:
    gate = Gate()
    third = [b""] * (JOINED_MESSAGES_MAX // 3)
    with closing(DecoderThread(gate)) as decoder:
        decoder.put(raw_batch([b""]))
        until(lambda: decoder.blocked_reason() == "the gate")
        for number in range(7):
            decoder.put(raw_batch(third, first_offset=1_000 + number * len(third)))

        gate.open = True
        taken(decoder, 1 + 7 * len(third))

    assert gate.joined == [1, 3, 3, 1]


def test_while_the_registry_is_down_decoding_waits_and_nothing_is_lost(registry: TinyRegistry) -> None:
    registry.add(SCHEMA_ID, schema_text())
    registry.down()
    with closing(build_decoder(AvroSettings(registry_url=registry.url))) as decoder:
        decoder.put(raw_batch([message(sku="a"), None]))
        until(lambda: "schema registry" in (decoder.blocked_reason() or ""))
        decoder.put(raw_batch([message(sku="b"), b"bad"], first_offset=102))
        assert decoder.take() == []
        assert decoder.busy()

        registry.up()
        done = taken(decoder, 4)

        assert [sku for decoded in done for sku in decoded.frame["sku"]] == ["a", "b"]
        assert [reject.change_id.offset for decoded in done for reject in decoded.rejects] == [103]
        assert decoder.blocked_reason() is None


def test_a_message_with_an_unknown_id_is_rejected_and_the_others_are_kept(registry: TinyRegistry) -> None:
    registry.add(SCHEMA_ID, schema_text())
    registry.add(8, '{"type": "record", "name": "E", "fields": [{"name": "locationName", "type": "bytes"}]}')
    values = [message(sku="a"), message(schema_id=99), message(sku="b"), message(schema_id=8), message(sku="c")]
    with closing(build_decoder(AvroSettings(registry_url=registry.url, unknown_schema_wait=0.0))) as decoder:
        decoder.put(raw_batch(values))

        (done,) = taken(decoder, 5)

    assert done.frame["sku"].to_list() == ["a", "b", "c"]
    assert [(reject.change_id.offset, reject.reason, reject.schema_id) for reject in done.rejects] == [
        (101, RejectReason.UNKNOWN_SCHEMA, 99),
        (103, RejectReason.UNUSABLE_SCHEMA, 8),
    ]
    assert done.rejects[1].detail == (
        "the field locationName is bytes, which cannot become locationName (events.fields.locationName)"
    )


def test_from_the_first_message_of_an_unknown_schema_on_its_partition_is_not_decoded(registry: TinyRegistry) -> None:
    registry.add(SCHEMA_ID, schema_text())
    first = raw_batch([None, message(sku="a"), message(schema_id=99), message(sku="b"), None, b"bad"], ends={1: 106})
    second = raw_batch([message(sku="c")], assignment=2, ends={2: 101})
    with closing(build_batch_decoder(AvroSettings(registry_url=registry.url))) as decoder:
        decoded = decoder.decode([first, second])
        assert decoded.frame["sku"].to_list() == ["a", "c"]
        assert (decoded.rejects, decoded.tombstones, decoded.batches) == ((), 1, 2)
        assert decoded.awaits == {1: AwaitedSchema(102, "the schema registry has no schema 99")}
        assert (decoded.next_offsets, decoded.ends) == ({1: 102, 2: 101}, {2: 101})

        impatient = decoder.decode([replace(first, impatient=frozenset({1})), second])

    assert impatient.frame["sku"].to_list() == ["a", "b", "c"]
    assert [reject.reason for reject in impatient.rejects] == [RejectReason.UNKNOWN_SCHEMA, RejectReason.NOT_FRAMED]
    assert (impatient.awaits, impatient.next_offsets, impatient.tombstones) == ({}, {1: 106, 2: 101}, 2)


def test_closing_does_not_wait_for_a_registry_that_is_down(registry: TinyRegistry) -> None:
    registry.down()
    decoder = build_decoder(AvroSettings(registry_url=registry.url))
    decoder.put(raw_batch([message()]))
    until(lambda: decoder.blocked_reason() is not None)
    assert isinstance(decoder, DecoderThread)

    decoder.close()

    # If it still retried, close would have timed out and left the thread running.
    assert not any(thread.is_alive() for thread in decoder._workers._threads)
    registry.up()


def test_an_error_that_stops_decoding_is_raised_by_take(registry: TinyRegistry) -> None:
    registry.answer_always = (401, b"{}")
    with closing(build_decoder(AvroSettings(registry_url=registry.url))) as decoder:
        decoder.put(raw_batch([message()]))

        with pytest.raises(SettingsError, match=r"avro\.registry"):
            taken(decoder, 1)
        with pytest.raises(SettingsError, match=r"avro\.registry"):
            decoder.take()


def test_frames_that_were_decoded_before_an_error_are_taken_first() -> None:
    class Breaking(Gate):
        def decode(self, batches: Sequence[RawBatch]) -> Decoded:
            if batches[0].offsets[0] == 1:
                raise SettingsError("enough")
            return super().decode(batches)

    breaking = Breaking()
    breaking.open = True
    with closing(DecoderThread(breaking)) as decoder:
        decoder.put(raw_batch([b""], first_offset=0))
        until(lambda: breaking.joined == [1])
        decoder.put(raw_batch([b""], first_offset=1))
        until(lambda: decoder._workers._failure is not None)

        assert len(decoder.take()) == 1
        with pytest.raises(SettingsError, match="enough"):
            decoder.take()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        pytest.param(AvroSettings(), "avro.registry_url", id="no source"),
        pytest.param(AvroSettings(framing="bare"), "avro.schema_file", id="bare without a file"),
        pytest.param(AvroSettings(framing="single-object"), "avro.schema_file", id="single-object without a file"),
    ],
)
def test_settings_without_a_schema_source_are_refused(settings: AvroSettings, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        build_decoder(settings)


def test_if_the_self_test_fails_fastavro_is_used_and_a_warning_logged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("consumer.avro.columnar.read_block", lambda file, columns: None)

    with closing(build_decoder(AvroSettings(schema_file=str(schema_path())))) as decoder:
        decoder.put(raw_batch([message(sku="a"), b"bad"]))
        (done,) = taken(decoder, 2)

    assert done.frame["sku"].to_list() == ["a"]
    assert "columnar_decoder_failed_self_test" in capsys.readouterr().out


def test_messages_of_several_schemas_stay_in_order(registry: TinyRegistry) -> None:
    registry.add(1, schema_text())
    registry.add(2, schema_text().replace('"quantity", "type": "long"', '"quantity", "type": "int"'))
    values = [message(sku=f"s{number}", schema_id=1 + number % 2) for number in range(50)]
    with closing(build_decoder(AvroSettings(registry_url=registry.url))) as decoder:
        for batch in range(3):
            decoder.put(raw_batch(values, first_offset=50 * batch))
        done = taken(decoder, 150)

    assert [sku for decoded in done for sku in decoded.frame["sku"]] == 3 * [f"s{number}" for number in range(50)]


class Expanding(BatchDecoder):
    """Each message becomes ``rows`` rows; more than ``ROWS_MAX`` of several messages are too many."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def decode(self, batches: Sequence[RawBatch]) -> Decoded:
        offsets = [offset for batch in batches for offset in batch.offsets]
        if len(offsets) > 1 and len(offsets) * self.rows > ROWS_MAX:
            raise TooManyRowsError
        frame = pl.DataFrame({OFFSET: [offset for offset in offsets for _ in range(self.rows)]})
        return Decoded(frame, (), 0, {1: offsets[-1] + 1}, 0.0)

    def close(self) -> None:
        pass


def test_events_with_many_lines_come_in_several_frames_and_in_order() -> None:
    with closing(DecoderThread(Expanding(ROWS_MAX // 4), memory_bytes=1 << 40)) as decoder:
        decoder.put(raw_batch([b""] * 10, first_offset=0))
        done = taken(decoder, 10 * (ROWS_MAX // 4))

        assert not decoder.busy()
    assert [offset for decoded in done for offset in decoded.frame[OFFSET].unique(maintain_order=True)] == [*range(10)]
    assert max(decoded.frame.height for decoded in done) <= ROWS_MAX


def test_no_further_frame_is_decoded_before_those_that_fill_the_memory_are_taken() -> None:
    rows = ROWS_MAX // 2
    with closing(DecoderThread(Expanding(rows), memory_bytes=2 * rows * ROW_BYTES)) as decoder:
        decoder.put(raw_batch([b""] * 20, first_offset=0))
        until(lambda: decoder._delivered_bytes > decoder._memory_bytes // 2)
        full = decoder._delivered_bytes
        time.sleep(5 * PAUSE_SECONDS)
        assert decoder._delivered_bytes == full

        assert sum(decoded.frame.height for decoded in taken(decoder, 20 * rows)) == 20 * rows


def test_lines_count_towards_the_memory_of_what_is_put() -> None:
    memory_bytes = 10 * 1_000 * ROW_BYTES
    with closing(DecoderThread(Expanding(1_000), memory_bytes=memory_bytes)) as decoder:
        decoder.put(raw_batch([b""], first_offset=0))
        taken(decoder, 1_000)
        messages = 0
        while decoder.room():
            decoder.put(raw_batch([b""], first_offset=1 + messages))
            messages += 1

    assert 5 <= messages <= 10
