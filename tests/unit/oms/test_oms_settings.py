"""Settings that depend on each other: the OMS's APIs, their tenant and columns, certificates."""

import pytest

from consumer.core.changes.columns import GRANULAR_COLUMN_TYPES
from consumer.errors import SettingsError
from consumer.settings import Settings, load, redacted

ENOUGH = {
    "KAFKA__BOOTSTRAP_SERVERS": "broker:9092",
    "KAFKA__TOPICS": "stock",
    "AVRO__REGISTRY_URL": "http://registry:8081",
    "OMS__BASE_URL": "https://oms.example",
    "OMS__TOKEN_URL": "https://auth.example/token",
    "OMS__API_KEY": "the-key",
    "OMS__API_SECRET": "the-secret",
}
UNIFIED = {"OMS__API": "unified-commerce", "OMS__TENANT": "1234"}


def settings(**options: str) -> Settings:
    return load(None, {f"INVENTORY_REFRESH_{name}": value for name, value in (ENOUGH | options).items()})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param({"OMS__API": "unified-commerce"}, "oms.tenant: must be set", id="no tenant"),
        pytest.param({"OMS__TENANT": "7"}, "oms.tenant: must not be set for oms.api inventory-specific", id="a tenant"),
        pytest.param(
            {"OMS__API": "inventory-v5", "OMS__TENANT": "7"},
            "oms.tenant: must not be set for oms.api inventory-v5",
            id="V5's tenant",
        ),
        pytest.param(
            {"OMS__ONLY_SENDER": "true"}, "oms.only_sender: needs a list of jobs", id="only sender without lists"
        ),
        pytest.param(
            UNIFIED | {"OMS__ONLY_SENDER": "true", "OMS__TRACK_JOBS": "false"},
            "oms.only_sender: needs oms.track_jobs",
            id="only sender that follows no jobs",
        ),
        pytest.param(
            {"OMS__ENDPOINT": "smart-refresh"},
            "oms.endpoint: must be refresh for oms.api inventory-specific",
            id="an API without smart refresh",
        ),
        pytest.param(
            UNIFIED | {"OMS__ENDPOINT": "smart-refresh", "OMS__TRACK_JOBS": "false"},
            "oms.endpoint smart-refresh: needs oms.track_jobs",
            id="smart refresh that follows no jobs",
        ),
        pytest.param(UNIFIED | {"OMS__TENANT": "t7"}, "oms.tenant: 't7' must be a whole number", id="no number"),
        pytest.param(UNIFIED | {"OMS__TENANT": "0"}, "oms.tenant: '0' must be at least 1", id="tenant zero"),
        pytest.param(
            {"EVENTS__FIELDS__lotCode": "lot.code", "EVENTS__FIELDS__date": "made", "EVENTS__MATCH_BY_NAME": "true"},
            "events.fields: date, lotCode can only be sent with oms.api unified-commerce",
            id="lots for an older API",
        ),
        pytest.param({"OMS__CLIENT_KEY_FILE": "key.pem"}, "oms.client_cert_file: must be set", id="a key alone"),
        pytest.param({"OMS__JOB_AGE_MAX": "59s"}, "oms.job_age_max: '59s' must be at least 60", id="too young"),
        pytest.param({"OMS__TRACK_JOBS": "maybe"}, "oms.track_jobs: 'maybe' must be true or false", id="maybe"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_by_name(options: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(**options)

    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unified_commerce_accepts_a_tenant_and_granular_fields() -> None:
    found = settings(**UNIFIED, EVENTS__FIELDS__lotCode="lot.code", EVENTS__MATCH_BY_NAME="true")

    assert (found.oms.api, found.oms.tenant) == ("unified-commerce", 1234)
    assert found.events.fields == {"lotCode": "lot.code"}


def test_a_lot_may_be_part_of_the_item_key_and_is_by_default() -> None:
    assert settings(WINDOW__ITEM_KEY="sku,lotCode").window.item_key == ["sku", "lotCode"]
    assert set(GRANULAR_COLUMN_TYPES) <= set(settings().window.item_key)


def test_jobs_are_tracked_for_a_day_by_default() -> None:
    assert (settings().oms.track_jobs, settings().oms.job_age_max) == (True, 86_400.0)
    assert settings(OMS__TRACK_JOBS="false", OMS__JOB_AGE_MAX="2h").oms.job_age_max == 7_200.0


def test_headers_come_from_variables_and_files_and_are_never_shown() -> None:
    found = settings(OMS__HEADERS__OCP_APIM_SUBSCRIPTION_KEY="the-gateway-key", OMS__HEADERS='{"X-Channel": "shop"}')

    assert found.oms.headers == {"ocp-apim-subscription-key": "the-gateway-key", "X-Channel": "shop"}
    assert redacted(found)["oms"]["headers"] == {"ocp-apim-subscription-key": "***", "X-Channel": "***"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param({"OMS__HEADERS": '{"Authorization": "x"}'}, "the service sends it itself", id="a fixed header"),
        pytest.param({"OMS__HEADERS": '{"X-A": "x", "x-a": "y"}'}, "given twice", id="twice"),
        pytest.param({"OMS__HEADERS": '{"X A": "x"}'}, 'which "X A" is not', id="no name"),
        pytest.param({"OMS__HEADERS": '{"X-A": "x\\ny"}'}, 'which "X-A" is not', id="two lines"),
        pytest.param({"OMS__TOKEN_FIELDS": '{"scope": "x"}'}, "must not contain scope", id="scope as a field"),
        pytest.param({"OMS__PROXY": "socks5://u:hunter2@proxy"}, "SOCKS is not supported", id="a SOCKS proxy"),
        pytest.param({"OMS__MAX_REQUEST_BYTES": "5"}, "from 16KiB to 1GiB", id="a tiny body"),
        pytest.param({"OMS__MAX_REQUEST_BYTES": "1MB"}, "text such as 1MiB", id="no unit"),
    ],
)
def test_options_of_the_way_out_are_checked(options: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(**options)

    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("text", "size"), [("1MiB", 2**20), ("1048576", 2**20), ("16KiB", 2**14)])
def test_the_largest_body_is_in_bytes_or_with_a_unit(text: str, size: int) -> None:
    assert settings(OMS__MAX_REQUEST_BYTES=text).oms.max_request_bytes == size


def test_proxy_and_password_are_secrets() -> None:
    found = settings(OMS__PROXY="http://user:hunter2@proxy:3128", OMS__CLIENT_KEY_PASSWORD="hunter3")

    assert found.oms.proxy is not None
    assert found.oms.proxy.get_secret_value() == "http://user:hunter2@proxy:3128"
    assert "hunter" not in repr(found)
    assert "hunter" not in str(redacted(found))
