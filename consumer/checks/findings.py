"""What a check found, and the list of all checks."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from consumer.errors import BrokerError, DeadLettersError, OmsRefusedError, SettingsError, StopError
from consumer.text import one_line

CHECKS: Final[Mapping[str, type[StopError]]] = {
    "settings": SettingsError,
    "memory": SettingsError,
    "disk": SettingsError,
    "brokers": BrokerError,
    "topics": BrokerError,
    "permissions": BrokerError,
    "session": SettingsError,
    "group": BrokerError,
    "lag": BrokerError,
    "retention": BrokerError,
    "dead_letters": DeadLettersError,
    "registry": SettingsError,
    "schemas": SettingsError,
    "mapping": SettingsError,
    "token": OmsRefusedError,
    "refresh": OmsRefusedError,
    "jobs": OmsRefusedError,
    "clock": OmsRefusedError,
}
"""Every check in the order of the report, and the error whose exit code its failure has. See docs/check.md."""


class Status(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """The service runs, but someone should look at this."""
    ERROR = "error"
    """The service does not start, stops, or does not do what it is for."""
    SKIPPED = "skipped"
    """Not checked: something that it needs failed, or cannot be asked."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    ``advice`` says what to do; None if there is nothing to do, or if the text says it. ``error`` is set for ERROR only.
    """

    check: str
    status: Status
    text: str
    advice: str | None = None
    error: type[StopError] | None = None


def ok(check: str, text: str) -> Finding:
    return Finding(check, Status.OK, one_line(text))


def warning(check: str, text: str, advice: str) -> Finding:
    return Finding(check, Status.WARNING, one_line(text), advice)


def skipped(check: str, text: str) -> Finding:
    return Finding(check, Status.SKIPPED, one_line(text))


def failed(check: str, text: str, advice: str | None, error: type[StopError] | None = None) -> Finding:
    """``error`` is that of the check, unless a setting or another part is to blame."""
    return Finding(check, Status.ERROR, one_line(text), advice, error or CHECKS[check])


def caught(check: str, run: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """The findings of a check. An error that would stop the service becomes one: its message says what to change."""
    try:
        return list(run())
    except StopError as error:
        return [failed(check, str(error), None, type(error))]


def exit_code(findings: Iterable[Finding]) -> int:
    """That of the first error; 0 without one."""
    return next((finding.error.exit_code for finding in findings if finding.error is not None), 0)


def counted(number: int, noun: str) -> str:
    """A number of things, such as ``1 partition`` or ``1,200 messages``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: Iterable[object], shown_max: int = 5) -> str:
    """Names separated by commas: the first ones, and how many more there are."""
    texts = [str(name) for name in names]
    more = f" and {len(texts) - shown_max} more" if len(texts) > shown_max else ""
    return ", ".join(texts[:shown_max]) + more
