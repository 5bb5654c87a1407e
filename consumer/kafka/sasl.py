"""What a login by SASL needs, checked before a client exists: librdkafka names one missing option at a time."""

from collections.abc import Mapping
from typing import Any, Final

from consumer.errors import SettingsError
from consumer.settings import KafkaSettings

OAUTHBEARER: Final = "OAUTHBEARER"
MSK_IAM: Final = "msk-iam"
"""The token provider for AWS MSK."""

_OIDC_OPTIONS: Final = (
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
)
"""What librdkafka needs to fetch tokens with the grant ``client_credentials``."""
_OTHER_GRANTS: Final = ("sasl.oauthbearer.grant.type", "sasl.oauthbearer.metadata.authentication.type")
"""With one of these, librdkafka needs other options, and checks them itself."""


def mechanism_of(properties: Mapping[str, Any]) -> str | None:
    """The mechanism that a user has chosen; None: librdkafka's default, GSSAPI."""
    found = properties.get("sasl.mechanism", properties.get("sasl.mechanisms"))
    return None if found is None else str(found).upper()


def uses_tokens(settings: KafkaSettings) -> bool:
    """Whether clients log in with tokens, which expire."""
    return settings.token_provider is not None or mechanism_of(settings.properties) == OAUTHBEARER


def sasl_options(settings: KafkaSettings) -> dict[str, Any]:
    """Options that follow from ``kafka.token_provider``, for every client."""
    return {} if settings.token_provider is None else {"sasl.mechanism": OAUTHBEARER}


def check_sasl(settings: KafkaSettings) -> None:
    """Raises SettingsError, with what to change, if the source of tokens is missing, incomplete or unclear."""
    properties = settings.properties
    mechanism = mechanism_of(properties)
    if mechanism == "AWS_MSK_IAM":
        raise SettingsError(
            'kafka.properties: "sasl.mechanism" AWS_MSK_IAM exists only for Java clients: leave it out, and set '
            f"kafka.token_provider to {MSK_IAM}"
        )
    if settings.token_provider is not None:
        _check_provider(settings, mechanism)
    elif mechanism == OAUTHBEARER and not properties.get("enable.sasl.oauthbearer.unsecure.jwt"):
        _check_oidc(properties)


def _check_provider(settings: KafkaSettings, mechanism: str | None) -> None:
    properties = settings.properties
    if mechanism not in {None, OAUTHBEARER}:
        raise SettingsError(
            f'kafka.properties: "sasl.mechanism" is {mechanism}, but kafka.token_provider needs {OAUTHBEARER}: leave '
            "one of the two out"
        )
    if "sasl.oauthbearer.method" in properties:
        raise SettingsError(
            'kafka.properties: "sasl.oauthbearer.method" must not be set together with kafka.token_provider: either '
            "librdkafka fetches the tokens or the provider does"
        )
    protocol = str(properties.get("security.protocol", "plaintext"))
    if not protocol.lower().startswith("sasl_"):
        raise SettingsError(
            f'kafka.properties: "security.protocol" is {protocol}, but kafka.token_provider needs SASL_SSL'
        )


def _check_oidc(properties: Mapping[str, Any]) -> None:
    if str(properties.get("sasl.oauthbearer.method", "default")).lower() != "oidc":
        raise SettingsError(
            f'kafka.properties: "sasl.mechanism" is {OAUTHBEARER}, but nothing makes the tokens: set '
            f'"sasl.oauthbearer.method" to oidc with {_listed(_OIDC_OPTIONS)}, or set kafka.token_provider (such as '
            f"{MSK_IAM})"
        )
    missing = [name for name in _OIDC_OPTIONS if not properties.get(name)]
    if missing and not any(name in properties for name in _OTHER_GRANTS):
        raise SettingsError(
            f"kafka.properties: {_listed(missing)} must be set for sasl.oauthbearer.method oidc; the client secret "
            "belongs in the secret file kafka__properties__sasl.oauthbearer.client.secret"
        )


def login_hint(properties: Mapping[str, Any]) -> str:
    """What to look at if the client fails to log in while it is made, and does not say why."""
    if properties.get("sasl.oauthbearer.metadata.authentication.type") == "aws_iam":
        return (
            "with aws_iam it needs credentials of AWS and looks for them: the role of the pod's service account, "
            "the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the role of the machine; and they must "
            'permit sts:GetWebIdentityToken for the audience of "sasl.oauthbearer.config"'
        )
    return "check the options that begin with sasl."


def without_mechanism(reason: str, properties: Mapping[str, Any]) -> str:
    """What to add to librdkafka's ``reason`` for refusing its own default mechanism."""
    if "GSSAPI" in reason and mechanism_of(properties) is None:
        return '; "sasl.mechanism" is not set, which means GSSAPI (Kerberos): set it, for example to SCRAM-SHA-512'
    return ""


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
