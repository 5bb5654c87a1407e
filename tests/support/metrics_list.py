"""The one list of metrics, as docs/metrics.md is made of it, for tests of what looks at metrics from outside."""

import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from consumer.metrics import Described

ROOT = Path(__file__).parents[2]

ANNOUNCED: Final = {
    "inventory_refresh_changes_coalesced_total",
    "inventory_refresh_chunk_items_wasted_total",
    "inventory_refresh_kafka_broker_rtt_seconds",
    "inventory_refresh_kafka_brokers_up",
    "inventory_refresh_kafka_fetch_queue_bytes",
    "inventory_refresh_kafka_fetch_queue_messages",
    "inventory_refresh_kafka_received_bytes_total",
    "inventory_refresh_kafka_reconnects_total",
    "inventory_refresh_kafka_request_errors_total",
    "inventory_refresh_kafka_sent_bytes_total",
    "inventory_refresh_location_accepted_timestamp_seconds",
    "inventory_refresh_location_items_accepted_total",
    "inventory_refresh_location_oldest_pending_seconds",
    "inventory_refresh_location_pending_changes",
    "inventory_refresh_location_requests_total",
    "inventory_refresh_locations_untracked",
    "inventory_refresh_max_age_seconds",
    "inventory_refresh_max_distance_offsets",
    "inventory_refresh_max_pending_changes",
    "inventory_refresh_partition_end_offset",
    "inventory_refresh_partition_lag_offsets",
    "inventory_refresh_request_chunks",
    "inventory_refresh_unknown_hold_seconds",
}
"""Metrics that alerts and dashboards need and that the code is about to have."""


@cache
def described() -> Mapping[str, Described]:
    """By name. The page is made anew, from the code."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| (.*) \|$", generator.PAGES["metrics.md"](), re.MULTILINE)
    return {
        name: Described(name, kind, tuple(re.findall(r"`(\w+)`", labels)), text) for name, kind, labels, text in rows
    }
