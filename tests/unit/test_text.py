import pytest

from consumer.text import escape_unprintable, iso_time, one_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("as it is", "as it is", id="printable"),
        pytest.param("a\n b\t\r\nc", "a b c", id="whitespace"),
        pytest.param("a\x00\x1b[31mb\u2028c", "a [31mb c", id="unprintable characters"),
        pytest.param("  a  ", "a", id="blanks around"),
        pytest.param("a\u00e4\u20ac", "a\u00e4\u20ac", id="letters beyond ASCII"),
        pytest.param("", "", id="empty"),
    ],
)
def test_a_text_becomes_one_printable_line(text: str, line: str) -> None:
    assert one_line(text) == line


@pytest.mark.parametrize(("text", "line"), [("x" * 10, "x" * 10), ("x" * 11, "x" * 7 + "...")])
def test_a_line_beyond_the_limit_is_cut_and_says_so(text: str, line: str) -> None:
    assert one_line(text, 10) == line


@pytest.mark.parametrize(("text", "escaped"), [("a b", "a b"), ("a\nb\x1b", "a\\nb\\x1b"), ("\u2028", "\\u2028")])
def test_unprintable_characters_are_escaped(text: str, escaped: str) -> None:
    assert escape_unprintable(text) == escaped


def test_a_time_is_written_in_utc_with_milliseconds() -> None:
    assert iso_time(1_700_000_000.25) == "2023-11-14T22:13:20.250Z"
