"""What stands for the OMS: a process that answers at once, counts items, and keeps every body for ``verify``.

It does as little as it can, since it takes its CPU from the cores that are measured: items are counted by their braces
(the texts of the load have none; ``verify`` counts again), and bodies are appended to a file as they are. It also is
the schema registry of the case ``mixed``. ``python -m bench.sink FOLDER --seconds-per-chunk 0.3`` prints its port.

| call | answer |
| --- | --- |
| POST with ``items`` | a jobID, after the time that its chunks take |
| POST without | a token |
| GET .../queue/ID | that job, which has succeeded |
| GET /schemas/ids/ID | the schema |
| GET /stats | ``Stats`` |
| GET /requests | of each request ``[received, answered, items]``, times in seconds since 1970 |
"""

import argparse
import asyncio
import json
import re
import socket
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Final

BODIES: Final = "bodies.ndjson"
"""In the folder: one body a line, in the order in which they came."""
RECEIVE_BYTES: Final = 4 * 1024 * 1024
"""Of a socket's buffer: a body arrives at once, not in pieces for each of which two busy processes must take turns."""
TOKEN_SECONDS: Final = 3_600
_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ITEM: Final = b'"quantity":'
_JOB: Final = '{"jobID": %s, "status": "SUCCESS", "success": true, "messages": []}'
_TOKEN: Final = f'{{"access_token": "bench", "token_type": "bearer", "expires_in": {TOKEN_SECONDS}}}'


@dataclass
class Stats:
    """Totals since the start; ``last`` is when the last request was answered, in seconds since 1970."""

    requests: int = 0
    items: int = 0
    chunks: int = 0
    last: float = 0.0
    cpu_seconds: float = 0.0


@dataclass
class Sink:
    """What the sink got, shared by its connections."""

    bodies: IO[bytes]
    chunk_items: int
    seconds_per_chunk: float
    schemas: dict[str, str]
    stats: Stats = field(default_factory=Stats)
    requests: list[list[float]] = field(default_factory=list)
    free_at: float = 0.0
    """When the last chunk accepted so far is done, on the event loop's clock: it works on one request at a time."""

    def take(self, body: bytes) -> tuple[int, int]:
        """Keep and count a refresh; returns its jobID and its chunks."""
        self.bodies.write(body + b"\n")
        items = body.count(b"{") - 1
        chunks = -(-items // self.chunk_items)
        self.requests.append([time.time(), 0.0, items])
        return len(self.requests), chunks

    def answered(self, job_id: int, chunks: int) -> None:
        request = self.requests[job_id - 1]
        request[1] = time.time()
        self.stats.requests += 1
        self.stats.items += int(request[2])
        self.stats.chunks += chunks
        self.stats.last = request[1]

    def answer(self, path: str) -> str | None:
        """The JSON for a GET; None if there is nothing at this path."""
        if path == "/stats":
            self.stats.cpu_seconds = time.process_time()
            return json.dumps(asdict(self.stats))
        if path == "/requests":
            self.bodies.flush()
            return json.dumps(self.requests)
        if "/queue/" in path:
            return _JOB % path.rpartition("/")[2]
        schema = self.schemas.get(path.partition("?")[0].rpartition("/")[2])
        return None if schema is None else json.dumps({"schema": schema})


class Connection(asyncio.Protocol):
    """One client's requests, one after another."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._received = bytearray()
        self._length: int | None = None
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"a connection of {type(transport)} is no stream")
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while self._take_request():
            pass

    def _take_request(self) -> bool:
        if self._length is None:
            end = self._received.find(_HEAD_END)
            if end < 0:
                return False
            self._head = bytes(self._received[:end])
            del self._received[: end + len(_HEAD_END)]
            found = _LENGTH.search(self._head)
            self._length = int(found[1]) if found else 0
        if len(self._received) < self._length:
            return False
        body = bytes(self._received[: self._length])
        del self._received[: self._length]
        self._length = None
        self._handle(self._head, body)
        return True

    def _handle(self, head: bytes, body: bytes) -> None:
        method, path, _ = head.split(b" ", 2)
        if method == b"GET":
            self._write(self._sink.answer(path.decode()))
        elif _ITEM in body:
            self._refresh(body)
        else:
            self._write(_TOKEN)

    def _refresh(self, body: bytes) -> None:
        sink = self._sink
        job_id, chunks = sink.take(body)
        if not sink.seconds_per_chunk:
            self._accept(job_id, chunks)
            return
        loop = asyncio.get_running_loop()
        sink.free_at = max(sink.free_at, loop.time()) + chunks * sink.seconds_per_chunk
        loop.call_at(sink.free_at, self._accept, job_id, chunks)

    def _accept(self, job_id: int, chunks: int) -> None:
        self._sink.answered(job_id, chunks)
        self._write(f'{{"jobID": {job_id}}}')

    def _write(self, content: str | None) -> None:
        status = "404 Not Found" if content is None else "200 OK"
        body = (content or "{}").encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


async def serve(sink: Sink) -> None:
    """Print the port, then answer until the process is ended."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1_024)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(sink), sock=listener)
    print(listener.getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chunk-items", type=int, default=3_000)
    parser.add_argument("--seconds-per-chunk", type=float, default=0.0)
    parser.add_argument("--schema", action="append", default=[], metavar="ID=FILE", help="a schema of the registry")
    arguments = parser.parse_args()
    schemas = dict(schema.split("=", 1) for schema in arguments.schema)
    with (arguments.folder / BODIES).open("wb") as bodies:
        sink = Sink(
            bodies,
            arguments.chunk_items,
            arguments.seconds_per_chunk,
            {schema_id: Path(file).read_text(encoding="utf-8") for schema_id, file in schemas.items()},
        )
        asyncio.run(serve(sink))


if __name__ == "__main__":
    main()
