"""Messages, batches and a schema registry for tests of decoding."""

import json
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import fastavro

from consumer.avro.batches import BatchDecoder
from consumer.avro.bundled import schema_text
from consumer.avro.mapping import EventMapping
from consumer.avro.readers import DecodePath, ReaderFactory
from consumer.avro.schema_files import FileOptions, FileSource
from consumer.avro.wire import CONFLUENT, Framing, confluent_prefix
from consumer.core.changes.items import ITEM_COLUMNS, PLAIN_COLUMNS
from consumer.ports import Headers, RawBatch
from consumer.settings import EventsSettings

SCHEMA_ID = 7

EVENT: dict[str, Any] = {"locationName": "Berlin", "sku": "s1", "quantity": 5}


def value_of(schema: Any, event: Any) -> bytes:
    """The Avro bytes of one event, without framing."""
    stream = BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), event)
    return stream.getvalue()


def message(event: Mapping[str, Any] | None = None, *, schema_id: int = SCHEMA_ID, **changed: Any) -> bytes:
    """A Confluent-framed event of the bundled schema."""
    return confluent_prefix(schema_id) + value_of(json.loads(schema_text()), {**EVENT, **(event or {}), **changed})


def raw_batch(
    values: Sequence[bytes | None],
    *,
    first_offset: int = 100,
    assignment: int = 1,
    timestamps: Sequence[int | None] | None = None,
    ends: Mapping[int, int] | None = None,
    keys: Sequence[bytes | None] | None = None,
    headers: Sequence[Headers] | None = None,
) -> RawBatch:
    """A batch of one partition of the topic stock; message i has the key ``key-<offset>`` and one header by default."""
    offsets = list(range(first_offset, first_offset + len(values)))
    return RawBatch(
        values=list(values),
        assignments=[assignment] * len(values),
        offsets=offsets,
        timestamps=[1_000 + offset for offset in offsets] if timestamps is None else list(timestamps),
        ends=ends or {},
        origin=lambda index: (
            f"key-{offsets[index]}".encode() if keys is None else keys[index],
            (("trace", b"t"),) if headers is None else headers[index],
        ),
        topics={assignment: "stock"},
    )


def by_name(fields: Mapping[str, str] | None = None, *, granular: bool = False, **settings: Any) -> EventMapping:
    """A mapping that looks up by name what ``fields`` does not map."""
    events = EventsSettings(fields=dict(fields or {}), match_by_name=True, **settings)
    return EventMapping.of(events, ITEM_COLUMNS if granular else PLAIN_COLUMNS)


def file_decoder(
    path: str,
    *,
    decode_path: DecodePath = "columnar",
    framing: Framing = CONFLUENT,
    fields: Mapping[str, str] | None = None,
) -> BatchDecoder:
    """A decoder of one schema file."""
    mapping = by_name(fields)
    factory = ReaderFactory(mapping, framing.length, decode_path)
    options = FileOptions(is_for_all_ids=True)
    return BatchDecoder(framing, FileSource(path, framing, factory, options), mapping=mapping)


class TinyRegistry:
    """The part of a schema registry that a consumer needs, over HTTP on loopback. It can go down and come up again."""

    def __init__(self) -> None:
        self.schemas: dict[int, dict[str, Any]] = {}
        self.versions: dict[tuple[str, int], dict[str, Any]] = {}
        self.guids: dict[str, dict[str, Any]] = {}
        self.global_ids: dict[int, Any] = {}
        """Apicurio's API has the schema itself, as JSON."""
        self.answer_always: tuple[int, bytes] | None = None
        self.requested_paths: list[str] = []
        self.port = 0
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        """Listen, on the same port as before."""
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = urlsplit(self.path).path
                registry.requested_paths.append(path)
                status, body = registry.answer_always or registry._answer(path)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def down(self) -> None:
        """Stop listening: connections are refused."""
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()

    def add(self, schema_id: int, schema: str, **more: Any) -> None:
        self.schemas[schema_id] = {"schema": schema, **more}

    def _answer_global_id(self, number: int) -> tuple[int, bytes]:
        if number in self.global_ids:
            return 200, json.dumps(self.global_ids[number]).encode()
        error = {"error_code": 404, "message": f"No version with global ID '{number}' found."}
        return 404, json.dumps(error).encode()

    def _answer(self, path: str) -> tuple[int, bytes]:  # noqa: PLR0911 - one for each path
        match path.strip("/").split("/"):
            case [*_, "schemas", "ids", number] if int(number) in self.schemas:
                return 200, json.dumps(self.schemas[int(number)]).encode()
            case [*_, "schemas", "ids", _]:
                return 404, json.dumps({"error_code": 40403, "message": "Schema not found"}).encode()
            case ["schemas", "guids", guid] if guid in self.guids:
                return 200, json.dumps(self.guids[guid]).encode()
            case ["schemas", "types"]:
                return 200, b'["AVRO"]'
            case ["apis", "registry", "v2", "ids", "globalIds", number]:
                return self._answer_global_id(int(number))
            case ["subjects", subject, "versions", version] if (subject, int(version)) in self.versions:
                return 200, json.dumps(self.versions[subject, int(version)]).encode()
            case ["subjects", _, "versions", _]:
                return 404, json.dumps({"error_code": 40402, "message": "Version not found"}).encode()
        return 404, b'{"error_code": 404, "message": "HTTP 404 Not Found"}'
