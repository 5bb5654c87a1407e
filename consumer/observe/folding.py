"""Repeated warnings are folded: the first is logged at once, and those of the next minute as one line with a count.

No I/O and no clock here: ``now`` is the caller's monotonic time in seconds. A line is the event with its fields, as
structlog has it before it is rendered.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Line = dict[str, Any]

FOLD_SECONDS: Final = 60.0
"""One line a minute is enough to see that something lasts, and how often it happens."""
KEYS_MAX: Final = 1_000
"""More different warnings at a time are not folded: none is ever lost."""
REPEATED: Final = "repeated"
"""The field that counts the warnings for which a line stands."""


@dataclass(frozen=True, slots=True)
class FoldRule:
    """Warnings of an event with the same ``same`` fields repeat each other. ``totals`` are added up over them."""

    same: tuple[str, ...]
    totals: tuple[str, ...] = ()


RULES: Final[Mapping[str, FoldRule]] = {
    "request_not_accepted": FoldRule(("location", "outcome", "http_status", "decision")),
    "changes_rejected": FoldRule(("reason",), totals=("count",)),
    "changes_dead_lettered": FoldRule(("reason", "location", "job_id"), totals=("changes",)),
    "commit_refused": FoldRule(("fenced",)),
    "kafka_call_retried": FoldRule(("action",)),
    "kafka_client": FoldRule(("facility", "client")),
    "originals_unavailable": FoldRule(("topic", "partition")),
}
"""Warnings that come in numbers. Others repeat each other if all their texts are the same."""


@dataclass(slots=True)
class _Fold:
    """The repetitions of a warning since ``opened_at``; ``latest`` has the totals of all of them."""

    opened_at: float
    latest: Line
    repetitions: int = 0


class RepeatFolder:
    """Decides which warnings are written, and with which counts. Not thread-safe."""

    def __init__(self) -> None:
        self._folds: dict[tuple[Any, ...], _Fold] = {}
        """By what makes warnings the same, those whose minute began first at the front."""

    def fold(self, line: Line, now: float) -> Line | None:
        """The line to be written for this warning; None if it is folded, and comes out of ``due`` or ``flush``."""
        key = _key(line)
        known = self._folds.get(key)
        if known is None:
            if len(self._folds) < KEYS_MAX:
                self._folds[key] = _Fold(now, line)
            return line
        known.latest = _with_totals(line, known.latest) if known.repetitions else dict(line)
        known.repetitions += 1
        if now - known.opened_at < FOLD_SECONDS:
            return None
        return self._reopen(key, known, now)

    def due(self, now: float) -> list[Line]:
        """The lines of the repetitions whose minute is over. Warnings that were not repeated are forgotten."""
        lines = []
        for key, fold in list(self._folds.items()):
            if now - fold.opened_at < FOLD_SECONDS:
                break
            if fold.repetitions:
                lines.append(self._reopen(key, fold, now))
            else:
                del self._folds[key]
        return lines

    def flush(self) -> list[Line]:
        """The lines of all repetitions so far, at the end of the process."""
        folds, self._folds = self._folds, {}
        return [_written(fold) for fold in folds.values() if fold.repetitions]

    def _reopen(self, key: tuple[Any, ...], fold: _Fold, now: float) -> Line:
        """The line of these repetitions; the next minute begins."""
        del self._folds[key]
        self._folds[key] = _Fold(now, fold.latest)
        return _written(fold)


def _key(line: Line) -> tuple[Any, ...]:
    rule = RULES.get(line["event"])
    names = rule.same if rule else sorted(name for name, value in line.items() if isinstance(value, str))
    return (line["event"], *(repr(line.get(name)) for name in names))


def _with_totals(line: Line, earlier: Line) -> Line:
    rule = RULES.get(line["event"])
    totals = {name: line[name] + earlier[name] for name in rule.totals} if rule else {}
    return line | totals


def _written(fold: _Fold) -> Line:
    return {REPEATED: fold.repetitions} | fold.latest
