"""Settings as they may be shown: everything except secrets."""

import re
from typing import Any, Final

from pydantic import BaseModel, SecretStr

HIDDEN: Final = "***"

_SECRET_KEYS: Final = re.compile(
    r"pass(word|phrase)|secret|key|token|credential|jaas|assertion|basic\.auth|user\.info|oauthbearer\.config",
    re.IGNORECASE,
)
"""Names of client options that hold secrets. Matching by name also hides a few harmless ones."""

_SECRETS: Final = frozenset(
    {("oms", "api_key"), ("oms", "api_secret"), ("oms", "client_key_password"), ("oms", "proxy")}
)
_SECRET_MAPS: Final = frozenset({("oms", "headers")})
"""Maps whose values are all secrets: a gateway's key may be in a header of any name."""

_CREDENTIALS_IN_URL: Final = re.compile(r"(?<=://).*@", re.DOTALL)
"""Up to the last "@": a password may contain any character, including those that normally end a URL."""
_CREDENTIALS_OF_HOST: Final = re.compile(r"""^(['"]?)[^/@:\s'"]+:(?!//).*@(?=[^@]*$)""", re.DOTALL)
"""At the beginning of an address without a scheme, as in ``user:password@host:3128``."""
_SECRETS_IN_QUERY: Final = re.compile(
    rf"(?<=[?&;])([^=&;?\s]*(?:{_SECRET_KEYS.pattern})[^=&;\s]*=)[^&;\s'\"]*", re.IGNORECASE
)


def is_secret(section: str, name: str, key: str | None = None) -> bool:
    """Whether a value must never be shown; ``key`` is the name of an entry, for maps such as kafka.properties."""
    if (section, name) in _SECRETS:
        return True
    return key is not None and ((section, name) in _SECRET_MAPS or bool(_SECRET_KEYS.search(key)))


def hide_credentials(text: str) -> str:
    """Replace the ``user:password`` of a URL or address in the text, and what its query says by a secret's name."""
    text = _CREDENTIALS_IN_URL.sub(f"{HIDDEN}@", text)
    text = _CREDENTIALS_OF_HOST.sub(rf"\1{HIDDEN}@", text)
    return _SECRETS_IN_QUERY.sub(rf"\1{HIDDEN}", text)


def redacted(settings: BaseModel) -> dict[str, dict[str, Any]]:
    """Section to setting to value, for JSON, a log or a page: secrets are replaced by ``***``."""
    return {
        section: {name: _shown(section, name, value) for name, value in getattr(settings, section)}
        for section in type(settings).model_fields
    }


def _shown(section: str, name: str, value: object) -> object:
    if value is None:
        return None
    if isinstance(value, SecretStr) or is_secret(section, name):
        return HIDDEN
    if isinstance(value, dict):
        return {
            key: HIDDEN if is_secret(section, name, key) else _shown(section, name, part) for key, part in value.items()
        }
    if isinstance(value, str):
        return hide_credentials(value)
    if isinstance(value, list):
        return [_shown(section, name, part) for part in value]
    return value
