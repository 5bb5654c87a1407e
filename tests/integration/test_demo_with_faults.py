"""``demo --faults`` as a process: an OMS that goes wrong in every way, and counts that agree in the end."""

import json
import subprocess
import sys

import pytest

from tests.support.service_process import ROOT

pytestmark = pytest.mark.integration


@pytest.mark.timeout(420)
def test_with_every_fault_there_is_the_counts_agree_in_the_end_and_each_was_met() -> None:
    command = [sys.executable, "-m", "consumer", "demo", "--faults", "--json", "--seed", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=400)  # noqa: S603 - our own
    assert done.returncode == 0, done.stderr.decode()[-3_000:]
    result = json.loads(done.stdout)

    assert result["differences"] == []
    assert result["committed"] == result["end"]
    met = {name.partition(": ")[2] for name in result["faults"]}
    assert {"over_quota", "unavailable", "unreadable", "unknown", "refused", "failed"} <= met
    assert result["dead_letters"]["job_failed"] > 0
    assert result["dead_letters"]["refused_by_oms"] > 0
