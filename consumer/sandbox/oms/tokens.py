"""OAuth client credentials: issues tokens for API keys, and knows the package of each. Time is an argument."""

import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from consumer.sandbox.oms.settings import Package, SandboxSettings

_TOKEN_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class _Grant:
    package: Package
    valid_from: float
    expires_at: float


class Tokens:
    """The tokens that were issued and have not expired, at most ``tokens_max``."""

    def __init__(self, settings: SandboxSettings) -> None:
        self._credentials = {
            Package.SPECIFIC: (settings.specific_key, settings.specific_secret.get_secret_value()),
            Package.V5: (settings.v5_key, settings.v5_secret.get_secret_value()),
            Package.UNIFIED: (settings.unified_key, settings.unified_secret.get_secret_value()),
        }
        self._seconds = settings.token_seconds
        self._max = settings.tokens_max
        self._grants: dict[str, _Grant] = {}
        self.issued = 0

    def package_for(self, key: str, secret: str, packages: Collection[Package]) -> Package | None:
        """The package of this API key, if it is one of ``packages``; None for an unknown key or a wrong secret."""
        for package in packages:
            expected_key, expected_secret = self._credentials[package]
            if key == expected_key and hmac.compare_digest(expected_secret.encode(), secret.encode()):
                return package
        return None

    def issue(self, package: Package, now: float, *, ripens_seconds: float = 0.0) -> str:
        """Issue a new token for the package, which is valid after ``ripens_seconds``."""
        # Grants are in the order of their expiry, since every token lives equally long.
        while self._grants:
            oldest = next(iter(self._grants))
            if self._grants[oldest].expires_at > now and len(self._grants) < self._max:
                break
            del self._grants[oldest]
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._grants[token] = _Grant(package, now + ripens_seconds, now + self._seconds)
        self.issued += 1
        return token

    def package_of(self, token: str, now: float) -> Package | None:
        """The package that the token gives access to; None if it is unknown, revoked, expired or not valid yet."""
        grant = self._grants.get(token)
        return grant.package if grant is not None and grant.valid_from <= now < grant.expires_at else None

    def revoke_all(self) -> None:
        """Revoke every token issued so far."""
        self._grants.clear()
