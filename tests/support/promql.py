"""Reads PromQL: which series an expression selects, and what is done to each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import promql_parser as promql


@dataclass(frozen=True, slots=True)
class Selection:
    """One selector of an expression.

    ``matchers`` are by label, with their operator: ``{"job": "=x"}``. ``around`` are the functions and aggregations
    around it, the innermost first, as they are written: ``("rate", "sum by (le)")``.
    """

    metric: str
    matchers: Mapping[str, str]
    around: Sequence[str]


def selections(expr: str) -> list[Selection]:
    """Every selector in the expression, from left to right. Raises ValueError for what is no PromQL."""
    found: list[Selection] = []
    around: list[str] = []

    def enter(node: promql.Expr) -> None:
        if isinstance(node, promql.Call | promql.AggregateExpr):
            around.insert(0, _name(node))
        elif isinstance(node, promql.VectorSelector):
            matchers = {each.name: _OPERATORS[str(each.op)] + each.value for each in node.matchers.matchers}
            found.append(Selection(node.name or "", matchers, tuple(around)))

    def leave(node: promql.Expr) -> None:
        if isinstance(node, promql.Call | promql.AggregateExpr):
            around.pop(0)

    promql.walk(promql.parse(expr), enter, leave)
    return found


def family(series: str, histograms: set[str]) -> str:
    """The metric that a series belongs to: of a histogram's ``_bucket``, ``_sum`` and ``_count`` the one without."""
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
