from pathlib import Path

import pytest

from consumer.core.oms.answers import AnswerKind

PAGE = (Path(__file__).parents[3] / "docs" / "oms-answers.md").read_text()


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.value) for kind in AnswerKind])
def test_the_documented_table_has_a_row_for_every_outcome(kind: AnswerKind) -> None:
    assert f"| `{kind.value}` |" in PAGE
