"""The dashboards are right for several members: promtool evaluates their queries on series of two pods."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.support.dashboards import target
from tests.support.prometheus import NAMESPACE, RELEASE, with_values

MINUTES = 10
Series = Mapping[str, str]
"""Samples, one per minute, in promtool's short notation, by metric and labels."""


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        missing = "promtool is not on the PATH: apt-get install prometheus"
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI=true, and a part is missing: {missing}")
        pytest.skip(missing)
    return found


def check(promtool: str, folder: Path, panel: str, letter: str, series: Series, expected: Mapping[str, float]) -> None:
    """Check the result of a panel's query on these series, while other releases have the same ones."""
    values = {"__rate_interval": f"{MINUTES}m"}
    expr = with_values(target("inventory-refresh", panel, letter).expr, range_seconds=MINUTES * 60, **values)
    case = {
        "interval": "1m",
        "input_series": [
            {"series": labelled(name, cluster, namespace, job), "values": samples}
            for cluster, namespace, job in (
                ("", NAMESPACE, RELEASE),
                ("", NAMESPACE, "another-release"),
                ("", "another-namespace", RELEASE),
                ("another-cluster", NAMESPACE, RELEASE),
            )
            for name, samples in series.items()
        ],
        "promql_expr_test": [
            {
                "expr": f"round({expr}, 0.001)",  # promtool compares to the last bit
                "eval_time": f"{MINUTES}m",
                "exp_samples": [{"labels": labels, "value": value} for labels, value in expected.items()],
            }
        ],
    }
    file = folder / "case.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [], "tests": [case]}))
    done = subprocess.run(  # noqa: S603 - found on the path
        [promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr


def labelled(name: str, cluster: str, namespace: str, job: str) -> str:
    metric, _, labels = name.rstrip("}").partition("{")
    return f'inventory_refresh_{metric}{{cluster="{cluster}",namespace="{namespace}",job="{job}",{labels}}}'


CASES: dict[str, tuple[str, str, Series, dict[str, float]]] = {
    "a partition that moves counts once in the lag": (
        "Lag",
        "A",
        {
            'partition_lag_offsets{pod="a",topic="t",partition="0"}': "100x10",
            'partition_lag_offsets{pod="b",topic="t",partition="0"}': "90x10",
            'partition_lag_offsets{pod="b",topic="t",partition="1"}': "50x10",
        },
        {"{}": 150},
    ),
    "the worst member determines the age of the oldest change": (
        "Oldest unsent change",
        "A",
        {
            'oldest_pending_seconds{pod="a"}': "30x10",
            'window_max_age_seconds{pod="a"}': "300x10",
            'oldest_pending_seconds{pod="b"}': "360x10",
            'window_max_age_seconds{pod="b"}': "300x10",
        },
        {"{}": 1.2},
    ),
    "one of two members is ready": (
        "Members ready",
        "A",
        {'ready{pod="a"}': "1x10", 'ready{pod="b"}': "0x10"},
        {"{}": 0.5},
    ),
    "one open breaker is shown as open": (
        "Breaker",
        "A",
        {
            'oms_breaker_state{pod="a",state="open"}': "0x10",
            'oms_breaker_state{pod="a",state="half_open"}': "1x10",
            'oms_breaker_state{pod="b",state="open"}': "1x10",
            'oms_breaker_state{pod="b",state="half_open"}': "0x10",
        },
        {"{}": 2},
    ),
    "failed jobs of both count, also of one that restarted": (
        "Failed jobs",
        "A",
        {
            'jobs_ended_total{pod="a",outcome="failed"}': "0+1x10",
            'jobs_ended_total{pod="b",outcome="failed"}': "0+1x5 0+1x4",
            'jobs_ended_total{pod="b",outcome="success"}': "0+7x10",
        },
        {"{}": 19},
    ),
    "a quantile covers all answers, not the quantiles of members": (
        "Time to an answer",
        "A",
        {
            'request_duration_seconds_bucket{pod="a",le="0.1"}': "0+90x10",
            'request_duration_seconds_bucket{pod="a",le="+Inf"}': "0+90x10",
            'request_duration_seconds_bucket{pod="b",le="0.1"}': "0+0x10",
            'request_duration_seconds_bucket{pod="b",le="+Inf"}': "0+10x10",
        },
        {"{}": 0.056},
    ),
    "every request counts under one number of chunks": (
        "Chunks per request",
        "C",
        {
            f'request_chunks_bucket{{pod="{pod}",le="{le}"}}': f"0+{count}x10"
            for pod in "ab"
            for le, count in (("1.0", 60), ("2.0", 90), ("3.0", 210), ("4.0", 240))
        },
        {"{}": 4},
    ),
    "outcomes are summed over the members": (
        "Answers by outcome",
        "A",
        {
            'requests_answered_total{pod="a",outcome="accepted"}': "0+60x10",
            'requests_answered_total{pod="b",outcome="accepted"}': "0+120x10",
            'requests_answered_total{pod="b",outcome="unknown"}': "0+60x10",
            'requests_answered_total{pod="b",outcome="refused"}': "0+0x10",
        },
        {'{outcome="accepted"}': 3, '{outcome="unknown"}': 1},
    ),
    "unused capacity covers all chunks": (
        "Unused chunk capacity",
        "A",
        {
            'chunk_items_wasted_total{pod="a"}': "0+3000x10",
            'items_sent_total{pod="a"}': "0+0x10",
            'chunk_items_wasted_total{pod="b"}': "0+0x10",
            'items_sent_total{pod="b"}': "0+9000x10",
        },
        {"{}": 0.25},
    ),
    "a limit that is the same for all members is not summed": (
        "Memory of pending changes",
        "B",
        {'max_pending_bytes{pod="a"}': "1000x10", 'max_pending_bytes{pod="b"}': "1000x10"},
        {"{}": 1000},
    ),
    "limits of calls per second are summed": (
        "Requests and chunks per second, and the limit",
        "C",
        {'oms_requests_per_second_max{pod="a"}': "5x10", 'oms_requests_per_second_max{pod="b"}': "7x10"},
        {"{}": 12},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_panel_is_right_for_two_members(case: str, promtool: str, tmp_path: Path) -> None:
    panel, letter, series, expected = CASES[case]
    check(promtool, tmp_path, panel, letter, series, expected)
