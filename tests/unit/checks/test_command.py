"""The report of ``check``: its lines, its JSON and its exit code."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from consumer.checks.command import as_line, as_object, summary
from consumer.checks.findings import CHECKS, Finding, caught, exit_code, failed, listed, ok, skipped, warning
from consumer.cli import app
from consumer.errors import BrokerError, DeadLettersError, SettingsError

FINDINGS = [
    ok("settings", "valid"),
    warning("group", "one\nmember", "look"),
    failed("dead_letters", "gone", "create it"),
    failed("brokers", "silent; check the network", None),
    skipped("lag", "unknown"),
]


def test_a_finding_is_one_line_and_what_to_do_follows_its_text() -> None:
    assert [as_line(finding).plain for finding in FINDINGS] == [
        "ok       settings      valid",
        "warning  group         one member; look",
        "error    dead_letters  gone; create it",
        "error    brokers       silent; check the network",
        "skipped  lag           unknown",
    ]


def test_a_long_line_is_not_wrapped_and_brackets_are_no_markup() -> None:
    out = io.StringIO()
    Console(file=out, width=40, highlight=False, soft_wrap=True).print(as_line(ok("topics", "[red] " + 50 * "x")))
    assert out.getvalue() == "ok       topics        [red] " + 50 * "x" + "\n"


def test_the_exit_code_is_that_of_the_first_error() -> None:
    assert exit_code(FINDINGS) == DeadLettersError.exit_code
    assert exit_code(FINDINGS[:2]) == 0
    assert exit_code([]) == 0
    assert [finding.error for finding in FINDINGS] == [None, None, DeadLettersError, BrokerError, None]


def test_the_object_has_every_finding_with_its_advice() -> None:
    found = as_object(FINDINGS, 1.234)
    assert (found["exit_code"], found["seconds"]) == (5, 1.2)
    assert found["checks"][1] == {"check": "group", "status": "warning", "text": "one member", "advice": "look"}
    assert found["checks"][4] == {"check": "lag", "status": "skipped", "text": "unknown"}


def test_the_summary_counts_by_status() -> None:
    assert summary(FINDINGS) == "1 ok, 1 warning, 2 errors, 1 skipped"
    assert summary(FINDINGS[:1]) == "1 ok"


def test_an_error_that_would_stop_the_service_is_a_finding_with_its_exit_code() -> None:
    def broken() -> list[Finding]:
        raise SettingsError("kafka.properties: wrong")

    (found,) = caught("session", broken)
    assert (found.text, found.advice, found.error) == ("kafka.properties: wrong", None, SettingsError)


def test_a_long_list_is_cut() -> None:
    assert listed(range(3)) == "0, 1, 2"
    assert listed(range(9)) == "0, 1, 2, 3, 4 and 4 more"


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_wrong_settings_are_the_only_finding(tmp_path: Path, options: tuple[str, ...]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("oms: {max_itemss: 1}\n", encoding="utf-8")

    result = CliRunner().invoke(app, ["check", "--config", str(path), *options])

    assert result.exit_code == SettingsError.exit_code
    if options:
        (found,) = json.loads(result.stdout)["checks"]
        assert (found["check"], found["status"]) == ("settings", "error")
        assert "max_itemss" in found["text"]
    else:
        first, last = result.stdout.splitlines()
        assert first.startswith("error    settings      config.yaml: unknown setting oms.max_itemss")
        assert last.startswith("1 error in ")


def test_every_check_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "check.md").read_text(encoding="utf-8")
    documented = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert [name for name in documented if name in CHECKS] == list(CHECKS)
