"""A TLS proxy in front of a plain test server: it records what clients send, and can require client certificates."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.support.certificates import Certificates


class TlsFront:
    """Accepts TLS connections and forwards their bytes; unless ``any_client``, of clients with our certificate."""

    def __init__(self, certificates: Certificates, target_port: int, *, any_client: bool = False) -> None:
        self.received: list[bytes] = []
        """What clients sent, part by part: one connection may carry several requests."""
        self.refused = 0
        """Connections whose handshake failed."""
        self._target_port = target_port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates.server)
        self._context.verify_mode = ssl.CERT_NONE if any_client else ssl.CERT_REQUIRED
        self._context.load_verify_locations(certificates.ca)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            client = self._context.wrap_socket(connection, server_side=True)
        except OSError:
            self.refused += 1
            connection.close()
            return
        with suppress(OSError), client, socket.create_connection(("127.0.0.1", self._target_port)) as target:
            replies = threading.Thread(target=_forward, args=[target, client], daemon=True)
            replies.start()
            _forward(client, target, self.received)
            replies.join(5)


def _forward(source: socket.socket, sink: socket.socket, record: list[bytes] | None = None) -> None:
    """Forward bytes until the source ends, then end the sink."""
    with suppress(OSError):
        while part := source.recv(65_536):
            if record is not None:
                record.append(part)
            sink.sendall(part)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def tls_front(certificates: Certificates, target_port: int, *, any_client: bool = False) -> Iterator[TlsFront]:
    front = TlsFront(certificates, target_port, any_client=any_client)
    try:
        yield front
    finally:
        front.close()
