"""The simulation finds every mutant; if it misses one, a checker is blind."""

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.test_simulation import SECONDS_MAX, run

pytestmark = pytest.mark.timeout(SECONDS_MAX)

SEEDS_MAX = 200
"""Seeds of the mutant's theme, or of all plans; every mutant is found long before that."""


@pytest.mark.parametrize("name", MUTANTS)
def test_the_simulation_finds_the_mutant(name: str) -> None:
    done = run("--mutant", name, "--seeds", str(SEEDS_MAX), "--until-first", "--no-trace")

    assert done.returncode == 1, f"{name} (rule {MUTANTS[name].rule}) was not found\n{done.stdout}{done.stderr}"
    assert done.stdout.endswith(", 1 failed\n")
    assert " in the service: " not in done.stdout, "a mutant that makes the code crash proves nothing"
