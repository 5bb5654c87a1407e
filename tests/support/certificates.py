"""A certificate authority for tests and the certificates it signs: generated in each run, valid for two days."""

import datetime
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

KEY_PASSWORD = "key-password-for-tests-only"
"""The password of ``Certificates.locked_key``."""


@dataclass(frozen=True)
class Certificates:
    """PEM files in one folder; certificates are for 127.0.0.1, keys are PKCS 8."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def server(self) -> Path:
        """Key and certificate in one file."""
        return self.folder / "server.pem"

    @property
    def client_cert(self) -> Path:
        return self.folder / "client.pem"

    @property
    def client_key(self) -> Path:
        return self.folder / "client.key"

    @property
    def locked_key(self) -> Path:
        """The client's key, encrypted with ``KEY_PASSWORD``."""
        return self.folder / "locked.key"

    @property
    def other_ca(self) -> Path:
        """The certificate of an authority that signed none of the others."""
        return self.folder / "other.pem"


def make_certificates(folder: Path) -> Certificates:
    """Write the files of ``Certificates`` into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificates(folder)
    ca_key, other_key, server_key, client_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(4))
    made.ca.write_bytes(_pem(_certificate("test authority", ca_key, "test authority", ca_key)))
    made.other_ca.write_bytes(_pem(_certificate("other authority", other_key, "other authority", other_key)))
    server = _certificate("test server", server_key, "test authority", ca_key)
    made.server.write_bytes(_key(server_key) + _pem(server))
    made.client_cert.write_bytes(_pem(_certificate("test client", client_key, "test authority", ca_key)))
    made.client_key.write_bytes(_key(client_key))
    made.locked_key.write_bytes(_key(client_key, KEY_PASSWORD))
    return made


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if name != issuer:
        names = [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key(key: ec.EllipticCurvePrivateKey, password: str | None = None) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password.encode())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
