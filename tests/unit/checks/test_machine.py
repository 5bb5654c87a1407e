"""Judgements of memory and disk."""

import pytest

from consumer.checks.findings import Status
from consumer.checks.machine import judge_disk, judge_memory
from consumer.errors import SettingsError
from consumer.settings.memory import GIB, MIB, Budget


@pytest.mark.parametrize(
    ("budget", "limit", "used", "status", "words"),
    [
        ("auto", None, 50 * MIB, Status.OK, "no container limit; memory.budget is 192MiB"),
        ("auto", GIB, 100 * MIB, Status.OK, "448MiB of the container's limit of 1GiB"),
        ("auto", GIB, None, Status.OK, "448MiB"),
        (448 * MIB, GIB, None, Status.OK, "448MiB"),
        (449 * MIB, GIB, None, Status.WARNING, "more than half"),
        ("auto", GIB, 900 * MIB, Status.WARNING, "900MiB are in use"),
    ],
)
def test_memory_is_judged_against_the_limit_and_what_is_used(
    budget: Budget, limit: int | None, used: int | None, status: Status, words: str
) -> None:
    found = judge_memory(budget, limit, used)
    assert found.status is status
    assert words in found.text


def test_a_budget_that_does_not_fit_stops_the_service_and_so_the_check() -> None:
    with pytest.raises(SettingsError, match=r"memory\.budget"):
        judge_memory(GIB, GIB, None)


def test_a_full_disk_is_a_warning() -> None:
    assert judge_disk(10 * GIB).text.startswith("10.0 GiB are free")
    assert judge_disk(99 * MIB).status is Status.WARNING
