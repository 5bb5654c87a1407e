"""A real Kafka with a listener for each kind of identity: client certificates, and signed tokens (SASL OAUTHBEARER).

It is a broker of its own, so that the one that most tests use stays as it is.
"""

import base64
import json
import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.keeper import Server, free_ports, use
from tests.support.services import SHORT_SESSIONS, broker_answers, format_storage, kafka_command

ISSUER: Final = "https://identity.example"
AUDIENCE: Final = "kafka-of-tests"
SUBJECT: Final = "inventory-refresh"
KEY_ID: Final = "of-tests"


@dataclass(frozen=True, slots=True)
class IdentityKafka:
    """``plain_servers`` needs no login, for the tests themselves.

    ``folder`` has the files of ``certificates.Certificates`` and the key that signs tokens.
    """

    plain_servers: str
    mtls_servers: str
    token_servers: str
    folder: str

    def token(self, lifetime_seconds: float, *, audience: str = AUDIENCE) -> tuple[str, float]:
        """A token that the broker accepts, if the audience is right, and when it expires."""
        expires_at = time.time() + lifetime_seconds
        claims = {"iss": ISSUER, "aud": audience, "sub": SUBJECT, "iat": int(time.time()), "exp": int(expires_at)}
        return _signed(Path(self.folder) / "tokens.key", claims), expires_at


def use_identity_kafka(stack: ExitStack) -> IdentityKafka:
    """The broker, until ``stack`` is closed. Raises PartMissingError."""
    return IdentityKafka(**use(__name__, "kafka-identity", stack))


def _kafka(folder: Path) -> Server:
    from tests.support.certificates import make_certificates  # noqa: PLC0415 - only the keeper needs it

    command = kafka_command()
    plain, mtls, tokens, controller = free_ports(4)
    shutil.rmtree(folder / "data", ignore_errors=True)
    make_certificates(folder / "identities")
    keys = _make_key(folder / "identities")
    properties = folder / "server.properties"
    properties.write_text(_properties(folder, plain, mtls, tokens, controller, keys))
    format_storage(command, properties)
    servers = f"127.0.0.1:{plain}"
    allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={keys}"
    java, *options = command
    return Server(
        command=[java, allowed, *options, "kafka.Kafka", str(properties)],
        environment={},
        address={
            "plain_servers": servers,
            "mtls_servers": f"127.0.0.1:{mtls}",
            "token_servers": f"127.0.0.1:{tokens}",
            "folder": str(folder / "identities"),
        },
        is_up=lambda: broker_answers(servers),
    )


# The validator is named because the default one of Kafka 4.1.0 checks no signature, issuer or audience.
def _properties(folder: Path, plain: int, mtls: int, tokens: int, controller: int, keys: str) -> str:
    listeners = {"PLAIN": plain, "MTLS": mtls, "TOKENS": tokens, "CONTROLLER": controller}
    pem = folder / "identities"
    security = "org.apache.kafka.common.security"
    stores = "\n".join(
        f"""\
listener.name.{name}.ssl.keystore.type=PEM
listener.name.{name}.ssl.keystore.location={pem / "server.pem"}
listener.name.{name}.ssl.truststore.type=PEM
listener.name.{name}.ssl.truststore.location={pem / "ca.pem"}"""
        for name in ("mtls", "tokens")
    )
    return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners={",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners.items())}
listener.security.protocol.map=PLAIN:PLAINTEXT,MTLS:SSL,TOKENS:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAIN
controller.listener.names=CONTROLLER
{stores}
listener.name.mtls.ssl.client.auth=required
listener.name.tokens.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.tokens.oauthbearer.sasl.jaas.config={security}.oauthbearer.OAuthBearerLoginModule required;
listener.name.tokens.oauthbearer.sasl.server.callback.handler.class={security}.oauthbearer.OAuthBearerValidatorCallbackHandler
listener.name.tokens.oauthbearer.connections.max.reauth.ms=60000
sasl.oauthbearer.jwt.validator.class={security}.oauthbearer.BrokerJwtValidator
sasl.oauthbearer.jwks.endpoint.url={keys}
sasl.oauthbearer.expected.issuer={ISSUER}
sasl.oauthbearer.expected.audience={AUDIENCE}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:CN=test client;User:{SUBJECT}
log.dirs={folder / "data"}
auto.create.topics.enable=false
num.partitions=1
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
{SHORT_SESSIONS}"""


def _make_key(folder: Path) -> str:
    """Write the key that signs tokens, and the URL of a key set with its public half."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - only the keeper needs it
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    formats = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "tokens.key").write_bytes(key.private_bytes(*formats))
    numbers = key.public_key().public_numbers()
    public = {
        "kty": "RSA",
        "use": "sig",
        "alg": "RS256",
        "kid": KEY_ID,
        "n": _base64url(numbers.n.to_bytes(256, "big")),
        "e": _base64url(numbers.e.to_bytes(3, "big")),
    }
    (folder / "keys.json").write_text(json.dumps({"keys": [public]}))
    return (folder / "keys.json").as_uri()


def _signed(key_file: Path, claims: dict[str, Any]) -> str:
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 - not needed by the keeper
    from cryptography.hazmat.primitives.asymmetric import padding, rsa  # noqa: PLC0415

    key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    header = {"alg": "RS256", "typ": "JWT", "kid": KEY_ID}
    signed = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
    signature = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{_base64url(signature)}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


SERVERS = {"kafka-identity": _kafka}
