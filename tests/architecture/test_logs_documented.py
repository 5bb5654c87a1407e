"""Every log event of the service has a plain name, and docs/logs.md has exactly these, with level and fields."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from consumer.facts import MessagesRead, Snapshot
from consumer.observe.folding import RULES, FoldRule
from consumer.observe.summary import Summary

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "consumer"
MODULES = sorted(PACKAGE.rglob("*.py"))
PAGE = (ROOT / "docs" / "logs.md").read_text(encoding="utf-8")

LEVELS = frozenset({"debug", "info", "warning", "error", "critical", "exception"})
LOGGER = "_log"


@dataclass
class Event:
    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)
    has_more_fields: bool = False
    """Some are passed as ``**fields``, which the syntax tree does not show."""


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"), filename=str(module))


def log_calls(syntax: ast.Module) -> Iterator[ast.Call]:
    """Calls such as ``_log.info(...)`` or ``self._log.log(level, ...)``."""
    for node in ast.walk(syntax):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in LEVELS | {"log"}
            and _is_logger(node.func.value)
        ):
            yield node


def _is_logger(node: ast.expr) -> bool:
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None
    return name == LOGGER


def level_and_name(call: ast.Call) -> tuple[str, str]:
    """The level (``any`` where it is a variable) and the event's name. Fails unless the name is a plain literal."""
    assert isinstance(call.func, ast.Attribute)
    level, position = (call.func.attr, 0) if call.func.attr in LEVELS else ("any", 1)
    argument = call.args[position] if len(call.args) == position + 1 else None
    name = argument.value if isinstance(argument, ast.Constant) else None
    assert isinstance(name, str), f"line {call.lineno}: a log event is one text literal, and all else is a field"
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name), f"line {call.lineno}: {name!r} is prose, not the name of an event"
    return level, name


def logged() -> dict[str, Event]:
    events: dict[str, Event] = defaultdict(Event)
    for module in MODULES:
        for call in log_calls(tree(module)):
            level, name = level_and_name(call)
            events[name].levels.add(level)
            events[name].fields |= {keyword.arg for keyword in call.keywords if keyword.arg}
            events[name].has_more_fields |= any(keyword.arg is None for keyword in call.keywords)
    return dict(events)


def documented() -> dict[str, Event]:
    rows = re.findall(r"^\| `(\w+)` \| ([a-z, ]+) \|([^|]*)\|[^|]+\|[^|]*\|$", PAGE, re.MULTILINE)
    return {name: Event(set(levels.split(", ")), set(re.findall(r"`(\w+)`", fields))) for name, levels, fields in rows}


@pytest.mark.parametrize("module", MODULES, ids=relative)
def test_every_log_event_has_a_plain_name(module: Path) -> None:
    for call in log_calls(tree(module)):
        level_and_name(call)


@pytest.mark.parametrize("module", MODULES, ids=relative)
def test_loggers_are_called_directly_so_that_no_event_is_overlooked(module: Path) -> None:
    """No ``log = _log.bind(...)``, no ``log = _log.info``, no logger under another name."""
    syntax = tree(module)
    called = {id(call.func.value) for call in log_calls(syntax) if isinstance(call.func, ast.Attribute)}
    for node in ast.walk(syntax):
        if isinstance(node, ast.Name) and node.id == LOGGER and isinstance(node.ctx, ast.Load):
            assert id(node) in called, f"line {node.lineno}: {LOGGER} is only there to be called"
    targets = [
        target
        for node in ast.walk(syntax)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _makes_logger(node.value)
        for target in node.targets
    ]
    assert all(_is_logger(target) for target in targets), f"a logger is called {LOGGER}"


def _makes_logger(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr == "get_logger"


def test_the_page_has_every_event_and_no_other() -> None:
    assert sorted(documented()) == sorted(logged())


def test_every_table_row_of_the_page_is_read() -> None:
    assert len(re.findall(r"^\| `", PAGE, re.MULTILINE)) == len(documented()) + len(RULES)


def test_the_page_gives_each_event_its_level_and_fields() -> None:
    page = documented()
    for name, event in logged().items():
        assert page[name].levels == event.levels, name
        assert page[name].fields >= event.fields, name
        assert event.has_more_fields or page[name].fields == event.fields, name


def test_the_page_has_the_rules_by_which_warnings_are_folded() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \| ([\w, ]*)\|$", PAGE, re.MULTILINE)
    page = {name: FoldRule(tuple(same.split(", ")), tuple(totals.split())) for name, same, totals in rows}
    assert page == RULES


def test_warnings_are_folded_by_fields_that_they_have() -> None:
    events = logged()
    for name, rule in RULES.items():
        assert events[name].has_more_fields or events[name].fields >= {*rule.same, *rule.totals}, name


def test_the_page_has_every_field_of_the_summary() -> None:
    summary = Summary()
    summary.due(Snapshot(at=0.0))
    summary.add(MessagesRead(1))
    assert documented()["summary"].fields == set(summary.due(Snapshot(at=60.0)) or {})
