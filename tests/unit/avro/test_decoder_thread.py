import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import polars as pl
import pytest

from consumer.avro.batches import BatchDecoder
from consumer.avro.bundled import schema_path, schema_text
from consumer.avro.decoder_thread import BATCHES_IN_HAND_MAX, JOINED_MESSAGES_MAX, DecoderPipe, build_decoder
from consumer.avro.sources import SchemaUnavailableError
from consumer.core.changes.items import OFFSET, RejectReason
from consumer.errors import SettingsError
from consumer.ports import Decoded, Decoder, RawBatch
from consumer.settings import AvroSettings
from tests.support.avro import SCHEMA_ID, TinyRegistry, message, raw_batch

WAIT_SECONDS_MAX = 60.0


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def taken(decoder: Decoder, messages: int) -> list[Decoded]:
    """Take until so many messages are accounted for."""
    done: list[Decoded] = []

    def enough() -> bool:
        done.extend(decoder.take())
        return sum(len(each.frame) + len(each.rejects) + each.tombstones for each in done) >= messages

    until(enough)
    return done


@pytest.fixture
def file_pipe() -> Iterator[Decoder]:
    with closing(build_decoder(AvroSettings(schema_file=str(schema_path())))) as decoder:
        yield decoder


class Gate(BatchDecoder):
    """Decodes nothing until it is opened; remembers how batches were joined."""

    def __init__(self) -> None:
        self.open = False
        self.joined: list[int] = []

    def decode(self, batches: Sequence[RawBatch]) -> Decoded:
        if not self.open:
            raise SchemaUnavailableError("the gate")
        self.joined.append(len(batches))
        offsets = [offset for batch in batches for offset in batch.offsets]
        return Decoded(pl.DataFrame({OFFSET: offsets}), (), 0, {})

    def close(self) -> None:
        pass


def test_frames_come_in_the_order_of_the_batches(file_pipe: Decoder) -> None:
    for number in range(10):
        file_pipe.put(raw_batch([message(), message()], first_offset=2 * number))

    done = taken(file_pipe, 20)

    assert [offset for each in done for offset in each.frame[OFFSET]] == list(range(20))
    assert not file_pipe.busy()
    assert file_pipe.take() == []


def test_there_is_room_for_a_few_batches_and_again_once_they_are_taken() -> None:
    gate = Gate()
    with closing(DecoderPipe(gate)) as pipe:
        for number in range(BATCHES_IN_HAND_MAX):
            assert pipe.room()
            pipe.put(raw_batch([b""], first_offset=number))
        assert not pipe.room()
        assert pipe.busy()

        gate.open = True
        taken(pipe, BATCHES_IN_HAND_MAX)

        assert pipe.room()


def test_waiting_batches_are_joined_up_to_a_bound() -> None:
    gate = Gate()
    third = [b""] * (JOINED_MESSAGES_MAX // 3)
    with closing(DecoderPipe(gate)) as pipe:
        pipe.put(raw_batch([b""]))
        until(lambda: pipe.waiting_for() == "the gate")
        for number in range(7):
            pipe.put(raw_batch(third, first_offset=1_000 + number * len(third)))

        gate.open = True
        taken(pipe, 1 + 7 * len(third))

    assert gate.joined == [1, 3, 3, 1]


def test_while_the_registry_is_down_decoding_waits_and_nothing_is_lost(registry: TinyRegistry) -> None:
    registry.add(SCHEMA_ID, schema_text())
    registry.down()
    with closing(build_decoder(AvroSettings(registry_url=registry.url))) as decoder:
        decoder.put(raw_batch([message(sku="a"), None]))
        until(lambda: "schema registry" in decoder.waiting_for())
        decoder.put(raw_batch([message(sku="b"), b"bad"], first_offset=102))
        assert decoder.take() == []
        assert decoder.busy()

        registry.up()
        done = taken(decoder, 4)

        assert [sku for each in done for sku in each.frame["sku"]] == ["a", "b"]
        assert [reject.change_id.offset for each in done for reject in each.rejects] == [103]
        assert decoder.waiting_for() == ""


def test_an_unknown_id_is_rejected_and_its_neighbours_are_kept(registry: TinyRegistry) -> None:
    registry.add(SCHEMA_ID, schema_text())
    registry.add(8, '{"type": "record", "name": "E", "fields": [{"name": "locationName", "type": "bytes"}]}')
    values = [message(sku="a"), message(schema_id=99), message(sku="b"), message(schema_id=8), message(sku="c")]
    with closing(build_decoder(AvroSettings(registry_url=registry.url))) as decoder:
        decoder.put(raw_batch(values))

        (done,) = taken(decoder, 5)

    assert done.frame["sku"].to_list() == ["a", "b", "c"]
    assert [(reject.change_id.offset, reject.reason, reject.schema_id) for reject in done.rejects] == [
        (101, RejectReason.UNKNOWN_SCHEMA, 99),
        (103, RejectReason.UNUSABLE_SCHEMA, 8),
    ]
    assert done.rejects[1].detail == "the field locationName is bytes, which cannot become locationName"


def test_closing_does_not_wait_for_a_registry_that_is_down(registry: TinyRegistry) -> None:
    registry.down()
    decoder = build_decoder(AvroSettings(registry_url=registry.url))
    decoder.put(raw_batch([message()]))
    until(lambda: decoder.waiting_for() != "")
    assert isinstance(decoder, DecoderPipe)

    decoder.close()

    # Had it gone on asking, closing would have given up waiting for the thread.
    assert not decoder._thread.is_alive()
    registry.up()


def test_what_stops_decoding_is_raised_where_it_is_taken(registry: TinyRegistry) -> None:
    registry.answer_always = (401, b"{}")
    with closing(build_decoder(AvroSettings(registry_url=registry.url))) as decoder:
        decoder.put(raw_batch([message()]))

        with pytest.raises(SettingsError, match=r"avro\.registry"):
            taken(decoder, 1)
        with pytest.raises(SettingsError, match=r"avro\.registry"):
            decoder.take()


def test_what_was_decoded_before_a_stop_is_taken_first() -> None:
    class Breaking(Gate):
        def decode(self, batches: Sequence[RawBatch]) -> Decoded:
            if batches[0].offsets[0] == 1:
                raise SettingsError("enough")
            return super().decode(batches)

    breaking = Breaking()
    breaking.open = True
    with closing(DecoderPipe(breaking)) as pipe:
        pipe.put(raw_batch([b""], first_offset=0))
        until(lambda: breaking.joined == [1])
        pipe.put(raw_batch([b""], first_offset=1))
        until(lambda: pipe._error is not None)

        assert len(pipe.take()) == 1
        with pytest.raises(SettingsError, match="enough"):
            pipe.take()


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


def test_the_columnar_way_is_given_up_with_a_warning_when_its_self_test_fails(
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

    assert [sku for each in done for sku in each.frame["sku"]] == 3 * [f"s{number}" for number in range(50)]
