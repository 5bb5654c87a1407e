"""What people are told to check when Kafka does not answer as the service starts."""

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
        pytest.param(f"{FAILED}{HINT} (after 3ms in state SSL_HANDSHAKE) (_SSL)", id="met in the handshake"),
        pytest.param(f"{FAILED} (after 3ms in state SSL_HANDSHAKE) (_TRANSPORT)", id="met on the way out of it"),
    ],
)
def test_a_certificate_that_is_not_trusted_is_put_right_by_the_authority_however_the_client_words_it(
    reason: str,
) -> None:
    assert "ssl.ca.location in kafka.properties" in what_to_check(reason)


@pytest.mark.parametrize("reason", ["", "127.0.0.1:1/bootstrap: Connect failed: Connection refused (_TRANSPORT)"])
def test_no_answer_for_another_reason_is_put_right_by_the_address(reason: str) -> None:
    assert what_to_check(reason) == "check the address, the network, and security.protocol in kafka.properties"
