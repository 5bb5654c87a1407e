"""Parses PromQL: which series an expression selects, and which functions are applied to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import promql_parser as promql


@dataclass(frozen=True, slots=True)
class Selection:
    """One selector of an expression.

    ``matchers`` are by label, with their operator: ``{"job": "=x"}``. ``around`` are the functions and aggregations
    applied to it, innermost first: ``("rate", "sum by (le)")``.
    """

    metric: str
    matchers: Mapping[str, str]
    around: Sequence[str]


def selections(expr: str) -> list[Selection]:
    """Every selector in the expression, from left to right. Raises ValueError if it is not PromQL."""
    found: list[Selection] = []
    around: list[str] = []

    def enter(node: promql.Expr) -> None:
        if isinstance(node, promql.Call | promql.AggregateExpr):
            around.insert(0, _name(node))
        elif isinstance(node, promql.VectorSelector):
            matchers = {matcher.name: _OPERATORS[str(matcher.op)] + matcher.value for matcher in node.matchers.matchers}
            found.append(Selection(node.name or "", matchers, tuple(around)))

    def leave(node: promql.Expr) -> None:
        if isinstance(node, promql.Call | promql.AggregateExpr):
            around.pop(0)

    promql.walk(promql.parse(expr), enter, leave)
    return found


def family(series: str, histograms: set[str]) -> str:
    """The metric of a series: without ``_bucket``, ``_sum`` or ``_count`` if that makes one of ``histograms``."""
    bare = series.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
    return bare if bare in histograms else series


_OPERATORS = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}


def _name(node: promql.Call | promql.AggregateExpr) -> str:
    if isinstance(node, promql.Call):
        return node.func.name
    if node.modifier is None:
        return str(node.op)
    kind = "by" if node.modifier.type == promql.AggModifierType.By else "without"
    return f"{node.op} {kind} ({', '.join(node.modifier.labels)})"
