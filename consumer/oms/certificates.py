"""TLS certificates for the OMS, loaded from files: trusted authorities and the client certificate."""

import ssl
from pathlib import Path

from consumer.errors import SettingsError
from consumer.oms.http import default_certificates
from consumer.settings import OmsSettings


def load_certificates(settings: OmsSettings) -> ssl.SSLContext | None:
    """The TLS context for ``oms.ca_file``, ``oms.client_cert_file`` and ``oms.client_key_file``; None if none is set.

    With ``ca_file`` only its authorities are trusted. The files are read once: after a renewal, restart the process.

    Raises SettingsError naming the setting whose file cannot be read or has the wrong content.
    """
    if not settings.ca_file and not settings.client_cert_file:
        return None
    context = _trust(settings.ca_file)
    if settings.client_cert_file:
        _load_client_certificate(context, settings.client_cert_file, settings.client_key_file)
    return context


def _trust(ca_file: str | None) -> ssl.SSLContext:
    if ca_file is None:
        return default_certificates()
    _check_readable("oms.ca_file", ca_file)
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise SettingsError(f"oms.ca_file: {ca_file} has no CA certificate in PEM format") from None


def _load_client_certificate(context: ssl.SSLContext, cert_file: str, key_file: str | None) -> None:
    _check_readable("oms.client_cert_file", cert_file)
    if key_file:
        _check_readable("oms.client_key_file", key_file)
    key_setting = "oms.client_key_file" if key_file else "oms.client_cert_file"

    def refuse_password() -> str:
        # Without this OpenSSL would prompt on the terminal and wait.
        raise SettingsError(
            f"{key_setting}: the key in {key_file or cert_file} is encrypted; give one without a password"
        )

    try:
        context.load_cert_chain(cert_file, key_file, password=refuse_password)
    except ssl.SSLError as error:
        reason = (error.reason or "not readable").replace("_", " ").lower()
        raise SettingsError(
            f"oms.client_cert_file: {cert_file} cannot be used with the key in {key_file or 'it'} ({reason}); "
            "give a certificate in PEM format and the key that belongs to it"
        ) from None


def _check_readable(setting: str, path: str) -> None:
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError as error:
        raise SettingsError(f"{setting}: {path} cannot be read: {error.strerror}") from None
