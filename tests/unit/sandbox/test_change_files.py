"""Files with changes: JSON lines and CSV, as people have them."""

from pathlib import Path

import pytest

from consumer.errors import SettingsError
from consumer.sandbox.change_files import PROGRESS_LINES, FileFormat, changes_in, events_in
from consumer.sandbox.publisher import Encoder


def test_each_line_of_a_file_is_a_change_and_fields_not_given_are_absent(tmp_path: Path) -> None:
    path = tmp_path / "changes.jsonl"
    path.write_text(
        '{"locationName": "L", "sku": "S", "quantity": 1}\n\n{"locationName": "L", "upc": "U", "quantity": 2}\n'
    )
    assert [change["quantity"] for change in changes_in(path)] == [1, 2]
    first, second = events_in(path, Encoder(7))
    assert (first.key, second.key) == (b"L|||S|", b"L||U||")
    assert (first.value or b"")[:5] == b"\x00\x00\x00\x00\x07"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        pytest.param("{", "line 2: not JSON", id="not JSON"),
        pytest.param("[1]", "line 2: a change must be a JSON object", id="not an object"),
        pytest.param('{"sku": "S"}', "change 2 does not fit the schema", id="a missing field"),
        pytest.param(
            '{"locationName": "L", "quantity": 1, "colour": "red"}', "change 2 does not fit", id="an unknown field"
        ),
        pytest.param('{"locationName": "L", "quantity": "many"}', "change 2 does not fit", id="a wrong type"),
        pytest.param('{"sku": "' + "x" * 1_000_000 + '"}', "line 2: longer than 1,000,000 bytes", id="too long"),
    ],
)
def test_an_invalid_line_is_named(tmp_path: Path, line: str, error: str) -> None:
    path = tmp_path / "changes.jsonl"
    path.write_text('{"locationName": "L", "sku": "S", "quantity": 1}\n' + line + "\n")
    with pytest.raises(SettingsError, match=error):
        list(events_in(path, Encoder(1)))


def changes_of(tmp_path: Path, text: str | bytes, name: str = "changes.csv") -> list[dict[str, object]]:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(changes_in(path))


def test_each_row_of_a_csv_file_is_a_change_with_values_of_the_schema(tmp_path: Path) -> None:
    text = (
        "locationName,sku,quantity,retailPrice,attributes,occurredAt\r\n"
        '"Rome, Via Appia",A-1,7,9.5,NEW|SALE,2026-01-02T03:04:05Z\r\n'
        "\r\n"
        "Oslo,0012,0,,,1767323045000\r\n"
    )
    assert changes_of(tmp_path, text) == [
        {
            "locationName": "Rome, Via Appia",
            "sku": "A-1",
            "quantity": 7,
            "retailPrice": 9.5,
            "attributes": ["NEW", "SALE"],
            "occurredAt": 1_767_323_045_000,
        },
        {"locationName": "Oslo", "sku": "0012", "quantity": 0, "occurredAt": 1_767_323_045_000},
    ]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_the_first_line_says_what_separates_the_cells_as_spreadsheets_differ(tmp_path: Path, delimiter: str) -> None:
    lines = [delimiter.join(cells) for cells in (("locationName", "sku", "quantity"), ("Köln", "A-1", "7"))]
    text = "\n".join(lines).encode("utf-8-sig")
    assert changes_of(tmp_path, text) == [{"locationName": "Köln", "sku": "A-1", "quantity": 7}]


def test_a_format_given_takes_precedence_over_the_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "changes.txt"
    path.write_text("locationName,sku,quantity\nRome,A-1,7\n")
    assert [change["sku"] for change in changes_in(path, FileFormat.CSV)] == ["A-1"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("", "line 1: must name the columns", id="empty"),
        pytest.param("locationName,colour\n", "line 1: must name the columns, and 'colour' is no field", id="unknown"),
        pytest.param("sku,sku\n", "line 1: must name the columns, and each must be named once", id="twice"),
        pytest.param("sku,quantity\nA,many\n", "line 2: quantity 'many' is not a whole number", id="no number"),
        pytest.param("sku,quantity\nA,1_000\n", "line 2: quantity '1_000' is not a whole number", id="underscore"),
        pytest.param("sku,quantity\nA,1.5\n", "line 2: quantity '1.5' is not a whole number", id="a fraction"),
        pytest.param("sku,retailPrice\nA,9,5\n", "line 2: 3 cells, but the first line names 2", id="too many cells"),
        pytest.param("sku,occurredAt\nA,2026-01-02T03:04:05\n", "is not milliseconds since 1970", id="no offset"),
        pytest.param('sku,quantity\n"A,1\n', "line 2: not CSV", id="an open quote"),
        pytest.param(b"sku,quantity\n\xff,1\n", "line 2: not UTF-8", id="not UTF-8"),
    ],
)
def test_what_is_wrong_in_a_csv_file_is_named(tmp_path: Path, text: str | bytes, error: str) -> None:
    with pytest.raises(SettingsError, match=error):
        changes_of(tmp_path, text)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        list(changes_in(tmp_path / "nothing.csv"))


def test_the_progress_ends_with_all_bytes_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "changes.csv"
    path.write_text("sku,quantity\n" + "A,1\n" * PROGRESS_LINES)
    progress: list[int] = []
    list(changes_in(path, on_bytes=progress.append))
    assert progress[-1] == path.stat().st_size
    assert len(progress) == 2
