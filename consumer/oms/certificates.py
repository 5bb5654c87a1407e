"""TLS certificates for the OMS, loaded from files: trusted authorities and the client certificate."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from consumer.errors import SettingsError
from consumer.network import CERT_DIR_VARIABLE, CERT_FILE_VARIABLE, check_authorities
from consumer.oms.http import default_certificates
from consumer.settings import OmsSettings

_STRICT_ERRORS: Final = range(80, 94)
"""OpenSSL's X509_V_ERR codes from PATHLEN_INVALID_FOR_NON_CA to EXTENSIONS_REQUIRE_VERSION_3: found only by strict
checks, which Python makes from 3.13 on."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """The files that TLS contexts are made from, and whether checks are strict."""

    ca_file: str | None = None
    client_cert_file: str | None = None
    client_key_file: str | None = None
    client_key_password: str | None = None
    is_strict: bool = True

    @property
    def paths(self) -> tuple[str, ...]:
        """Files and directories whose change calls for a new context."""
        defaults = [] if self.ca_file else [os.environ.get(CERT_FILE_VARIABLE), os.environ.get(CERT_DIR_VARIABLE)]
        return tuple(filter(None, [self.ca_file, self.client_cert_file, self.client_key_file, *defaults]))

    def version(self) -> tuple[object, ...]:
        """Differs once one of the files has been replaced or rewritten."""
        return tuple(map(_version, self.paths))

    def load(self) -> ssl.SSLContext:
        """A TLS context of what the files contain now. With ``ca_file`` only its authorities are trusted.

        Raises SettingsError naming the setting or the variable whose file cannot be read or has the wrong content.
        """
        context = self._trust(os.environ)
        if not self.is_strict:
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.client_cert_file:
            self._load_client_certificate(context, self.client_cert_file)
        return context

    def _trust(self, environ: Mapping[str, str]) -> ssl.SSLContext:
        if self.ca_file is None:
            check_authorities(environ)
            return default_certificates()
        _check_readable("oms.ca_file", self.ca_file)
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except ssl.SSLError:
            raise SettingsError(f"oms.ca_file: {self.ca_file} has no CA certificate in PEM format") from None

    def _load_client_certificate(self, context: ssl.SSLContext, cert_file: str) -> None:
        _check_readable("oms.client_cert_file", cert_file)
        if self.client_key_file:
            _check_readable("oms.client_key_file", self.client_key_file)

        def password() -> str:
            # Without this OpenSSL would prompt on the terminal and wait.
            if self.client_key_password is None:
                setting = "oms.client_key_file" if self.client_key_file else "oms.client_cert_file"
                raise SettingsError(
                    f"{setting}: the key in {self.client_key_file or cert_file} is encrypted; set "
                    "oms.client_key_password"
                )
            return self.client_key_password

        try:
            context.load_cert_chain(cert_file, self.client_key_file, password=password)
        except ssl.SSLError as error:
            reason = (error.reason or "not readable").replace("_", " ").lower()
            raise SettingsError(
                f"oms.client_cert_file: {cert_file} cannot be used with the key in {self.client_key_file or 'it'} "
                f"({reason}); give a certificate in PEM format, the key that belongs to it, and in "
                "oms.client_key_password the key's password if it has one"
            ) from None


def certificate_files(settings: OmsSettings) -> CertificateFiles:
    """The files that the settings name."""
    password = settings.client_key_password
    return CertificateFiles(
        settings.ca_file,
        settings.client_cert_file,
        settings.client_key_file,
        password.get_secret_value() if password else None,
        settings.tls_strict,
    )


def is_strictness(error: BaseException) -> bool:
    """Whether the OMS's certificate failed only a strict check, which ``oms.tls_strict: false`` leaves out."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_code in _STRICT_ERRORS
        cause = cause.__cause__ or cause.__context__
    return False


def _version(path: str) -> object:
    try:
        found = Path(path).stat()
    except OSError as error:
        return error.errno
    return found.st_ino, found.st_size, found.st_mtime_ns


def _check_readable(setting: str, path: str) -> None:
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError as error:
        raise SettingsError(f"{setting}: {path} cannot be read: {error.strerror}") from None
