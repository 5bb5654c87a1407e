"""Every setting: type, unit, default and bounds, and where its value comes from.

Belongs here: reading YAML, secret files and the environment, and redacting secrets.
Does not: wiring, which is in ``consumer.app``.
"""

from consumer.settings.events import EventsSettings
from consumer.settings.loading import Credentials, credentials_reader, load
from consumer.settings.models import (
    AvroSettings,
    DeadLetterSettings,
    KafkaSettings,
    MemorySettings,
    OmsSettings,
    Settings,
    WindowSettings,
)
from consumer.settings.observing import HttpSettings, LogSettings, MetricsSettings
from consumer.settings.redaction import is_secret, redacted
from consumer.settings.section import Scalar, Seconds, Section, TextList
from consumer.settings.sources import CONFIG_VARIABLE, PREFIX, SECRETS_DIR_VARIABLE

__all__ = [
    "CONFIG_VARIABLE",
    "PREFIX",
    "SECRETS_DIR_VARIABLE",
    "AvroSettings",
    "Credentials",
    "DeadLetterSettings",
    "EventsSettings",
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
