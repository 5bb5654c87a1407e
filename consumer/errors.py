"""The errors that stop the process, each with its exit code.

    StopError
    +-- SettingsError      2
    +-- BrokerError        3
    +-- OmsRefusedError    4
    +-- DeadLettersError   5

An adapter classifies each error of the outside world once and raises one of these, or handles it. Any other exception
is a bug: it stops the process with exit code 1, and what is not committed is read again after the restart.
"""


class StopError(Exception):
    """The process must stop; nothing in doubt is committed. The message is one line that says what to change."""

    exit_code = 1


class SettingsError(StopError):
    """A setting is wrong or unknown."""

    exit_code = 2


class BrokerError(StopError):
    """Kafka cannot be used: unreachable, credentials refused, or a topic is missing."""

    exit_code = 3


class OmsRefusedError(StopError):
    """The OMS refuses the credentials, the permission or the address."""

    exit_code = 4


class DeadLettersError(StopError):
    """A dead letter could not be delivered, or so many changes are rejected that something upstream must be wrong."""

    exit_code = 5


class InvariantError(Exception):
    """An invariant of the service is broken: a bug. Nothing more is committed; a restart reads everything again."""
