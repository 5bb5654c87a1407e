"""Each deliberate break of a rule is found, or a checker is blind."""

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.test_simulation import SECONDS_MAX, run

pytestmark = pytest.mark.timeout(SECONDS_MAX)

SEEDS_MAX = 200
"""Of the mutant's theme or of all: every one shows well within these."""


@pytest.mark.parametrize("name", MUTANTS)
def test_the_simulation_finds_the_mutant(name: str) -> None:
    done = run("--mutant", name, "--seeds", str(SEEDS_MAX), "--until-first", "--no-trace")

    assert done.returncode == 1, f"{name} (rule {MUTANTS[name].rule}) was not found\n{done.stdout}{done.stderr}"
    assert done.stdout.endswith(", 1 failed\n")
    assert " in the service: " not in done.stdout, "a break that breaks the code shows nothing"
