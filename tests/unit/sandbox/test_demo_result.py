"""The story that the demo tells: complete, and on one screen."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from consumer.core.changes.items import RejectReason
from consumer.sandbox.demo_result import Result, SentRequest, program_name, show

COMMAND_LINES = 3
"""``make demo``, what it runs, and the next prompt are on the screen, too."""

RESULT = Result(
    ok=True,
    faults={},
    changes_read=27_572,
    changes_valid=27_558,
    items_expected=24_067,
    items_accepted=24_167,
    requests=[SentRequest("Central Warehouse", 12_000, 4, 1), SentRequest("Central Warehouse", 9_000, 3, 2)]
    + [SentRequest(f"Store {number}", 79, 1, number + 3) for number in range(40)],
    chunks_used=47,
    chunks_min=47,
    dead_letters={reason.value: 1 for reason in RejectReason if reason.value not in {"refused_by_oms", "job_failed"}},
    committed={"0": 7_000, "1": 6_000, "2": 7_572, "3": 7_000},
    end={"0": 7_000, "1": 6_000, "2": 7_572, "3": 7_000},
    differences=[],
    items_wrong=0,
    seconds=12.3,
)
FAULTS = {f"answers: {kind}": 10 for kind in ("refused", "over_quota", "unavailable", "unreadable", "unknown")}


def screen(result: Result, width: int = 80) -> list[str]:
    printed = io.StringIO()
    show(Console(width=width, file=printed), result, ".venv/bin/inventory-refresh")
    return [line.rstrip() for line in printed.getvalue().splitlines()]


def test_the_story_has_what_came_in_what_went_out_what_was_saved_the_proof_and_what_to_do_next() -> None:
    text = " ".join(" ".join(screen(RESULT)).split())
    assert "27,572 messages in 4 partitions: 27,558 changes of 24,067 items at 41 locations, and 14 messages" in text
    assert "42 requests in 12 s, the largest with 12,000 and 9,000 items" in text
    assert "Sent one by one 27,558 27,558 27,558 7.7 h" in text
    assert "Sent by this service 42 42 47 47 s" in text
    assert "Saved 99.8 % 99.8 % 99.8 %" in text
    assert "24,067 of 24,067 items have their last value in the OMS" in text
    assert "27,572 of 27,572 offsets are committed" in text
    assert "OK: the OMS holds the latest value of every item, and every offset is committed." in text
    assert ".venv/bin/inventory-refresh demo --forever" in text


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    "result",
    [
        pytest.param(RESULT, id="plain"),
        pytest.param(
            replace(RESULT, faults=FAULTS, dead_letters=RESULT.dead_letters | {"job_failed": 349, "refused_by_oms": 6}),
            id="with faults",
        ),
    ],
)
def test_it_fits_a_screen_of_24_lines(result: Result, width: int) -> None:
    lines = screen(result, width)
    assert len(lines) <= 24 - COMMAND_LINES
    assert max(map(len, lines)) <= width


def test_what_is_wrong_is_listed_and_there_is_no_next_step() -> None:
    lines = screen(replace(RESULT, ok=False, differences=["Store 1: expected 4"], items_wrong=1))
    text = " ".join(" ".join(lines).split())
    assert "24,066 of 24,067 items have their last value" in text
    assert "Store 1: expected 4" in text
    assert "FAILED: the OMS does not hold the latest value of every item" in text
    assert "demo --forever" not in text


@pytest.mark.parametrize(
    ("called", "on_path", "program"),
    [
        (".venv/bin/inventory-refresh", None, ".venv/bin/inventory-refresh"),
        ("/shop/.venv/bin/inventory-refresh", None, ".venv/bin/inventory-refresh"),
        ("/shop/.venv/bin/inventory-refresh", "/usr/bin/inventory-refresh", ".venv/bin/inventory-refresh"),
        ("/usr/bin/inventory-refresh", "/usr/bin/inventory-refresh", "inventory-refresh"),
        ("/opt/bin/inventory-refresh", None, "/opt/bin/inventory-refresh"),
        ("/shop/consumer/__main__.py", None, "inventory-refresh"),
    ],
)
def test_the_next_commands_can_be_typed_as_they_stand(called: str, on_path: str | None, program: str) -> None:
    assert program_name(called, on_path, Path("/shop")) == program
