"""A token endpoint (OAuth 2, grant ``client_credentials``) on loopback that gives tokens of ``identity_kafka``."""

import base64
import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.identity_kafka import AUDIENCE, IdentityKafka

CLIENT_ID = "inventory-refresh"
CLIENT_SECRET = "client/secret+for=tests"


class TokenEndpoint:
    """``lifetime_seconds`` and ``audience`` are those of the tokens it gives from now on."""

    def __init__(self, kafka: IdentityKafka, lifetime_seconds: float) -> None:
        self.lifetime_seconds = lifetime_seconds
        self.audience = AUDIENCE
        self.given: list[str] = []
        self.refused = 0
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
                asked = urllib.parse.parse_qs(body)
                if self.headers.get("Authorization") != _basic() or asked.get("grant_type") != ["client_credentials"]:
                    endpoint.refused += 1
                    self._answer(401, {"error": "invalid_client"})
                    return
                token, _ = kafka.token(endpoint.lifetime_seconds, audience=endpoint.audience)
                endpoint.given.append(token)
                self._answer(
                    200, {"access_token": token, "token_type": "Bearer", "expires_in": int(endpoint.lifetime_seconds)}
                )

            def _answer(self, status: int, content: object) -> None:
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/token"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def token_endpoint(kafka: IdentityKafka, lifetime_seconds: float) -> Iterator[TokenEndpoint]:
    endpoint = TokenEndpoint(kafka, lifetime_seconds)
    try:
        yield endpoint
    finally:
        endpoint.close()


def _basic() -> str:
    return "Basic " + base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
