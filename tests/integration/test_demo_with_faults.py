"""``demo --faults`` as a process: an OMS that fails in every way, and correct quantities in the end."""

import json
import subprocess
import sys

import pytest

from tests.support.service_process import ROOT

pytestmark = pytest.mark.integration


@pytest.mark.timeout(420)
def test_with_every_fault_the_quantities_are_correct_in_the_end_and_each_fault_occurred() -> None:
    command = [sys.executable, "-m", "consumer", "demo", "--faults", "--json", "--seed", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=400)  # noqa: S603 - our own
    assert done.returncode == 0, done.stderr.decode()[-3_000:]
    result = json.loads(done.stdout)

    assert result["differences"] == []
    assert result["committed"] == result["end"]
    occurred = {name.partition(": ")[2] for name in result["faults"]}
    assert {"over_quota", "unavailable", "unreadable", "unknown", "refused", "failed"} <= occurred
    assert result["dead_letters"]["job_failed"] > 0
    assert result["dead_letters"]["refused_by_oms"] > 0
