"""Two scenarios in which no alert may fire, as input for ``promtool test rules``: a quiet night and a rolling restart.

A process is described by the metrics that it exports, one sample every half minute, from its first scrape to its last.
Metrics that matter to a scenario are computed from it; all others have the values of a healthy process.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

JOB: Final = "inventory-refresh"
NAMESPACE: Final = "shop"
TOPIC: Final = "changes"
SCRAPE_SECONDS: Final = 30

MAX_AGE_SECONDS: Final = 300.0
HOLD_SECONDS: Final = 120.0
CHANGE_BYTES = 100

HEALTHY: Final[Mapping[str, float]] = {
    "ready": 1,
    "sending_stopped": 0,
    "set_aside_locations": 0,
    "decoding_blocked": 0,
    "kafka_brokers_up": 3,
    "job_queue_full": 0,
    "job_status_unavailable": 0,
    "oldest_unfinished_job_seconds": 0,
    'oms_breaker_state{state="closed"}': 1,
    "oms_consecutive_failures": 0,
    "unconfirmed_dead_letters": 0,
    "dead_letters_confirmed_total": 0,
    'changes_dead_lettered_total{reason="no_quantity"}': 0,
    'requests_answered_total{outcome="refused"}': 0,
    'jobs_ended_total{outcome="failed"}': 0,
    'jobs_ended_total{outcome="never_finished"}': 0,
    'jobs_ended_total{outcome="unknown_job"}': 0,
    'rebalances_total{kind="lost"}': 0,
    "committed_offset_out_of_range_total": 0,
    "window_max_age_seconds": MAX_AGE_SECONDS,
    "unknown_hold_seconds": HOLD_SECONDS,
    "max_pending_bytes": 200_000_000,
    "max_uncommitted_offsets": 5_000_000,
    "memory_pressure": 0,
}

Exported = Mapping[str, float]
"""Value by metric name without the prefix, with the metric's own labels."""


@dataclass(frozen=True, slots=True)
class Process:
    """A pod that exists from second ``born`` up to ``gone``; ``exported`` returns its metrics at a time.

    At each of ``restarts`` its container restarts in the same pod, and all its counters start at 0 again.
    """

    pod: str
    born: int
    gone: int
    exported: Callable[["Process", int], Exported]
    restarts: Sequence[int] = ()

    def started(self, time: int) -> int:
        """When the container that runs at this time was started."""
        return max([self.born, *(at for at in self.restarts if at <= time)])


@dataclass(frozen=True, slots=True)
class Story:
    """A scenario of ``seconds``, in which no alert may fire."""

    name: str
    seconds: int
    processes: Sequence[Process]

    def as_test(self, rules: str) -> dict[str, Any]:
        """The input of promtool for the rules in the file ``rules``: no sample of ``ALERTS`` may ever be firing."""
        ever_fired = f'max_over_time(ALERTS{{alertstate="firing"}}[{self.seconds}s])'
        return {
            "rule_files": [rules],
            "evaluation_interval": f"{SCRAPE_SECONDS}s",
            "tests": [
                {
                    "name": self.name,
                    "interval": f"{SCRAPE_SECONDS}s",
                    "input_series": [series for process in self.processes for series in self._series(process)],
                    "promql_expr_test": [{"expr": ever_fired, "eval_time": f"{self.seconds}s", "exp_samples": []}],
                }
            ],
        }

    def _series(self, process: Process) -> Iterator[dict[str, str]]:
        samples: dict[str, list[str]] = {}
        times = range(0, self.seconds + 1, SCRAPE_SECONDS)
        for position, time in enumerate(times):
            shown = process.exported(process, time) if process.born <= time < process.gone else {}
            for name, value in shown.items():
                values = samples.setdefault(name, [])
                _pad(values, position)
                values.append(f"{value:.3f}")
        for name, values in samples.items():
            _pad(values, len(times))
            yield {"series": _selector(name, process.pod), "values": " ".join(values)}


def _pad(values: list[str], length: int) -> None:
    """At the first scrape without a series, Prometheus marks it as stale."""
    if values and len(values) < length:
        values.append("stale")
    values += ["_"] * (length - len(values))


def _selector(name: str, pod: str) -> str:
    metric, _, own = name.partition("{")
    prefix = "" if metric.startswith("process_") else "inventory_refresh_"
    place = f'namespace="{NAMESPACE}",job="{JOB}",pod="{pod}",instance="{pod}:8080"'
    return f"{prefix}{metric}{{{place}{',' + own if own else '}'}"


def _partition(number: int, *, committable_offset: float, end: float) -> dict[str, float]:
    own = f'{{topic="{TOPIC}",partition="{number}"}}'
    return {
        f"partition_committable_offset{own}": committable_offset,
        f"partition_end_offset{own}": end,
        f"partition_lag_offsets{own}": end - committable_offset,
        f"partition_uncommitted_offsets{own}": end - committable_offset,
    }


# A night in which nothing changes

LAST_CHANGE: Final = 600
LAST_ACCEPTED: Final = 900
DAYS_AGO: Final = -300_000


def quiet_night() -> Story:
    """The last change comes after ten minutes, and then none for hours.

    The last request of the second process failed just before the partition of its location moved. So it has no request
    to probe the OMS with, and its breaker stays half-open.
    """
    seconds = 10_800
    return Story("a quiet night", seconds, [Process(f"night-{n}", DAYS_AGO, seconds + 1, _at_night) for n in (0, 1)])


def _at_night(process: Process, time: int) -> Exported:
    number = int(process.pod[-1])
    end = 50_000.0 + min(time, LAST_CHANGE)
    committable_offset = 50_000.0 + max(min(time, LAST_ACCEPTED) - MAX_AGE_SECONDS, 0)
    failed = 1 if number and time >= LAST_ACCEPTED else 0
    return {
        **HEALTHY,
        **_partition(number, committable_offset=committable_offset, end=end),
        "process_start_time_seconds": process.born,
        "loop_heartbeat_timestamp_seconds": time + 1,
        "assigned_partitions": 1,
        "pending_changes": end - committable_offset,
        "pending_bytes": CHANGE_BYTES * (end - committable_offset),
        "oldest_pending_seconds": min(time, MAX_AGE_SECONDS) if end > committable_offset else 0,
        'oms_breaker_state{state="closed"}': 1 - failed,
        "oms_consecutive_failures": failed,
        "messages_read_total": end,
        "changes_accepted_total": committable_offset,
        'requests_answered_total{outcome="accepted"}': committable_offset // 100,
        'requests_answered_total{outcome="refused"}': 2,
        'jobs_ended_total{outcome="success"}': committable_offset // 100,
        "dead_letters_confirmed_total": 3,
        'changes_dead_lettered_total{reason="no_quantity"}': 3,
        "commits_total": committable_offset // 10,
        'commits_refused_total{fenced="no"}': 1,
    }


# A rolling restart under load, and a node that dies

CHANGES_PER_SECOND: Final = 20
"""Per partition."""
STANDSTILL_SECONDS: Final = HOLD_SECONDS + MAX_AGE_SECONDS + 30
"""After a move: the hold for requests of the last owner, then the age of changes counts from 0, then the answer."""
RESTLESS_SECONDS: Final = 30
"""How long commits are refused after a move, while rounds are tried thirty times a second."""

OWNERS: Final = {
    0: ("old-0", "old-1", "old-2", "old-0", "old-1", "old-2"),
    1_830: ("new-0", "old-1", "old-2", "new-0", "old-1", "old-2"),
    1_890: ("new-1", "new-1", "old-2", "new-0", "new-1", "old-2"),
    1_950: ("new-2", "new-1", "new-2", "new-0", "new-1", "new-2"),
    5_400: ("", "new-1", "", "new-0", "new-1", ""),
    5_460: ("new-1", "new-1", "new-0", "new-0", "new-1", "new-1"),
    5_670: ("new-1", "new-1", "new-3", "new-0", "new-1", "new-3"),
    7_500: ("new-1", "new-1", "new-3", "new-1", "new-1", "new-3"),
    7_530: ("new-1", "new-1", "new-3", "new-0", "new-1", "new-3"),
}
"""By time in seconds, the owners of six partitions; "" while the group has not noticed yet that the owner died."""


def rolling_restart() -> Story:
    """Three processes are replaced one by one; an hour later a node dies with one, which is started on another node.

    One partition moves every time. In the end, a container restarts in its pod.
    """
    lives = {
        "old-0": (DAYS_AGO, 1_860),
        "old-1": (DAYS_AGO, 1_920),
        "old-2": (DAYS_AGO, 1_980),
        "new-0": (1_800, 9_999),
        "new-1": (1_860, 9_999),
        "new-2": (1_920, 5_400),
        "new-3": (5_640, 9_999),
    }
    restarts = {"new-0": (7_500,)}
    processes = [Process(pod, *life, _under_load, restarts.get(pod, ())) for pod, life in lives.items()]
    return Story("a rolling restart, and a node that dies", 9_000, processes)


def _under_load(process: Process, time: int) -> Exported:
    started = process.started(time)
    age = time - started
    owners = OWNERS[max(at for at in OWNERS if at <= time)]
    mine = [number for number, owner in enumerate(owners) if owner == process.pod]
    joined = age >= SCRAPE_SECONDS
    exported = {
        **HEALTHY,
        "ready": int(joined),
        "kafka_brokers_up": 3 if joined else 0,
        "process_start_time_seconds": started,
        "loop_heartbeat_timestamp_seconds": time + 1 if joined else 0,
        "assigned_partitions": len(mine),
        "pending_changes": sum(_end(time) - _committable_offset(number, time) for number in mine),
        "pending_bytes": CHANGE_BYTES * sum(_end(time) - _committable_offset(number, time) for number in mine),
        "oldest_pending_seconds": max((_waited(number, time) for number in mine), default=0),
        "messages_read_total": 40.0 * age,
        "changes_accepted_total": 40.0 * age,
        'changes_dead_lettered_total{reason="no_quantity"}': age // 100_000,
        "dead_letters_confirmed_total": age // 100_000,
        'requests_answered_total{outcome="accepted"}': age // 4,
        'requests_answered_total{outcome="refused"}': age // 100_000,
        'jobs_ended_total{outcome="success"}': age // 5,
        "commits_total": age if joined else 0,
        'commits_refused_total{fenced="no"}': 30 * _restless(started, time),
        'rebalances_total{kind="lost"}': int(process.pod == "new-1" and time >= 5_430),
    }
    for number in mine:
        exported |= _partition(number, committable_offset=_committable_offset(number, time), end=_end(time))
    return exported


def _moves(partition: int, time: int) -> list[int]:
    """When the partition moved to another owner, up to ``time``."""
    times = [at for at in OWNERS if at <= time]
    return [after for before, after in pairwise(times) if OWNERS[before][partition] != OWNERS[after][partition]]


def _committable_offset(partition: int, time: int) -> float:
    """Changes older than ``max_age`` are accepted, except during the standstill after a move."""
    reached = 0.0
    moves = [*_moves(partition, time), time]
    since = float("-inf")
    for until in moves:
        if until >= since + STANDSTILL_SECONDS:
            reached = max(reached, _end(until - MAX_AGE_SECONDS))
        since = until
    return reached


def _waited(partition: int, time: int) -> float:
    """How long the partition's oldest change has been pending at its current owner."""
    moved = max(_moves(partition, time), default=-10_000)
    return min(time - moved, STANDSTILL_SECONDS) if time - moved < STANDSTILL_SECONDS else MAX_AGE_SECONDS


def _end(time: float) -> float:
    return 10_000_000 + CHANGES_PER_SECOND * time


def _restless(born: int, time: int) -> int:
    """Total seconds since the start of the process in which commits were refused."""
    return sum(min(max(time - at, 0), RESTLESS_SECONDS) for at in OWNERS if at > max(born, 0))
