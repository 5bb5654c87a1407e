import os
from pathlib import Path

import httpx
import pytest

from consumer.errors import SettingsError
from consumer.network import check_authorities, environment_proxy, is_without_proxy, parse_proxy, proxies_for_httpx

PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        pytest.param({}, "https://oms.example", None, id="no variable"),
        pytest.param({"HTTPS_PROXY": PROXY}, "https://oms.example", PROXY, id="HTTPS_PROXY"),
        pytest.param({"HTTPS_PROXY": PROXY}, "http://oms.example", None, id="only for https"),
        pytest.param({"HTTP_PROXY": PROXY}, "http://oms.example", PROXY, id="HTTP_PROXY"),
        pytest.param({"ALL_PROXY": PROXY}, "https://oms.example", PROXY, id="ALL_PROXY"),
        pytest.param({"HTTPS_PROXY": "http://x", "https_proxy": PROXY}, "https://oms.example", PROXY, id="lower case"),
        pytest.param({"HTTPS_PROXY": "", "ALL_PROXY": PROXY}, "https://oms.example", PROXY, id="empty is not set"),
        pytest.param({"HTTPS_PROXY": "[fd00::7]:3128"}, "https://oms.example", "http://[fd00::7]:3128", id="IPv6"),
        pytest.param({"HTTPS_PROXY": PROXY, "NO_PROXY": "oms.example"}, "https://oms.example", None, id="NO_PROXY"),
        pytest.param({"HTTPS_PROXY": PROXY}, "https://127.0.0.1:8443", None, id="loopback"),
        pytest.param({"HTTPS_PROXY": PROXY}, "https://[::1]:8443", None, id="loopback of IPv6"),
    ],
)
def test_the_environment_names_the_proxy(environ: dict[str, str], url: str, proxy: str | None) -> None:
    assert environment_proxy(url, environ) == proxy


@pytest.mark.parametrize(
    ("url", "no_proxy", "is_direct"),
    [
        ("https://oms.example", "*", True),
        ("https://oms.example", "other, oms.example", True),
        ("https://oms.example", "other oms.example", True),
        ("https://OMS.example.", "oms.EXAMPLE", True),
        ("https://a.oms.example", "oms.example", True),
        ("https://a.oms.example", ".oms.example", True),
        ("https://a.oms.example", "*.oms.example", True),
        ("https://oms.example", ".oms.example", True),
        ("https://myoms.example", "oms.example", False),
        ("https://oms.example", "oms.example:443", True),
        ("https://oms.example:8443", "oms.example:443", False),
        ("https://10.1.2.3", "10.0.0.0/8", True),
        ("https://11.1.2.3", "10.0.0.0/8", False),
        ("https://10.1.2.3:81", "10.1.2.3:81", True),
        ("https://[fd00::5]", "fd00::/8", True),
        ("https://[fd00::5]", "fd00::5", True),
        ("https://[fd00::5]", "[fd00::5]", True),
        ("https://[fd00::5]:8443", "[fd00::5]:443", False),
        ("https://[fe00::5]", "fd00::/8", False),
        ("https://oms.example", "", False),
        ("https://oms.example", "., :, /", False),
    ],
)
def test_no_proxy_is_read_as_by_curl_and_go(url: str, no_proxy: str, *, is_direct: bool) -> None:
    assert is_without_proxy(url, no_proxy) is is_direct


@pytest.mark.parametrize("text", ["socks5://proxy:1080", "http://", "http://proxy:0", "http://proxy:x", "http://p/q"])
def test_a_proxy_that_cannot_be_used_is_refused_with_the_variables_name(text: str) -> None:
    with pytest.raises(ValueError, match="HTTP proxy"):
        parse_proxy(text)
    with pytest.raises(SettingsError, match=r"^environment variable HTTPS_PROXY: must be the URL of an HTTP proxy"):
        environment_proxy("https://oms.example", {"HTTPS_PROXY": text})


def test_httpx_gets_variables_that_it_takes_and_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"HTTPS_PROXY": "proxy:3128", "no_proxy": "fd00::/8,[::1]:443,.svc", "ALL_PROXY": "socks5://other"}
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, text in given.items():
        monkeypatch.setenv(name, text)
    before = dict(os.environ)

    with proxies_for_httpx(["https://registry.svc:8081", "https://login.example"]):
        assert (os.environ["https_proxy"], os.environ["no_proxy"]) == ("http://proxy:3128", "registry.svc")
        assert not {"HTTPS_PROXY", "ALL_PROXY"} & os.environ.keys()
        httpx.Client().close()

    assert dict(os.environ) == before


@pytest.mark.parametrize("content", [b"", b"no certificate", None])
def test_a_missing_or_empty_ssl_cert_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(SettingsError, match=rf"^environment variable SSL_CERT_FILE: {path} ") as caught:
        check_authorities({"SSL_CERT_FILE": str(path)})

    assert "correct or unset it" in str(caught.value)
    check_authorities({"SSL_CERT_FILE": ""})
    check_authorities({})
