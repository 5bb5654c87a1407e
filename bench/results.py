"""Rounds, their medians, and the JSON file. Times are in seconds, memory is in bytes."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from bench.cases import CASES, Case

MEMORY_POINTS_MAX: Final = 120
"""Of a run's memory over time, kept for the picture."""


@dataclass(frozen=True, slots=True)
class Bare:
    """One pass of the bare loop."""

    seconds: float
    cpu_seconds: float
    peak_bytes: float


@dataclass(frozen=True, slots=True)
class MemoryPoint:
    """Resident memory of the service and items at the sink, some time after the service got its partitions."""

    seconds: float
    resident_bytes: int
    items: int


@dataclass(frozen=True, slots=True)
class Round:
    """One run of the service. With ``problems`` its figures are those of an incomplete run."""

    problems: Sequence[str]
    """What the sink did not get, or how the service failed."""
    seconds: float
    """From the assignment of the partitions to the last answer."""
    changes_per_second: float
    """Without the case's tail."""
    share_of_bare: float | None
    """Of the rate of the bare loops before and after; None without them."""
    cpu_seconds: float
    """Of the service, over ``seconds`` and the last commit."""
    startup_cpu_seconds: float
    peak_bytes: int
    """The highest resident memory of a member."""
    requests: int
    items: int
    chunks: int
    reasons: Mapping[str, int]
    """Requests by send reason, as the service counts them."""
    sink_cpu_seconds: float
    cpu_share: float
    """Of a core, over ``seconds``."""
    idle_cpu_share: float | None = None
    """Of a core, with its partitions and nothing to read; only in paced cases."""
    age_p50_seconds: float | None = None
    """From a change to its jobID; only in paced cases."""
    age_p99_seconds: float | None = None
    memory: Sequence[MemoryPoint] = ()


@dataclass(frozen=True, slots=True)
class CaseResult:
    """All rounds of a case. ``skipped`` is the reason why there is none."""

    name: str
    date: str
    commit: str
    plan: Mapping[str, Any]
    rounds: Sequence[Round] = ()
    bares: Sequence[Bare] = ()
    skipped: str | None = None

    @property
    def problems(self) -> list[str]:
        """Of all rounds, each once."""
        return list(dict.fromkeys(problem for one in self.rounds for problem in one.problems))

    @property
    def is_complete(self) -> bool:
        return not self.problems

    @property
    def completed(self) -> "CaseResult":
        """With its complete rounds only: the speed of others means nothing."""
        return replace(self, rounds=[one for one in self.rounds if not one.problems])

    def median(self, name: str) -> float | None:
        """Of a figure over the complete rounds, or over all if none is complete; None if no round has the figure."""
        rounds = self.completed.rounds or self.rounds
        values = [value for one in rounds if (value := getattr(one, name)) is not None]
        return statistics.median(values) if values else None

    @property
    def cpu_seconds_per_million(self) -> float | None:
        cpu = self.median("cpu_seconds")
        return None if cpu is None else cpu / self.plan["changes"] * 1e6

    @property
    def bare_per_second(self) -> float | None:
        return statistics.median(self.plan["events"] / one.seconds for one in self.bares) if self.bares else None


@dataclass(frozen=True, slots=True)
class Results:
    """The JSON file."""

    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    cases: Mapping[str, CaseResult] = field(default_factory=dict)

    def merged(self, newer: "Results") -> "Results":
        """The newer results, and the cases that only these have if machine and versions are the same."""
        if (self.machine, self.versions) != (newer.machine, newer.versions):
            return newer
        cases = {**self.cases, **newer.cases}
        in_order = {case.name: cases[case.name] for case in CASES if case.name in cases}
        return Results(newer.machine, newer.versions, in_order)


def plan_of(case: Case) -> dict[str, Any]:
    """The part of a case that readers of its figures need."""
    return {
        "what": case.what,
        "changes": case.changes,
        "events": case.events,
        "items": case.items,
        "locations": case.locations,
        "partitions": case.partitions,
        "members": case.members,
        "memory_bytes": case.memory_bytes,
        "max_age_seconds": case.max_age_seconds,
        "changes_per_second": case.changes_per_second,
        "fewest_chunks": case.fewest_chunks,
    }


def rate_of(case: Case, requests: Sequence[Sequence[float]], started: float) -> float:
    """Changes per second, up to the answer after which only the case's tail is left; 0 if nothing was answered.

    ``requests`` are ``[received, answered, items]`` as the sink lists them.
    """
    answered = sorted((at, items) for _, at, items in requests if at)
    before_tail = sum(items for _, items in answered) * (1 - case.tail_share)
    count = 0.0
    for at, items in answered:
        count += items
        if count >= before_tail:
            return case.changes * (1 - case.tail_share) / (at - started)
    return 0.0


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of the values do not exceed; None without values."""
    if not values:
        return None
    index = max(-(-len(values) * round(share * 1_000) // 1_000) - 1, 0)
    return sorted(values)[index]


def thinned(points: Sequence[MemoryPoint]) -> list[MemoryPoint]:
    """At most ``MEMORY_POINTS_MAX`` points, evenly spread; of each stretch the one with the most memory."""
    size = -(-len(points) // MEMORY_POINTS_MAX) or 1
    stretches = (points[start : start + size] for start in range(0, len(points), size))
    return [max(stretch, key=lambda point: point.resident_bytes) for stretch in stretches]


def to_json(results: Results) -> str:
    """The file's text; medians are included for readers, and not read back."""
    content = asdict(results)
    for name, case in results.cases.items():
        content["cases"][name]["medians"] = {
            figure.name: case.median(figure.name)
            for figure in fields(Round)
            if figure.name not in {"problems", "reasons", "memory"}
        } | {"cpu_seconds_per_million": case.cpu_seconds_per_million, "bare_per_second": case.bare_per_second}
    return json.dumps(_rounded(content), indent=1) + "\n"


def from_json(text: str) -> Results:
    """Raises KeyError or TypeError if the text was not written by ``to_json``."""
    content = json.loads(text)
    return Results(
        content["machine"],
        content["versions"],
        {name: _case_of(case) for name, case in content["cases"].items()},
    )


def read_results(path: Path) -> Results | None:
    """None if there is no such file."""
    return from_json(path.read_text(encoding="utf-8")) if path.exists() else None


def _case_of(content: Mapping[str, Any]) -> CaseResult:
    rounds = [
        Round(**{**one, "memory": [MemoryPoint(**point) for point in one["memory"]]}) for one in content["rounds"]
    ]
    bares = [Bare(**one) for one in content["bares"]]
    known = {name: content[name] for name in ("name", "date", "commit", "plan", "skipped")}
    return CaseResult(**known, rounds=rounds, bares=bares)


def _rounded(value: Any) -> Any:
    """Four digits after the point are more than is measured."""
    match value:
        case float():
            return round(value, 4)
        case dict():
            return {name: _rounded(one) for name, one in value.items()}
        case list() | tuple():
            return [_rounded(one) for one in value]
        case _:
            return value
