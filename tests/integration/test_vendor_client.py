"""The OMS vendor's own client for Node.js, unchanged, against the sandbox behind TLS."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import TENANT, UNIFIED_KEY, UNIFIED_SECRET, SandboxSettings
from tests.support.certificates import Certificates, make_certificates
from tests.support.npm_packages import node, node_modules
from tests.support.parts import or_skip
from tests.support.tls_front import TlsFront, tls_front

CLIENT = Path(__file__).parent / "vendor_client"
RUN_SECONDS_MAX = 120.0
LOCATION = "Rome & Co/1"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer(SandboxSettings(time_scale=0)) as server:
        yield server


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path / "certificates")


@pytest.fixture
def front(certificates: Certificates, sandbox: SandboxServer) -> Iterator[TlsFront]:
    """The client calls https addresses only."""
    with tls_front(certificates, int(sandbox.url.rpartition(":")[2]), any_client=True) as started:
        yield started


def run_client(front: TlsFront, certificates: Certificates, *, secret: str = UNIFIED_SECRET) -> Any:
    """Run the script; returns the finished process."""
    modules, command = or_skip(lambda: (node_modules(CLIENT), node()))
    environment = {name: value for name, value in os.environ.items() if name not in PROXIES}
    environment |= {"NODE_PATH": str(modules), "NODE_EXTRA_CA_CERTS": str(certificates.ca)}
    host = front.url.removeprefix("https://")
    return subprocess.run(  # noqa: S603 - a script of ours
        [str(command), str(CLIENT / "refresh.cjs"), host, str(TENANT), UNIFIED_KEY, secret, LOCATION],
        env=environment,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )


def test_the_vendors_client_refreshes_follows_its_job_and_lists_the_jobs_of_a_location(
    front: TlsFront, certificates: Certificates, sandbox: SandboxServer
) -> None:
    finished = run_client(front, certificates)

    assert finished.returncode == 0, finished.stderr
    results = {line["call"]: line["result"] for line in map(json.loads, finished.stdout.splitlines())}
    job_id = results["refresh"]["jobID"]
    assert results["getJob"] == results["getJobs"][0]
    assert len(results["getJobs"]) == 1
    job = results["getJob"]
    assert (job["jobID"], job["status"], job["itemCount"], job["locationCode"]) == (job_id, "SUCCESS", 2, LOCATION)
    assert results["refused"]["status"] == 400
    assert "quantity" in results["refused"]["message"]
    tagged = {"sku": "A", "tags": {"Channel": "Web"}}
    applied = tagged | {"onHand": 8, "success": True, "messages": []}
    assert results["smart refresh"] == {"method": "sync", "jobID": None, "results": [applied]}
    assert sandbox.state.inventory() == {
        LOCATION: [
            {"sku": "A", "quantity": 7},
            {"upc": "B", "quantity": 0, "safetyStock": 1},
            tagged | {"quantity": 8},
        ]
    }
    assert sandbox.state.summary().tokens_issued == 1


def test_the_vendors_client_gets_no_token_for_a_wrong_secret(
    front: TlsFront, certificates: Certificates, sandbox: SandboxServer
) -> None:
    finished = run_client(front, certificates, secret="wrong")

    assert finished.returncode == 1
    answered = sandbox.state.summary().requests
    assert answered["token"] == {"401": 1}
    assert "refresh" not in answered
