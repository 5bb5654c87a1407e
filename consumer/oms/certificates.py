"""Certificates for the OMS, from files: whom to trust, and as whom to come."""

import ssl
from pathlib import Path

from consumer.errors import SettingsError
from consumer.oms.http import usual_certificates
from consumer.settings import OmsSettings


def load_certificates(settings: OmsSettings) -> ssl.SSLContext | None:
    """The context that ``oms.ca_file``, ``oms.client_cert_file`` and ``oms.client_key_file`` say; None without any.

    With ``ca_file`` only its authorities are trusted. The files are read once: renewed ones need a restart.

    Raises SettingsError naming the setting whose file is not there, or is not what it should be.
    """
    if not settings.ca_file and not settings.client_cert_file:
        return None
    context = _trusting(settings.ca_file)
    if settings.client_cert_file:
        _show(context, settings.client_cert_file, settings.client_key_file)
    return context


def _trusting(ca_file: str | None) -> ssl.SSLContext:
    if ca_file is None:
        return usual_certificates()
    _check_readable("oms.ca_file", ca_file)
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise SettingsError(f"oms.ca_file: {ca_file} has no certificate of an authority in PEM form") from None


def _show(context: ssl.SSLContext, cert_file: str, key_file: str | None) -> None:
    _check_readable("oms.client_cert_file", cert_file)
    if key_file:
        _check_readable("oms.client_key_file", key_file)
    key_setting = "oms.client_key_file" if key_file else "oms.client_cert_file"

    def ask_password() -> str:
        # Without this OpenSSL would ask on the terminal, and wait.
        raise SettingsError(f"{key_setting}: {key_file or cert_file} is locked with a password; give it without one")

    try:
        context.load_cert_chain(cert_file, key_file, password=ask_password)
    except ssl.SSLError as error:
        reason = (error.reason or "not readable").replace("_", " ").lower()
        raise SettingsError(
            f"oms.client_cert_file: {cert_file} with the key in {key_file or 'it'} cannot be used ({reason}); "
            "give a certificate in PEM form and its own key"
        ) from None


def _check_readable(setting: str, path: str) -> None:
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError as error:
        raise SettingsError(f"{setting}: {path} cannot be read: {error.strerror}") from None
