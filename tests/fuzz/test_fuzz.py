"""A short run of the fuzzer, and a test that it finds faults."""

import subprocess
import sys
from collections.abc import Callable
from random import Random
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.avro import columnar, conversion
from tests.fuzz.__main__ import ROOT
from tests.fuzz.cases import check, draw

CASES = 40
"""About ten seconds; `make fuzz` runs as many as there is time for."""
BROKEN_CASES = 40
"""Enough cases to find each of the faults below."""


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_every_message_becomes_one_row_or_one_reject_whatever_the_others_are(random: Random) -> None:
    check(draw(random, batches=1))


def test_hostile_messages_do_not_crash_or_block_the_decoder_or_affect_other_messages() -> None:
    run = subprocess.run(  # noqa: S603 - this project's own module
        [sys.executable, "-m", "tests.fuzz", "--seed", "1", "--count", str(CASES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )

    assert run.returncode == 0, run.stdout
    assert run.stdout.splitlines()[-1] == f"{CASES} passed, 0 failed"


def _without_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept every block that polars reads, whatever is in place of the markers."""
    read_block = columnar.read_block

    def trusting(file: bytes, columns: list[str]) -> pl.DataFrame | None:
        frame = read_block(file, columns)
        if frame is None or frame.is_empty():
            return frame
        end = len(file) - len(columnar._SYNC)
        prefix_length = len(frame[columnar._GUARD][0]) - columnar.MARKER_BYTES
        guard = columnar._MARKER + file[end - prefix_length : end]
        return frame.with_columns(pl.lit(guard).alias(columnar._GUARD))

    monkeypatch.setattr(columnar, "read_block", trusting)


def _without_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept an Avro int of more than 32 bits."""
    monkeypatch.setattr(conversion, "INT_MIN", -(2**63))
    monkeypatch.setattr(conversion, "INT_MAX", 2**63 - 1)


def _with_empty_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "absent_removed", lambda column, _: column)


@pytest.mark.parametrize("fault", [_without_guard, _without_range, _with_empty_texts])
def test_the_fuzzer_finds_a_decoder_with_a_fault(fault: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)

    with pytest.raises(AssertionError):
        check_many()


def check_many() -> None:
    for number in range(BROKEN_CASES):
        check(draw(Random(number)))  # noqa: S311 - cases are to be repeatable
