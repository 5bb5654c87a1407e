"""What an operator is asked to check when Kafka does not answer at the start."""

import pytest

from consumer.kafka.preflight import what_to_check

FAILED = (
    "sasl_ssl://kafka.example.com:9093/bootstrap: SSL handshake failed: ssl/statem/statem_clnt.c:2124:"
    "tls_post_process_server_certificate error:0A000086:SSL routines::certificate verify failed"
)
HINT = ": broker certificate could not be verified, verify that ssl.ca.location is correctly configured"


@pytest.mark.parametrize(
    "reason",
    [
        pytest.param(f"{FAILED}{HINT} (after 3ms in state SSL_HANDSHAKE) (_SSL)", id="reported as an SSL error"),
        pytest.param(f"{FAILED} (after 3ms in state SSL_HANDSHAKE) (_TRANSPORT)", id="reported as a transport error"),
    ],
)
def test_an_untrusted_certificate_points_to_ssl_ca_location_however_the_client_words_it(
    reason: str,
) -> None:
    assert "ssl.ca.location in kafka.properties" in what_to_check(reason)


@pytest.mark.parametrize("reason", [None, "127.0.0.1:1/bootstrap: Connect failed: Connection refused (_TRANSPORT)"])
def test_any_other_reason_points_to_the_address_and_the_network(reason: str | None) -> None:
    assert what_to_check(reason) == "check the address, the network, and security.protocol in kafka.properties"
