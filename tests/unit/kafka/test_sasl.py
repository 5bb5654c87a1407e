"""Logins by SASL: what is missing is said before a client is made, and tokens come from an installed provider."""

import base64
import importlib.util
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError
from structlog.testing import capture_logs

from consumer.errors import BrokerError, SettingsError
from consumer.kafka.errors import ErrorClass, classify
from consumer.kafka.msk_iam import region_of
from consumer.kafka.msk_iam import token as msk_token
from consumer.kafka.options import connection_options, consumer_options, new_client, producer_options
from consumer.kafka.tokens import RETRY_SECONDS, TokenSource, load_provider
from consumer.settings import KafkaSettings, Scalar
from tests.support.keeper import PartMissingError
from tests.support.parts import or_skip

OIDC: dict[str, Scalar] = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "OAUTHBEARER",
    "sasl.oauthbearer.method": "oidc",
    "sasl.oauthbearer.token.endpoint.url": "https://identity.example/token",
    "sasl.oauthbearer.client.id": "a",
    "sasl.oauthbearer.client.secret": "the-secret",
}


def settings(properties: Mapping[str, Scalar], provider: str | None = None) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers="127.0.0.1:1", topics=["changes"], properties=dict(properties), token_provider=provider
    )


def without(*names: str) -> dict[str, Scalar]:
    return {name: value for name, value in OIDC.items() if name not in names}


REFUSED: dict[str, tuple[KafkaSettings, str]] = {
    "the mechanism of Java clients": (
        settings({"security.protocol": "SASL_SSL", "sasl.mechanism": "aws_msk_iam"}),
        "AWS_MSK_IAM exists only for Java clients: leave it out, and set kafka.token_provider to msk-iam",
    ),
    "no source of tokens": (
        settings({"security.protocol": "SASL_SSL", "sasl.mechanisms": "OAUTHBEARER"}),
        'nothing makes the tokens: set "sasl.oauthbearer.method" to oidc with "sasl.oauthbearer.token.endpoint.url", ',
    ),
    "several parts of OIDC": (
        settings(without("sasl.oauthbearer.client.id", "sasl.oauthbearer.client.secret")),
        '"sasl.oauthbearer.client.id", "sasl.oauthbearer.client.secret" must be set for sasl.oauthbearer.method oidc',
    ),
    "a provider and another mechanism": (
        settings({"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"}, "msk-iam"),
        '"sasl.mechanism" is PLAIN, but kafka.token_provider needs OAUTHBEARER',
    ),
    "a provider and OIDC": (settings(OIDC, "msk-iam"), '"sasl.oauthbearer.method" must not be set together with'),
    "a provider without SASL": (settings({}, "msk-iam"), '"security.protocol" is plaintext, but kafka.token_provider'),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_source_of_tokens_that_is_missing_or_unclear_is_refused_with_what_to_change(case: str) -> None:
    given, words = REFUSED[case]
    with pytest.raises(SettingsError, match=re.escape(words)):
        consumer_options(given)


@pytest.mark.parametrize(
    "properties",
    [
        OIDC,
        {**without("sasl.oauthbearer.client.secret"), "sasl.oauthbearer.grant.type": "of another kind"},
        {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "OAUTHBEARER",
            "enable.sasl.oauthbearer.unsecure.jwt": True,
        },
        {"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "a"},
        {"security.protocol": "SASL_SSL", "sasl.mechanism": "GSSAPI"},
        {"security.protocol": "SSL"},
    ],
)
def test_other_logins_are_left_to_librdkafka(properties: dict[str, Scalar]) -> None:
    assert consumer_options(settings(properties)).items() >= properties.items()


def test_a_provider_sets_the_mechanism_of_every_client() -> None:
    given = settings({"security.protocol": "SASL_SSL"}, "msk-iam")
    for options in (consumer_options(given), producer_options(given), connection_options(given)):
        assert options["sasl.mechanism"] == "OAUTHBEARER"


def test_a_mechanism_that_is_left_out_is_named_when_the_default_one_is_missing() -> None:
    given = settings({"security.protocol": "SASL_SSL", "sasl.username": "a"})
    with pytest.raises(SettingsError, match=r'"sasl\.mechanism" is not set, which means GSSAPI'):
        new_client(Consumer, consumer_options(given), given)


def test_an_extra_of_the_client_that_is_missing_is_a_settings_error() -> None:
    properties: dict[str, Scalar] = {
        **without("sasl.oauthbearer.client.id", "sasl.oauthbearer.client.secret"),
        "sasl.oauthbearer.metadata.authentication.type": "aws_iam",
        "sasl.oauthbearer.config": "region=eu-west-1,audience=https://kafka.example",
    }
    if importlib.util.find_spec("boto3") is not None:
        pytest.skip("the extra is installed")
    with pytest.raises(SettingsError, match="oauthbearer-aws"):
        new_client(Consumer, consumer_options(settings(properties)), settings(properties))


# Providers


def test_an_unknown_provider_is_refused_with_those_that_are_installed() -> None:
    with pytest.raises(SettingsError, match="no package with a provider 'nobody' is installed"):
        load_provider("nobody")


def test_a_provider_that_cannot_be_imported_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[inventory_refresh.kafka_tokens]\nbroken = no_such_module:token\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(SettingsError, match="broken cannot be loaded: No module named 'no_such_module'"):
        load_provider("broken")


class Provider:
    """Gives these answers, one after the other; the last one for ever. An exception is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.options: list[Mapping[str, Any]] = []

    def __call__(self, options: Mapping[str, Any]) -> Any:
        self.options.append(options)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


NOW = 1_000.0


def source(*answers: Any) -> tuple[TokenSource, Provider]:
    provider = Provider(*answers)
    return TokenSource("of-tests", provider, {"bootstrap.servers": "a:1"}, lambda: NOW), provider


def test_the_first_token_is_fetched_once_and_later_ones_whenever_the_client_asks() -> None:
    tokens, provider = source(("one", NOW + 60), ("two", NOW + 120, "principal", {"a": "b"}))
    assert tokens(None) == ("one", NOW + 60)
    assert len(provider.options) == 1
    assert tokens(None) == ("two", NOW + 120, "principal", {"a": "b"})
    assert provider.options[0] == {"bootstrap.servers": "a:1"}


def test_without_a_first_token_the_start_ends_with_the_reason() -> None:
    with pytest.raises(BrokerError, match=r"token_provider: of-tests has no token: OSError: no route; check the"):
        source(OSError("no route"))


@pytest.mark.parametrize("answer", [None, "token", ("token",), ("", NOW + 1), ("token", NOW), ("token", "soon")])
def test_an_answer_that_is_no_token_is_refused_without_showing_it(answer: Any) -> None:
    with pytest.raises(BrokerError, match="must return a token and when it expires") as refused:
        source(answer)
    assert "soon" not in str(refused.value)


def test_a_token_that_cannot_be_renewed_is_kept_and_the_reason_is_logged() -> None:
    tokens, _ = source(("one", NOW + 60), OSError("no route"), ("two", NOW + 120))
    tokens(None)
    with capture_logs() as logs:
        assert tokens(None) == ("one", NOW + RETRY_SECONDS)
    (line,) = logs
    assert (line["event"], line["provider"], line["error"]) == (
        "kafka_token_unavailable",
        "of-tests",
        "OSError: no route",
    )
    assert tokens(None) == ("two", NOW + 120)


def test_a_client_that_renews_tokens_retries_a_failed_login() -> None:
    refused = KafkaError(KafkaError._AUTHENTICATION)
    assert classify(refused) is ErrorClass.UNAUTHORISED
    assert classify(refused, renews_tokens=True) is ErrorClass.RETRIABLE
    forbidden = KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)
    assert classify(forbidden, renews_tokens=True) is ErrorClass.UNAUTHORISED


# AWS MSK


@pytest.mark.parametrize(
    ("servers", "environ", "region"),
    [
        ("b-1.shop.abc123.c2.kafka.eu-west-1.amazonaws.com:9098", {"AWS_REGION": "us-east-1"}, "eu-west-1"),
        ("boot-abc.c1.kafka-serverless.us-east-2.amazonaws.com:9098", {}, "us-east-2"),
        ("b-1.shop.c2.kafka.cn-north-1.amazonaws.com.cn:9098,b-2.other:9098", {}, "cn-north-1"),
        ("kafka.shop.example:9098", {"AWS_REGION": "eu-west-1"}, "eu-west-1"),
        ("kafka.shop.example:9098", {"AWS_DEFAULT_REGION": "eu-west-3"}, "eu-west-3"),
    ],
)
def test_the_region_is_that_of_the_brokers_or_of_aws_tools(servers: str, environ: dict[str, str], region: str) -> None:
    assert region_of({"bootstrap.servers": servers}, environ) == region


def test_without_a_region_the_variable_to_set_is_named() -> None:
    with pytest.raises(SettingsError, match="set the variable AWS_REGION"):
        region_of({"bootstrap.servers": "kafka.shop.example:9098"}, {})


MSK = {"bootstrap.servers": "b-1.shop.abc123.c2.kafka.eu-west-1.amazonaws.com:9098"}


def signer() -> None:
    if importlib.util.find_spec("aws_msk_iam_sasl_signer") is None:
        raise PartMissingError("aws-msk-iam-sasl-signer-python is not installed: make install")


def test_msk_tokens_are_signed_with_the_identity_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    or_skip(signer)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDOFTESTS")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-tests")
    text, expires_at = msk_token(MSK)
    url = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    assert url.startswith("https://kafka.eu-west-1.amazonaws.com/?Action=kafka-cluster%3AConnect")
    assert "AKIDOFTESTS" in url
    assert "secret-of-tests" not in url
    assert 600 < expires_at - time.time() <= 900


def test_msk_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aws_msk_iam_sasl_signer", None)
    with pytest.raises(SettingsError, match=re.escape("pip install 'inventory-refresh[msk]'")):
        msk_token(MSK)
