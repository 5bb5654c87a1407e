"""The bench delivers everything in every case; how long it takes decides nothing here."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.cases import CASES
from bench.results import read_results

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 600.0
"""Under a minute on an idle machine."""

pytestmark = pytest.mark.integration


def test_every_case_of_the_bench_in_miniature_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    command = [sys.executable, "-m", "bench", "--quick", "--rounds", "1", "--results", str(file)]
    done = subprocess.run(  # noqa: S603 - our own command
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS_MAX
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = read_results(file)
    assert results is not None
    assert list(results.cases) == [case.name for case in CASES]
    assert not [case.name for case in results.cases.values() if not case.rounds and not case.skipped]
