"""Tokens for SASL OAUTHBEARER from a token provider, for logins that librdkafka cannot do by itself.

A provider is a function that an installed package registers in the entry point group ``inventory_refresh.kafka_tokens``
under the name that ``kafka.token_provider`` has. It is called with the options of the client, by librdkafka's names, on
a thread of the client; it returns what confluent-kafka's ``oauth_cb`` does: the token and the time when it expires, in
seconds since 1970, and if the broker needs them the principal and the SASL extensions (a map). It may raise anything.
"""

import time
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Final

import structlog

from consumer.errors import BrokerError, SettingsError
from consumer.text import one_line

GROUP: Final = "inventory_refresh.kafka_tokens"
RETRY_SECONDS: Final = 12.0
"""After a failure the old token is given again with this lifetime: the client asks again at 80 % of it."""

Token = tuple[str, float] | tuple[str, float, str, Mapping[str, str]]
TokenProvider = Callable[[Mapping[str, Any]], Token]

_log = structlog.get_logger("inventory_refresh.kafka")


def load_provider(name: str) -> TokenProvider:
    """The installed provider of this name. Raises SettingsError if it is unknown or cannot be imported."""
    known = {found.name: found for found in entry_points(group=GROUP)}
    if name not in known:
        names = ", ".join(sorted(known)) or "none"
        raise SettingsError(
            f"kafka.token_provider: no package with a provider {name!r} is installed (installed providers: {names})"
        )
    try:
        provider: TokenProvider = known[name].load()
    except ImportError as error:
        raise SettingsError(f"kafka.token_provider: {name} cannot be loaded: {one_line(str(error))}") from error
    return provider


class TokenSource:
    """The ``oauth_cb`` of one client. It never raises: the client would lose the reason."""

    def __init__(
        self,
        name: str,
        provider: TokenProvider,
        options: Mapping[str, Any],
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Asks for the first token. Raises BrokerError if there is none: without it no broker can be used."""
        self._name = name
        self._provider = provider
        self._options = options
        self._wall = wall
        self._is_first = True
        try:
            self._token = self._fetched()
        except Exception as error:
            raise BrokerError(
                f"kafka.token_provider: {name} has no token: {_text_of(error)}; check the identity of this process"
            ) from error

    def __call__(self, _config: str | None) -> Token:
        """A token that is still valid. If there is no new one, logs why, and gives the old one for a moment more."""
        if self._is_first:
            self._is_first = False
            return self._token
        try:
            self._token = self._fetched()
        except Exception as error:  # noqa: BLE001 - a provider may raise anything
            _log.warning(
                "kafka_token_unavailable",
                provider=self._name,
                error=_text_of(error),
                retry_seconds=RETRY_SECONDS,
                next_step="none if it passes: a connection lasts until its token expires; else check the identity",
            )
            text, _, *more = self._token
            return (text, self._wall() + RETRY_SECONDS, *more)  # type: ignore[return-value]
        return self._token

    def _fetched(self) -> Token:
        match self._provider(self._options):
            case (str() as text, int() | float() as expires_at, *_) as token if text and expires_at > self._wall():
                return token
            case _:
                # Not shown: it may contain a token.
                raise ValueError("the provider must return a token and when it expires, in seconds since 1970")


def _text_of(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}")
