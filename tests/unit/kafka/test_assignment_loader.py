import pytest

from consumer.kafka.assignment_loader import start_offset
from consumer.ports import Assignment


@pytest.mark.parametrize(
    ("committed", "start"),
    [
        pytest.param(None, 10, id="nothing committed"),
        pytest.param(15, 15, id="inside the log"),
        pytest.param(10, 10, id="at the log's start"),
        pytest.param(20, 20, id="at the log's end"),
        pytest.param(9, 10, id="passed by retention"),
        pytest.param(21, 10, id="behind the end of a log that was cut or made anew"),
    ],
)
def test_reading_begins(committed: int | None, start: int) -> None:
    assert start_offset(Assignment(1, "changes", 0, committed, "", low=10, high=20, topic_id=None)) == start
