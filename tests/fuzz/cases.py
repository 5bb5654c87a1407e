"""One case of the fuzzer: random schemas and batches, decoded and compared with the judge's verdicts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from consumer.avro.batches import BatchDecoder
from consumer.avro.bundled import schema_text
from consumer.avro.columnar import silence_backtraces
from consumer.avro.leaves import TARGETS
from consumer.avro.readers import Reader, ReaderFactory, Refused
from consumer.avro.wire import CONFLUENT, SchemaRef, confluent_prefix
from consumer.core.changes.items import ASSIGNMENT, OFFSET, RejectReason
from consumer.ports import Decoded
from consumer.text import DETAIL_CHARACTERS_MAX
from tests.fuzz.judging import Judge, Verdict, same
from tests.fuzz.schemas import Schemas
from tests.fuzz.writing import Writer, mutated
from tests.support.avro import by_name, raw_batch

BATCHES = 6
"""Batches of one case: making a schema's readers costs as much as decoding some."""

DECODE_PATHS = ("columnar", "fastavro")
FIRST_OFFSET = 100

BUNDLED: dict[str, Any] = json.loads(schema_text())


class Source:
    """``SchemaSource`` of a few schemas, by ids."""

    def __init__(self, schemas: Sequence[dict[str, Any]], decode_path: Any) -> None:
        factory = ReaderFactory(by_name(), CONFLUENT.length, decode_path)
        self._readers: dict[SchemaRef, Reader | Refused] = {}
        for schema_id, schema in enumerate(schemas, start=1):
            reader = factory.reader(json.dumps(schema))
            assert not isinstance(reader, Refused), f"{schema} is refused: {reader.detail}"
            self._readers[SchemaRef("id", schema_id)] = reader

    def begin(self) -> None:
        """Nothing is asked for."""

    def reader(self, ref: SchemaRef, *, must_ask: bool = False) -> Reader | Refused:
        return self._readers.get(ref) or Refused(RejectReason.UNKNOWN_SCHEMA, "not one of these")

    def close(self) -> None:
        """Nothing is held."""


@dataclass
class Case:
    """Schemas by their ids, and what is decoded with them."""

    schemas: list[dict[str, Any]]
    batches: list[list[bytes | None]]


def draw(random: Random, batches: int = BATCHES) -> Case:
    """A case; the same randomness gives the same."""
    schemas = [BUNDLED if random.random() < 0.3 else Schemas(random).event() for _ in range(random.randint(1, 3))]
    return Case(schemas, [_batch(random, schemas) for _ in range(batches)])


def _batch(random: Random, schemas: list[dict[str, Any]]) -> list[bytes | None]:
    """Messages; mostly of one schema, mostly good ones. Some batches are long enough to be cut."""
    good = Writer(random, 0.0)
    hostile = Writer(random, random.choice((0.02, 0.2)))
    mixed = random.random() < 0.3
    main = random.randrange(len(schemas))
    values: list[bytes | None] = []
    badness = random.choice((0.0, 0.05, 0.3, 1.0))
    for _ in range(random.choice((1, 2, 8, 40, 120))):
        index = random.randrange(len(schemas)) if mixed else main
        bad = random.random() < badness
        value = confluent_prefix(index + 1) + (hostile if bad else good).write(schemas[index])
        if bad and random.random() < 0.6:
            value = mutated(random, value, [present for present in values if present] or [value])
        values.append(None if random.random() < 0.01 else value)
    return values


def check(case: Case) -> int:
    """Decode the case by both decode paths. Returns the number of messages; raises AssertionError if one is wrong."""
    silence_backtraces()
    judges = [Judge(schema) for schema in case.schemas]
    decoders = {decode_path: BatchDecoder(CONFLUENT, Source(case.schemas, decode_path)) for decode_path in DECODE_PATHS}
    for values in case.batches:
        verdicts = [None if value is None else _verdict(judges, value) for value in values]
        for decode_path, decoder in decoders.items():
            decoded = decoder.decode([raw_batch(values, first_offset=FIRST_OFFSET)])
            try:
                _compare(decoded, values, verdicts)
            except AssertionError as error:
                raise AssertionError(f"{decode_path}: {error}") from error
    return sum(map(len, case.batches))


def _verdict(judges: Sequence[Judge], value: bytes) -> Verdict:
    if len(value) < CONFLUENT.length or value[0] or not any(value[1:5]):
        return Verdict(reason=RejectReason.NOT_FRAMED)
    schema_id = int.from_bytes(value[1:5], "big")
    if schema_id > len(judges):
        return Verdict(reason=RejectReason.UNKNOWN_SCHEMA)
    return judges[schema_id - 1].judge(value[5:])


def _compare(decoded: Decoded, values: Sequence[bytes | None], verdicts: Sequence[Verdict | None]) -> None:
    rows = {row[OFFSET] - FIRST_OFFSET: row for row in decoded.frame.to_dicts()}
    rejects = {reject.change_id.offset - FIRST_OFFSET: reject for reject in decoded.rejects}
    assert len(rows) == decoded.frame.height, "a message has two rows"
    assert len(rejects) == len(decoded.rejects), "a message is rejected twice"
    assert decoded.tombstones == values.count(None)
    assert decoded.next_offsets == {1: FIRST_OFFSET + len(values)}
    locations = decoded.frame["locationName"]
    assert len(locations.rle()) == locations.n_unique(), "the rows of a location are apart"
    for place, (value, verdict) in enumerate(zip(values, verdicts, strict=True)):
        row, reject = rows.get(place), rejects.get(place)
        if value is None or verdict is None:
            assert row is None
            assert reject is None
            continue
        assert (row is None) != (reject is None), f"{value!r} is both or neither: {row}, {reject}"
        if reject is not None:
            assert reject.value == value
            assert reject.detail.isprintable()
            assert 0 < len(reject.detail) <= DETAIL_CHARACTERS_MAX
        if verdict.lenient:
            continue
        found = reject.reason if reject is not None else None
        assert found == verdict.reason, f"{value!r} is {found}, not {verdict}: {reject or row}"
        if row is not None and verdict.row is not None:
            assert row[ASSIGNMENT] == 1
            differing = [name for name in TARGETS if name in row and not same(row[name], verdict.row[name])]
            assert not differing, f"{value!r}: {differing} of {row}, not {verdict.row}"
