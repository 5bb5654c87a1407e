"""Every setting: type, unit, default and bounds, and where its value comes from.

Belongs here: reading YAML, secret files and the environment, and redacting secrets.
Does not: wiring, which is in ``consumer.app``.
"""

from consumer.settings.loading import Credentials, credentials_reader, load
from consumer.settings.models import (
    AvroSettings,
    DeadLetterSettings,
    HttpSettings,
    KafkaSettings,
    LogSettings,
    MemorySettings,
    MetricsSettings,
    OmsSettings,
    Scalar,
    Seconds,
    Section,
    Settings,
    TextList,
    WindowSettings,
)
from consumer.settings.redaction import is_secret, redacted
from consumer.settings.sources import CONFIG_VARIABLE, PREFIX, SECRETS_DIR_VARIABLE

__all__ = [
    "CONFIG_VARIABLE",
    "PREFIX",
    "SECRETS_DIR_VARIABLE",
    "AvroSettings",
    "Credentials",
    "DeadLetterSettings",
    "HttpSettings",
    "KafkaSettings",
    "LogSettings",
    "MemorySettings",
    "MetricsSettings",
    "OmsSettings",
    "Scalar",
    "Seconds",
    "Section",
    "Settings",
    "TextList",
    "WindowSettings",
    "credentials_reader",
    "is_secret",
    "load",
    "redacted",
]
