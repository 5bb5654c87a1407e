"""The rows of the tables: on the terminal with rich, in docs/performance.md as Markdown."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from rich.table import Table

from bench.results import CaseResult, Results

MIB: Final = 2**20
NOTHING: Final = "-"


def number(value: float | None, pattern: str, unit: str = "") -> str:
    return NOTHING if value is None else format(value, pattern) + unit


def _rate(case: CaseResult) -> str:
    return number(case.completed.median("changes_per_second"), ",.0f")


def _spread(case: CaseResult) -> str:
    """The share of the bare loop: the median, and the range of the rounds."""
    shares = [one.share_of_bare for one in case.completed.rounds if one.share_of_bare is not None]
    middle = number(case.completed.median("share_of_bare"), ".2f")
    return middle if len(shares) < 2 else f"{middle} ({min(shares):.2f} to {max(shares):.2f})"


def _memory(case: CaseResult) -> str:
    peak = case.median("peak_bytes")
    return NOTHING if peak is None else f"{peak / MIB:,.0f}"


def _chunks(case: CaseResult) -> str:
    chunks, fewest = case.median("chunks"), case.plan["fewest_chunks"]
    return NOTHING if chunks is None else f"{chunks:,.0f} / {fewest:,}"


def _reasons(case: CaseResult) -> str:
    if not case.rounds:
        return NOTHING
    reasons = case.rounds[-1].reasons
    return ", ".join(f"{name} {count:,}" for name, count in sorted(reasons.items()) if count) or NOTHING


def _outcome(case: CaseResult) -> str:
    if case.skipped:
        return f"skipped: {case.skipped}"
    return "complete" if case.is_complete else "; ".join(case.problems)


COLUMNS: Final[Mapping[str, Callable[[CaseResult], str]]] = {
    "case": lambda case: case.name,
    "changes/s": _rate,
    "of bare loop": _spread,
    "CPU s per million": lambda case: number(case.completed.cpu_seconds_per_million, ".1f"),
    "peak MiB": _memory,
    "requests": lambda case: number(case.median("requests"), ",.0f"),
    "chunks / fewest": _chunks,
    "sent because": _reasons,
    "outcome": _outcome,
}
COUNT_COLUMNS: Final = {
    name: COLUMNS[name] for name in ("case", "requests", "chunks / fewest", "sent because", "outcome")
}
"""Without times, for cases in miniature."""
PACED_COLUMNS: Final[Mapping[str, Callable[[CaseResult], str]]] = {
    "case": lambda case: case.name,
    "share of a core": lambda case: number(case.median("cpu_share"), ".3f"),
    "idle": lambda case: number(case.median("idle_cpu_share"), ".3f"),
    "change to jobID: median": lambda case: number(case.median("age_p50_seconds"), ".2f", " s"),
    "99 %": lambda case: number(case.median("age_p99_seconds"), ".2f", " s"),
    "max_age": lambda case: f"{case.plan['max_age_seconds']:g} s",
}
"""Of cases whose topic is filled while the service runs."""


def paced(results: Results) -> list[CaseResult]:
    return [case for case in results.cases.values() if case.plan["changes_per_second"] and case.rounds]


def count_table(results: Results) -> Table:
    """What the terminal shows of cases in miniature."""
    return _rich("Cases in miniature", COUNT_COLUMNS, list(results.cases.values()))


def rich_tables(results: Results) -> list[Table]:
    """What the terminal shows of measured cases."""
    tables = [_rich("Results, medians of the rounds", COLUMNS, list(results.cases.values()))]
    if cases := paced(results):
        tables.append(_rich("While changes arrive", PACED_COLUMNS, cases))
    return tables


def _rich(title: str, columns: Mapping[str, Callable[[CaseResult], str]], cases: Sequence[CaseResult]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in columns:
        is_text = name in {"case", "sent because", "outcome"}
        table.add_column(name, justify="left" if is_text else "right", overflow="fold")
    for case in cases:
        table.add_row(*(cell(case) for cell in columns.values()))
    return table


def markdown(results: Results) -> str:
    """The measured part of docs/performance.md."""
    machine, versions = results.machine, results.versions
    cases = list(results.cases.values())
    head = (
        f"Measured on {machine['cores']} cores ({machine['processor']}), {machine['memory_bytes'] / 2**30:.0f} GiB, "
        f"Linux {machine['kernel']}, with broker and sink on the same machine: service {versions['service']}, "
        f"Python {versions['python']}, polars {versions['polars']}, librdkafka {versions['librdkafka']}, "
        f"Kafka {versions['kafka']}."
    )
    parts = [head, _markdown_table(COLUMNS, cases)]
    if slow := paced(results):
        parts += ["While changes arrive:", _markdown_table(PACED_COLUMNS, slow)]
    parts += ["The cases:", _markdown_table(_CASE_COLUMNS, cases)]
    return "\n\n".join(parts) + "\n"


_CASE_COLUMNS: Final[Mapping[str, Callable[[CaseResult], str]]] = {
    "case": lambda case: f"`{case.name}`",
    "what": lambda case: case.plan["what"],
    "measured": lambda case: (
        f"{case.date}, {len(case.rounds)} round{'' if len(case.rounds) == 1 else 's'}, `{case.commit}`"
    ),
}


def _markdown_table(columns: Mapping[str, Callable[[CaseResult], str]], cases: Sequence[CaseResult]) -> str:
    rows = [list(columns), ["---"] * len(columns)]
    rows += [[cell(case).replace("|", "\\|") for cell in columns.values()] for case in cases]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
